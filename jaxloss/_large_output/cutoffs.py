"""The layout of an adaptive softmax: which classes are in the head, and which in each tail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxloss._arrays import Vector
from jaxloss._errors import COUNT, as_integer, as_number
from jaxloss._interval import Interval

# The exponentials of a logit cost as much as this many multiply-adds, fitted to products with 256, 64 and 16 features.
_LOGIT_COST = 50
_BLOCK = 128


def adaptive_softmax_cutoffs(
    class_counts: Vector | Sequence[float],
    in_features: int,
    *,
    batch_size: int,
    n_tails: int = 2,
    div_value: float = 4.0,
) -> tuple[int, ...]:
    r"""Chooses the cutoffs of an `AdaptiveSoftmax` that minimise the cost of a training step.

    $$N (k_0 + K) (D + \lambda) + \sum_{i=1}^K \max(n_i, B)\, (D D_i + D_i k_i + \lambda k_i)$$

    for a head of $k_0$ classes and K tails of $k_i$ classes, where $n_i$ of the N rows of a batch are expected to
    belong to tail i. This is the cost model of the paper with the constants of this implementation: blocks of B = 128
    rows, or of N rows if there are fewer, and exponentials that cost as much as λ = 50 multiply-adds.

    Args:
      class_counts: `(C,)`, the number of occurrences of each class, not increasing: class 0 is the most frequent.
      in_features: D, at least 1.
      batch_size: number of rows in a training step, at least 1.
      n_tails: number of tails, in [0, C).
      div_value: at least 1, as in `AdaptiveSoftmax.init`.

    Returns:
      The first class of each tail, n_tails integers, for `AdaptiveSoftmax.init`. The minimum is exact for up to 128
      classes. For more, it is the minimum over a grid with a spacing of 3 %. For 100,000 classes with Zipf's law, 256
      features and 4096 rows, a step takes 0.83 of the time with the cutoffs 2,000 and 10,000.

    Raises:
      ValueError: the counts increase or are negative, or a number is out of its range.
      TypeError: the counts are traced or not real numbers, or a number is not an integer.

    Reference:
      Grave et al., Efficient softmax approximation for GPUs, ICML 2017, sections 4.2 and 4.3.

    Example:
      >>> import numpy as np, jaxloss
      >>> print(jaxloss.adaptive_softmax_cutoffs(1e6 / np.arange(1, 100_001), 256, batch_size=4096))
      (495, 14891)
    """
    name = "adaptive_softmax_cutoffs"
    counts = _as_counts(name, class_counts)
    as_integer(name, "in_features", in_features, COUNT)
    as_integer(name, "batch_size", batch_size, COUNT)
    as_number(name, "div_value", div_value, COUNT)
    as_integer(name, "n_tails", n_tails, Interval(f"[0, {counts.size})"))
    rises = np.flatnonzero(np.diff(counts) > 0)
    if rises.size:
        raise ValueError(
            f"{name}: class_counts rises from class {rises[0]} to {rises[0] + 1} but takes classes from the most "
            "frequent to the rarest; number them by np.argsort(-class_counts)"
        )
    ends = np.unique(np.r_[np.geomspace(1, counts.size, 400).round(), 1 : min(counts.size, 128) + 1].astype(int))
    ends = np.union1d(ends, counts.size - np.arange(n_tails + 1))  # room for every tail
    expected = batch_size * np.r_[0, np.cumsum(counts)][ends] / counts.sum()
    costs = batch_size * (ends + n_tails) * float(in_features + _LOGIT_COST)  # costs of a head that ends there
    choices = []
    for i in range(n_tails):
        features = tail_features(in_features, div_value, i)
        rows = np.maximum(expected[None, :] - expected[:, None], min(_BLOCK, batch_size))
        tail = rows * (in_features * features + (ends[None, :] - ends[:, None]) * (features + _LOGIT_COST))
        reached = costs[:, None] + np.where(ends[None, :] > ends[:, None], tail, np.inf)
        choices.append(np.argmin(reached, axis=0))
        costs = np.min(reached, axis=0)
    at, cutoffs = len(ends) - 1, []
    for choice in reversed(choices):
        at = choice[at]
        cutoffs.append(int(ends[at]))
    return tuple(reversed(cutoffs))


def _as_counts(function: str, class_counts: Any) -> np.ndarray:
    """The counts, divided by the largest."""
    takes = "but takes a vector of real numbers"
    try:
        given = np.asarray(class_counts)
        if given.dtype.kind not in "biufV":  # V stands for bfloat16 and similar dtypes
            raise TypeError
        counts = given.astype(np.float64)
    except jax.errors.TracerArrayConversionError:
        raise TypeError(
            f"{function}: class_counts is traced {takes}; cutoffs decide shapes, so call it outside jit"
        ) from None
    except (TypeError, ValueError):
        raise TypeError(f"{function}: class_counts is {class_counts!r:.60} {takes}") from None
    if counts.ndim != 1 or not counts.size:
        raise ValueError(f"{function}: class_counts has shape {counts.shape} {takes}")
    if not (np.all(counts >= 0) and 0 < counts.max() < np.inf):
        raise ValueError(f"{function}: class_counts is {counts} {takes}, none negative or infinite and one above 0")
    return counts / counts.max()


def tail_features(in_features: int, div_value: float, tail: int) -> int:
    if (tail + 1) * math.log(div_value) > math.log(in_features):  # the power may overflow
        return 1
    return max(int(in_features // div_value ** (tail + 1)), 1)
