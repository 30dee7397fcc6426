"""Losses whose minimum is a quantile or an expectile of the targets."""

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


@loss("(),()->()", domains={"quantile": "[0, 1]", "kink_width": "[0, inf)"})
def quantile_loss(
    prediction: Real,
    target: Real,
    *,
    quantile: Real = 0.5,
    kink_width: Real | None = None,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""Quantile loss, or pinball loss: the mean is smallest where the prediction is a quantile of the targets.

    $$l = \max(\tau e,\, (\tau - 1) e), \qquad e = y - x$$

    Several quantiles at once are an axis of the prediction: three of them, for predictions of shape `(N, 3)`, are
    `quantile=jnp.array([[0.1, 0.5, 0.9]])`, and the targets have shape `(N, 1)`.

    Caution: quantiles that are predicted at once may cross, so that the predicted 90 % quantile of a sample lies below
    its median. The loss does not prevent it. Either sort the predictions along their axis, which never increases the
    loss of a sample (Chernozhukov et al., Quantile and probability curves without crossing, Econometrica 78, 2010), or
    let the network predict the lowest quantile and, by a softplus, the distances between neighbours.

    Args:
      prediction: floating, any shape `(...)`: $x$.
      target: real, the same shape, or axes of length 1: $y$.
      quantile: $\tau$ in [0, 1], the share of targets that should lie below the prediction. A number, or an array that
        broadcasts against the samples.
      kink_width: half-width of the ramp that the derivative follows at the kink $x = y$, at least 0. None means one
        machine epsilon. See `jaxloss.kinks`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, `quantile` lies outside [0, 1], or `kink_width` is negative.
      TypeError: `prediction` is not floating.

    Reference:
      Koenker and Bassett, Regression quantiles, Econometrica 46, 1978, section 3.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> prediction, target = jnp.array([[1.0, 2.0, 4.0]]), jnp.array([[3.0]])
      >>> print(jaxloss.quantile_loss(prediction, target, quantile=jnp.array([[0.25, 0.5, 0.75]]), reduction="none"))
      [[0.5  0.5  0.25]]
    """
    half = numerics.half_difference(target, prediction)
    return _pinball(half, quantile, kinks.resolve_width("quantile_loss", half, kink_width))


@jax.custom_jvp
def _pinball(half: Array, quantile: Real, kink_width: Array) -> Array:
    del kink_width
    above, below = (jnp.asarray(weight, half.dtype) for weight in (2 * quantile, 2 * (quantile - 1)))
    return jnp.maximum(numerics.weighted(above, half), numerics.weighted(below, half))


@_pinball.defjvp
def _pinball_jvp(primals, tangents):
    # The rule of `kinks.maximum`, where the difference of the two is the error itself.
    half, quantile, kink_width = primals
    by_half = 2 * quantile - 1 + kinks.ramp(2 * half, kink_width)
    value = numerics.stored(_pinball(half, quantile, kink_width))
    return value, by_half * tangents[0] + numerics.finite(2 * half) * tangents[1]


@loss("(),()->()", domains={"expectile": "[0, 1]"})
def expectile_loss(
    prediction: Real, target: Real, *, expectile: Real = 0.5, **options: Unpack[ReductionOptions]
) -> Array:
    r"""Squared error with one weight for predictions below the target, and another for those above it.

    $$l = |\tau - 1[e < 0]| \, e^2, \qquad e = y - x$$

    Its mean is smallest where the prediction is an expectile of the targets; at $\tau = 1/2$ that is their mean.
    Expectiles are to the mean what quantiles are to the median.

    Args:
      prediction: floating, any shape `(...)`: $x$.
      target: real, the same shape, or axes of length 1: $y$.
      expectile: $\tau$ in [0, 1]. A number, or an array that broadcasts against the samples, such as `(1, 3)` for three
        expectiles of each sample.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, or `expectile` lies outside [0, 1].
      TypeError: `prediction` is not floating.

    Reference:
      Newey and Powell, Asymmetric least squares estimation and testing, Econometrica 55, 1987, equation 2.1.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.expectile_loss(jnp.array([1.0, 3.0]), jnp.array([3.0, 1.0]), expectile=0.75, reduction="none"))
      [3. 1.]
    """
    half = numerics.half_difference(target, prediction)
    return numerics.weighted_squares(4 * (1 - expectile), 4 * expectile, half)
