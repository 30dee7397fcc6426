"""Entropies of softmaxes, whose classes may be split over devices."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss._class_axis import ClassAxis


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def entropy(classes: ClassAxis, logits: Array) -> Array:
    """-Σ p log p. No term is negative, and that of a nearly certain class is not rounded to 0: with s = x - max x,

    log Σ exp s - Σ p s
    """
    scores, rest, largest = _parts(classes, logits)
    rest, largest, moment = classes.sums(rest, largest, -jnp.sum(jnp.exp(scores) * numerics.finite(scores)))
    return _log(rest, largest) + moment / (largest + rest)


@entropy.defjvp
def _entropy_jvp(classes, primals, tangents):
    (logits,) = primals
    value, surprise = entropy(classes, logits), -numerics.finite(log_softmax(classes, logits))
    (change,) = classes.sums(jnp.sum(jnp.exp(-surprise) * (surprise - value) * tangents[0]))
    return value, change


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def log_softmax(classes: ClassAxis, logits: Array) -> Array:
    """The logarithm of the probability of each class on this device."""
    scores, rest, largest = _parts(classes, logits)
    return scores - _log(*classes.sums(rest, largest))


@log_softmax.defjvp
def _log_softmax_jvp(classes, primals, tangents):
    log_p = log_softmax(classes, *primals)
    (mean,) = classes.sums(jnp.sum(jnp.exp(log_p) * tangents[0]))
    return log_p, tangents[0] - mean


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def relative_entropy(classes: ClassAxis, x: Array, y: Array) -> Array:
    """KL(p ‖ q) of p = softmax x and q = softmax y: Σ p (log p - log q), of terms that are not negative."""
    return _sum_of_divergences(classes, log_softmax(classes, x), log_softmax(classes, y))


@functools.partial(relative_entropy.defjvp, symbolic_zeros=True)
def _relative_entropy_jvp(classes, primals, tangents):
    value = relative_entropy(classes, *primals)
    log_p, log_q = (log_softmax(classes, logits) for logits in primals)
    rules = (
        functools.partial(_sum, classes, _slope(log_p, log_q, value)),
        functools.partial(_sum, classes, _difference(log_q, log_p)),
    )
    return value, numerics.change(rules, tangents)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def jensen_shannon(classes: ClassAxis, x: Array, y: Array, share: Array) -> Array:
    """(1 - β) KL(p ‖ m) + β KL(q ‖ m) of p = softmax x, q = softmax y and m = (1 - β) p + β q, for a share β."""
    log_m, *logs = _mixture(classes, x, y, share)
    of_x, of_y = (_sum_of_divergences(classes, log_p, log_m) for log_p in logs)
    return (1 - share) * of_x + share * of_y


@functools.partial(jensen_shannon.defjvp, symbolic_zeros=True)
def _jensen_shannon_jvp(classes, primals, tangents):
    x, y, share = primals
    log_m, *logs = _mixture(classes, x, y, share)
    each = [_sum_of_divergences(classes, log_p, log_m) for log_p in logs]
    slopes = [_slope(log_p, log_m, value) for log_p, value in zip(logs, each, strict=True)]
    rules = (
        functools.partial(_sum, classes, (1 - share) * slopes[0]),
        functools.partial(_sum, classes, share * slopes[1]),
        lambda change: (each[1] - each[0]) * change,
    )
    return jensen_shannon(classes, x, y, share), numerics.change(rules, tangents)


def _mixture(classes: ClassAxis, x: Array, y: Array, share: Array) -> tuple[Array, Array, Array]:
    """The logarithms of m, p and q."""
    log_p, log_q = log_softmax(classes, x), log_softmax(classes, y)
    return jnp.logaddexp(jnp.log1p(-share) + log_p, jnp.log(share) + log_q), log_p, log_q


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def entropy_of_listed(classes: ClassAxis, p: Array, logits: Array) -> Array:
    """KL(p ‖ q) of q = softmax x, for probabilities of some classes; the others count as one with the rest of the mass.

    A class of which p is 0 is one of the others. p has no derivative.
    """
    rest, others, log_q = _rest(classes, p, logits)
    (listed,) = classes.sums(jnp.sum(jnp.where(p > 0, _terms(jnp.log(p), log_q), 0)))
    return listed + _terms(jnp.log(rest), jnp.log(others))


@entropy_of_listed.defjvp
def _entropy_of_listed_jvp(classes, primals, tangents):
    p, logits = primals
    rest, others, log_q = _rest(classes, p, logits)
    ratio = rest / jnp.where(others == 0, 1, others)
    slopes = jnp.where(p > 0, _difference(log_q, jnp.log(jnp.where(p > 0, p, 1))), jnp.exp(log_q) * (1 - ratio))
    return entropy_of_listed(classes, p, logits), _sum(classes, slopes, tangents[1])


def _rest(classes: ClassAxis, p: Array, logits: Array) -> tuple[Array, Array, Array]:
    """The mass of the classes that are not listed, in both distributions, and log q."""
    log_q = log_softmax(classes, logits)
    listed, others = classes.sums(jnp.sum(p), jnp.sum(jnp.where(p > 0, 0, jnp.exp(log_q))))
    return jnp.maximum(1 - listed, 0), others, log_q


def _sum_of_divergences(classes: ClassAxis, log_p: Array, log_q: Array) -> Array:
    (total,) = classes.sums(jnp.sum(_terms(log_p, log_q)))
    return total


def _terms(log_p: Array, log_q: Array) -> Array:
    """p log (p / q) - p + q, which is not negative. For two distributions, their sum is the divergence."""
    surplus = numerics.difference(log_q, log_p)
    less = jnp.minimum(surplus, 1)
    near = numerics.weighted(jnp.exp(log_p), jnp.maximum(jnp.expm1(less) - surplus, 0))
    far = jnp.exp(log_q) - jnp.exp(log_p) * (1 + numerics.finite(surplus))
    return jnp.where(surplus < 1, near, far)


def _difference(log_q: Array, log_p: Array) -> Array:
    """q - p, without cancellation where they are close."""
    surplus = numerics.difference(log_q, log_p)
    near = jnp.exp(log_p) * jnp.expm1(jnp.minimum(surplus, 1))
    return jnp.where(surplus < 1, near, jnp.exp(log_q) - jnp.exp(log_p))


def _slope(log_p: Array, log_q: Array, value: Array) -> Array:
    """The derivative of KL(p ‖ q) by the logits of p."""
    return jnp.exp(log_p) * numerics.finite(numerics.difference(log_p, log_q) - value)


def _sum(classes: ClassAxis, slopes: Array, change: Array) -> Array:
    (total,) = classes.sums(jnp.sum(slopes * change))
    return total


def _parts(classes: ClassAxis, logits: Array) -> tuple[Array, Array, Array]:
    """The scores, the sum of the exponentials of those below 0, and the number of the others, on this device."""
    scores = logits - classes.maximum(lax.stop_gradient(jnp.max(logits)))
    is_less = scores < 0
    return scores, jnp.sum(jnp.where(is_less, jnp.exp(scores), 0)), jnp.sum(~is_less, dtype=scores.dtype)


def _log(rest: Array, largest: Array) -> Array:
    return jnp.log1p(rest + (largest - 1))
