"""How to lay out an adaptive softmax: which classes go into the head, and which into each tail."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxloss.checks import Vector

# A logit costs as much as this many multiply-adds, for its exponentials: fitted to products with 256, 64 and 16
# features.
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
    r"""Where to cut the classes of an `AdaptiveSoftmax` so that a step costs the least.

    $$\sum_i \max(n_i, B)\, (D D_i + D_i k_i + \lambda k_i)$$

    over the head and the tails of $k_i$ classes, of which a batch is expected to hold $n_i$ rows. It is the cost model
    of the paper, with what this implementation does in the place of its constants: blocks of B = 128 rows, and
    exponentials that cost as much as λ = 50 multiply-adds.

    Args:
      class_counts: how often each class occurs `(C,)`, never increasing: class 0 is the most frequent.
      in_features: D, at least 1.
      batch_size: rows of a step, at least 1.
      n_tails: how many tails, in [0, C).
      div_value: as in `AdaptiveSoftmax.init`.

    Returns:
      The first class of each tail, n_tails integers, for `AdaptiveSoftmax.init`. Exact up to 128 classes; beyond, the
      best of cutoffs on a grid that is 3 % wide. At 100,000 classes, Zipf's law, 256 features and 4096 rows a step
      takes 0.75 of the time that it takes with the cutoffs 2,000 and 10,000.

    Raises:
      ValueError: counts that increase or are negative, or a number out of its range.

    Reference:
      Grave et al., Efficient softmax approximation for GPUs, ICML 2017, sections 4.2 and 4.3.

    Example:
      >>> import numpy as np, jaxloss
      >>> print(jaxloss.adaptive_softmax_cutoffs(1e6 / np.arange(1, 100_001), 256, batch_size=4096))
      (495, 14891)
    """
    name = "adaptive_softmax_cutoffs"
    counts = np.asarray(class_counts, np.float64)
    check_sizes(name, in_features=in_features, batch_size=batch_size)
    check_div_value(name, div_value)
    if counts.ndim != 1 or not counts.size or not np.all(counts >= 0) or not 0 < counts.sum() < np.inf:
        raise ValueError(f"{name}: class_counts takes a vector of counts of which one is above 0, got {counts}")
    rises = np.flatnonzero(np.diff(counts) > 0)
    if rises.size:
        raise ValueError(
            f"{name}: class_counts rises from class {rises[0]} to {rises[0] + 1} but takes classes from the most "
            "frequent to the rarest; number them by np.argsort(-class_counts)"
        )
    n_tails = operator.index(n_tails)
    if not 0 <= n_tails < counts.size:
        raise ValueError(f"{name}: n_tails is {n_tails} but lies in [0, {counts.size})")
    ends = np.unique(np.r_[np.geomspace(1, counts.size, 400).round(), 1 : min(counts.size, 128) + 1].astype(int))
    ends = np.union1d(ends, counts.size - np.arange(n_tails + 1))  # room for every tail
    expected = batch_size * np.r_[0, np.cumsum(counts)][ends] / counts.sum()
    costs = batch_size * (ends + n_tails) * float(in_features + _LOGIT_COST)  # of a head that ends there
    choices = []
    for i in range(n_tails):
        features = tail_features(in_features, div_value, i)
        rows = np.maximum(expected[None, :] - expected[:, None], _BLOCK)
        tail = rows * (in_features * features + (ends[None, :] - ends[:, None]) * (features + _LOGIT_COST))
        reached = costs[:, None] + np.where(ends[None, :] > ends[:, None], tail, np.inf)
        choices.append(np.argmin(reached, axis=0))
        costs = np.min(reached, axis=0)
    at, cutoffs = len(ends) - 1, []
    for choice in reversed(choices):
        at = choice[at]
        cutoffs.append(int(ends[at]))
    return tuple(reversed(cutoffs))


def tail_features(in_features: int, div_value: float, tail: int) -> int:
    return max(int(in_features // div_value ** (tail + 1)), 1)


def check_sizes(function: str, **sizes: Any) -> None:
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise TypeError(f"{function}: {name} takes an integer, got {type(size).__name__}")
        if size < 1:
            raise ValueError(f"{function}: {name} is {size} but lies in [1, inf)")


def check_div_value(function: str, div_value: float) -> None:
    if not div_value > 0:
        raise ValueError(f"{function}: div_value is {div_value} but lies in (0, inf)")
