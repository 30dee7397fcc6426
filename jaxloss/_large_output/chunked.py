"""Losses of logits that do not fit in memory: the product with the output layer's kernel is computed in chunks of rows.

A sum of losses over rows is a sum over chunks of rows, and so are its gradients. Both are computed while the logits of
a chunk are in memory. This needs three matrix products, where recomputation in the backward pass would need four. If
the losses are returned one by one, their cotangents are unknown in the forward pass, and the logits are computed again
in the backward pass.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _numerics as numerics
from jaxloss._large_output import matmul as products
from jaxloss._large_output.loops import Span, over_rows
from jaxloss._sharding import AxisName, equally_varying, mesh_axes, vary_over, varying_axes, wide_zeros, wide_zeros_like

Arrays = Mapping[str, Array]
Row = Callable[[Array, Arrays, Arrays], Array]
"""Maps (logits of a row, arrays shared by all rows, arrays of the row) to the loss of the row."""

_ELEMENTS = 2**22


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layer:
    """The inputs of the losses of rows.

    Args:
      hidden: `(..., d)`, rows along any number of axes.
      kernels: a chain of matrices; the logits are `hidden @ kernels[0] @ kernels[1] ...`. The first has the dtype of
        `hidden`, the others are float32 or wider.
      shared: named arrays that are the same for every row.
      own: named arrays with one entry per row along their leading axes.
      split: like `own`, for arrays that differ between devices, like the kernels, if the classes are split.
      span: the range of rows, along a single axis, to compute; the losses of other rows are 0. None means all rows.
      axis_name: the mesh axes over which the classes are split, inside `shard_map`; None means that they are not split.
    """

    hidden: Array
    kernels: tuple[Array, ...]
    shared: Arrays
    own: Arrays
    split: Arrays = dataclasses.field(default_factory=dict)
    span: Span | None = None
    axis_name: AxisName | None = dataclasses.field(default=None, metadata={"static": True})


def default_chunk_size(n_classes: int) -> int:
    """Rows with 2²² logits in total, 16 MiB in float32, but at least 128 rows: with fewer, products are slow."""
    return max(_ELEMENTS // n_classes, 128)


def default_block_size(n_classes: int) -> int:
    """Rows per block for a kernel with few features, 64 to 128: on average, the last block is half empty."""
    return min(max(_ELEMENTS // n_classes, 64), 128)


def losses(row: Row, chunk_size: int, layer: Layer) -> Array:
    """The loss of each row."""
    layer, _ = _equally_varying(layer)
    return _losses(row, chunk_size, layer)


def weighted_sum(row: Row, chunk_size: int, layer: Layer, weights: Array) -> Array:
    """The weighted sum of the losses of all rows."""
    if 0 in layer.hidden.shape[:-1]:
        # Without a loop, the mesh axes over which the gradients vary would be unknown.
        return wide_zeros((), layer.hidden, _axes_of_losses(layer) | varying_axes(weights))
    return _weighted_sum(row, chunk_size, *_equally_varying(layer, weights))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _losses(row: Row, chunk_size: int, layer: Layer) -> Array:
    bounds = products.bounds(layer.kernels)

    def step(carry: None, block: tuple[Array, Arrays], inside: Array) -> tuple[None, Array]:
        hidden, own = block
        *_, logits = products.chain(hidden, layer.kernels, bounds)
        return carry, jnp.where(inside, _losses_of_logits(row, logits, layer.shared, own), 0)

    batch_shape = layer.hidden.shape[:-1]
    zeros = wide_zeros(batch_shape, layer.hidden, _axes_of_losses(layer))
    rows = (layer.hidden, {**layer.own, **layer.split})
    _, losses = over_rows(step, None, zeros, rows, batch_shape, chunk_size, layer.span)
    return losses


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
    # Not cast to the dtypes of the inputs yet: before scaling, sums may exceed the range of half precision.
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
    """Empty arrays with the dtypes of `hidden` and the kernels."""
    return jax.tree.map(lambda array: jnp.zeros(0, array.dtype), (layer.hidden, layer.kernels))


def _as_inputs(gradients: Layer, inputs: tuple[Array, tuple[Array, ...]]) -> Layer:
    """Casts the gradients with respect to hidden and kernels to the dtypes of these inputs."""
    both = (gradients.hidden, gradients.kernels)
    hidden, kernels = jax.tree.map(lambda gradient, of: gradient.astype(of.dtype), both, inputs)
    return dataclasses.replace(gradients, hidden=hidden, kernels=kernels)


def _sum_and_gradients(row: Row, chunk_size: int, layer: Layer, weights: Array) -> tuple[Array, Layer, Array]:
    """The weighted sum, and its gradients w.r.t. the layer and the weights, in float32 or wider."""
    own = {**layer.own, **layer.split}
    floats = {name: value for name, value in own.items() if jnp.issubdtype(value.dtype, jnp.floating)}
    others = {name: value for name, value in own.items() if name not in floats}
    bounds = products.bounds(layer.kernels)

    def step(carry: Any, block: Any, inside: Array) -> Any:
        hidden, floats, others, weights = block

        def block_sum(logits: Array, shared: Arrays, floats: Arrays, weights: Array) -> Array:
            losses = _losses_of_logits(row, logits, shared, {**floats, **others})
            # Not `weighted`, whose guard for forward mode would keep the losses in memory together with the gradients.
            return jnp.sum(numerics.product(jnp.where(inside, weights, 0), numerics.finite(losses)))

        *factors, logits = products.chain(jnp.where(inside[:, None], hidden, 0), layer.kernels, bounds)
        part, pull = jax.vjp(block_sum, logits, layer.shared, floats, weights)
        by_product, by_shared, by_floats, by_weights = pull(jnp.ones_like(part))
        sums, by_kernels = carry
        sums = jax.tree.map(lambda *terms: numerics.finite(sum(terms)), sums, (part, by_shared))
        by_product, by_kernels = products.pulled_back(by_product, factors, layer.kernels, bounds, by_kernels)
        return (sums, by_kernels), jax.tree.map(numerics.finite, (by_product, by_floats, by_weights))

    like = (layer.shared, layer.kernels, (layer.hidden, floats, weights))
    by_shared, by_kernels, by_rows = jax.tree.map(wide_zeros_like, like)
    start = ((wide_zeros((), layer.hidden, varying_axes(weights)), by_shared), by_kernels)
    rows = (layer.hidden, floats, others, weights)
    ((total, by_shared), by_kernels), by_rows = over_rows(
        step, start, by_rows, rows, layer.hidden.shape[:-1], chunk_size, layer.span
    )
    by_hidden, by_floats, by_weights = by_rows
    gradients = dataclasses.replace(
        layer,
        hidden=by_hidden,
        kernels=jax.tree.map(numerics.finite, by_kernels),
        shared=by_shared,
        own={name: by_floats.get(name) for name in layer.own},  # integers have gradient None
        split={name: by_floats[name] for name in layer.split},
        span=None,
    )
    return total, gradients, by_weights


def _losses_of_logits(row: Row, logits: Array, shared: Arrays, own: Arrays) -> Array:
    for _ in logits.shape[:-1]:
        row = jax.vmap(row, in_axes=(0, None, 0))
    return row(logits, shared, own)


def _equally_varying(layer: Layer, weights: Array | None = None) -> tuple[Layer, Array | None]:
    """Inside `shard_map`, makes each array vary over the axes of the arrays that it is combined with.

    Gradients with respect to an array that is the same on all devices are then summed over devices once, not in each
    chunk. Losses and per-row arrays are the same on all devices over which the classes are split.
    """
    hidden, kernels, shared, split, *_ = equally_varying(
        (layer.hidden, layer.kernels, layer.shared, layer.split, layer.own, weights)
    )
    axes = _axes_of_losses(layer) | varying_axes(weights)
    own, weights = jax.tree.map(lambda array: vary_over(array, axes), (layer.own, weights))
    return dataclasses.replace(layer, hidden=hidden, kernels=kernels, shared=shared, split=split, own=own), weights


def _axes_of_losses(layer: Layer) -> set[Any]:
    """The mesh axes over which the losses of rows vary."""
    by_device = varying_axes((layer.hidden, layer.kernels, layer.shared, layer.split))
    return (by_device - mesh_axes(layer.axis_name)) | varying_axes(layer.own)
