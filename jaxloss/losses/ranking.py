"""Losses of lists, for ranking. The formulas are those of Rax where it has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _dcg as dcg
from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss import _ordered as ordered
from jaxloss import kinks
from jaxloss._arrays import Boolean, Real, Vector
from jaxloss._data_checks import nan_unless
from jaxloss._decorator.lift import loss
from jaxloss._kept_gradient import keep_gradient
from jaxloss._pairs import Pairs, total
from jaxloss.options import AxisOptions


@loss("(k),(k)->()", domains={"target": "[0, inf)"}, per_sample={"item_weights": "(k)"})
def ranking_softmax_loss(
    scores: Vector,
    target: Vector,
    *,
    item_weights: Real | None = None,
    valid: Boolean | None = None,
    **options: Unpack[AxisOptions],
) -> tuple[Array, Array]:
    r"""Cross-entropy of a list: of the softmax of its scores, with the relevance of its items.

    $$l = -\sum_i w_i\, y_i \log \operatorname{softmax}(x)_i, \qquad n = 1$$

    A list without a relevant item has $l = 0$ and $n = 0$: it does not count in a mean.

    Args:
      scores: floating `(..., K)`: $x$, one for each item of a list.
      target: real, at least 0, the same shape: $y$, the relevance of each item. The sum need not be 1.
      item_weights: real `(..., K)` or `(K,)`: $w$, such as the inverse propensity of a click; 1 if not given.
      valid: boolean, `(..., K)` or `(K,)`: which items exist, in a list with padding. None means all.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per list.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `scores` is not floating.

    Reference:
      Cao et al., Learning to rank: from pairwise approach to listwise approach, ICML 2007: the top-one loss of ListNet,
      with the relevance itself in place of its softmax.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> scores, target = jnp.array([[2.0, 0.0, 1.0], [1.0, 3.0, 0.0]]), jnp.array([[1, 0, 0], [0, 0, 0]])
      >>> print(f"{jaxloss.ranking_softmax_loss(scores, target):.4f}")
      0.4076
    """

    def total(shifted: Array, target: Vector, item_weights: Real | None) -> Array:
        masses = jnp.asarray(target if item_weights is None else numerics.finite(target * item_weights))
        # The gradient of the sum of the exponentials is the sum of the masses, which may overflow.
        log_probabilities = shifted - jnp.log(jnp.sum(numerics.exp_apart(shifted)))
        return -jnp.sum(numerics.weighted(masses, log_probabilities))

    gradient_kept = keep_gradient(total, _shifted(scores, valid), target, item_weights, recompute=True)
    return gradient_kept, _has_relevant(target)


@loss("(k),(k)->()", domains={"target": "[0, inf)"})
def listmle_loss(
    scores: Vector, target: Vector, *, valid: Boolean | None = None, **options: Unpack[AxisOptions]
) -> tuple[Array, Array]:
    r"""Negative log-likelihood of the right order of a list, where each place goes to an item by softmax.

    $$l = \sum_i \Bigl( \log \sum_{j \ge i} e^{x_j} - x_i \Bigr), \qquad n = 1$$

    over the items in falling order of the target; items with the same target stay in the order given. A list without a
    relevant item, one with a target above 0, has $l = 0$ and $n = 0$: it does not count in a mean.

    Args:
      scores: floating `(..., K)`: $x$, one for each item of a list.
      target: real, at least 0, the same shape: the relevance of each item, of which only the order counts.
      valid: boolean, `(..., K)` or `(K,)`: which items exist, in a list with padding. None means all.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per list.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `scores` is not floating.

    Reference:
      Xia et al., Listwise approach to learning to rank: theory and algorithm, ICML 2008, equation 9.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> scores, target = jnp.array([0.0, 1.0, 2.0]), jnp.array([0, 1, 2])
      >>> print(f"{jaxloss.listmle_loss(scores, target):.4f} {jaxloss.listmle_loss(scores, target[::-1]):.4f}")
      0.7209 3.7209
    """
    counts = _has_relevant(target)
    surprise = ordered.surprise(_shifted(scores, valid), jnp.where(jnp.asarray(valid), -target, jnp.inf))
    return nan_unless(~jnp.any(jnp.isnan(target)), counts * surprise), counts


@loss("(k),(k)->()", static=("pair_weights",))
def pairwise_logistic_loss(
    scores: Vector,
    target: Vector,
    *,
    pair_weights: Callable[[Array, Array], Array] | None = None,
    valid: Boolean | None = None,
    **options: Unpack[AxisOptions],
) -> tuple[Array, Array]:
    """TODO"""
    pairs = Pairs("pairwise_logistic_loss", _logistic, pair_weights)
    return _of_pairs(pairs, scores, target, valid)


@loss("(k),(k)->()", domains={"kink_width": "[0, inf)"}, static=("pair_weights",))
def pairwise_hinge_loss(
    scores: Vector,
    target: Vector,
    *,
    margin: Real = 1.0,
    pair_weights: Callable[[Array, Array], Array] | None = None,
    kink_width: Real | None = None,
    valid: Boolean | None = None,
    **options: Unpack[AxisOptions],
) -> tuple[Array, Array]:
    """TODO"""
    width = kinks.resolve_width("pairwise_hinge_loss", scores, kink_width)
    pairs = Pairs("pairwise_hinge_loss", _hinge, pair_weights)
    return _of_pairs(pairs, scores, target, valid, jnp.asarray(margin, scores.dtype), width)


def differences(x): return x[..., :, None] - x[..., None, :]


def ndcg_pair_weights(scores: Vector, target: Vector) -> Array:
    """TODO"""
    scores, gains = jnp.asarray(scores), dcg.gains(jnp.asarray(target))
    falling, (rounded, _) = -jnp.sort(-gains), dcg.discounts(gains.shape[-1], gains.dtype)
    ideal = jnp.sum(falling * rounded, axis=-1)[..., None, None]
    gain, discount = differences(gains), sum(map(differences, dcg.discounts_of(scores)))
    return jnp.where(ideal > 0, jnp.abs(gain * discount) / jnp.where(ideal > 0, ideal, 1), 0)


def _logistic(ahead: Array) -> Array:
    return logistic.softplus(-ahead)


def _hinge(ahead: Array, margin: Array, kink_width: Array) -> Array:
    return kinks.positive_part(margin - ahead, kink_width)


def _of_pairs(
    pairs: Pairs, scores: Vector, target: Vector, valid: Boolean | None, *parameters: Array
) -> tuple[Array, Array]:
    loss, weight = total(pairs, jnp.asarray(scores), jnp.asarray(target), jnp.asarray(valid), *parameters)
    # An item without a pair is in no sum.
    return nan_unless(~jnp.any(jnp.isnan(scores) | jnp.isnan(target)), loss), weight


def _shifted(scores: Vector, valid: Boolean | None) -> Array:
    """The scores minus the highest, and -inf for what is not an item."""
    items = jnp.where(jnp.asarray(valid), scores, -jnp.inf)
    return numerics.difference(items, lax.stop_gradient(jnp.max(items)))


def _has_relevant(target: Vector) -> Array:
    return jnp.any(jnp.asarray(target) > 0).astype(target.dtype)
