"""From one sample to a batch: `vmap` over every batch axis, or a kernel that sees the whole batch."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss._data_checks import data_checks, data_checks_enabled
from jaxloss._decorator.notation import Match, Operand


def _no_sum(weights: Array) -> Array:
    raise NotImplementedError("a function that is not a loss has no weighted sum")


@dataclasses.dataclass(frozen=True)
class BatchLoss:
    """The result of a kernel that sees the whole batch, for losses that a `vmap` of one sample would compute badly.

    Args:
      losses: computes the loss of each sample, an array with the shape of the batch.
      weighted_sum: maps weights, one per sample, to the sum of the weighted losses. It may compute the gradients
        together with the sum. A function that is not a loss has none.
      normalisers: one per sample, or None if each is 1.
    """

    losses: Callable[[], Array]
    weighted_sum: Callable[[Array], Array] = _no_sum
    normalisers: Array | None = None


def spread_batch(operands: Sequence[Operand], matched: Match, values: dict[str, Array]) -> dict[str, Array]:
    """Broadcasts each array to all batch axes, followed by its core axes; parameters stay as they are."""

    def spread(operand: Operand) -> Array:
        value = values[operand.name]
        return (
            value if operand.role == "parameter" else jnp.broadcast_to(value, matched.batch_shape + operand.core_shape)
        )

    return {operand.name: spread(operand) for operand in operands}


def vmap_batch(
    sample: Callable[[dict[str, Array]], Any], operands: Sequence[Operand], matched: Match
) -> Callable[[dict[str, Array]], Any]:
    """Lifts the function of one sample over the batch axes. An axis of length 1 is broadcast, not copied."""
    function = sample
    for i in reversed(range(len(matched.batch_shape))):
        in_axes: dict[str, int | None] = {}
        for operand in operands:
            is_mapped = operand.batch_axes and operand.batch_shape[i] == matched.batch_shape[i]
            # The outer axes are gone by then: this array begins with axis i, or with its core axes.
            first = 0 if is_mapped and operand.batch_axes[i] == i else len(operand.core)
            in_axes[operand.name] = first if is_mapped else None
        function = jax.vmap(function, in_axes=(in_axes,))
    # Not strict, as an array that all samples share has no batch axes.
    stretched = {
        operand.name: [
            place
            for place, length, full in zip(operand.batch_axes, operand.batch_shape, matched.batch_shape, strict=False)
            if length != full
        ]
        for operand in operands
    }

    def batched(values: dict[str, Array]) -> Any:
        values = {name: lax.squeeze(v, stretched[name]) if stretched[name] else v for name, v in values.items()}
        # checkify cannot batch a check over no samples.
        with data_checks(data_checks_enabled() and 0 not in matched.batch_shape):
            return function(values)

    return batched
