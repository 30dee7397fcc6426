"""Losses of predictions whose relative error counts."""

from __future__ import annotations

import functools
from typing import Unpack

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _numerics as numerics
from jaxloss import _positive as positive
from jaxloss import _special as special
from jaxloss import kinks
from jaxloss._arrays import Real
from jaxloss._decorator.lift import loss
from jaxloss.options import ReductionOptions, is_given


@loss("(),()->()", domains={"eps": "(0, inf)", "kink_width": "[0, inf)"})
def absolute_percentage_error(
    prediction: Real,
    target: Real,
    *,
    eps: Real = 1e-7,
    kink_width: Real | None = None,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""Absolute error in percent of the target.

    $$l = 100 \, \frac{|x - y|}{\max(|y|, \epsilon)}$$

    Args:
      prediction: floating, any shape `(...)`: $x$.
      target: real, the same shape: $y$.
      eps: above 0: $\epsilon$, which a target of 0 counts as.
      kink_width: half-width of the ramp that the derivative follows at the kink $x = y$, at least 0. None means one
        machine epsilon. See `jaxloss.kinks`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, `eps` is not above 0, or `kink_width` is negative.
      TypeError: `prediction` is not floating.

    Reference:
      Hyndman and Koehler, Another look at measures of forecast accuracy, International Journal of Forecasting 22, 2006,
      section 2.2.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.absolute_percentage_error(jnp.array([1.0, 6.0]), jnp.array([2.0, 4.0]), reduction="none"))
      [50. 50.]
    """
    target = jnp.asarray(target)
    finite_target = numerics.finite(target)  # the quotient of two infinities is not a number
    error = prediction - jnp.where(jnp.isinf(prediction), target, finite_target)
    return _percentage(is_given(eps), kinks.abs(error, kink_width), finite_target, eps)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _percentage(eps_is_given: bool, part: Array, target: Array, eps: Real) -> Array:
    whole = jnp.maximum(jnp.abs(target), eps)
    if not eps_is_given:
        return part / whole * 100  # not 100 times the part, which may overflow where the result does not
    # Nor the quotient alone, which may be flushed to 0.
    is_small = part < 1
    return part * jnp.where(is_small, 100, 1) / whole * jnp.where(is_small, 1, 100)


@_percentage.defjvp
def _percentage_jvp(eps_is_given, primals, tangents):
    part, target, eps = primals
    whole, is_large = jnp.maximum(jnp.abs(target), eps), jnp.abs(target) > eps
    share = numerics.finite(positive.quotient(numerics.finite(part), whole) * 100)
    by_whole = -positive.quotient(share, whole)
    by_target, by_eps = jnp.where(is_large, jnp.sign(target) * by_whole, 0), jnp.where(is_large, 0, by_whole)
    change = numerics.finite(100 / whole) * tangents[0] + by_target * tangents[1] + by_eps * tangents[2]
    return _percentage(eps_is_given, part, target, eps), change


@loss("(),()->()", domains={"prediction": "(-1, inf)", "target": "(-1, inf)"})
def squared_logarithmic_error(prediction: Real, target: Real, **options: Unpack[ReductionOptions]) -> Array:
    r"""Squared difference of logarithms: about the squared relative error of large numbers.

    $$l = \bigl( \log(1 + x) - \log(1 + y) \bigr)^2$$

    Args:
      prediction: floating, above -1, any shape `(...)`: $x$.
      target: real, above -1, the same shape: $y$.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments. NaN for a number below -1.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `prediction` is not floating.

    Reference:
      Keras documentation, `keras.losses.MeanSquaredLogarithmicError`, which takes numbers below 0 for 0.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(f"{jaxloss.squared_logarithmic_error(jnp.array([0.0, 3.0]), jnp.array([1.0, 3.0])):.4f}")
      0.2402
    """
    return special.squared_log1p_difference(prediction, target)
