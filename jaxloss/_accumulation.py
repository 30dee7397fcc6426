"""Gradient accumulation over micro-batches, with the gradient of the whole batch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss._arrays import compute_dtype
from jaxloss._errors import as_any_array
from jaxloss._sharding import equally_varying, vary_over, varying_axes, wide_zeros_like
from jaxloss._sizes import may_be_zero
from jaxloss.reductions import Total

Function = Callable[[Any, Any], Total]
FunctionWithAux = Callable[[Any, Any], tuple[Total, Any]]


@overload
def accumulated(loss: Function, *, has_aux: Literal[False] = False) -> Function: ...


@overload
def accumulated(loss: FunctionWithAux, *, has_aux: Literal[True]) -> FunctionWithAux: ...


def accumulated(loss: Callable[[Any, Any], Any], *, has_aux: bool = False) -> Callable[[Any, Any], Any]:
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

    Losses of sets (`ntxent_loss`, `vicreg_loss` and others) are not sums over micro-batches, because the items of one
    do not meet those of another. "Gradient caching" in the recipes for embeddings gives their gradient exactly.

    Args:
      loss: maps (parameters, micro-batch), both pytrees of arrays, to a `jaxloss.Total`: the sum of the losses and the
        sum of their normalisers, as returned with `reduction="total"`. Gradients with respect to arrays that it closes
        over are supported.
      has_aux: whether `loss` returns a pair, the Total and auxiliary data: any pytree of arrays, such as an accuracy or
        the statistics of the batch.

    Returns:
      A function of (parameters, batches), where each array of `batches` has an additional leading axis over
      micro-batches. These have equal shapes; pad and mask shorter ones. The function returns the `Total` of all
      micro-batches, and supports reverse-mode differentiation with respect to both arguments. With `has_aux`, it
      returns a pair, the Total and the auxiliary data of each micro-batch, stacked along a new leading axis. These are
      not differentiated.

    Raises:
      ValueError: the arrays of `batches` have no common leading axis, or it is empty; or, inside `shard_map`, `loss`
        closes over a differentiated array that is the same on all devices.
      TypeError: `loss` is not callable or does not return a Total (a pair, with `has_aux`), or a leaf of `parameters`,
        `batches` or the auxiliary data is not an array.

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

      With a metric of each micro-batch:

      >>> def with_error(slope, batch):
      ...     return loss(slope, batch), {"largest error": jnp.max(jnp.abs(slope * batch["x"] - batch["y"]))}
      >>> total, metrics = jaxloss.accumulated(with_error, has_aux=True)(2.0, batches)
      >>> print(total.mean().round(4), metrics["largest error"])
      0.6667 [1. 1.]
    """

    if not callable(loss):
        raise TypeError(f"accumulated: takes a loss of (parameters, micro-batch), got {type(loss).__name__}")

    def checked_total(parameters: Any, batches: Any) -> Any:
        _require_arrays(parameters=parameters, batches=batches)
        return total(parameters, batches)

    @jax.jit
    @functools.wraps(loss)
    def total(parameters: Any, batches: Any) -> Any:
        lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(batches)}
        if len(lengths) != 1 or all(map(may_be_zero, *lengths)):
            shapes = ", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(batches))
            raise ValueError(
                "accumulated: every array of batches takes the same leading axis, over at least one micro-batch, got "
                f"{f'shapes {shapes}' if shapes else 'no array'}"
            )
        parameters, batches = jax.tree.map(jnp.asarray, (parameters, batches))
        traced = _Traced(loss, parameters, batches, has_aux=has_aux)
        if traced.axes:
            # The cotangent varies over the axes that the total varies over, and so must the sums of the gradients.
            varied = functools.partial(vary_over, axes=traced.axes)
            parameters, batches = jax.tree.map(varied, (parameters, batches))
            traced = _Traced(loss, parameters, batches, has_aux=has_aux)
        result: Any = _total(traced, (parameters, traced.captured), batches)
        return result if has_aux else result[0]

    return checked_total


def _require_arrays(**trees: Any) -> None:
    for name, tree in trees.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            as_any_array("accumulated", name + jax.tree_util.keystr(path), leaf)


class _Traced:
    """The loss of one micro-batch as a traced program, with the arrays it closes over as an additional argument."""

    def __init__(self, loss: Callable[[Any, Any], Any], parameters: Any, batches: Any, *, has_aux: bool):
        from jax.extend import core  # here, because at the top it would be a fifth of the import time

        first = jax.tree.map(lambda leaf: leaf[0], batches)
        wide = functools.partial(_wide_total, loss, has_aux)
        program, shapes = jax.make_jaxpr(wide, return_shape=True)(parameters, first)
        self.captured = tuple(program.consts)
        varying = [result.mat.varying for result in program.out_avals]
        structure: Any = shapes
        total, _ = structure
        # The parts of the total come first.
        self.axes: set[Any] = set().union(*varying[: len(jax.tree.leaves(total))])

        def traced(arguments: tuple[Any, tuple[Any, ...]], batch: Any) -> tuple[Total, Any]:
            parameters, captured = arguments
            closed = core.ClosedJaxpr(program.jaxpr, captured)
            results = core.jaxpr_as_fun(closed)(*jax.tree.leaves((parameters, batch)))
            return jax.tree.unflatten(jax.tree.structure(structure), results)

        self.loss, self._total = traced, total

    def zero(self) -> Total:
        return jax.tree.map(lambda part: vary_over(jnp.zeros(part.shape, part.dtype), self.axes), self._total)


def _wide_total(loss: Callable[[Any, Any], Any], has_aux: bool, parameters: Any, batch: Any) -> tuple[Total, Any]:
    """The total of the loss, in float32 or wider, and the auxiliary data."""
    result, aux = loss(parameters, batch), None
    if has_aux:
        if not isinstance(result, tuple) or len(result) != 2:
            got = type(result).__name__
            raise TypeError(f"accumulated: the loss returned {got} but takes a pair (Total, auxiliary data)")
        result, aux = result
        _require_arrays(aux=aux)
    if not isinstance(result, Total):
        got = "an array" if isinstance(result, Array) else type(result).__name__
        raise TypeError(f"accumulated: the loss returned {got} but takes a jaxloss.Total; use reduction='total'")
    parts, treedef = jax.tree.flatten(result)
    parts = equally_varying([jnp.asarray(part) for part in parts])
    dtype = compute_dtype(parts)
    return jax.tree.unflatten(treedef, [part.astype(dtype) for part in parts]), jax.tree.map(jnp.asarray, aux)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _total(traced: _Traced, parameters: Any, batches: Any) -> tuple[Total, Any]:
    def step(sums: Total, batch: Any) -> tuple[Total, Any]:
        total, aux = traced.loss(parameters, batch)
        return sums + total, aux

    return lax.scan(step, traced.zero(), batches)


def _total_forward(traced: _Traced, parameters: Any, batches: Any) -> tuple[tuple[Total, Any], Any]:
    if any(leaf.perturbed and traced.axes - varying_axes(leaf.value) for leaf in jax.tree.leaves(parameters)):
        raise ValueError(
            "accumulated: the loss closes over an array that is differentiated and is the same on all devices of "
            "shard_map; make it a part of the parameters"
        )
    (perturbed, rest), (perturbed_batches, rest_batches) = _split(parameters), _split(batches)

    def part(name: str, batch: tuple[Any, Any], seed: float | Array) -> tuple[Any, Any]:
        """The result of a micro-batch, and the gradients of its sum of losses or of normalisers."""

        def number(perturbed: Any, perturbed_batch: Any) -> tuple[Array, Any]:
            result = traced.loss(_merge(perturbed, rest), _merge(perturbed_batch, batch[1]))
            return getattr(result[0], name), result

        value, pull, result = jax.vjp(number, perturbed, batch[0], has_aux=True)
        gradients = pull(jnp.ones_like(value) * seed)

        def unseeded(leaf: Array) -> Array:
            wide = leaf.astype(compute_dtype([leaf]))
            return wide / jnp.asarray(seed, wide.dtype)

        return result, jax.tree.map(unseeded, gradients)

    def step(sums: tuple[Total, Any], batch: tuple[Any, Any]) -> tuple[Any, Any]:
        (total, _), by_normaliser = part("normaliser", batch, 1.0)
        # A power of two that makes gradients no larger than those of a mean, so that they fit into half precision.
        seed = jnp.exp2(-jnp.ceil(jnp.log2(jnp.maximum(total.normaliser, 1))))
        (total, aux), by_loss = part("loss", batch, seed)
        by_parameters, by_batch = zip(by_loss, by_normaliser, strict=True)
        return (sums[0] + total, jax.tree.map(jnp.add, sums[1], by_parameters)), (aux, by_batch)

    start = traced.zero(), jax.tree.map(wide_zeros_like, (perturbed, perturbed))
    (totals, sums), (aux, by_batches) = lax.scan(step, start, (perturbed_batches, rest_batches))
    dtypes = jax.tree.map(lambda leaf: jnp.zeros(0, leaf.dtype), (perturbed, perturbed_batches))
    return (totals, aux), (sums, by_batches, dtypes)


def _total_backward(traced: _Traced, kept: Any, cotangents: tuple[Total, Any]) -> tuple[Any, Any]:
    del traced
    cotangent, _ = cotangents  # the auxiliary data are not differentiated
    by_parameters, by_batches, (dtypes, dtypes_of_batches) = kept
    zero = jax.custom_derivatives.SymbolicZero
    loss_cotangent, normaliser_cotangent = (
        0.0 if isinstance(part, zero) else part for part in (cotangent.loss, cotangent.normaliser)
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
