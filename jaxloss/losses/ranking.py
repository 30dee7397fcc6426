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
from jaxloss._arrays import Boolean, Real, Vector, compute_dtype
from jaxloss._data_checks import nan_unless
from jaxloss._decorator.lift import loss
from jaxloss._errors import as_real, as_vectors
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

    over the items in falling order of the target; items with the same target stay in the order given. A list whose
    targets are all 0 has $l = 0$ and $n = 0$: it does not count in a mean.

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
    r"""Logistic loss of the pairs of a list: of each item with all that are less relevant.

    $$l = \sum_{y_i > y_j} w_{ij} \log \bigl( 1 + e^{-(x_i - x_j)} \bigr), \qquad n = \sum_{y_i > y_j} w_{ij}$$

    A mean is therefore the mean over all pairs. A list without pairs does not count in it.

    Args:
      scores: floating `(..., K)`: $x$, one for each item of a list.
      target: real, the same shape: $y$, the relevance of each item, of which only the order counts.
      pair_weights: maps the scores `(K,)` and the target `(K,)` of a list to $w$ `(K, K)`, such as
        `jaxloss.ndcg_pair_weights`; 1 if not given. $w$ is a constant: no gradient goes through it. An item that is not
        valid has score -inf and target 0 there. It is static: pass the same function object each time.
      valid: boolean, `(..., K)` or `(K,)`: which items exist, in a list with padding. None means all.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, the sum over the pairs of each list. The memory that a list
      takes grows with K; with `pair_weights` with K^2, for a few lists at a time.

    Raises:
      ValueError: shapes do not fit, or what `pair_weights` returns does not have shape `(K, K)`.
      TypeError: `scores` is not floating, or `pair_weights` does not map two arguments to real numbers.

    Reference:
      Burges et al., Learning to rank using gradient descent, ICML 2005, section 3 (RankNet); with `ndcg_pair_weights`,
      Burges et al., Learning to rank with nonsmooth cost functions, NeurIPS 2006 (LambdaRank).

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> scores, target = jnp.array([2.0, 0.0, 1.0]), jnp.array([1, 0, 2])
      >>> print(f"{jaxloss.pairwise_logistic_loss(scores, target):.4f}")
      0.5845
      >>> print(f"{jaxloss.pairwise_logistic_loss(scores, target, pair_weights=jaxloss.ndcg_pair_weights):.4f}")
      0.7087
    """
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
    r"""Hinge loss of the pairs of a list: of each item with all that are less relevant.

    $$l = \sum_{y_i > y_j} w_{ij} \max \bigl( 0,\, m - (x_i - x_j) \bigr), \qquad n = \sum_{y_i > y_j} w_{ij}$$

    A mean is therefore the mean over all pairs. A list without pairs does not count in it.

    Args:
      scores: floating `(..., K)`: $x$, one for each item of a list.
      target: real, the same shape: $y$, the relevance of each item, of which only the order counts.
      margin: $m$, by how much a more relevant item should be ahead. A number, or an array with one value per list.
      pair_weights: maps the scores `(K,)` and the target `(K,)` of a list to $w$ `(K, K)`, such as
        `jaxloss.ndcg_pair_weights`; 1 if not given. $w$ is a constant: no gradient goes through it. An item that is not
        valid has score -inf and target 0 there. It is static: pass the same function object each time.
      kink_width: half-width of the ramp that the derivative follows at the kinks, at least 0. None means one machine
        epsilon. See `jaxloss.kinks`.
      valid: boolean, `(..., K)` or `(K,)`: which items exist, in a list with padding. None means all.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, the sum over the pairs of each list. The memory that a list
      takes grows with K; with `pair_weights` with K^2, for a few lists at a time.

    Raises:
      ValueError: shapes do not fit, `kink_width` is negative, or what `pair_weights` returns does not have shape
        `(K, K)`.
      TypeError: `scores` is not floating, or `pair_weights` does not map two arguments to real numbers.

    Reference:
      Herbrich et al., Large margin rank boundaries for ordinal regression, 2000; Joachims, Optimizing search engines
      using clickthrough data, KDD 2002 (RankSVM).

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> scores, target = jnp.array([2.0, 0.0, 1.0]), jnp.array([1, 0, 2])
      >>> print(f"{jaxloss.pairwise_hinge_loss(scores, target):.4f}")
      0.6667
    """
    width = kinks.resolve_width("pairwise_hinge_loss", scores, kink_width)
    pairs = Pairs("pairwise_hinge_loss", _hinge, pair_weights)
    return _of_pairs(pairs, scores, target, valid, jnp.asarray(margin, scores.dtype), width)


def ndcg_pair_weights(scores: Vector, target: Vector) -> Array:
    r"""How much NDCG changes if two items of a list exchange their ranks: weights of pairs for LambdaRank.

    $$w_{ij} = \frac{\lvert 2^{y_i} - 2^{y_j} \rvert}{D}
    \left\lvert \frac{1}{\log_2(1 + r_i)} - \frac{1}{\log_2(1 + r_j)} \right\rvert$$

    where $r$ is the rank by falling score, from 1, and $D$ the DCG of the best order, the sum of
    $(2^{y_i} - 1) / \log_2(1 + r_i)$. Items with the same score are ranked in the order given.

    Args:
      scores: floating `(..., K)`, one for each item of a list.
      target: real, at least 0, the same shape: $y$, the relevance of each item.

    Returns:
      $w$ `(..., K, K)`; 0 for a list without a relevant item.

    Raises:
      ValueError: `scores` and `target` do not have the same shape, or have no items.
      TypeError: `scores` is not floating.

    Reference:
      Burges, From RankNet to LambdaRank to LambdaMART: an overview, 2010, section 4.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> weights = jaxloss.ndcg_pair_weights(jnp.array([2.0, 0.0, 1.0]), jnp.array([1, 0, 2]))
      >>> print(f"{weights[0, 1]:.4f} {weights[0, 2]:.4f} {weights[1, 2]:.4f}")
      0.1377 0.2033 0.1082
    """
    function = "ndcg_pair_weights"
    scores = as_vectors(function, "scores", scores)
    scores = scores.astype(compute_dtype([scores]))
    target = as_real(function, "target", target, scores.dtype)
    if target.shape != scores.shape:
        raise ValueError(f"{function}: target has shape {target.shape} but takes shape {scores.shape}, as scores")
    gains = dcg.gains(target)
    ideal = dcg.highest(gains)[..., None, None]
    changes = dcg.differences(gains) * sum(map(dcg.differences, dcg.discounts(scores)))
    return jnp.where(ideal > 0, jnp.abs(changes) / jnp.where(ideal > 0, ideal, 1), 0)


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
