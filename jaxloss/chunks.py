"""Losses of logits too large to hold: the product with the output layer's kernel, a few rows of it at a time.

A sum of losses over rows is a sum over blocks of rows, and so are its gradients. Both are worked out while a block's
logits are there: three matrix products where keeping nothing and recomputing takes four. Where the cotangents are not
known in the forward pass, as each loss is wanted by itself, the logits are computed once more in the backward pass.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import numerics
from jaxloss.dtypes import compute_dtype

Arrays = Mapping[str, Array]
Row = Callable[[Array, Arrays, Arrays], Array]
"""The loss of one row, of (its logits, what all rows share, what is the row's own)."""

_ELEMENTS = 2**22
_COLUMNS = 4096


class Span(NamedTuple):
    """Rows that lie beside each other, known when the program runs."""

    first: Array
    length: Array


class Layer(NamedTuple):
    """What the losses of rows are made of.

    Args:
      hidden: `(n, d)`.
      kernels: a chain of matrices, the logits being `hidden @ kernels[0] @ kernels[1] ...`: the first in the dtype of
        `hidden`, others in float32 or wider.
      shared: arrays that every row sees, by name.
      own: arrays `(n, ...)`, of which a row sees its part, by name.
      span: the rows that are worked on; the losses of others are 0. None: all.
    """

    hidden: Array
    kernels: tuple[Array, ...]
    shared: Arrays
    own: Arrays
    span: Span | None = None


def default_chunk_size(n_classes: int) -> int:
    """As many rows as have 2²² logits, which are 16 MiB, but at least 128: with fewer the products are slow."""
    return max(_ELEMENTS // n_classes, 128)


def default_block_size(n_classes: int) -> int:
    """Rows of a block of which the last is half empty, as a rule, and whose kernel has few features: 64 to 128."""
    return min(max(_ELEMENTS // n_classes, 64), 128)


def logits(hidden: Array, kernels: tuple[Array, ...]) -> Array:
    """All logits `(n, c)` of a chain of kernels, finite where their sums overflow on the way."""
    return _chain(hidden, kernels, tuple(map(_exponent, kernels)))[-1]


def losses(row: Row, chunk_size: int, layer: Layer) -> Array:
    """The loss of each row `(n,)`."""
    return _losses(row, chunk_size, equally_varying(layer))


def weighted_sum(row: Row, chunk_size: int, layer: Layer, weights: Array) -> Array:
    """The sum of the losses of all rows, each times its weight `(n,)`."""
    return _weighted_sum(row, chunk_size, *equally_varying((layer, weights)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _losses(row: Row, chunk_size: int, layer: Layer) -> Array:
    exponents = tuple(map(_exponent, layer.kernels))

    def step(results: Array, start: Array, block: tuple[Array, Arrays], inside: Array) -> Array:
        hidden, own = block
        *_, logits = _chain(hidden, layer.kernels, exponents)
        before = lax.dynamic_slice_in_dim(results, start, len(hidden))
        now = jnp.where(inside, _losses_of_logits(row, logits, layer.shared, own), before)
        return lax.dynamic_update_slice_in_dim(results, now, start, 0)

    start = _zeros(layer.hidden.shape[:1], layer.hidden)
    return _over_blocks(step, start, (layer.hidden, layer.own), chunk_size, layer.span)


def _losses_forward(row: Row, chunk_size: int, layer: Layer) -> tuple[Array, Layer]:
    return _losses(row, chunk_size, layer), layer


def _losses_backward(row: Row, chunk_size: int, layer: Layer, cotangents: Array) -> tuple[Layer]:
    _, gradients, _ = _sum_and_gradients(row, chunk_size, layer, cotangents)
    return (_as_inputs(gradients, _empty(layer)),)


_losses.defvjp(_losses_forward, _losses_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _weighted_sum(row: Row, chunk_size: int, layer: Layer, weights: Array) -> Array:
    return jnp.sum(numerics.weighted(weights, _losses(row, chunk_size, layer)))


def _weighted_sum_forward(row: Row, chunk_size: int, layer: Layer, weights: Array) -> tuple[Array, Any]:
    total, gradients, by_weights = _sum_and_gradients(row, chunk_size, layer, weights)
    # Not yet in the dtypes of the inputs: before they are scaled, sums may be beyond half precision.
    return total, (gradients, by_weights, _empty(layer))


def _weighted_sum_backward(row: Row, chunk_size: int, kept: Any, cotangent: Array) -> tuple[Layer, Array]:
    del row, chunk_size
    *gradients, inputs = kept

    def scaled(gradient: Array) -> Array:
        return cotangent * gradient

    layer, by_weights = jax.tree.map(scaled, gradients)
    return _as_inputs(layer, inputs), by_weights


_weighted_sum.defvjp(_weighted_sum_forward, _weighted_sum_backward)


def _empty(layer: Layer) -> tuple[Array, tuple[Array, ...]]:
    """Hidden and kernels without their entries: what is left are the dtypes."""
    return jax.tree.map(lambda array: jnp.zeros(0, array.dtype), (layer.hidden, layer.kernels))


def _as_inputs(gradients: Layer, inputs: tuple[Array, tuple[Array, ...]]) -> Layer:
    """Gradients by hidden and kernels in the dtypes of these."""
    both = (gradients.hidden, gradients.kernels)
    hidden, kernels = jax.tree.map(lambda gradient, of: gradient.astype(of.dtype), both, inputs)
    return gradients._replace(hidden=hidden, kernels=kernels)


def _sum_and_gradients(row: Row, chunk_size: int, layer: Layer, weights: Array) -> tuple[Array, Layer, Array]:
    """The weighted sum, and its gradients by the layer and by the weights, in float32 or wider."""
    floats = {name: value for name, value in layer.own.items() if jnp.issubdtype(value.dtype, jnp.floating)}
    others = {name: value for name, value in layer.own.items() if name not in floats}
    exponents = tuple(map(_exponent, layer.kernels))

    def step(carry: Any, start: Array, block: Any, inside: Array) -> Any:
        hidden, floats, others, weights = block

        def block_sum(logits: Array, shared: Arrays, floats: Arrays, weights: Array) -> Array:
            used = jnp.where(inside, weights, 0)
            return jnp.sum(numerics.weighted(used, _losses_of_logits(row, logits, shared, {**floats, **others})))

        *factors, logits = _chain(jnp.where(inside[:, None], hidden, 0), layer.kernels, exponents)
        part, pull = jax.vjp(block_sum, logits, layer.shared, floats, weights)
        by_product, by_shared, by_floats, by_weights = pull(jnp.ones_like(part))
        sums, by_kernels, by_rows = carry
        sums = jax.tree.map(lambda *terms: numerics.finite(sum(terms)), sums, (part, by_shared))
        products = list(zip(factors, layer.kernels, exponents, by_kernels, strict=True))
        by_kernels = ()
        for product in reversed(products):
            by_product, by_kernel = _pulled_back(by_product, *product)
            by_kernels = (by_kernel, *by_kernels)
        by_block = (by_product, by_floats, by_weights)
        return sums, by_kernels, jax.tree.map(lambda whole, part: _add_at(whole, start, part), by_rows, by_block)

    like = (layer.shared, layer.kernels, (layer.hidden, floats, weights))
    by_shared, *zeros = jax.tree.map(lambda array: _zeros(array.shape, array), like)
    start = ((_zeros((), layer.hidden), by_shared), *zeros)
    rows = (layer.hidden, floats, others, weights)
    sums, by_kernels, by_rows = _over_blocks(step, start, rows, chunk_size, layer.span)
    (total, by_shared), (by_hidden, by_floats, by_weights) = sums, by_rows
    own = {name: by_floats.get(name) for name in layer.own}  # None is the gradient by an integer
    return total, Layer(by_hidden, by_kernels, by_shared, own), by_weights


def _over_blocks(
    step: Callable[..., Any], carry: Any, arrays: Any, size: int, span: Span | None = None, axis: int = 0
) -> Any:
    """`carry = step(carry, start, block, inside)` for blocks of rows: which begin at `start`, and which of them count.

    All blocks have one size. Where that does not divide the number of rows, the last one overlaps the one before.
    """
    n = jax.tree.leaves(arrays)[0].shape[axis]
    if not n:
        return carry
    blocks = -(-n // size)
    size = -(-n // blocks) if span is None else min(size, n)
    first, end = (0, n) if span is None else (span.first, span.first + span.length)

    def body(carry: Any, i: Array) -> tuple[Any, None]:
        begin = first + i * size
        start = jnp.minimum(begin, n - size)
        index = start + jnp.arange(size, dtype=start.dtype)
        inside = (index >= begin) & (index < end)
        block = jax.tree.map(lambda array: lax.dynamic_slice_in_dim(array, start, size, axis), arrays)

        def worked(carry: Any) -> Any:
            return step(carry, start, block, inside)

        return (worked(carry) if span is None else lax.cond(begin < end, worked, lambda carry: carry, carry)), None

    carry, _ = lax.scan(body, carry, jnp.arange(blocks, dtype=jnp.int32))
    return carry


def _add_at(whole: Array, start: Array, part: Array, axis: int = 0) -> Array:
    """The array with a block added to its rows from `start` on, finite also where a sum overflows."""
    there = lax.dynamic_slice_in_dim(whole, start, part.shape[axis], axis)
    return lax.dynamic_update_slice_in_dim(whole, numerics.finite(there + part), start, axis)


def _losses_of_logits(row: Row, logits: Array, shared: Arrays, own: Arrays) -> Array:
    return jax.vmap(row, in_axes=(0, None, 0))(logits, shared, own)


def _chain(hidden: Array, kernels: tuple[Array, ...], exponents: tuple[Array, ...]) -> list[Array]:
    """The left factor of each product, and last the logits."""
    products = [hidden]
    for kernel, exponent in zip(kernels, exponents, strict=True):
        products.append(_product(products[-1], kernel, exponent))
    return products


def _product(x: Array, y: Array, y_exponent: Array) -> Array:
    # One unit a row, so that a NaN stays in its own.
    unit = _unit(_exponent(x, axis=1) + y_exponent + math.log2(len(y)), compute_dtype([x]))
    return _in_units(_sums(x * unit.astype(x.dtype), y), unit)


def _pulled_back(cotangent: Array, x: Array, y: Array, y_exponent: Array, by_y: Array) -> tuple[Array, Array]:
    """The gradient of the product `x @ y` by x, and that by y added to `by_y`, both in float32 or wider.

    Some columns at a time, which stay in a cache: with all of them at once, adding to `by_y` takes 15 % of the whole
    at 32,000 classes and 40 % at 1,000,000, and a second array of its size.
    """
    # The exponent that the cotangent is clipped at: those of ordinary losses are near 1.
    limit = min(100, jnp.finfo(y.dtype).maxexp - 1)
    # One unit for both products, so that there is one array of the size of the logits.
    largest_sum = jnp.maximum(_exponent(x) + math.log2(len(x)), y_exponent + math.log2(y.shape[1]))
    unit = _unit(limit + largest_sum, cotangent.dtype)
    cotangent = (jnp.clip(cotangent, -(2.0**limit), 2.0**limit) * unit).astype(y.dtype)

    def step(carry: tuple[Array, Array], start: Array, block: Any, inside: Array) -> tuple[Array, Array]:
        (by_x, by_y), (cotangent, y) = carry, block
        cotangent = jnp.where(inside, cotangent, 0)
        by_y = _add_at(by_y, start, _in_units(_sums(x.T, cotangent), unit), axis=1)
        return by_x + _sums(cotangent, y.T), by_y

    start = _zeros(x.shape, x), by_y
    by_x, by_y = _over_blocks(step, start, (cotangent, y), _COLUMNS, axis=1)
    return _in_units(by_x, unit), by_y


def _sums(x: Array, y: Array) -> Array:
    """The product of two matrices, in their dtype, but summed up in float32 or wider."""
    return jnp.matmul(x, y, preferred_element_type=compute_dtype([x]))


def _unit(exponent: Array, dtype: Any) -> Array:
    """A power of two, 1 as a rule, by which a factor is multiplied so that no sum is infinity minus infinity.

    The exponent is a bound on that of the largest sum. Where it is beyond what a unit can be, the factors are next to
    overflow, and 0 is as good a number as any.
    """
    excess = jnp.ceil(jnp.maximum(exponent - jnp.finfo(dtype).maxexp + 2, 0))
    return jnp.where(excess > -jnp.finfo(dtype).minexp, 0, jnp.exp2(-excess)).astype(dtype)


def _in_units(sums: Array, unit: Array) -> Array:
    """Sums that were worked out in this unit, as they are; finite also where they overflow."""
    return numerics.finite(sums / jnp.maximum(unit, jnp.finfo(unit.dtype).tiny))


def _exponent(x: Array, axis: int | None = None) -> Array:
    """The binary logarithm of the largest entry, or a little more; along an axis, which is kept."""
    dtype = compute_dtype([x])
    largest = jnp.max(jnp.abs(lax.stop_gradient(x)), axis=axis, keepdims=axis is not None, initial=0).astype(dtype)
    return jnp.log2(jnp.maximum(largest, jnp.finfo(dtype).tiny)) + 0.01


def _zeros(shape: tuple[int, ...], like: Array) -> Array:
    """Zeros in float32 or wider, which vary from device to device as this array does."""
    return _vary_over(jnp.zeros(shape, compute_dtype([like])), _varying(like))


def equally_varying(tree: Any) -> Any:
    """Inside `shard_map`: every array varies over the axes that any of them varies over.

    The gradients by an array that was the same on all devices are then summed over them, as is right.
    """
    axes: set[Any] = set().union(*(_varying(leaf) for leaf in jax.tree.leaves(tree)))
    return jax.tree.map(functools.partial(_vary_over, axes=axes), tree)


def _vary_over(array: Array, axes: set[Any]) -> Array:
    missing = tuple(axes - _varying(array))
    return lax.pcast(array, missing, to="varying") if missing else array


def _varying(array: Array) -> set[Any]:
    """The axes of a mesh over which the array may differ from device to device; none outside `shard_map`."""
    return set(jax.typeof(array).mat.varying)
