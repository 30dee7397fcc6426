"""Divergences between what is predicted and what is observed, neither of which sums to 1."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _data_checks as checks
from jaxloss import _numerics as numerics
from jaxloss import _special as special
from jaxloss._arrays import Real
from jaxloss._decorator.lift import loss
from jaxloss._interval import Interval
from jaxloss.options import ReductionOptions

_NUMBERS = Interval("[0, inf)")


@loss("(),()->()")
def generalized_kl_div(
    log_probabilities: Real, target: Real, *, log_target: bool = False, **options: Unpack[ReductionOptions]
) -> Array:
    r"""One entry's term of the Kullback-Leibler divergence of nonnegative numbers that need not sum to 1.

    $$l = p \, (\log p - \log q) + q - p, \qquad 0 \log 0 = 0$$

    Each term is at least 0, and 0 only where the two numbers are equal, unlike those of `kl_div`. The divergence is the
    sum over the entries.

    Args:
      log_probabilities: floating, any shape `(...)`: $\log q$, the logarithm of the predicted number.
      target: real, the same shape: $p$, at least 0, or with `log_target=True` $\log p$.
      log_target: whether `target` contains logarithms.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `log_probabilities` is not floating.

    Reference:
      Lee and Seung, Algorithms for non-negative matrix factorization, NeurIPS 2000, equation 3.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.generalized_kl_div(jnp.log(jnp.array([4.0, 2.0])), jnp.array([0.0, 2.0]), reduction="none"))
      [4. 0.]
    """
    if log_target:
        return _of_log_target(jnp.asarray(log_probabilities), jnp.asarray(target))
    checks.require_inside("generalized_kl_div", "target", target, _NUMBERS)
    return _of_target(jnp.asarray(log_probabilities), jnp.asarray(target))


@jax.custom_jvp
def _of_target(log_q: Array, p: Array) -> Array:
    return _divergence(log_q, p, numerics.difference(log_q, jnp.log(p)))


@_of_target.defjvp
def _of_target_jvp(primals, tangents):
    log_q, p = primals
    # The inner `where` is for the second derivative: the slope of log(0) is infinite, and 0 times it is NaN.
    log_p = jnp.where(p == 0, -jnp.inf, jnp.log(jnp.where(p == 0, 1, p)))
    change = _difference(log_q, p, log_p) * tangents[0] - _surplus(log_q, log_p) * tangents[1]
    return _of_target(log_q, p), change


@jax.custom_jvp
def _of_log_target(log_q: Array, log_p: Array) -> Array:
    return _divergence(log_q, jnp.exp(log_p), numerics.difference(log_q, log_p))


@_of_log_target.defjvp
def _of_log_target_jvp(primals, tangents):
    log_q, log_p = primals
    p = numerics.finite(jnp.exp(log_p))
    by_log_p = numerics.finite(p * _surplus(log_q, log_p))
    return _of_log_target(log_q, log_p), _difference(log_q, p, log_p) * tangents[0] - by_log_p * tangents[1]


def _surplus(log_q: Array, log_p: Array) -> Array:
    return numerics.finite(numerics.difference(log_q, log_p))


def _divergence(log_q: Array, p: Array, surplus: Array) -> Array:
    """q - p - p s with the surplus s = log q - log p: from the larger of p and q, so that terms do not cancel."""
    less, more = jnp.minimum(surplus, 1), numerics.finite(jnp.maximum(surplus, 1))
    # An infinite p may meet a surplus of exactly 0.
    by_p = jnp.where(surplus == 0, 0, numerics.weighted(p, special.exp_excess(less)))
    return jnp.where(surplus < 1, by_p, jnp.exp(log_q) * (1 - (1 + more) * jnp.exp(-more)))


@jax.custom_jvp
def _difference(log_q: Array, p: Array, log_p: Array) -> Array:
    """q - p, from the larger of the two."""
    surplus = _surplus(log_q, log_p)
    by_p = jnp.where(surplus == 0, 0, p * jnp.expm1(jnp.minimum(surplus, 0)))
    by_q = jnp.exp(log_q) * -jnp.expm1(-jnp.maximum(surplus, 0))
    return numerics.finite(jnp.where(surplus > 0, by_q, by_p))


@_difference.defjvp
def _difference_jvp(primals, tangents):
    log_q = primals[0]
    return _difference(*primals), numerics.finite(jnp.exp(log_q)) * tangents[0] - tangents[1]
