"""Gradient accumulation over micro-batches, with the gradient of the whole batch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss._arrays import compute_dtype
from jaxloss._errors import as_any_array
from jaxloss._sharding import equally_varying, vary_over, varying_axes, wide_zeros_like
from jaxloss._sizes import may_be_zero
from jaxloss.reductions import Total

Loss = Callable[[Any, Any], Total]


def accumulated(loss: Loss) -> Callable[[Any, Any], Total]:
    r"""Makes a loss that processes one micro-batch at a time and has the gradients of the whole batch.

    The gradient of a mean over all micro-batches needs its normaliser, which is known only after the last micro-batch.
    Until then, two sums are kept: of the gradients of the losses, and of the gradients of the normalisers. The
    backward pass combines them by the chain rule. For the mean:

    $$\nabla \frac{L}{N} = \frac{\sum_i \nabla L_i - \frac{L}{N} \sum_i \nabla N_i}{N}, \qquad
    L = \sum_i L_i, \quad N = \sum_i N_i$$

    Each micro-batch needs one forward and one backward pass, and the memory is that of one micro-batch. Under `jit` of
    the whole gradient, the second sum is removed if the normalisers do not depend on the differentiated arrays, as
    counts do not. Sums are in float32 or wider. Inside `shard_map`, gradients stay on their device until all
    micro-batches are done, and are then summed over devices once.

    Args:
      loss: maps (parameters, micro-batch), both pytrees of arrays, to a `jaxloss.Total`: the sum of the losses and the
        sum of their normalisers, as returned with `reduction="total"`. Gradients with respect to arrays that it closes
        over are supported.

    Returns:
      A function of (parameters, batches), where each array of `batches` has an additional leading axis over
      micro-batches. These have equal shapes; pad and mask shorter ones. The function returns the `Total` of all
      micro-batches, and supports reverse-mode differentiation with respect to both arguments.

    Raises:
      ValueError: the arrays of `batches` have no common leading axis, or it is empty; or, inside `shard_map`, `loss`
        closes over a differentiated array that is the same on all devices.
      TypeError: `loss` is not callable or does not return a Total, or a leaf of `parameters` or `batches` is not an
        array.

    Reference:
      Unsloth and Hugging Face Transformers, "Fixing gradient accumulation", 2024 (the mean of means is not the mean).

    Example:
      >>> import jax, jax.numpy as jnp, jaxloss
      >>> def loss(slope, batch):
      ...     return jaxloss.mse_loss(slope * batch["x"], batch["y"], where=batch["where"], reduction="total")
      >>> batches = {"x": jnp.array([[1.0, 2.0], [3.0, 0.0]]), "y": jnp.array([[2.0, 3.0], [7.0, 0.0]]),
      ...            "where": jnp.array([[True, True], [True, False]])}
      >>> mean = lambda slope: jaxloss.accumulated(loss)(slope, batches).mean()
      >>> print([f"{number:.4f}" for number in jax.value_and_grad(mean)(2.0)])
      ['0.6667', '-0.6667']
    """

    if not callable(loss):
        raise TypeError(f"accumulated: takes a loss of (parameters, micro-batch), got {type(loss).__name__}")

    def checked_total(parameters: Any, batches: Any) -> Total:
        for name, tree in (("parameters", parameters), ("batches", batches)):
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
                as_any_array("accumulated", name + jax.tree_util.keystr(path), leaf)
        return total(parameters, batches)

    @jax.jit
    @functools.wraps(loss)
    def total(parameters: Any, batches: Any) -> Total:
        lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(batches)}
        if len(lengths) != 1 or all(map(may_be_zero, *lengths)):
            shapes = ", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(batches))
            raise ValueError(
                "accumulated: every array of batches takes the same leading axis, over at least one micro-batch, got "
                f"{f'shapes {shapes}' if shapes else 'no array'}"
            )
        parameters, batches = jax.tree.map(jnp.asarray, (parameters, batches))
        traced = _Traced(loss, parameters, batches)
        if traced.axes:
            # The cotangent varies over the axes that the total varies over, and so must the sums of the gradients.
            varied = functools.partial(vary_over, axes=traced.axes)
            parameters, batches = jax.tree.map(varied, (parameters, batches))
            traced = _Traced(loss, parameters, batches)
        return _total(traced, (parameters, traced.captured), batches)

    return checked_total


class _Traced:
    """The loss of one micro-batch as a traced program, with the arrays it closes over as an additional argument."""

    def __init__(self, loss: Callable[[Any, Any], Any], parameters: Any, batches: Any):
        from jax.extend import core  # here, because at the top it would be a fifth of the import time

        first = jax.tree.map(lambda leaf: leaf[0], batches)
        program, structure = jax.make_jaxpr(functools.partial(_wide_total, loss), return_shape=True)(parameters, first)
        self.captured = tuple(program.consts)
        self.axes: set[Any] = set().union(*(result.mat.varying for result in program.out_avals))

        def traced(arguments: tuple[Any, tuple[Any, ...]], batch: Any) -> Total:
            parameters, captured = arguments
            closed = core.ClosedJaxpr(program.jaxpr, captured)
            results = core.jaxpr_as_fun(closed)(*jax.tree.leaves((parameters, batch)))
            return jax.tree.unflatten(jax.tree.structure(structure), results)

        self.loss = traced


def _wide_total(loss: Callable[[Any, Any], Any], parameters: Any, batch: Any) -> Total:
    """The total of the loss, in float32 or wider."""
    total = loss(parameters, batch)
    if not isinstance(total, Total):
        got = "an array" if isinstance(total, Array) else type(total).__name__
        raise TypeError(f"accumulated: the loss returned {got} but takes a jaxloss.Total; use reduction='total'")
    parts = equally_varying([jnp.asarray(part) for part in (total.loss, total.normaliser)])
    return Total(*(part.astype(compute_dtype(parts)) for part in parts))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _total(traced: _Traced, parameters: Any, batches: Any) -> Total:
    totals = lax.map(functools.partial(traced.loss, parameters), batches)
    return jax.tree.map(jnp.sum, totals)


def _total_forward(traced: _Traced, parameters: Any, batches: Any) -> tuple[Total, Any]:
    if any(leaf.perturbed and traced.axes - varying_axes(leaf.value) for leaf in jax.tree.leaves(parameters)):
        raise ValueError(
            "accumulated: the loss closes over an array that is differentiated and is the same on all devices of "
            "shard_map; make it a part of the parameters"
        )
    (perturbed, rest), (perturbed_batches, rest_batches) = _split(parameters), _split(batches)

    def part(name: str, batch: tuple[Any, Any], seed: float | Array) -> tuple[Array, Any]:
        """The sum of the losses or of the normalisers of a micro-batch, and its gradients."""

        def number(perturbed: Any, perturbed_batch: Any) -> Array:
            return getattr(traced.loss(_merge(perturbed, rest), _merge(perturbed_batch, batch[1])), name)

        value, pull = jax.vjp(number, perturbed, batch[0])
        gradients = pull(jnp.ones_like(value) * seed)

        def unseeded(leaf: Array) -> Array:
            wide = leaf.astype(compute_dtype([leaf]))
            return wide / jnp.asarray(seed, wide.dtype)

        return value, jax.tree.map(unseeded, gradients)

    def step(sums: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        normaliser, by_normaliser = part("normaliser", batch, 1.0)
        # A power of two that makes gradients no larger than those of a mean, so that they fit into half precision.
        seed = jnp.exp2(-jnp.ceil(jnp.log2(jnp.maximum(normaliser, 1))))
        loss_sum, by_loss = part("loss", batch, seed)
        by_parameters, by_batch = zip(by_loss, by_normaliser, strict=True)
        return jax.tree.map(jnp.add, sums, by_parameters), (Total(loss_sum, normaliser), by_batch)

    start = jax.tree.map(wide_zeros_like, (perturbed, perturbed))
    sums, (totals, by_batches) = lax.scan(step, start, (perturbed_batches, rest_batches))
    dtypes = jax.tree.map(lambda leaf: jnp.zeros(0, leaf.dtype), (perturbed, perturbed_batches))
    return jax.tree.map(jnp.sum, totals), (sums, by_batches, dtypes)


def _total_backward(traced: _Traced, kept: Any, cotangent: Total) -> tuple[Any, Any]:
    del traced
    by_parameters, by_batches, (dtypes, dtypes_of_batches) = kept
    zero = jax.custom_derivatives.SymbolicZero
    loss_cotangent, normaliser_cotangent = (
        0.0 if isinstance(part, zero) else part for part in jax.tree.leaves(cotangent)
    )

    def combined(by_loss: Array, by_normaliser: Array, like: Array) -> Array:
        dtype = by_loss.dtype
        gradient = (
            jnp.asarray(loss_cotangent, dtype) * by_loss + jnp.asarray(normaliser_cotangent, dtype) * by_normaliser
        )
        return gradient.astype(like.dtype)  # cast last: before scaling, sums may exceed the range of half precision

    return jax.tree.map(combined, *by_parameters, dtypes), jax.tree.map(combined, *by_batches, dtypes_of_batches)


_total.defvjp(_total_forward, _total_backward, symbolic_zeros=True)


def _split(tree: Any) -> tuple[Any, Any]:
    """Splits a tree into its differentiated arrays and the others, with None in place of the missing ones."""
    perturbed = jax.tree.map(lambda leaf: leaf.value if leaf.perturbed else None, tree)
    return perturbed, jax.tree.map(lambda leaf: None if leaf.perturbed else leaf.value, tree)


def _merge(perturbed: Any, rest: Any) -> Any:
    return jax.tree.map(lambda one, other: other if one is None else one, perturbed, rest, is_leaf=lambda x: x is None)
