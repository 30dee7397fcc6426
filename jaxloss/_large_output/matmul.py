"""Products of chains of matrices without intermediate overflow, and their gradients."""

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
    """The largest magnitude of an entry of each kernel, computed once for many products."""
    return tuple(map(_bound, kernels))


def chain(hidden: Array, kernels: tuple[Array, ...], kernel_bounds: tuple[Array, ...]) -> list[Array]:
    """The left factor of each product in `hidden @ kernels[0] @ kernels[1] ...`, followed by the result."""
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
    """The gradient of a chain w.r.t. `hidden`; the gradients w.r.t. the kernels are added to `by_kernels`."""
    sums = list(by_kernels)
    for i in reversed(range(len(kernels))):
        cotangent, sums[i] = _pulled_back(cotangent, factors[i], kernels[i], kernel_bounds[i], sums[i])
    return cotangent, tuple(sums)


def _product(x: Array, y: Array, y_bound: Array) -> Array:
    # One unit per row, so that a NaN stays in its row.
    unit = _unit(_bound(x, axis=-1), y_bound, len(y))
    return _in_units(_sums(x * unit.astype(x.dtype), y, ((-1,), (0,))), unit)


def _pulled_back(cotangent: Array, x: Array, y: Array, y_bound: Array, by_y: Array) -> tuple[Array, Array]:
    """The gradient of `x @ y` w.r.t. x; the gradient w.r.t. y is added to `by_y`. Both are in float32 or wider.

    The columns are processed in blocks that stay in the cache. With all of them at once, the addition to `by_y` takes
    15 % of the time at 32,000 classes and 40 % at 1,000,000, and needs a second array of the same size.
    """
    # The cotangent is clipped at this limit. Cotangents of ordinary losses are near 1.
    limit = 2.0 ** min(100, jnp.finfo(y.dtype).maxexp - 1)
    # Both products share one unit, so there is only one array of the size of the logits. The bounds are relative to the
    # longer of the two sums.
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
    """The product of two arrays of one dtype, contracted over these axes and summed in float32 or wider."""
    return jnp.tensordot(x, y, axes, preferred_element_type=compute_dtype([x]))


def _unit(x_bound: Array, y_bound: Array, n: int) -> Array:
    """A power of two, usually 1. If a factor is multiplied by it, no sum is infinity minus infinity.

    A sum has n products of entries within the bounds. If the unit would be subnormal, the factors are close to
    overflow, and 0 is as good a result as any.
    """
    info = jnp.finfo(x_bound.dtype)
    # One quotient per factor. Neither overflows; their product may, but then it exceeds 1 anyway.
    half = 2.0 ** (info.maxexp // 2 - 1)
    x_room, y_room = (half / jnp.maximum(bound, 1 / half) for bound in (x_bound, y_bound))
    return lax.reduce_precision(jnp.minimum(x_room / n * y_room, 1), info.nexp, 0)


def _in_units(sums: Array, unit: Array) -> Array:
    """Converts sums that were computed in this unit back. Sums that overflow become finite."""
    return numerics.finite(sums / jnp.maximum(unit, jnp.finfo(unit.dtype).tiny))


def _bound(x: Array, axis: int | None = None) -> Array:
    """The largest magnitude of an entry, or of the entries along an axis, which is kept."""
    largest = jnp.max(jnp.abs(lax.stop_gradient(x)), axis=axis, keepdims=axis is not None, initial=0)
    return largest.astype(compute_dtype([x]))
