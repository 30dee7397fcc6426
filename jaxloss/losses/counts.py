"""Negative log-likelihoods of counts whose variance exceeds their mean."""

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
from jaxloss.options import ReductionOptions

_MEANS = Interval("(0, inf)")


@loss("(),(),()->()", domains={"target": "[0, inf)", "concentration": "(0, inf)"})
def negative_binomial_nll_loss(
    prediction: Real,
    target: Real,
    concentration: Real,
    *,
    log_input: bool = True,
    full: bool = False,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""Negative log-likelihood of a count under a negative binomial distribution with a predicted mean.

    $$l = (r + y) \log (r + \mu) - r \log r - y \log \mu + \log \Gamma(r) - \log \Gamma(r + y)
    \; \bigl[ {} + \log \Gamma(y + 1) \bigr]$$

    The variance of the count is $\mu + \mu^2 / r$. For large concentrations the distribution becomes that of
    `poisson_nll_loss`, and the loss stays exact.

    Args:
      prediction: floating, any shape `(...)`: $\log \mu$, or with `log_input=False` $\mu$, above 0.
      target: real, at least 0, the same shape: $y$, the count.
      concentration: floating, above 0, the same shape: $r$. One concentration for each column of an `(N, D)` call has
        shape `(1, D)`.
      log_input: whether `prediction` is the logarithm of the mean.
      full: whether to add the last term, which does not depend on what is predicted.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments. NaN for a negative mean or
      concentration.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `prediction` or `concentration` is not floating.

    Reference:
      Hilbe, Negative binomial regression, 2nd edition, 2011, equation 8.8; Loader, Fast and accurate computation of
      binomial probabilities, 2000 (Stirling's formula with its error).

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> mean, target, concentration = jnp.array([1.0, 3.0]), jnp.array([0, 2]), jnp.array([1.0, 1e9])
      >>> print(f"{jaxloss.negative_binomial_nll_loss(mean, target, concentration, log_input=False, full=True):.4f}")
      1.0945
    """
    concentration, target = positive.normal(jnp.asarray(concentration)), jnp.asarray(target)
    if log_input:
        log_mean, mean = jnp.asarray(prediction), numerics.finite(jnp.exp(jnp.asarray(prediction)))
    else:
        checks.require_inside("negative_binomial_nll_loss", "prediction", prediction, _MEANS)
        log_mean, mean = positive.log_of_positive(jnp.asarray(prediction)), positive.normal(jnp.asarray(prediction))
    return likelihoods.negative_binomial(full, log_mean, mean, target, concentration)
