"""Losses of classifiers by the sign of a score, or by the highest score: hinge losses and perceptrons."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _numerics as numerics
from jaxloss import kinks
from jaxloss._arrays import Real, Vector
from jaxloss._decorator.lift import loss
from jaxloss._lookup import at_class
from jaxloss.options import AxisOptions, ReductionOptions

_SIGNS = {"target": "{-1, 1}", "kink_width": "[0, inf)"}


@loss("(),()->()", domains=_SIGNS)
def hinge_loss(
    prediction: Real, target: Real, *, kink_width: Real | None = None, **options: Unpack[ReductionOptions]
) -> Array:
    r"""Hinge loss, that of a support vector machine: the shortfall of a signed score from 1.

    $$l = \max(0,\, 1 - x y)$$

    Args:
      prediction: floating, any shape `(...)`: $x$, whose sign is the predicted class.
      target: -1 or 1, the same shape: $y$.
      kink_width: half-width of the ramp that the derivative follows at the kink $x y = 1$, at least 0. None means one
        machine epsilon. See `jaxloss.kinks`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, or `kink_width` is negative.
      TypeError: `prediction` is not floating.

    Reference:
      Cortes and Vapnik, Support-vector networks, Machine Learning 20, 1995, section 3.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.hinge_loss(jnp.array([0.25, 2.0, 0.5]), jnp.array([1, 1, -1]), reduction="none"))
      [0.75 0.   1.5 ]
    """
    return kinks.positive_part(1 - numerics.product(target, prediction), kink_width)


@loss("(),()->()", domains=_SIGNS)
def squared_hinge_loss(
    prediction: Real, target: Real, *, kink_width: Real | None = None, **options: Unpack[ReductionOptions]
) -> Array:
    r"""The square of `hinge_loss`, which has no kink.

    $$l = \max(0,\, 1 - x y)^2$$

    Args:
      prediction: floating, any shape `(...)`: $x$, whose sign is the predicted class.
      target: -1 or 1, the same shape: $y$.
      kink_width: half-width of the ramp that the second derivative follows at its jump $x y = 1$, at least 0. None
        means one machine epsilon. The first derivative is exact.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, or `kink_width` is negative.
      TypeError: `prediction` is not floating.

    Reference:
      Lee and Mangasarian, SSVM: a smooth support vector machine, Computational Optimization and Applications 20, 2001,
      section 2.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.squared_hinge_loss(jnp.array([0.5, 2.0, 0.5]), jnp.array([1, 1, -1]), reduction="none"))
      [0.25 0.   2.25]
    """
    shortfall = 1 - numerics.product(target, prediction)
    return _squared_positive_part(shortfall, kinks.resolve_width("squared_hinge_loss", shortfall, kink_width))


@jax.custom_jvp
def _squared_positive_part(x: Array, kink_width: Array) -> Array:
    del kink_width
    return numerics.square(jnp.maximum(x, 0))


@_squared_positive_part.defjvp
def _squared_positive_part_jvp(primals, tangents):
    x, kink_width = primals
    slope = numerics.finite(2 * kinks.positive_part(x, kink_width))
    return numerics.stored(_squared_positive_part(x, kink_width)), slope * tangents[0]


@loss("(),()->()", domains=_SIGNS)
def perceptron_loss(
    prediction: Real, target: Real, *, kink_width: Real | None = None, **options: Unpack[ReductionOptions]
) -> Array:
    r"""Perceptron loss: how far a score lies on the wrong side of 0.

    $$l = \max(0,\, -x y)$$

    Args:
      prediction: floating, any shape `(...)`: $x$, whose sign is the predicted class.
      target: -1 or 1, the same shape: $y$.
      kink_width: half-width of the ramp that the derivative follows at the kink $x = 0$, at least 0. None means one
        machine epsilon. See `jaxloss.kinks`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, or `kink_width` is negative.
      TypeError: `prediction` is not floating.

    Reference:
      Rosenblatt, The perceptron, Psychological Review 65, 1958; as a loss in Bishop, Pattern recognition and machine
      learning, 2006, equation 4.54.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.perceptron_loss(jnp.array([0.25, -2.0, 0.5]), jnp.array([1, 1, -1]), reduction="none"))
      [0.  2.  0.5]
    """
    return kinks.positive_part(-numerics.product(target, prediction), kink_width)


@loss("(c),()->()", indices={"target": "[0, c)"}, domains={"kink_width": "[0, inf)"})
def multiclass_hinge_loss(
    logits: Vector, target: Vector | int, *, kink_width: Real | None = None, **options: Unpack[AxisOptions]
) -> Array:
    r"""Hinge loss of Crammer and Singer: the shortfall of the right class from leading every other class by 1.

    $$l = \max_c \bigl( x_c + 1[c \ne y] \bigr) - x_y = \max\bigl(0,\, 1 + \max_{c \ne y} x_c - x_y\bigr)$$

    `jaxloss.multi_margin_loss` adds up the shortfalls against all wrong classes instead.

    Args:
      logits: floating `(..., C)`: $x$, a score for each class.
      target: integer `(...)`: $y$, the right class in [0, C).
      kink_width: half-width of the ramp that the derivative follows at the kinks, at least 0. None means one machine
        epsilon. See `jaxloss.kinks`.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of `target`. 0 if there is only one class. NaN
      for a sample whose target is out of range.

    Raises:
      ValueError: shapes do not fit, or `kink_width` is negative.
      TypeError: `logits` is not floating, or `target` is not integer.

    Reference:
      Crammer and Singer, On the algorithmic implementation of multiclass kernel-based vector machines, JMLR 2, 2001,
      equation 4.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> logits, target = jnp.array([[1.0, 0.25, -2.0], [1.0, 2.0, 4.0]]), jnp.array([0, 1])
      >>> print(jaxloss.multiclass_hinge_loss(logits, target, reduction="none"))
      [0.25 3.  ]
    """
    return _highest_lead(logits, target, 1, kink_width)


@loss("(c),()->()", indices={"target": "[0, c)"}, domains={"kink_width": "[0, inf)"})
def multiclass_perceptron_loss(
    logits: Vector, target: Vector | int, *, kink_width: Real | None = None, **options: Unpack[AxisOptions]
) -> Array:
    r"""Multi-class perceptron loss: how far the highest score lies above that of the right class.

    $$l = \max_c x_c - x_y$$

    Args:
      logits: floating `(..., C)`: $x$, a score for each class.
      target: integer `(...)`: $y$, the right class in [0, C).
      kink_width: half-width of the ramp that the derivative follows at the kinks, at least 0. None means one machine
        epsilon. See `jaxloss.kinks`.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of `target`. 0 if there is only one class. NaN
      for a sample whose target is out of range.

    Raises:
      ValueError: shapes do not fit, or `kink_width` is negative.
      TypeError: `logits` is not floating, or `target` is not integer.

    Reference:
      Collins, Discriminative training methods for hidden Markov models, EMNLP 2002, section 2.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> logits, target = jnp.array([[1.0, 0.25, -2.0], [1.0, 2.0, 4.0]]), jnp.array([0, 1])
      >>> print(jaxloss.multiclass_perceptron_loss(logits, target, reduction="none"))
      [0. 2.]
    """
    return _highest_lead(logits, target, 0, kink_width)


def _highest_lead(logits: Vector, target: Vector | int, margin: int, kink_width: Real | None) -> Array:
    """How far the highest score lies above that of the right class, where wrong classes have the margin in addition."""
    is_wrong = jnp.arange(logits.size, dtype=jnp.result_type(target)) != target
    # One maximum, not one of the wrong classes and one with 0, whose ramps would not add up where they overlap.
    highest = kinks.max(jnp.where(is_wrong, logits + margin, logits), kink_width)
    return numerics.difference(highest, at_class(logits, target))
