"""Negative log-likelihoods of positive numbers whose spread grows with their mean."""

from __future__ import annotations

from typing import Unpack

import jax.numpy as jnp
from jax import Array

from jaxloss import _data_checks as checks
from jaxloss import _likelihoods as likelihoods
from jaxloss import _numerics as numerics
from jaxloss import _positive as positive
from jaxloss._arrays import Real
from jaxloss._decorator.lift import loss
from jaxloss._interval import Interval
from jaxloss.options import ReductionOptions, is_given

_MEANS = Interval("(0, inf)")


@loss("(),()->()", domains={"target": "(0, inf)"})
def gamma_nll_loss(
    prediction: Real, target: Real, *, log_input: bool = True, **options: Unpack[ReductionOptions]
) -> Array:
    r"""Negative log-likelihood of a positive number under a gamma distribution with a predicted mean.

    $$l = \frac{y}{\mu} + \log \mu$$

    It leaves out what does not depend on the mean, and the factor of the shape parameter. With shape 1, it is the
    negative log-likelihood of an exponential distribution.

    Args:
      prediction: floating, any shape `(...)`: $\log \mu$, or with `log_input=False` $\mu$, above 0.
      target: real, above 0, the same shape: $y$.
      log_input: whether `prediction` is the logarithm of the mean.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments. NaN for a negative mean.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `prediction` is not floating.

    Reference:
      McCullagh and Nelder, Generalized linear models, 2nd edition, 1989, section 8.2.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> mean, target = jnp.array([1.0, 0.5]), jnp.array([2.0, 1.0])
      >>> print(f"{jaxloss.gamma_nll_loss(mean, target, log_input=False):.4f}")
      1.6534
    """
    if log_input:
        log_mean = jnp.asarray(prediction)
        # Infinity minus infinity is not a number.
        bounded = numerics.at_least(log_mean, float(jnp.finfo(log_mean.dtype).min))
        return positive.scaled_exp(jnp.asarray(target), -log_mean) + bounded
    checks.require_inside("gamma_nll_loss", "prediction", prediction, _MEANS)
    return likelihoods.gamma_of_mean(jnp.asarray(prediction), jnp.asarray(target))


@loss("(),()->()", domains={"target": "[0, inf)", "power": "(1, 2)"})
def tweedie_nll_loss(
    prediction: Real,
    target: Real,
    *,
    power: Real = 1.5,
    log_input: bool = True,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""Negative log-likelihood of a number that is 0 or positive under a Tweedie distribution with a predicted mean.

    $$l = \frac{\mu^{2 - p}}{2 - p} - y \, \frac{\mu^{1 - p}}{1 - p}$$

    The distribution is that of a sum of a Poisson number of gamma-distributed terms, such as the claims of a year, and
    its variance is proportional to $\mu^p$. The loss leaves out what does not depend on the mean, and the dispersion,
    which is a factor. A derivative with respect to `power` is that of this formula, not that of the likelihood.

    Args:
      prediction: floating, any shape `(...)`: $\log \mu$, or with `log_input=False` $\mu$, above 0.
      target: real, at least 0, the same shape: $y$.
      power: $p$ between 1 (like Poisson) and 2 (like gamma). A number, or an array with one number per sample.
      log_input: whether `prediction` is the logarithm of the mean.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments. NaN for a negative mean.

    Raises:
      ValueError: shapes do not fit, or `power` does not lie between 1 and 2.
      TypeError: `prediction` is not floating.

    Reference:
      Jørgensen, Exponential dispersion models, Journal of the Royal Statistical Society B 49, 1987, section 4.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> mean, target = jnp.array([4.0, 1.0]), jnp.array([3.0, 0.0])
      >>> print(jaxloss.tweedie_nll_loss(mean, target, log_input=False, reduction="none"))
      [7. 2.]
    """
    if log_input:
        of = likelihoods.tweedie_of_any_power if is_given(power) else likelihoods.tweedie_of_log_mean
        return of(jnp.asarray(prediction), jnp.asarray(target), power)
    checks.require_inside("tweedie_nll_loss", "prediction", prediction, _MEANS)
    return likelihoods.tweedie_of_mean(jnp.asarray(prediction), target, power)
