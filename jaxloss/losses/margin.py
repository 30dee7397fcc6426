"""Losses that require one score to exceed another, or a threshold, by a margin."""

from __future__ import annotations

from typing import Unpack

import jax.numpy as jnp
from jax import Array

from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss import _scaling as scaling
from jaxloss import kinks
from jaxloss._arrays import Real, Vector
from jaxloss._data_checks import nan_unless
from jaxloss._decorator.lift import loss
from jaxloss._lookup import at_class
from jaxloss.options import AxisOptions, ReductionOptions, SampleOptions


@loss("(),()->()", domains={"target": "{-1, 1}", "kink_width": "[0, inf)"})
def hinge_embedding_loss(
    prediction: Real,
    target: Real,
    *,
    margin: Real = 1.0,
    kink_width: Real | None = None,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""The distance of a similar pair, or the shortfall from the margin of a dissimilar pair.

    $$l = \begin{cases} x & y = 1 \\ \max(0, m - x) & y = -1 \end{cases}$$

    Args:
      prediction: floating, any shape `(...)`: $x$, usually the distance of a pair.
      target: 1 for similar, -1 for dissimilar pairs, the same shape: $y$.
      margin: $m$. A number, or an array with one value per sample.
      kink_width: half-width of the ramp that the derivative follows at the kink $x = m$, at least 0. None means one
        machine epsilon. See `jaxloss.kinks`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments. NaN for any other
      target, to which neither case applies.

    Raises:
      ValueError: shapes do not fit, or `kink_width` is negative.
      TypeError: `prediction` is not floating.

    Reference:
      Hadsell, Chopra and LeCun, Dimensionality reduction by learning an invariant mapping, CVPR 2006, section 2.1.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> distance, target = jnp.array([0.25, 0.25, 2.0]), jnp.array([1, -1, -1])
      >>> print(jaxloss.hinge_embedding_loss(distance, target, reduction="none"))
      [0.25 0.75 0.  ]
    """
    shortfall = kinks.positive_part(margin - prediction, kink_width)
    # Selections, not products, which take twice as long up to 4 M elements and are faster only above.
    return jnp.where(target == 1, prediction, nan_unless(target == -1, shortfall))


@loss("(),(),()->()", domains={"target": "{-1, 1}", "kink_width": "[0, inf)"})
def margin_ranking_loss(
    first: Real,
    second: Real,
    target: Real,
    *,
    margin: Real = 0.0,
    kink_width: Real | None = None,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""The shortfall of one score from exceeding another by a margin.

    $$l = \max\bigl(0,\, m - y \, (x_1 - x_2)\bigr)$$

    With `jaxloss.target_score` as `first` and `jaxloss.highest_wrong_score` as `second`, it trains a classifier.

    Args:
      first: floating, any shape `(...)`: $x_1$.
      second: floating, the same shape: $x_2$.
      target: 1 if `first` should be higher, -1 if `second` should be higher: $y$. The same shape, or a scalar.
      margin: $m$. A number, or an array with one value per sample.
      kink_width: half-width of the ramp that the derivative follows at the kink, at least 0. None means one machine
        epsilon. See `jaxloss.kinks`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, or `kink_width` is negative.
      TypeError: `first` or `second` is not floating.

    Reference:
      Herbrich, Graepel and Obermayer, Large margin rank boundaries for ordinal regression, 2000, section 7.3.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> right, wrong = jnp.array([2.0, 0.5]), jnp.array([1.0, 0.25])
      >>> print(jaxloss.margin_ranking_loss(right, wrong, 1, margin=0.5, reduction="none"))
      [0.   0.25]
    """
    return kinks.positive_part(numerics.product(target, second - first) + margin, kink_width)


@loss("(c),()->()", indices={"target": "[0, c)"})
def target_score(logits: Vector, target: Vector | int, **options: Unpack[SampleOptions]) -> Array:
    r"""The score of the right class, for a ranking loss that trains a classifier.

    $$s = x_y$$

    Args:
      logits: floating `(..., C)`: $x$, a score for each class.
      target: integer `(...)`: $y$, the right class in [0, C).
      options: `axis`, the class axis, by default the last.

    Returns:
      One score per sample, of the shape of `target`. NaN for a sample whose target is out of range.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `logits` is not floating, or `target` is not integer.

    Reference:
      As `highest_wrong_score`.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.target_score(jnp.array([[1.0, 2.0, 4.0], [3.0, 2.0, 1.0]]), jnp.array([1, 0])))
      [2. 3.]
    """
    return at_class(logits, target)


@loss("(c),()->()", indices={"target": "[0, c)"}, domains={"kink_width": "[0, inf)"})
def highest_wrong_score(
    logits: Vector, target: Vector | int, *, kink_width: Real | None = None, **options: Unpack[SampleOptions]
) -> Array:
    r"""The highest score of a wrong class, for a ranking loss that trains a classifier.

    $$s = \max_{c \ne y} x_c$$

    A ranking loss between `target_score` and this score trains a classifier. With `margin_ranking_loss`, as in the
    example, it is the multi-class support vector machine of Crammer and Singer.

    Args:
      logits: floating `(..., C)`: $x$, a score for each class.
      target: integer `(...)`: $y$, the right class in [0, C).
      kink_width: how far below the highest a wrong score may lie and still have a share of the derivative, at least 0.
        None means one machine epsilon. See `jaxloss.kinks.max`.
      options: `axis`, the class axis, by default the last.

    Returns:
      One score per sample, of the shape of `target`; -inf if there is only one class. NaN for a sample whose target is
      out of range.

    Raises:
      ValueError: shapes do not fit, or `kink_width` is negative.
      TypeError: `logits` is not floating, or `target` is not integer.

    Reference:
      Crammer and Singer, On the algorithmic implementation of multiclass kernel-based vector machines, JMLR 2, 2001,
      equation 4.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> logits, target = jnp.array([[1.0, 2.0, 4.0], [3.0, 2.0, 1.0]]), jnp.array([1, 0])
      >>> right, wrong = jaxloss.target_score(logits, target), jaxloss.highest_wrong_score(logits, target)
      >>> print(wrong, jaxloss.margin_ranking_loss(right, wrong, 1, margin=2.0, reduction="none"))
      [4. 2.] [4. 1.]
    """
    return kinks.max(jnp.where(_is_wrong(logits, target), logits, -jnp.inf), kink_width)


@loss("(),()->()", domains={"target": "{-1, 1}"})
def soft_margin_loss(logits: Real, target: Real, **options: Unpack[ReductionOptions]) -> Array:
    r"""Logistic loss of binary classification with targets -1 and 1.

    $$l = \log(1 + e^{-y x})$$

    Args:
      logits: floating, any shape `(...)`: $x$.
      target: -1 or 1, the same shape: $y$.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `logits` is not floating.

    Reference:
      Friedman, Hastie and Tibshirani, Additive logistic regression, Annals of Statistics 28, 2000, section 3.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.soft_margin_loss(jnp.array([0.0, 50.0]), jnp.array([1, -1]), reduction="none").round(4))
      [ 0.6931 50.    ]
    """
    return logistic.softplus(-numerics.product(target, logits))


@loss(
    "(c),()->()",
    indices={"target": "[0, c)"},
    domains={"p": "{1, 2}", "kink_width": "[0, inf)"},
    parameters={"class_weights": "(c)"},
    static=("p",),
)
def multi_margin_loss(
    logits: Vector,
    target: Vector | int,
    *,
    p: int = 1,
    margin: Real = 1.0,
    class_weights: Vector | None = None,
    kink_width: Real | None = None,
    **options: Unpack[AxisOptions],
) -> Array:
    r"""Hinge loss of the right class against every other class.

    $$l = \frac{w_y}{C} \sum_{c \ne y} \max(0,\, m - x_y + x_c)^p$$

    Args:
      logits: floating `(..., C)`: $x$, a score for each class.
      target: integer `(...)`: $y$, the right class in [0, C).
      p: 1 or 2.
      margin: $m$. A number, or an array with one value per sample.
      class_weights: real `(C,)`: $w$; 1 if not given. As in PyTorch, they do not enter the normaliser of the mean.
      kink_width: half-width of the ramp that the derivative follows at the kinks, at least 0. None means one machine
        epsilon. See `jaxloss.kinks`. With `p=2`, the loss has no kinks.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of `target`. NaN for a sample whose target is
      out of range.

    Raises:
      ValueError: shapes do not fit, `p` is neither 1 nor 2, or `kink_width` is negative.
      TypeError: `logits` is not floating, or `target` is not integer.

    Reference:
      Weston and Watkins, Support vector machines for multi-class pattern recognition, ESANN 1999, equation 3.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.multi_margin_loss(jnp.array([[1.0, 0.75, -2.0, 0.0]]), jnp.array([0])))
      0.1875
    """
    # Without the right class, because an infinite logit minus itself is NaN.
    gap = jnp.where(_is_wrong(logits, target), margin - at_class(logits, target) + logits, -jnp.inf)
    shortfall = kinks.positive_part(gap, 0.0 if p == 2 else kink_width)
    # A square may overflow although its share of the mean does not. Divide first, by a power of two whose square is at
    # least C.
    scale = scaling.above_root(logits.size, 2, logits.dtype) if p == 2 else 1.0
    terms = numerics.square(shortfall / scale) if p == 2 else shortfall
    total = jnp.sum(terms * (scale**2 / logits.size))
    return total if class_weights is None else numerics.weighted(at_class(class_weights, target), total)


def _is_wrong(logits: Vector, target: Vector | int) -> Array:
    """Whether each class is a wrong one."""
    return jnp.arange(logits.size, dtype=jnp.result_type(target)) != target
