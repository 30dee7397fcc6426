"""Negative log-likelihoods by their means, which keep their digits and stay finite for means and counts of any size."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _numerics as numerics
from jaxloss import _positive as positive
from jaxloss import _special as special
from jaxloss import _stirling as stirling
from jaxloss._arrays import Real


@jax.custom_jvp
def gamma_of_mean(mean: Array, target: Array) -> Array:
    mean = positive.normal(mean)
    return target / mean + jnp.log(mean)


@gamma_of_mean.defjvp
def _gamma_of_mean_jvp(primals, tangents):
    mean, target = positive.normal(primals[0]), primals[1]
    # The inner `finite` keeps XLA from dividing by the square of the mean, which may be 0.
    by_mean = numerics.finite(numerics.finite((mean - target) / mean) / mean)
    return gamma_of_mean(*primals), by_mean * tangents[0] + tangents[1] / mean


def tweedie_of_log_mean(log_mean: Array, target: Array, power: Real) -> Array:
    spread = positive.scaled_exp(jnp.ones_like(log_mean), (2 - power) * log_mean)
    return spread / (2 - power) + positive.scaled_exp(target, (1 - power) * log_mean) / (power - 1)


@jax.custom_jvp
def tweedie_of_any_power(log_mean: Array, target: Array, power: Array) -> Array:
    """The same, with a derivative with respect to the power."""
    return tweedie_of_log_mean(log_mean, target, power)


@tweedie_of_any_power.defjvp
def _tweedie_of_any_power_jvp(primals, tangents):
    # Where the two powers of the mean overflow, a slope is the difference of finite numbers, and not of infinities.
    log_mean, (target, power) = numerics.finite(primals[0]), primals[1:]
    inverse = numerics.finite(positive.scaled_exp(jnp.ones_like(log_mean), (1 - power) * log_mean))
    spread = numerics.finite(positive.scaled_exp(jnp.ones_like(log_mean), (2 - power) * log_mean))
    share = numerics.finite(positive.scaled_exp(target, (1 - power) * log_mean))
    by_power = numerics.finite(numerics.finite(spread / (2 - power)) * (1 / (2 - power) - log_mean))
    by_power -= numerics.finite(numerics.finite(share / (power - 1)) * (1 / (power - 1) + log_mean))
    change = (spread - share) * tangents[0] + numerics.finite(inverse / (power - 1)) * tangents[1]
    return numerics.stored(tweedie_of_any_power(*primals)), change + by_power * tangents[2]


@jax.custom_jvp
def tweedie_of_mean(mean: Array, target: Real, power: Real) -> Array:
    mean = positive.normal(mean)
    return mean ** (2 - power) / (2 - power) + target * mean ** (1 - power) / (power - 1)


@tweedie_of_mean.defjvp
def _tweedie_of_mean_jvp(primals, tangents):
    mean, (target, power) = positive.normal(primals[0]), primals[1:]
    by_target = numerics.finite(mean ** (1 - power) / (power - 1))
    # Not times the mean to the power -p, which overflows or is 0 for means whose slope is an ordinary number.
    by_mean = numerics.finite(numerics.finite((mean - target) / mean) * mean ** (1 - power))
    logarithm = jnp.log(mean)
    spread = mean ** (2 - power) / (2 - power) * (1 / (2 - power) - logarithm)
    by_power = numerics.finite(spread - target * by_target * (1 / (power - 1) + logarithm))
    change = by_mean * tangents[0] + by_target * tangents[1] + by_power * tangents[2]
    return tweedie_of_mean(*primals), change


# The difference of the two log-gamma functions is a difference of large numbers, as is that of the logarithms. So each
# log-gamma function is Stirling's formula plus its error, and with n = r + y, the logarithms add up to
#
#   n log((r + mu) / n) - y log(mu) + y + log(n / r) / 2 + stirling_difference(r, y)
#
# without the last term of the loss, and with it, where log(y / mu) is that of numbers close to each other, to
#
#   y (log((r + mu) / n) + log(y / mu)) + r log((r + mu) / n) + log(n / r) / 2 + ... + log_factorial_excess(y).


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def negative_binomial(full: bool, log_mean: Array, mean: Array, target: Array, concentration: Array) -> Array:
    y, r, n = target, concentration, numerics.finite(concentration + target)
    log_share, is_large = _log_share(log_mean, mean, y, r), _is_large(mean, y, r)
    # A quarter of the sums of these terms may overflow where their total does not.
    part = jnp.where(n > 1, 1 / 256, 1)
    rest = special.log_ratio(n, r, y / r) / 2 + stirling.difference(r, y)
    if full:
        log_odds = _log_odds(log_mean, mean, y, r)
        by_r = log_share + jnp.where(is_large, log_mean, 0)
        return (part * y * log_odds + part * r * by_r + part * (rest + _log_factorial_excess(y))) / part
    linear = jnp.where(is_large, part * r * log_mean, -numerics.weighted(part * y, log_mean))
    return (part * n * log_share + linear + part * (y + rest)) / part


@negative_binomial.defjvp
def _negative_binomial_jvp(full, primals, tangents):
    log_mean, mean, y, r = primals
    n, log_share, is_large = numerics.finite(r + y), _log_share(*primals), _is_large(mean, y, r)
    observed, expected = _shares(log_mean, mean, r)
    excess = _excess(*primals)
    is_near = jnp.abs(excess) < 0.5
    far = excess + log_share + jnp.where(is_large, log_mean, 0)
    by_r = jnp.where(is_near, special.excess_of_log1p(jnp.where(is_near, excess, 0)), far)
    by_r += stirling.difference_slope(r, y) - y / n * positive.quotient(jnp.full_like(r, 0.5), r)
    by_y = log_share - jnp.where(is_large, 0, log_mean) + 0.5 / n - stirling.slope(n)
    if full:
        by_y += jnp.log1p(y) - 0.5 / (y + 1) + stirling.slope(y + 1)
    change = (r * expected - y * observed) * tangents[0]
    change += numerics.finite(by_y) * tangents[2] + numerics.finite(by_r) * tangents[3]
    return numerics.stored(negative_binomial(full, *primals)), change


# What the slopes are made of changes with the logarithm of the mean, as the mean itself and its change may overflow.


@jax.custom_jvp
def _shares(log_mean: Array, mean: Array, r: Array) -> tuple[Array, Array]:
    """r / (r + mu) and mu / (r + mu)."""
    return 1 / (1 + mean / r), 1 / (1 + r / mean)


@_shares.defjvp
def _shares_jvp(primals, tangents):
    observed, expected = _shares(*primals)
    change = observed * expected * (tangents[0] - tangents[2] / primals[2])
    return (observed, expected), (-change, change)


@jax.custom_jvp
def _excess(log_mean: Array, mean: Array, y: Array, r: Array) -> Array:
    """(y - mu) / (r + mu)."""
    return y / (r + mean) - 1 / (1 + r / mean)


@_excess.defjvp
def _excess_jvp(primals, tangents):
    log_mean, mean, _, r = primals
    (_, expected), excess, inverse = _shares(log_mean, mean, r), _excess(*primals), 1 / (r + mean)
    by_r = -numerics.finite(excess * inverse)
    return excess, -(excess + 1) * expected * tangents[0] + inverse * tangents[2] + by_r * tangents[3]


def _is_large(mean: Array, y: Array, r: Array) -> Array:
    """Where the mean is so large that its logarithm is taken apart."""
    n, largest = numerics.finite(r + y), float(jnp.finfo(mean.dtype).max)
    return ((mean - y) / n >= 0.5) & ((y > r) | (mean == largest))


@jax.custom_jvp
def _log_share(log_mean: Array, mean: Array, y: Array, r: Array) -> Array:
    """log((r + mu) / (r + y)), minus log(mu) where the mean is large."""
    n, is_large = numerics.finite(r + y), _is_large(mean, y, r)
    total = jnp.where(is_large, 1 + r / mean, numerics.finite(r + mean))
    return special.log_ratio(total, n, jnp.where(is_large, 1, (mean - y) / n))


@_log_share.defjvp
def _log_share_jvp(primals, tangents):
    log_mean, mean, y, r = primals
    n, (observed, expected) = numerics.finite(r + y), _shares(log_mean, mean, r)
    change = jnp.where(_is_large(mean, y, r), -observed, expected) * tangents[0]
    return _log_share(*primals), change - tangents[2] / n + numerics.finite(_excess(*primals) / n) * tangents[3]


def _log_odds(log_mean: Array, mean: Array, y: Array, r: Array) -> Array:
    """log(y / mu) + log((r + mu) / (r + y)), or any finite number for a y of 0."""
    tiny = float(jnp.finfo(mean.dtype).tiny)
    n, log_share, is_large = numerics.finite(r + y), _log_share(log_mean, mean, y, r), _is_large(mean, y, r)
    y, positive_mean = jnp.maximum(y, tiny), jnp.maximum(mean, tiny)
    excess = (y - positive_mean) / positive_mean * (r / n)
    # The logarithm of the mean is exact where the mean has underflowed, and the quotient elsewhere.
    log_quotient = special.log_ratio(y, jnp.where(is_large, n, positive_mean), jnp.ones_like(y))
    far = jnp.where(mean > tiny, log_quotient, jnp.log(y) - log_mean)
    far += jnp.where(is_large, jnp.log1p(r / mean), log_share)
    is_near = jnp.abs(excess) < 0.5
    return jnp.where(is_near, jnp.log1p(jnp.where(is_near, excess, 0)), far)


def _log_factorial_excess(y: Array) -> Array:
    """log gamma(y + 1) - y log y + y, which is about log(2 pi y) / 2, and 0 at 0."""
    inverse = 1 / jnp.where(y == 0, 1, y)
    return y * jnp.log1p(inverse) + jnp.log1p(y) / 2 - stirling.difference(jnp.ones_like(y), y)
