"""Products of chains of matrices whose sums may overflow on the way, and their gradients."""

import math
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss._arrays import compute_dtype
from jaxloss._large_output.loops import add_at, over_blocks
from jaxloss._sharding import varying_axes, wide_zeros

_COLUMNS = 4096


def bounds(kernels: tuple[Array, ...]) -> tuple[Array, ...]:
    """The largest size of an entry of each: for many products, worked out once."""
    return tuple(map(_bound, kernels))


def chain(hidden: Array, kernels: tuple[Array, ...], kernel_bounds: tuple[Array, ...]) -> list[Array]:
    """The left factor of each product of `hidden @ kernels[0] @ kernels[1] ...`, and last the whole."""
    factors = [hidden]
    for kernel, bound in zip(kernels, kernel_bounds, strict=True):
        factors.append(_product(factors[-1], kernel, bound))
    return factors


def pulled_back(
    cotangent: Array,
    factors: list[Array],
    kernels: tuple[Array, ...],
    kernel_bounds: tuple[Array, ...],
    by_kernels: tuple[Array, ...],
) -> tuple[Array, tuple[Array, ...]]:
    """The gradient by `hidden` of a chain with these left factors, and those by the kernels added to `by_kernels`."""
    sums = list(by_kernels)
    for i in reversed(range(len(kernels))):
        cotangent, sums[i] = _pulled_back(cotangent, factors[i], kernels[i], kernel_bounds[i], sums[i])
    return cotangent, tuple(sums)


def _product(x: Array, y: Array, y_bound: Array) -> Array:
    # One unit a row, so that a NaN stays in its own.
    unit = _unit(_bound(x, axis=-1), y_bound, len(y))
    return _in_units(_sums(x * unit.astype(x.dtype), y, ((-1,), (0,))), unit)


def _pulled_back(cotangent: Array, x: Array, y: Array, y_bound: Array, by_y: Array) -> tuple[Array, Array]:
    """The gradient of the product `x @ y` by x, and that by y added to `by_y`, both in float32 or wider.

    Some columns at a time, which stay in a cache: with all of them at once, adding to `by_y` takes 15 % of the whole
    at 32,000 classes and 40 % at 1,000,000, and a second array of its size.
    """
    # What the cotangent is clipped at: those of ordinary losses are near 1.
    limit = 2.0 ** min(100, jnp.finfo(y.dtype).maxexp - 1)
    # One unit for both products, so that there is one array of the size of the logits. The bound is that of a sum, in
    # units of the longer one's length.
    rows = tuple(range(x.ndim - 1))
    lengths = math.prod(x.shape[:-1]), y.shape[1]
    longest = max(lengths)
    largest = jnp.maximum(_bound(x) * (lengths[0] / longest), y_bound * (lengths[1] / longest))
    unit = _unit(largest, jnp.asarray(limit, largest.dtype), longest).astype(cotangent.dtype)
    cotangent = (jnp.clip(cotangent, -limit, limit) * unit).astype(y.dtype)

    def step(carry: tuple[Array, Array], start: Array, block: Any, inside: Array) -> tuple[Array, Array]:
        (by_x, by_y), (cotangent, y) = carry, block
        cotangent = jnp.where(inside, cotangent, 0)
        by_y = add_at(by_y, start, _in_units(_sums(x, cotangent, (rows, rows)), unit), axis=-1)
        return by_x + _sums(cotangent, y, ((-1,), (1,))), by_y

    start = wide_zeros(x.shape, x, varying_axes(cotangent)), by_y
    by_x, by_y = over_blocks(step, start, (cotangent, y), _COLUMNS, axis=-1)
    return _in_units(by_x, unit), by_y


def _sums(x: Array, y: Array, axes: tuple[tuple[int, ...], tuple[int, ...]]) -> Array:
    """The product summed over these axes of each, in their dtype, but summed up in float32 or wider."""
    return jnp.tensordot(x, y, axes, preferred_element_type=compute_dtype([x]))


def _unit(x_bound: Array, y_bound: Array, n: int) -> Array:
    """A power of two, 1 as a rule, by which a factor is multiplied so that no sum is infinity minus infinity.

    The sums are of n products of entries within the bounds. Where it would be smaller than a normal number, the factors
    are next to overflow, and 0 is as good a number as any.
    """
    info = jnp.finfo(x_bound.dtype)
    # A quotient for each factor, neither of which overflows; their product may, to something above 1.
    half = 2.0 ** (info.maxexp // 2 - 1)
    x_room, y_room = (half / jnp.maximum(bound, 1 / half) for bound in (x_bound, y_bound))
    return lax.reduce_precision(jnp.minimum(x_room / n * y_room, 1), info.nexp, 0)


def _in_units(sums: Array, unit: Array) -> Array:
    """Sums that were worked out in this unit, as they are; finite also where they overflow."""
    return numerics.finite(sums / jnp.maximum(unit, jnp.finfo(unit.dtype).tiny))


def _bound(x: Array, axis: int | None = None) -> Array:
    """That of `bounds`; along an axis, which is kept."""
    largest = jnp.max(jnp.abs(lax.stop_gradient(x)), axis=axis, keepdims=axis is not None, initial=0)
    return largest.astype(compute_dtype([x]))
