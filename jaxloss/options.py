"""The options that all losses share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from jax import Array

from jaxloss import reductions
from jaxloss._arrays import Boolean, Real


class SetOptions(TypedDict, total=False):
    """Options of a loss of a set. Its `where=`, with an entry for each item, stands among its arguments.

    Args:
      weights, reduction: as in `ReductionOptions`, where each item of the set is a sample.
    """

    weights: Real | None
    reduction: reductions.Reduction


class ReductionOptions(SetOptions, total=False):
    """Options of every loss.

    Args:
      weights: real numbers that multiply the losses, one per sample or one for all.
      where: booleans, true for the samples to include. Masked samples affect neither value nor gradient, even if they
        contain NaN or infinities.
      reduction: "mean" (the default: the sum of the losses divided by the sum of their normalisers, which is the number
        of samples or, in some losses with class weights, the sum of these), "sum", "none" (one loss per sample, 0
        where masked), "weighted_mean" (a mean with weighted normalisers), "batchmean" (the sum divided by the length of
        the leading axis), "total" (a `jaxloss.Total`, for exact means over several batches), or a callable that takes
        the two arguments (weighted losses, normalisers).
    """

    where: Boolean | None


class MaskOptions(TypedDict, total=False):
    """The option of a function of samples that is not a loss, such as `jaxloss.linear_log_probability`.

    Args:
      where: booleans, true for the samples to include. Masked samples have the value 0 and gradient 0, even if they
        contain NaN or infinities.
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
      weights, where: one per sample or one for all, as in `ReductionOptions`.
      reduction: "mean", "sum", "none", "weighted_mean", "batchmean", "total" or a callable, as in `ReductionOptions`.
      axis: the class or feature axis, by default the last. Several axes, as a tuple, are flattened into it in the order
        given.
    """


COMMON: Mapping[str, Any] = {"weights": None, "where": None, "reduction": "mean", "axis": -1}
"""The options that the decorator handles for every kernel, with their defaults."""


def is_given(option: Any) -> bool:
    """For a kernel: whether this option differs from its default. If not, the kernel can leave out the term.

    An option at its default reaches the kernel as that Python value, and any other number as a traced array.
    """
    return isinstance(option, Array)
