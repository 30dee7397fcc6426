"""Losses of real-valued predictions."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _numerics as numerics
from jaxloss import kinks
from jaxloss._arrays import Real
from jaxloss._decorator.lift import loss
from jaxloss.options import ReductionOptions


@loss("(),()->()")
def mse_loss(prediction: Real, target: Real, **options: Unpack[ReductionOptions]) -> Array:
    r"""Squared error.

    $$l = (x - y)^2$$

    Args:
      prediction: floating, any shape `(...)`: $x$.
      target: real, the same shape: $y$.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `prediction` is not floating.

    Reference:
      Legendre, Nouvelles méthodes pour la détermination des orbites des comètes, 1805, appendix.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.mse_loss(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0])))
      2.0
    """
    return numerics.square(prediction - target)


@loss("(),()->()", domains={"kink_width": "[0, inf)"})
def l1_loss(
    prediction: Real, target: Real, *, kink_width: Real | None = None, **options: Unpack[ReductionOptions]
) -> Array:
    r"""Absolute error.

    $$l = |x - y|$$

    Args:
      prediction: floating, any shape `(...)`: $x$.
      target: real, the same shape: $y$.
      kink_width: half-width of the ramp that the derivative follows at the kink $x = y$, at least 0. None means one
        machine epsilon. See `jaxloss.kinks`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, or `kink_width` is negative.
      TypeError: `prediction` is not floating.

    Reference:
      Boscovich, De litteraria expeditione per pontificiam ditionem, 1757; Laplace, Mécanique céleste, 1799, book 3.

    Example:
      >>> import jax, jax.numpy as jnp, jaxloss
      >>> print(jax.grad(jaxloss.l1_loss)(jnp.array([1.0, 4.0]), jnp.array([1.0, 2.0])))
      [0.  0.5]
    """
    return kinks.abs(prediction - target, kink_width)


@loss("(),()->()", domains={"beta": "[0, inf)", "kink_width": "[0, inf)"})
def smooth_l1_loss(
    prediction: Real,
    target: Real,
    *,
    beta: Real = 1.0,
    kink_width: Real | None = None,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""Absolute error, with a parabola in place of the kink for errors below `beta`.

    $$l = \begin{cases} (x - y)^2 / (2 \beta) & |x - y| < \beta \\ |x - y| - \beta / 2 & \text{else} \end{cases}$$

    Args:
      prediction: floating, any shape `(...)`: $x$.
      target: real, the same shape: $y$.
      beta: at least 0; 0 makes it `l1_loss`. One number for all samples, or an array with one number per sample.
      kink_width: half-width of the ramp that the derivative follows at the kink if `beta` is 0, at least 0. None means
        one machine epsilon.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, or `beta` or `kink_width` is negative.
      TypeError: `prediction` is not floating.

    Reference:
      Girshick, Fast R-CNN, ICCV 2015, equation 3 (for beta 1).

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.smooth_l1_loss(jnp.array([1.0, 3.0]), jnp.array([0.0, 0.0]), beta=2.0, reduction="none"))
      [0.25 2.  ]
    """
    difference = prediction - target
    return _smooth_l1(difference, beta, kinks.resolve_width("smooth_l1_loss", difference, kink_width))


@loss("(),()->()", domains={"delta": "(0, inf)"})
def huber_loss(prediction: Real, target: Real, *, delta: Real = 1.0, **options: Unpack[ReductionOptions]) -> Array:
    r"""Squared error for small errors, absolute error for large ones.

    $$l = \begin{cases} (x - y)^2 / 2 & |x - y| < \delta \\ \delta (|x - y| - \delta / 2) & \text{else} \end{cases}$$

    Args:
      prediction: floating, any shape `(...)`: $x$.
      target: real, the same shape: $y$.
      delta: above 0, the error at which the parabola meets the straight lines. One number for all samples, or an array
        with one number per sample.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, or `delta` is not above 0.
      TypeError: `prediction` is not floating.

    Reference:
      Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35, 1964, section 2.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.huber_loss(jnp.array([1.0, 3.0]), jnp.array([0.0, 0.0]), delta=2.0, reduction="none"))
      [0.5 4. ]
    """
    return _huber(prediction - target, delta)


# Each loss is the maximum of a parabola in q. Its derivative with respect to the difference is the q of the maximum, as
# the rules state it. Automatic differentiation would multiply the zero slope of `minimum` by a difference that has
# overflowed to infinity.


@jax.custom_jvp
def _huber(difference: Array, delta: Real) -> Array:
    size = jnp.abs(difference)
    q = jnp.minimum(size, delta)
    return q * (size - q / 2)


@_huber.defjvp
def _huber_jvp(primals, tangents):
    difference, delta = primals
    by_difference = jnp.clip(difference, -delta, delta)
    by_delta = jnp.maximum(numerics.finite(jnp.abs(difference)) - delta, 0)
    change = by_difference * tangents[0] + by_delta * tangents[1]
    return numerics.stored(_huber(difference, delta)), change


@jax.custom_jvp
def _smooth_l1(difference: Array, beta: Real, kink_width: Array) -> Array:
    del kink_width
    size = jnp.abs(difference)
    q = jnp.minimum(size / _divisor(beta, difference), 1)
    return q * (size - beta * q / 2)


@_smooth_l1.defjvp
def _smooth_l1_jvp(primals, tangents):
    difference, beta, kink_width = primals
    slope = jnp.clip(difference / _divisor(beta, difference), -1, 1)
    by_difference = jnp.where(beta > 0, slope, kinks.ramp(difference, kink_width))
    change = by_difference * tangents[0] - jnp.square(slope) / 2 * tangents[1]
    return numerics.stored(_smooth_l1(difference, beta, kink_width)), change


def _divisor(beta: Real, difference: Array) -> Array:
    # At beta 0 the ratio must be above 1 for every nonzero difference, and not NaN for a zero one.
    return jnp.maximum(beta, jnp.finfo(difference.dtype).tiny)
