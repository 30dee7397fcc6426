"""Negative log-likelihoods of counts and real numbers, and the Kullback-Leibler divergence."""

from __future__ import annotations

import math
from typing import Unpack

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _data_checks as checks
from jaxloss import _numerics as numerics
from jaxloss._arrays import Real
from jaxloss._decorator.lift import loss
from jaxloss._interval import Interval
from jaxloss.options import ReductionOptions

_RATES = Interval("[0, inf)")
_LOG_PROBABILITIES = Interval("[-inf, 0]")
_PROBABILITIES = Interval("[0, 1]")


@loss("(),()->()", domains={"target": "[0, inf)", "eps": "(0, inf)"})
def poisson_nll_loss(
    prediction: Real,
    target: Real,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: Real = 1e-8,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""Negative log-likelihood of a count under a Poisson distribution.

    $$l = \lambda - y \log (\lambda + \epsilon) \; \bigl[ {} + \log y! \bigr], \qquad
    \log y! \approx y \log y - y + \tfrac12 \log(2 \pi y) \text{ for } y > 1, \text{ else } 0$$

    Args:
      prediction: floating, any shape `(...)`: $\log \lambda$, or with `log_input=False` $\lambda$, at least 0.
      target: real, at least 0, the same shape: $y$, the count.
      log_input: whether `prediction` is the logarithm of the rate.
      full: whether to add Stirling's approximation to $\log y!$, which does not depend on the prediction.
      eps: above 0: $\epsilon$, used only with `log_input=False`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments. NaN for a rate below `-eps`.

    Raises:
      ValueError: shapes do not fit, or `eps` is not above 0.
      TypeError: `prediction` is not floating.

    Reference:
      Nelder and Wedderburn, Generalized linear models, JRSS A 135, 1972, section 3.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.poisson_nll_loss(jnp.log(jnp.array([1.0, 2.0])), jnp.array([1, 4]), reduction="none").round(4))
      [ 1.     -0.7726]
    """
    if not log_input:
        checks.require_inside("poisson_nll_loss", "prediction", prediction, _RATES)
    is_large = target > 1
    few = jnp.where(is_large, 1, target) if full else target
    if log_input:
        without = numerics.exp_minus_product(prediction, few)
    else:
        without = jnp.asarray(prediction - few * jnp.log(prediction + eps))
    if not full:
        return without
    count = jnp.where(is_large, target, 2)
    excess = _excess(prediction, count) if log_input else _excess_of_rate(prediction + eps, count) - eps
    return jnp.where(is_large, excess + jnp.log(2 * math.pi * count) / 2, without)


@jax.custom_jvp
def _excess(log_rate: Array, count: Array) -> Array:
    """rate - count log(rate / count) - count, in terms that do not cancel where the rate is close to the count."""
    surplus = log_rate - jnp.log(count)
    # An infinite surplus is bounded, because infinity minus infinity is NaN.
    return count * (jnp.expm1(surplus) - numerics.at_most(surplus, float(jnp.finfo(surplus.dtype).max)))


@_excess.defjvp
def _excess_jvp(primals, tangents):
    log_rate, count = primals
    by_log_rate = numerics.finite(jnp.exp(log_rate)) - count
    return _excess(*primals), by_log_rate * tangents[0] + numerics.finite(jnp.log(count) - log_rate) * tangents[1]


@jax.custom_jvp
def _excess_of_rate(rate: Array, count: Array) -> Array:
    """The same from the rate instead of its logarithm."""
    relative = (rate - count) / count
    is_near = jnp.abs(relative) < 0.5
    near = jnp.log1p(jnp.where(is_near, relative, 0))
    return count * (relative - jnp.where(is_near, near, jnp.log(rate) - jnp.log(count)))


@_excess_of_rate.defjvp
def _excess_of_rate_jvp(primals, tangents):
    rate, count = primals
    by_rate = numerics.finite((rate - count) / rate)
    return _excess_of_rate(rate, count), by_rate * tangents[0] + (jnp.log(count) - jnp.log(rate)) * tangents[1]


@loss("(),(),()->()", domains={"variance": "[0, inf)", "eps": "(0, inf)"})
def gaussian_nll_loss(
    prediction: Real,
    target: Real,
    variance: Real,
    *,
    full: bool = False,
    eps: Real = 1e-6,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""Negative log-likelihood of a real number under a normal distribution with a predicted variance.

    $$l = \tfrac12 \Bigl( \log v + \frac{(x - y)^2}{v} \Bigr) \; \bigl[ {} + \tfrac12 \log 2 \pi \bigr], \qquad
    v = \max(\text{variance}, \epsilon)$$

    Args:
      prediction: floating, any shape `(...)`: $x$, the mean.
      target: real, the same shape: $y$.
      variance: floating, at least 0, the same shape. One variance for each row of an `(N, D)` call has shape `(N, 1)`.
      full: whether to add the constant $\tfrac12 \log 2 \pi$.
      eps: above 0: $\epsilon$. A variance below `eps` still gets a gradient: the one at `eps`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments. NaN for a negative variance.

    Raises:
      ValueError: shapes do not fit, or `eps` is not above 0.
      TypeError: `prediction` or `variance` is not floating.

    Reference:
      Nix and Weigend, Estimating the mean and variance of the target probability distribution, ICNN 1994, equation 3.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> prediction, target, variance = jnp.array([0.0, 2.0]), jnp.array([1.0, 2.0]), jnp.array([1.0, 0.25])
      >>> print(jaxloss.gaussian_nll_loss(prediction, target, variance, reduction="none").round(4))
      [ 0.5    -0.6931]
    """
    constant = math.log(2 * math.pi) / 2 if full else 0
    return _gaussian(prediction - target, variance, eps) + constant


@jax.custom_jvp
def _gaussian(difference: Array, variance: Array, eps: Real) -> Array:
    clamped = numerics.raised(variance, eps)
    # Not difference^2 / clamped: the square may overflow where the ratio does not.
    return (jnp.log(clamped) + difference * (difference / clamped)) / 2


@_gaussian.defjvp
def _gaussian_jvp(primals, tangents):
    difference, variance, eps = primals
    clamped = jnp.maximum(variance, numerics.unshared(eps))
    by_difference = numerics.finite(difference / clamped)
    by_clamped = numerics.finite((1 / clamped - by_difference * by_difference) / 2)
    by_eps = jnp.where(variance < eps, by_clamped, 0)
    change = by_difference * tangents[0] + by_clamped * tangents[1] + by_eps * tangents[2]
    return _gaussian(difference, variance, eps), change


@loss("(),()->()", domains={"log_probabilities": _LOG_PROBABILITIES.notation})
def kl_div(
    log_probabilities: Real, target: Real, *, log_target: bool = False, **options: Unpack[ReductionOptions]
) -> Array:
    r"""One class's term of the Kullback-Leibler divergence between true and predicted probabilities.

    $$l = p \, (\log p - \log q), \qquad 0 \log 0 = 0$$

    The divergence of two distributions is the sum over their classes. `reduction="batchmean"` gives its mean over the
    leading axis; `"mean"` also divides by the number of classes.

    Caution: the sum is nonnegative, and smallest where the distributions are equal, only if both of them sum to 1. A
    class with $p > 0$ that is predicted to be impossible, $\log q = -\infty$, makes the divergence infinite and its
    gradient meaningless, so take `jax.nn.log_softmax` of finite logits. Because a sample is a single class, whether a
    distribution sums to 1 is not checked. `cross_entropy` checks it under `jaxloss.data_checks`.

    Args:
      log_probabilities: floating, any shape `(...)`, at most 0: $\log q$, the prediction.
      target: real, the same shape: $p$ in [0, 1], or with `log_target=True` $\log p$, at most 0.
      log_target: whether `target` contains log-probabilities.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments. Under `jaxloss.data_checks`,
      log-probabilities above 0, probabilities outside [0, 1], and a predicted probability of 0 for a class with $p > 0$
      are errors.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `log_probabilities` is not floating.

    Reference:
      Kullback and Leibler, On information and sufficiency, Annals of Mathematical Statistics 22, 1951, equation 2.4.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> q, p = jnp.array([[0.5, 0.25, 0.25]]), jnp.array([[0.5, 0.5, 0.0]])
      >>> print(jaxloss.kl_div(jnp.log(q), p, reduction="batchmean").round(4))
      0.3466
    """
    checks.require_inside("kl_div", "target", target, _LOG_PROBABILITIES if log_target else _PROBABILITIES)
    probability = jnp.exp(target) if log_target else target
    message = "kl_div: log_probabilities is -inf where the target's probability is {value}"
    checks.require((probability == 0) | (log_probabilities > -jnp.inf), message, value=probability)
    if log_target:
        return _divergence(target, log_probabilities)
    return numerics.xlogx(target) - numerics.weighted(target, log_probabilities)


@jax.custom_jvp
def _divergence(target: Array, log_probability: Array) -> Array:
    return numerics.weighted(jnp.exp(target), numerics.difference(target, log_probability))


@_divergence.defjvp
def _divergence_jvp(primals, tangents):
    # The value is a part of the derivative. Automatic differentiation would multiply the difference by the cotangent,
    # which may overflow, before it multiplies it by a probability of 0.
    value, probability = _divergence(*primals), jnp.exp(primals[0])
    return value, (numerics.finite(value) + probability) * tangents[0] - probability * tangents[1]
