"""The options that losses have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from jax import Array

from jaxloss import reductions
from jaxloss._arrays import Boolean, Real


class SetOptions(TypedDict, total=False):
    """Options of a loss of a set whose kernel declares `where` itself: those of `ReductionOptions` without it.

    Args:
      weights, reduction: as in `ReductionOptions`, with an item of the set as a sample.
    """

    weights: Real | None
    reduction: reductions.Reduction


class ReductionOptions(SetOptions, total=False):
    """Options of every loss.

    Args:
      weights: real numbers that multiply the losses, one a sample or one for all.
      where: booleans, true where a sample counts. Whatever stands in the others (NaN and infinities too) has no effect
        on value or gradient.
      reduction: "mean" (the default: the sum of the losses over the sum of their normalisers, which is their count
        except in losses with class weights), "sum", "none" (one loss a sample, 0 in masked places), "weighted_mean"
        (the normalisers weighted as well), "batchmean" (the sum over the length of the leading axis), "total" (a
        `jaxloss.Total`, for exact means over several batches), or a callable that takes the two arguments (weighted
        losses, normalisers).
    """

    where: Boolean | None


class SampleOptions(TypedDict, total=False):
    """The option of a function of vectors that is not a loss, such as `jaxloss.highest_wrong_score`.

    Args:
      axis: the class or feature axis, by default the last. Several axes, as a tuple, are flattened into it in the order
        given.
    """

    axis: int | tuple[int, ...]


class AxisOptions(ReductionOptions, SampleOptions, total=False):
    """Options of every loss of vectors: those of `ReductionOptions`, and the axis.

    Args:
      weights, where: one a sample or one for all, as in `ReductionOptions`.
      reduction: "mean", "sum", "none", "weighted_mean", "batchmean", "total" or a callable, as there.
      axis: the class or feature axis, by default the last. Several axes, as a tuple, are flattened into it in the order
        given.
    """


COMMON: Mapping[str, Any] = {"weights": None, "where": None, "reduction": "mean", "axis": -1}
"""The options that the decorator reads, so that no kernel has to, with their defaults."""


def is_given(option: Any) -> bool:
    """Whether the caller of a loss gave this option, asked in a kernel, which can leave out the term if not.

    An option left at its default reaches the kernel as that Python value, and any other number as a traced array.
    """
    return isinstance(option, Array)
