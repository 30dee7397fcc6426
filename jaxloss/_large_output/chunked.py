"""Losses of logits that do not fit in memory: the product with the output layer's kernel is computed in chunks of rows.

A sum of losses over rows is a sum over chunks of rows, and so are its gradients. Both are computed while the logits of
a chunk are in memory. This needs three matrix products, where recomputation in the backward pass would need four. If
the losses are returned one by one, their cotangents are unknown in the forward pass, and the logits are computed again
in the backward pass.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _numerics as numerics
from jaxloss._arrays import compute_dtype
from jaxloss._large_output.layer import Arrays, Layer, axes_of_losses, placed
from jaxloss._large_output.loops import Blocks, Groups, in_parts, over_rows, put_at
from jaxloss._large_output.matmul import Chain, is_narrow
from jaxloss._large_output.second import Second
from jaxloss._large_output.tiling import Tiling, Tilings
from jaxloss._sharding import (
    automatic_devices,
    vary_over,
    varying_axes,
    wide_zeros,
    wide_zeros_like,
)

Row = Callable[[Array, Arrays, Arrays], Any]
"""Maps (logits of a row, arrays shared by all rows, arrays of the row) to its loss, or to a tuple of numbers."""


def losses(row: Row, tilings: Tilings, layer: Layer) -> Any:
    """The loss of each row, or a tuple of arrays of several numbers of each."""
    return _losses(row, tilings, placed(layer)[0])


def weighted_sum(row: Row, tilings: Tilings, layer: Layer, weights: Array) -> Array:
    """The weighted sum of the losses of all rows."""
    if 0 in layer.hidden.shape[:-1]:
        # Without a loop, the mesh axes over which the gradients vary would be unknown.
        return wide_zeros((), layer.hidden, axes_of_losses(layer) | varying_axes(weights))
    return _weighted_sum(row, tilings, *placed(layer, weights))


def _for_second_derivatives(of_layer: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of (row, tiling, layer, ...). If it is differentiated, for a second derivative, it differs.

    JAX cannot transpose a loop of unknown length. And a tangent in float16 would overflow, because it may be far larger
    than the number by whose size it is scaled.
    """
    function = jax.custom_jvp(of_layer, nondiff_argnums=(0, 1))

    @function.defjvp
    def jvp(row: Row, tiling: Tiling, primals: Any, tangents: Any) -> Any:
        def differentiated(layer: Layer, *weights: Array) -> Any:
            layer = layer.widened() if is_narrow(layer.hidden) else layer
            return of_layer(row, dataclasses.replace(tiling, scanned=True), layer, *weights)

        return jax.jvp(differentiated, primals, tangents)

    return function


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _losses(row: Row, tilings: Tilings, layer: Layer) -> Array:
    return tilings.per_platform(functools.partial(_losses_of_layer, row), layer)


@_for_second_derivatives
def _losses_of_layer(row: Row, tiling: Tiling, layer: Layer) -> Array:
    chain, (groups, blocks) = _chain(layer, tiling), _division(layer, tiling)

    second = Second.of(layer, tiling.as_bits)

    def step(carry: None, block: Any, inside: Array | None) -> tuple[None, Array]:
        def part_step(carry: None, start: Array | int, part: Any) -> tuple[None, Array]:
            del start
            hidden, units, own, fixed = part
            *_, logits = chain.factors(hidden, units)
            return carry, _losses_of_logits(row, logits, {}, {**_widened(own), **second.arrays(fixed)}, layer.shared)

        carry, losses = in_parts(part_step, carry, block, tiling.parts_of(block[0].shape[1]))
        return carry, _all_zero_unless(inside, losses)

    zeros = wide_zeros(layer.hidden.shape[:-1], layer.hidden, axes_of_losses(layer))
    zeros = zeros if layer.numbers is None else (zeros,) * layer.numbers
    rows = (layer.hidden, chain.row_units, {**layer.own, **layer.split}, second.rows)
    step = _recomputed(step) if tiling.scanned else step
    _, losses = over_rows(step, None, zeros, rows, groups, blocks, layer.span, scanned=tiling.scanned)
    return losses


def _losses_forward(row: Row, tilings: Tilings, layer: Layer) -> tuple[Array, Layer]:
    # Not `_losses`, which cannot be differentiated in forward mode.
    return tilings.per_platform(functools.partial(_losses_of_layer, row), layer), layer


def _losses_backward(row: Row, tilings: Tilings, layer: Layer, cotangents: Array) -> tuple[Layer]:
    _, gradients, _ = _losses_and_gradients(row, tilings, layer, cotangents)
    return (_as_inputs(gradients, _empty(layer)),)


_losses.defvjp(_losses_forward, _losses_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _weighted_sum(row: Row, tilings: Tilings, layer: Layer, weights: Array) -> Array:
    return jnp.sum(numerics.weighted(weights, _losses(row, tilings, layer)))


def _weighted_sum_forward(row: Row, tilings: Tilings, layer: Layer, weights: Array) -> tuple[Array, Any]:
    losses, gradients, by_weights = _losses_and_gradients(row, tilings, layer, weights)
    # Not cast to the dtypes of the inputs yet: before scaling, sums may exceed the range of half precision.
    return jnp.sum(numerics.weighted(weights, losses)), (gradients, by_weights, _empty(layer))


def _weighted_sum_backward(row: Row, tilings: Tilings, kept: Any, cotangent: Array) -> tuple[Layer, Array]:
    del row, tilings
    *gradients, inputs = kept

    def scaled(gradient: Array) -> Array:
        return cotangent * gradient

    layer, by_weights = jax.tree.map(scaled, gradients)
    return _as_inputs(layer, inputs), by_weights


_weighted_sum.defvjp(_weighted_sum_forward, _weighted_sum_backward)


def _empty(layer: Layer) -> Layer:
    """Empty arrays with the dtypes of the layer."""
    return jax.tree.map(lambda array: jnp.zeros(0, array.dtype), layer)


def _as_inputs(gradients: Layer, inputs: Layer) -> Layer:
    """Casts the gradients to the dtypes of the inputs. Integers, and a span, have gradient None."""

    def cast(gradient: Array | None, of: Array) -> Array | None:
        return None if gradient is None else gradient.astype(of.dtype)

    return jax.tree.map(cast, gradients, dataclasses.replace(inputs, span=None), is_leaf=lambda leaf: leaf is None)


def _losses_and_gradients(row: Row, tilings: Tilings, layer: Layer, weights: Array) -> tuple[Array, Layer, Array]:
    """The losses, and the gradients of their weighted sum w.r.t. the layer and the weights, in float32 or wider."""
    return tilings.per_platform(functools.partial(_losses_and_gradients_of_layer, row), layer, weights)


@_for_second_derivatives
def _losses_and_gradients_of_layer(
    row: Row, tiling: Tiling, layer: Layer, weights: Array
) -> tuple[Array, Layer, Array]:
    floats, others = _floats_and_others({**layer.own, **layer.split})
    shared_floats, shared_others = _floats_and_others(layer.shared)
    chain, (groups, blocks) = _chain(layer, tiling), _division(layer, tiling)
    second, n_sums = Second.of(layer, tiling.as_bits), groups.n_sums
    n_rows = groups.count // n_sums * blocks.size
    n_parts = tiling.parts_of(n_rows)
    shared = {name: jnp.broadcast_to(array, (n_sums, *array.shape)) for name, array in shared_floats.items()}

    def part_step(carry: Any, start: Array | int, part: Any) -> Any:
        hidden, units, floats, others, fixed, weights = part
        others = {**others, **second.arrays(fixed)}

        def block_sum(logits: Array, shared: Arrays, floats: Arrays, weights: Array) -> tuple[Array, Array]:
            losses = _losses_of_logits(row, logits, shared, {**floats, **others}, shared_others)
            # Not `weighted`, whose guard for forward mode would keep the losses in memory together with the gradients.
            products = jax.tree.map(lambda w, loss: numerics.product(w, numerics.finite(loss)), weights, losses)
            return functools.reduce(operator.add, map(jnp.sum, jax.tree.leaves(products))), losses

        _, *factors, logits = chain.factors(hidden, units)
        total, pull, losses = jax.vjp(block_sum, logits, shared, _widened(floats), weights, has_aux=True)
        by_logits, by_shared, by_floats, by_weights = pull(jnp.ones_like(total))
        shared_sums, cotangents = carry
        shared_sums = jax.tree.map(lambda *terms: numerics.finite(sum(terms)), shared_sums, by_shared)
        narrowed, row_units = chain.narrowed(by_logits, tiling.columns)
        cotangents = narrowed if n_parts == 1 else put_at(cotangents, start, narrowed, axis=1)
        return (shared_sums, cotangents), (losses, by_floats, by_weights, factors, row_units)

    def step(carry: Any, block: Any, inside: Array | None) -> Any:
        shared_sums, kernel_sums, cotangents = carry
        hidden, *own, weights = block
        hidden, weights = _all_zero_unless(inside, (hidden, weights))
        (shared_sums, cotangents), (losses, by_floats, by_weights, factors, row_units) = in_parts(
            part_step, (shared_sums, cotangents), (hidden, *own, weights), n_parts
        )
        by_hidden, kernel_sums = chain.pulled_back(
            (cotangents, row_units), [hidden, *factors], kernel_sums, tiling.columns
        )
        by_rows = jax.tree.map(numerics.finite, (by_hidden, by_floats, by_weights))
        # Everything, because 0 times a NaN in the kernel is NaN.
        losses, by_rows = _all_zero_unless(inside, (losses, by_rows))
        return (shared_sums, kernel_sums, cotangents if n_parts > 1 else None), (losses, by_rows)

    step = _recomputed(step) if tiling.scanned else step
    shared_sums = {name: wide_zeros_like(array, n_sums) for name, array in shared_floats.items()}
    # With an axis of length 1, XLA:CPU would not use the memory of the result for the sums.
    kernel_sums = tuple(wide_zeros_like(each, *[n_sums] * (n_sums > 1)) for each in chain.kernels)
    # The cotangents of the logits of a chunk. Kept from chunk to chunk, so that they need not be set to 0 in each.
    shape = n_sums, n_rows, layer.kernels[-1].shape[1]
    cotangents = jnp.zeros(shape, chain.kernels[-1].dtype) if n_parts > 1 else None
    cotangents = jax.tree.map(lambda array: vary_over(array, varying_axes((layer.hidden, weights))), cotangents)
    by_rows = jax.tree.map(wide_zeros_like, (layer.hidden, floats, weights))
    losses = jax.tree.map(lambda each: wide_zeros(each.shape, layer.hidden, axes_of_losses(layer)), weights)
    rows = (layer.hidden, chain.row_units, floats, others, second.rows, weights)
    (shared_sums, kernel_sums, _), (losses, (by_hidden, by_floats, by_weights)) = over_rows(
        step,
        (shared_sums, kernel_sums, cotangents),
        (losses, by_rows),
        rows,
        groups,
        blocks,
        layer.span,
        peeled=tiling.peeled,
        scanned=tiling.scanned,
    )
    by_shared = {name: numerics.finite(jnp.sum(each, axis=0)) for name, each in shared_sums.items()}
    gradients = dataclasses.replace(
        layer,
        hidden=by_hidden,
        kernels=chain.gradients(kernel_sums),
        shared={name: by_shared.get(name) for name in layer.shared},  # integers have gradient None
        own={name: by_floats.get(name) for name in layer.own},
        split={name: by_floats[name] for name in layer.split},
        fixed=None,
        second=None,
        span=None,
    )
    return losses, gradients, by_weights


def _recomputed(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step, computed again in a backward pass, for which the logits of all chunks would be kept otherwise."""
    return jax.checkpoint(step, prevent_cse=False)


def _chain(layer: Layer, tiling: Tiling) -> Chain:
    if layer.bounded:
        return Chain.of_bounded(*layer.kernels, transposed=tiling.columns is None)
    return Chain.of(layer.hidden, layer.kernels, wide=tiling.wide)


def _division(layer: Layer, tiling: Tiling) -> tuple[Groups, Blocks]:
    """The groups of rows, and the blocks of each group that are in a chunk."""
    batch_shape, devices = layer.hidden.shape[:-1], 1 if layer.span else automatic_devices(layer)
    chunk_size = tiling.rows * devices if tiling.per_device else tiling.rows
    groups = Groups.of(batch_shape, chunk_size, devices)
    rows = math.prod(batch_shape) // groups.count
    return groups, Blocks.of(rows, max(chunk_size // groups.count, 1), tiling.parts)


def _all_zero_unless(inside: Array | None, arrays: Any) -> Any:
    """Arrays `(partial sums, rows, ...)` with 0 in the rows that are not inside; None means that all are."""
    if inside is None:
        return arrays
    return jax.tree.map(lambda rows: jnp.where(jnp.expand_dims(inside, range(1, rows.ndim - 1)), rows, 0), arrays)


def _floats_and_others(arrays: Arrays) -> tuple[Arrays, Arrays]:
    floats = {name: value for name, value in arrays.items() if jnp.issubdtype(value.dtype, jnp.floating)}
    return floats, {name: value for name, value in arrays.items() if name not in floats}


def _widened(arrays: Arrays) -> Arrays:
    """Soft targets in float32 or wider, of a chunk at a time: those of all rows would be as large as the logits."""
    floats, others = _floats_and_others(arrays)
    return {**{name: each.astype(compute_dtype([each])) for name, each in floats.items()}, **others}


def _losses_of_logits(row: Row, logits: Array, by_sum: Arrays, own: Arrays, shared: Arrays) -> Any:
    """The losses of logits `(partial sums, rows, classes)`, with arrays per partial sum, per row, and for all rows."""

    def of_row(logits: Array, by_sum: Arrays, own: Arrays) -> Any:
        return row(logits, {**by_sum, **shared}, own)

    rows = jax.vmap(of_row, in_axes=(0, None, 0))
    return jax.vmap(rows, in_axes=(0, 0, 0))(logits, by_sum, own)
