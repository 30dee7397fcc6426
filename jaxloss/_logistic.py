"""Losses of log-odds, exact at the extremes and at infinity: softplus, and the logistic cross-entropy.

Some forms are only there for XLA:CPU, for the reasons that `jaxloss._numerics` gives.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _numerics as numerics
from jaxloss._exp_sums import exps, largest_and_steep_sum


@jax.custom_jvp
def softplus(x: Array) -> Array:
    """log(1 + exp(x)), to a unit in the last place for every x. Its derivative is the logistic function."""
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    (x,) = primals
    return softplus(x), jax.nn.sigmoid(x) * tangents[0]


@jax.custom_jvp
def logistic_cross_entropy(logits: Array, target: Array) -> Array:
    """y softplus(-x) + (1 - y) softplus(x), with log(1 + exp(-|x|)) taken out of both.

    For an infinite logit, 0 if the target is sure of the same class, and else infinite.
    """
    bounded, size, factor = _bounded(logits)
    # Not max(x, 0) - x y, whose terms may cancel to less than their rounding errors.
    surplus = jnp.minimum((target - 1) * bounded, target * bounded) * factor
    return jnp.log1p(jnp.exp(-size)) - surplus


def _bounded(logits: Array) -> tuple[Array, Array, Array]:
    """Finite logits, their sizes, and a factor for what a loss adds up from them.

    0 times infinity is NaN, so infinite logits are bounded. The factor makes what they add infinite, unless it is 0.
    For other logits, it is 1. On XLA:CPU, all this takes a tenth of the time of the value.
    """
    info = jnp.finfo(logits.dtype)
    largest, eps = numerics.unshared(float(info.max)), float(info.eps)
    bounded = jnp.maximum(-largest, jnp.minimum(largest, logits))
    size = jnp.abs(bounded)
    return bounded, size, jnp.maximum(1, (size - largest * (1 - eps)) * (0.5 / eps))


@logistic_cross_entropy.defjvp
def _logistic_cross_entropy_jvp(primals, tangents):
    logits, target = primals
    change = _logistic_residual(logits, target) * tangents[0] - numerics.finite(logits) * tangents[1]
    return logistic_cross_entropy(logits, target), change


@jax.custom_jvp
def _logistic_residual(logits: Array, target: Array) -> Array:
    """sigmoid(x) - y, as (1 - y) sigmoid(x) - y sigmoid(-x), which keeps its digits for a confident right answer."""
    zero, one = numerics.unshared(0.0), numerics.unshared(1.0)
    # The sigmoids are up / (1 + smaller) and down / (1 + smaller): one exponential, which cannot overflow.
    smaller = jnp.exp(-jnp.abs(one * logits))
    is_positive = logits > zero
    up, down = jnp.where(is_positive, one, smaller), jnp.where(is_positive, smaller, one)
    return ((one - target) * up - target * down) / (one + smaller)


@_logistic_residual.defjvp
def _logistic_residual_jvp(primals, tangents):
    logits, target = primals
    # Not the derivative of the formula above, which has a kink at 0.
    slope = jax.nn.sigmoid(logits) * jax.nn.sigmoid(-logits)
    return _logistic_residual(logits, target), slope * tangents[0] - tangents[1]


@jax.custom_jvp
def weighted_logistic_cross_entropy(logits: Array, target: Array, weight: Array) -> Array:
    """w y softplus(-x) + (1 - y) softplus(x), for infinite logits as `logistic_cross_entropy`."""
    bounded, size, factor = _bounded(logits)
    above = jnp.maximum(bounded, 0)
    positive, negative = weight * target, 1 - target
    surplus = (positive * (above - bounded) + negative * above) * factor
    return surplus + (positive + negative) * jnp.log1p(jnp.exp(-size))


@weighted_logistic_cross_entropy.defjvp
def _weighted_logistic_cross_entropy_jvp(primals, tangents):
    logits, target, weight = primals
    one = numerics.unshared(1.0)
    by_logits = (one - target) * jax.nn.sigmoid(logits) - one * weight * target * jax.nn.sigmoid(-logits)
    positive, negative = numerics.finite(softplus(-logits)), numerics.finite(softplus(logits))
    by_target = numerics.finite(weight * positive - negative)
    change = by_logits * tangents[0] + by_target * tangents[1] + target * positive * tangents[2]
    return weighted_logistic_cross_entropy(*primals), change


@jax.custom_jvp
def softplus_of_sum(x: Array, among: Array, steepness: Array, weight: Array) -> Array:
    """w log(1 + Σ e^(a x)) over some entries of a vector, for a steepness a > 0; 0 if there are no entries.

    It overflows only where w a x does.
    """
    largest, total, _ = _shares(x, among, steepness)
    return weight * steepness * largest + weight * jnp.log(total)


@softplus_of_sum.defjvp
def _softplus_of_sum_jvp(primals, tangents):
    x, among, steepness, weight = primals
    largest, total, terms = _shares(x, among, steepness)
    shares = terms / total
    by_x = weight * steepness * jnp.sum(shares * tangents[0])
    by_steepness = weight * jnp.sum(shares * jnp.where(among, x, 0)) * tangents[2]
    by_weight = numerics.finite(steepness * largest + jnp.log(total)) * tangents[3]
    return softplus_of_sum(*primals), by_x + by_steepness + by_weight


def _shares(x: Array, among: Array, steepness: Array) -> tuple[Array, Array, Array]:
    """The largest of the entries and 0, (1 + Σ e^(a x)) / e^(a largest), and the terms of that sum."""
    of_entries, total = largest_and_steep_sum(x, among, steepness)
    largest = jax.lax.stop_gradient(jnp.maximum(of_entries, 0))
    total = total * jnp.exp(steepness * (of_entries - largest)) + jnp.exp(-steepness * largest)
    return largest, total, exps(x, among, largest, steepness)
