"""Losses for samples with several labels."""

from __future__ import annotations

from typing import Unpack

import jax.numpy as jnp
from jax import Array

from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss import kinks
from jaxloss._arrays import Real, Vector
from jaxloss._decorator.lift import loss
from jaxloss._label_lists import labels_of, listed_classes, sum_over_labels
from jaxloss._lookup import at_class
from jaxloss.options import AxisOptions


@loss("(c),(c)->()", indices={"target": "[-1, c)"}, domains={"kink_width": "[0, inf)"})
def multilabel_margin_loss(
    logits: Vector, target: Vector, *, kink_width: Real | None = None, **options: Unpack[AxisOptions]
) -> Array:
    r"""Hinge loss of each right class against each wrong class.

    $$l = \frac{1}{C} \sum_{j \in T} \sum_{i \notin T} \max(0,\, 1 - x_j + x_i)$$

    Args:
      logits: floating `(..., C)`: $x$, a score for each class.
      target: integer `(..., C)`: $T$, the list of right classes, each in [0, C), ended by -1 if it is shorter than C.
        Entries after the first -1 have no effect, but must lie in [-1, C) too.
      kink_width: half-width of the ramp that the derivative follows at the kinks, at least 0. None means one machine
        epsilon. See `jaxloss.kinks`.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sample. NaN for a sample whose list has an index
      out of range.

    Raises:
      ValueError: shapes do not fit, or `kink_width` is negative.
      TypeError: `logits` is not floating, or `target` is not integer.

    Reference:
      Elisseeff and Weston, A kernel method for multi-labelled classification, NIPS 2001, section 3.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> logits, target = jnp.array([[0.0, 0.25, 0.5, 1.0]]), jnp.array([[3, 0, -1, 1]])
      >>> print(jaxloss.multilabel_margin_loss(logits, target))
      0.875
    """
    labels = labels_of(target)
    width = kinks.resolve_width("multilabel_margin_loss", logits, kink_width)
    return sum_over_labels(_hinges, labels, logits, ~listed_classes(labels, logits.size), width)


def _hinges(logits: Array, labels: Array, is_wrong: Array, kink_width: Array) -> Array:
    """The part of `multilabel_margin_loss` of these right classes; -1 is none."""
    is_class = labels >= 0
    scores = at_class(logits, jnp.where(is_class, labels, 0))
    gaps = jnp.where(is_class[:, None] & is_wrong[None], 1 - scores[:, None] + logits[None], -jnp.inf)
    # Divide before summing, because the sum may overflow although its share of the mean does not.
    return jnp.sum(kinks.positive_part(gaps, kink_width) / logits.size)


@loss("(c),(c)->()", domains={"target": "[0, 1]"}, parameters={"class_weights": "(c)"})
def multilabel_soft_margin_loss(
    logits: Vector, target: Vector, *, class_weights: Vector | None = None, **options: Unpack[AxisOptions]
) -> Array:
    r"""Binary cross-entropy of each class, averaged over the classes of a sample.

    $$l = \frac{1}{C} \sum_c w_c \bigl( y_c \log(1 + e^{-x_c}) + (1 - y_c) \log(1 + e^{x_c}) \bigr)$$

    Args:
      logits: floating `(..., C)`: $x$.
      target: real in [0, 1], `(..., C)`: $y$, whether each class applies.
      class_weights: real `(C,)`: $w$; 1 if not given.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sample.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `logits` is not floating.

    Reference:
      Nam et al., Large-scale multi-label text classification: revisiting neural networks, ECML 2014, section 3.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.multilabel_soft_margin_loss(jnp.array([[0.0, 50.0]]), jnp.array([[1, 0]])).round(4))
      25.3466
    """
    losses = logistic.logistic_cross_entropy(logits, target)
    return jnp.sum((losses if class_weights is None else numerics.weighted(class_weights, losses)) / logits.size)
