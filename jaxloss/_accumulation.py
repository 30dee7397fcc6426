"""One batch in several micro-batches, with the gradient that the whole would have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
from jax import Array, lax

from jaxloss._arrays import compute_dtype
from jaxloss._errors import require_array
from jaxloss._sharding import equally_varying, vary_over, varying_axes, wide_zeros_like
from jaxloss.reductions import Total

Loss = Callable[[Any, Any], Total]


def accumulated(loss: Loss) -> Callable[[Any, Any], Total]:
    r"""Makes a loss that is worked out a micro-batch at a time, in the memory of one, with the gradients of the whole.

    The gradient of a mean over all micro-batches needs its normaliser, which is known only after the last of them. So
    two sums are kept until then, of the gradients of the losses and of those of the normalisers, and the chain rule of
    what is made of the total puts them together:

    $$\nabla \frac{L}{N} = \frac{\sum_i \nabla L_i - \frac{L}{N} \sum_i \nabla N_i}{N}, \qquad
    L = \sum_i L_i, \quad N = \sum_i N_i$$

    Each micro-batch takes one forward and one backward pass. Under `jit` of the whole gradient, the second sum is left
    out where normalisers do not depend on what is differentiated, as counts do not. Sums are in float32 or wider.
    Inside `shard_map` gradients stay on their device until all micro-batches are through, and are then summed over
    devices once.

    Args:
      loss: takes (parameters, micro-batch), both pytrees of arrays, and returns a `jaxloss.Total`: the sum of the
        losses and of their normalisers, as `reduction="total"` gives it. What it closes over is differentiated as well.

    Returns:
      A function of (parameters, batches), where each array of `batches` has one more leading axis, over micro-batches
      of one shape, padded and masked where they are shorter. It returns the `Total` of all, to be differentiated by
      either, in reverse mode.

    Raises:
      ValueError: the arrays of `batches` have no common leading axis, or none of an entry; or, inside `shard_map`,
        `loss` closes over what is differentiated and the same on all devices.
      TypeError: `loss` is not callable or returns no Total, or a leaf of `parameters` or `batches` is no array.

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
                require_array("accumulated", name + jax.tree_util.keystr(path), leaf)
        return total(parameters, batches)

    @jax.jit
    @functools.wraps(loss)
    def total(parameters: Any, batches: Any) -> Total:
        lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(batches)}
        if len(lengths) != 1 or lengths <= {(), (0,)}:
            shapes = ", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(batches))
            raise ValueError(
                "accumulated: batches take arrays with one leading axis over micro-batches, at least one of them and "
                f"as many for all, got shapes {shapes or 'of no array'}"
            )
        parameters, batches = jax.tree.map(jnp.asarray, (parameters, batches))
        traced = _Traced(loss, parameters, batches)
        if traced.axes:
            # What the total varies over, its cotangent does, which only then meets the sums of the gradients.
            varied = functools.partial(vary_over, axes=traced.axes)
            parameters, batches = jax.tree.map(varied, (parameters, batches))
            traced = _Traced(loss, parameters, batches)
        return _total(traced, (parameters, traced.captured), batches)

    return checked_total


class _Traced:
    """The loss of the first micro-batch as a program, of which what it closes over is one more argument."""

    def __init__(self, loss: Callable[[Any, Any], Any], parameters: Any, batches: Any):
        first = jax.tree.map(lambda leaf: leaf[0], batches)
        program, structure = jax.make_jaxpr(functools.partial(_checked, loss), return_shape=True)(parameters, first)
        self.captured = tuple(program.consts)
        self.axes: set[Any] = set().union(*(result.mat.varying for result in program.out_avals))

        def traced(arguments: tuple[Any, tuple[Any, ...]], batch: Any) -> Total:
            parameters, captured = arguments
            closed = jax.extend.core.ClosedJaxpr(program.jaxpr, captured)
            results = jax.extend.core.jaxpr_as_fun(closed)(*jax.tree.leaves((parameters, batch)))
            return jax.tree.unflatten(jax.tree.structure(structure), results)

        self.loss = traced


def _checked(loss: Callable[[Any, Any], Any], parameters: Any, batch: Any) -> Total:
    """The total in float32 or wider."""
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
    (wanted, rest), (wanted_of_batches, rest_of_batches) = _parted(parameters), _parted(batches)

    def part(name: str, batch: tuple[Any, Any], seed: float | Array) -> tuple[Array, Any]:
        """The sum of the losses or of the normalisers of a micro-batch, and its gradients by what is wanted."""

        def number(wanted: Any, wanted_of_batch: Any) -> Array:
            return getattr(traced.loss(_joined(wanted, rest), _joined(wanted_of_batch, batch[1])), name)

        value, pull = jax.vjp(number, wanted, batch[0])
        gradients = pull(jnp.ones_like(value) * seed)
        return value, jax.tree.map(lambda leaf: leaf.astype(compute_dtype([leaf])) / seed, gradients)

    def step(sums: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        normaliser, by_normaliser = part("normaliser", batch, 1.0)
        # A power of two by which gradients are no larger than those of a mean, so that half precision holds them.
        seed = jnp.exp2(-jnp.ceil(jnp.log2(jnp.maximum(normaliser, 1))))
        loss_sum, by_loss = part("loss", batch, seed)
        by_parameters, by_batch = zip(by_loss, by_normaliser, strict=True)
        return jax.tree.map(jnp.add, sums, by_parameters), (Total(loss_sum, normaliser), by_batch)

    start = jax.tree.map(wide_zeros_like, (wanted, wanted))
    sums, (totals, by_batches) = lax.scan(step, start, (wanted_of_batches, rest_of_batches))
    dtypes = jax.tree.map(lambda leaf: jnp.zeros(0, leaf.dtype), (wanted, wanted_of_batches))
    return jax.tree.map(jnp.sum, totals), (sums, by_batches, dtypes)


def _total_backward(traced: _Traced, kept: Any, cotangent: Total) -> tuple[Any, Any]:
    del traced
    by_parameters, by_batches, (dtypes, dtypes_of_batches) = kept
    zero = jax.custom_derivatives.SymbolicZero
    of_loss, of_normaliser = (0.0 if isinstance(part, zero) else part for part in jax.tree.leaves(cotangent))

    def combined(by_loss: Array, by_normaliser: Array, like: Array) -> Array:
        dtype = by_loss.dtype
        change = jnp.asarray(of_loss, dtype) * by_loss + jnp.asarray(of_normaliser, dtype) * by_normaliser
        return change.astype(like.dtype)  # only now: before they are scaled, sums may be beyond half precision

    return jax.tree.map(combined, *by_parameters, dtypes), jax.tree.map(combined, *by_batches, dtypes_of_batches)


_total.defvjp(_total_forward, _total_backward, symbolic_zeros=True)


def _parted(tree: Any) -> tuple[Any, Any]:
    """The arrays that are differentiated and the others, each tree with None in the place of the rest."""
    wanted = jax.tree.map(lambda leaf: leaf.value if leaf.perturbed else None, tree)
    return wanted, jax.tree.map(lambda leaf: None if leaf.perturbed else leaf.value, tree)


def _joined(wanted: Any, rest: Any) -> Any:
    return jax.tree.map(lambda one, other: other if one is None else one, wanted, rest, is_leaf=lambda x: x is None)
