"""One batch in several micro-batches, with the gradient that the whole would have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss.meshes import vary_over, varying_axes, wide_zeros_like
from jaxloss.reductions import Total

Loss = Callable[[Any, Any], Total]


def accumulated(loss: Loss) -> Callable[[Any, Any], Total]:
    r"""Makes a loss that is worked out a micro-batch at a time, in the memory of one, with the gradients of the whole.

    The gradient of a mean over all micro-batches needs its normaliser, which is known only after the last of them. So
    two sums are kept until then, of the gradients of the losses and of those of the normalisers, and the chain rule of
    what is made of the total puts them together:

    $$\nabla \frac{L}{N} = \frac{\sum_i \nabla L_i - \frac{L}{N} \sum_i \nabla N_i}{N}, \qquad
    L = \sum_i L_i, \quad N = \sum_i N_i$$

    Each micro-batch takes one forward and one backward pass. The second sum is left out of the compiled program where
    normalisers do not depend on what is differentiated, as counts do not. Sums are in float32 or wider. Inside
    `shard_map` gradients stay on their device until all micro-batches are through, and are then summed over devices
    once.

    Args:
      loss: takes (parameters, micro-batch) and returns a `jaxloss.Total`: the sum of the losses and of their
        normalisers, as `reduction="total"` gives it.

    Returns:
      A function of (parameters, batches), where each array of `batches` has one more leading axis, over micro-batches
      of one shape, padded and masked where they are shorter. It returns the `Total` of all, to be differentiated by
      either, in reverse mode.

    Raises:
      ValueError: the arrays of `batches` have no common leading axis.
      TypeError: `loss` returns no Total.

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

    @jax.jit
    def total(parameters: Any, batches: Any) -> Total:
        lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(batches)}
        if len(lengths) != 1 or lengths == {()}:
            shapes = ", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(batches))
            raise ValueError(
                "accumulated: batches take arrays with one leading axis over micro-batches, of one length for all, "
                f"got shapes {shapes or 'of no array'}"
            )
        axes = varying_axes(batches)
        parameters = jax.tree.map(lambda leaf: vary_over(jnp.asarray(leaf), axes), parameters)
        first = jax.tree.map(lambda leaf: leaf[0], batches)
        # What the loss closes over is differentiated as well.
        convertible, captured = jax.closure_convert(functools.partial(_checked, loss), parameters, first)

        def converted(everything: tuple[Any, ...], batch: Any) -> Total:
            parameters, *captured = everything
            return convertible(parameters, batch, *captured)

        return _total(converted, (parameters, *captured), batches)

    return total


def _checked(loss: Callable[[Any, Any], Any], parameters: Any, batch: Any) -> Total:
    total = loss(parameters, batch)
    if not isinstance(total, Total):
        got = "an array" if isinstance(total, Array) else type(total).__name__
        raise TypeError(f"accumulated: the loss returned {got} but takes a jaxloss.Total; use reduction='total'")
    return total


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _total(loss: Loss, parameters: Any, batches: Any) -> Total:
    totals = lax.map(functools.partial(loss, parameters), batches)
    return jax.tree.map(jnp.sum, totals)


def _total_forward(loss: Loss, parameters: Any, batches: Any) -> tuple[Total, Any]:
    (wanted, rest), (wanted_of_batches, rest_of_batches) = _parted(parameters), _parted(batches)

    def part(name: str, wanted_of_batch: Any, rest_of_batch: Any) -> tuple[Array, Any]:
        """The sum of the losses or of the normalisers of a micro-batch, and its gradients by what is wanted."""

        def number(wanted: Any, wanted_of_batch: Any) -> Array:
            return getattr(loss(_joined(wanted, rest), _joined(wanted_of_batch, rest_of_batch)), name)

        value, pull = jax.vjp(number, wanted, wanted_of_batch)
        return value, pull(jnp.ones_like(value))

    def step(sums: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        (loss_sum, by_loss), (normaliser, by_normaliser) = part("loss", *batch), part("normaliser", *batch)
        by_parameters, by_batch = zip(by_loss, by_normaliser, strict=True)
        sums = jax.tree.map(lambda whole, part: whole + part.astype(whole.dtype), sums, by_parameters)
        return sums, (Total(loss_sum, normaliser), by_batch)

    start = jax.tree.map(wide_zeros_like, (wanted, wanted))
    sums, (totals, by_batches) = lax.scan(step, start, (wanted_of_batches, rest_of_batches))
    dtypes = jax.tree.map(lambda leaf: jnp.zeros(0, leaf.dtype), wanted)
    return jax.tree.map(jnp.sum, totals), (sums, by_batches, dtypes)


def _total_backward(loss: Loss, kept: Any, cotangent: Total) -> tuple[Any, Any]:
    del loss
    (by_loss, by_normaliser), (batches_by_loss, batches_by_normaliser), dtypes = kept
    zero = jax.custom_derivatives.SymbolicZero
    of_loss, of_normaliser = (0.0 if isinstance(part, zero) else part for part in jax.tree.leaves(cotangent))

    def combined(by_loss: Array, by_normaliser: Array, like: Array) -> Array:
        dtype = by_loss.dtype
        change = jnp.asarray(of_loss, dtype) * by_loss + jnp.asarray(of_normaliser, dtype) * by_normaliser
        return change.astype(like.dtype)  # only now: before they are scaled, sums may be beyond half precision

    by_parameters = jax.tree.map(combined, by_loss, by_normaliser, dtypes)
    return by_parameters, jax.tree.map(combined, batches_by_loss, batches_by_normaliser, batches_by_loss)


_total.defvjp(_total_forward, _total_backward, symbolic_zeros=True)


def _parted(tree: Any) -> tuple[Any, Any]:
    """The arrays that are differentiated and the others, each tree with None in the place of the rest."""
    wanted = jax.tree.map(lambda leaf: leaf.value if leaf.perturbed else None, tree)
    return wanted, jax.tree.map(lambda leaf: None if leaf.perturbed else leaf.value, tree)


def _joined(wanted: Any, rest: Any) -> Any:
    return jax.tree.map(lambda one, other: other if one is None else one, wanted, rest, is_leaf=lambda x: x is None)
