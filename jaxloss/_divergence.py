"""The divergence of one entry of two sets of nonnegative numbers, without cancellation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _numerics as numerics
from jaxloss import _special as special


@jax.custom_jvp
def of_target(log_q: Array, p: Array) -> Array:
    return _divergence(log_q, p, _difference_of_logs(log_q, jnp.log(p)))


@of_target.defjvp
def _of_target_jvp(primals, tangents):
    log_q, p = primals
    # The inner `where` is for the second derivative: the slope of log(0) is infinite, and 0 times it is NaN.
    log_p = jnp.where(p == 0, -jnp.inf, jnp.log(jnp.where(p == 0, 1, p)))
    change = _difference(log_q, p, log_p) * tangents[0] - _surplus(log_q, log_p) * tangents[1]
    return of_target(log_q, p), change


@jax.custom_jvp
def of_log_target(log_q: Array, log_p: Array) -> Array:
    return _divergence(log_q, jnp.exp(log_p), _difference_of_logs(log_q, log_p))


@of_log_target.defjvp
def _of_log_target_jvp(primals, tangents):
    log_q, log_p = primals
    p = numerics.finite(jnp.exp(log_p))
    by_log_p = numerics.finite(p * _surplus(log_q, log_p))
    return of_log_target(log_q, log_p), _difference(log_q, p, log_p) * tangents[0] - by_log_p * tangents[1]


def _difference_of_logs(log_q: Array, log_p: Array) -> Array:
    """log q - log p; 0 where both numbers are 0, and NaN where both are infinite."""
    return jnp.where((log_q == -jnp.inf) & (log_p == -jnp.inf), 0, log_q - log_p)


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
