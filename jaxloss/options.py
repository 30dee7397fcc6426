"""The options that losses have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from jaxloss import reductions
from jaxloss._errors import Boolean, Real


class ReductionOptions(TypedDict, total=False):
    """Options of every loss.

    Args:
      weights: real numbers that multiply the losses, one a sample or one for all.
      where: booleans, true where a sample counts; whatever stands in the others (NaN and infinities too) has no effect
        on value or gradient.
      reduction: "mean" (the default; sum of losses over sum of normalisers, which is their count save in losses with
        class weights), "sum", "none" (one loss a sample, 0 in masked places), "weighted_mean" (the normalisers
        weighted as well), "batchmean" (the sum over the length of the leading axis), "total" (a `jaxloss.Total`, for
        exact means over several batches), or a callable that takes the two arguments (weighted losses, normalisers).
    """

    weights: Real | None
    where: Boolean | None
    reduction: reductions.Reduction


class SampleOptions(TypedDict, total=False):
    """The option of a function of samples that are vectors and no loss, such as `jaxloss.highest_wrong_score`.

    Args:
      axis: the class or feature axis, by default the last.
    """

    axis: int


class AxisOptions(ReductionOptions, SampleOptions, total=False):
    """Options of every loss of samples that are vectors: those of `ReductionOptions`, and the axis.

    Args:
      weights, where: one a sample or one for all, as in `ReductionOptions`.
      reduction: "mean", "sum", "none", "weighted_mean", "batchmean", "total" or a callable, as there.
      axis: the class or feature axis, by default the last.
    """


COMMON: Mapping[str, Any] = {"weights": None, "where": None, "reduction": "mean", "axis": -1}
"""The options that the decorator reads, so that no kernel has to, with their defaults."""
