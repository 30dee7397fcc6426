"""Losses of logits too large to hold: the product with the output layer's kernel, a few rows of it at a time.

A sum of losses over rows is a sum over chunks of rows, and so are its gradients. Both are worked out while a chunk's
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
_LEAST_ROWS = 64


class Layer(NamedTuple):
    """What the losses of all rows are made of.

    Args:
      hidden: `(n, d)`.
      kernel: `(d, c)`, of the same dtype.
      shared: arrays that every row sees, by name.
      own: arrays `(n, ...)`, of which a row sees its part, by name.
    """

    hidden: Array
    kernel: Array
    shared: Arrays
    own: Arrays


def default_chunk_size(n_classes: int) -> int:
    """As many rows as have 2²² logits, which are 16 MiB, but at least 64: with fewer the product is slow."""
    return max(_ELEMENTS // n_classes, _LEAST_ROWS)


def losses(row: Row, chunk_size: int, layer: Layer) -> Array:
    """The loss of each row `(n,)`."""
    return _losses(row, chunk_size, _equally_varying(layer))


def weighted_sum(row: Row, chunk_size: int, layer: Layer, weights: Array) -> Array:
    """The sum of the losses of all rows, each times its weight `(n,)`."""
    return _weighted_sum(row, chunk_size, *_equally_varying((layer, weights)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _losses(row: Row, chunk_size: int, layer: Layer) -> Array:
    kernel_exponent = _exponent(layer.kernel)

    def step(_: None, chunk: tuple[Array, Arrays]) -> tuple[None, Array]:
        hidden, own = chunk
        return None, _losses_of_logits(row, _logits(hidden, layer.kernel, kernel_exponent), layer.shared, own)

    _, parts = lax.scan(step, None, _split((layer.hidden, layer.own), chunk_size))
    return _join(parts, len(layer.hidden))


def _losses_forward(row: Row, chunk_size: int, layer: Layer) -> tuple[Array, Layer]:
    return _losses(row, chunk_size, layer), layer


def _losses_backward(row: Row, chunk_size: int, layer: Layer, cotangents: Array) -> tuple[Layer]:
    _, gradients, _ = _sum_and_gradients(row, chunk_size, layer, cotangents)
    return (_as_inputs(gradients, layer.hidden.dtype),)


_losses.defvjp(_losses_forward, _losses_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _weighted_sum(row: Row, chunk_size: int, layer: Layer, weights: Array) -> Array:
    return jnp.sum(numerics.weighted(weights, _losses(row, chunk_size, layer)))


def _weighted_sum_forward(row: Row, chunk_size: int, layer: Layer, weights: Array) -> tuple[Array, Any]:
    total, gradients, by_weights = _sum_and_gradients(row, chunk_size, layer, weights)
    # What is kept of the inputs is their dtypes: before they are scaled, sums may be beyond half precision.
    return total, (gradients, by_weights, jnp.zeros(0, layer.hidden.dtype))


def _weighted_sum_backward(row: Row, chunk_size: int, kept: Any, cotangent: Array) -> tuple[Layer, Array]:
    del row, chunk_size
    *gradients, inputs = kept

    def scaled(gradient: Array) -> Array:
        return cotangent * gradient

    layer, by_weights = jax.tree.map(scaled, gradients)
    return _as_inputs(layer, inputs.dtype), by_weights


_weighted_sum.defvjp(_weighted_sum_forward, _weighted_sum_backward)


def _as_inputs(gradients: Layer, dtype: Any) -> Layer:
    """Gradients by hidden and kernel in the dtype of these."""
    return gradients._replace(hidden=gradients.hidden.astype(dtype), kernel=gradients.kernel.astype(dtype))


def _sum_and_gradients(row: Row, chunk_size: int, layer: Layer, weights: Array) -> tuple[Array, Layer, Array]:
    """The weighted sum, and its gradients by the layer and by the weights, in float32 or wider."""
    floats = {name: value for name, value in layer.own.items() if jnp.issubdtype(value.dtype, jnp.floating)}
    others = {name: value for name, value in layer.own.items() if name not in floats}
    kernel_exponent, log_classes = _exponent(layer.kernel), math.log2(layer.kernel.shape[1])
    # The exponent that gradients by logits are clipped at: those of ordinary losses are near 1.
    limit = min(100, jnp.finfo(layer.kernel.dtype).maxexp - 1)

    def step(carry: Any, chunk: Any) -> Any:
        hidden, floats, others, weights = chunk

        def chunk_sum(logits: Array, shared: Arrays, floats: Arrays, weights: Array) -> Array:
            return jnp.sum(numerics.weighted(weights, _losses_of_logits(row, logits, shared, {**floats, **others})))

        logits = _logits(hidden, layer.kernel, kernel_exponent)
        part, pull = jax.vjp(chunk_sum, logits, layer.shared, floats, weights)
        by_logits, by_shared, by_floats, by_weights = pull(jnp.ones_like(part))
        # One unit for both products, so that there is one array of the size of the logits.
        largest_sum = jnp.maximum(_exponent(hidden) + math.log2(len(hidden)), kernel_exponent + log_classes)
        unit = _unit(limit + largest_sum, part.dtype)
        by_logits = (jnp.clip(by_logits, -(2.0**limit), 2.0**limit) * unit).astype(layer.kernel.dtype)
        by_kernel = _in_units(_sums(hidden.T, by_logits), unit)
        by_hidden = _in_units(_sums(by_logits, layer.kernel.T), unit)
        carry = jax.tree.map(lambda *terms: numerics.finite(sum(terms)), carry, (part, by_kernel, by_shared))
        return carry, (by_hidden, by_floats, by_weights)

    dtype = weights.dtype
    start = (jnp.zeros((), dtype), jnp.zeros(layer.kernel.shape, dtype), jax.tree.map(jnp.zeros_like, layer.shared))
    start = jax.tree.map(functools.partial(_vary_over, axes=_varying(layer.hidden)), start)
    padded = jnp.pad(weights, (0, _missing(len(weights), chunk_size)))
    rows = _split((layer.hidden, floats, others, padded), chunk_size)
    (total, by_kernel, by_shared), stacked = lax.scan(step, start, rows)
    by_hidden, by_floats, by_weights = _join(stacked, len(layer.hidden))
    own = {name: by_floats.get(name) for name in layer.own}  # None is the gradient by an integer
    return total, Layer(by_hidden, by_kernel, by_shared, own), by_weights


def _losses_of_logits(row: Row, logits: Array, shared: Arrays, own: Arrays) -> Array:
    return jax.vmap(row, in_axes=(0, None, 0))(logits, shared, own)


def _logits(hidden: Array, kernel: Array, kernel_exponent: Array) -> Array:
    # One unit a row, so that a NaN stays in its own.
    unit = _unit(_exponent(hidden, axis=1) + kernel_exponent + math.log2(len(kernel)), compute_dtype([hidden]))
    return _in_units(_sums(hidden * unit.astype(hidden.dtype), kernel), unit)


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


def _split(rows: Any, chunk_size: int) -> Any:
    """Each array `(n, ...)` as `(chunks, chunk_size, ...)`, filled up with its last row."""

    def split(array: Array) -> Array:
        missing = _missing(len(array), chunk_size)
        if missing:
            array = jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1), mode="edge")
        size = min(chunk_size, max(len(array), 1))
        return array.reshape(len(array) // size, size, *array.shape[1:])

    return jax.tree.map(split, rows)


def _missing(n: int, chunk_size: int) -> int:
    """How many rows a whole number of chunks has more than n."""
    return -n % chunk_size if n > chunk_size else 0


def _join(chunks: Any, n: int) -> Any:
    def join(array: Array) -> Array:
        return array.reshape(math.prod(array.shape[:2]), *array.shape[2:])[:n]

    return jax.tree.map(join, chunks)


def _equally_varying(tree: Any) -> Any:
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
