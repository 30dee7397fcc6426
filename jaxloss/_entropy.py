"""Entropies of softmaxes, whose classes may be split over devices."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss import _special as special
from jaxloss._class_axis import ClassAxis


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def entropy(classes: ClassAxis, logits: Array) -> Array:
    """-Σ p log p. No term is negative, and that of a nearly certain class is not rounded to 0: with s = x - max x,

    log Σ exp s - Σ p s
    """
    scores, below, largest = _parts(classes, logits)
    rest, largest, moment = classes.sums(jnp.sum(below), largest, -_dot(below, numerics.finite(scores)))
    return _log(rest, largest) + moment / (largest + rest)


@entropy.defjvp
def _entropy_jvp(classes, primals, tangents):
    (logits,) = primals
    value, surprise = entropy(classes, logits), -numerics.finite(log_softmax(classes, logits))
    return value, _sum(classes, jnp.exp(-surprise) * (surprise - value) * tangents[0])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def log_softmax(classes: ClassAxis, logits: Array) -> Array:
    """The logarithm of the probability of each class on this device."""
    scores, below, largest = _parts(classes, logits)
    return scores - _log(*classes.sums(jnp.sum(below), largest))


@log_softmax.defjvp
def _log_softmax_jvp(classes, primals, tangents):
    log_p = log_softmax(classes, *primals)
    return log_p, tangents[0] - _sum(classes, jnp.exp(log_p) * tangents[0])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 3))
def log_ratio(classes: ClassAxis, x: Array, y: Array, use: int = 1) -> tuple[Array, Array, Array, Array, Array]:
    """log p, log q and log q - log p of each class on this device, for p = softmax x and q = softmax y.

    They are followed by log q - log p of the likeliest class of p, and by log p - log q of that of q, as constants.

    At a high temperature, p and q differ by less than the rounding errors of their logarithms. So the last one is
    y - x - log (Σ exp y / Σ exp x), in which the two sums, too, are compared class by class.

    Each use (1 for the value, 2 for the derivative) computes all classes anew from the logits. They are read more than
    once, and XLA would otherwise write them to memory, in float32: the value and the gradient of `distillation_loss`
    (8192, 32000) in bfloat16 take an estimated 1.33 ms on an H100, and 2.42 ms and 1000 MiB otherwise (jax 0.10.2).
    """
    largest = [classes.maximum(lax.stop_gradient(jnp.max(logits))) for logits in (x, y)]

    def compared(largest: list[Array]) -> tuple[Array, Array, Array]:
        x_below, y_below = x - largest[0], y - largest[1]
        return x_below, y_below, numerics.difference(y_below, x_below)

    x_below, y_below, ahead = compared(largest)
    of_x, of_y = jnp.exp(x_below), jnp.exp(y_below)
    excess = _excess(of_y, of_x, ahead)
    total_x, total_y, excess = classes.sums(jnp.sum(of_x), jnp.sum(of_y), jnp.sum(excess))
    excess /= total_x
    shift = jnp.where(jnp.abs(excess) < 0.5, jnp.log1p(excess), jnp.log(total_y / total_x))
    at_x = _at_highest(classes, x_below, largest[0], ahead) - shift
    at_y = _at_highest(classes, y_below, largest[1], -ahead) + shift
    for _ in range(use):  # so that no two uses are equal expressions
        largest = lax.optimization_barrier(largest)
    x_below, y_below, ahead = compared(largest)
    return x_below - jnp.log(total_x), y_below - jnp.log(total_y), ahead - shift, *lax.stop_gradient((at_x, at_y))


@log_ratio.defjvp
def _log_ratio_jvp(classes, use, primals, tangents):
    log_p, log_q, *rest = log_ratio(classes, *primals, use=use)
    of_p, of_q = (
        tangent - _sum(classes, jnp.exp(log) * tangent) for log, tangent in zip((log_p, log_q), tangents, strict=True)
    )
    return (log_p, log_q, *rest), (of_p, of_q, of_q - of_p, *map(jnp.zeros_like, rest[1:]))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def relative_entropy(classes: ClassAxis, x: Array, y: Array) -> Array:
    """KL(p ‖ q) of p = softmax x and q = softmax y: Σ p (log p - log q)."""
    log_p, log_q, surplus, *_ = log_ratio(classes, x, y)
    return _sum(classes, _terms(jnp.exp(log_p), jnp.exp(log_q), surplus))


@functools.partial(relative_entropy.defjvp, symbolic_zeros=True)
def _relative_entropy_jvp(classes, primals, tangents):
    log_p, log_q, surplus, there, _ = log_ratio(classes, *primals, use=2)

    def by_x(change: Array) -> Array:
        lead = numerics.finite(-surplus) - numerics.finite(-there)
        return _sum(classes, _slopes(classes, log_p, lead) * change)

    def by_y(change: Array) -> Array:
        return _sum(classes, _excess(jnp.exp(log_q), jnp.exp(log_p), surplus) * change)

    return relative_entropy(classes, *primals), numerics.change((by_x, by_y), tangents)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def jensen_shannon(classes: ClassAxis, x: Array, y: Array, share: Array) -> Array:
    """(1 - β) KL(p ‖ m) + β KL(q ‖ m) of p = softmax x, q = softmax y and m = (1 - β) p + β q, for a share β."""
    log_p, log_q, surplus, *_ = log_ratio(classes, x, y)
    of_p, of_q = _terms_of_mixture(log_p, log_q, surplus, share)
    return _sum(classes, (1 - share) * of_p + share * of_q)


@functools.partial(jensen_shannon.defjvp, symbolic_zeros=True)
def _jensen_shannon_jvp(classes, primals, tangents):
    x, y, share = primals
    log_p, log_q, surplus, at_x, at_y = log_ratio(classes, x, y, use=2)

    def by_x(change: Array) -> Array:
        values = _lead_over_mixture(surplus, at_x, share)
        return (1 - share) * _sum(classes, _slopes(classes, log_p, values) * change)

    def by_y(change: Array) -> Array:
        values = _lead_over_mixture(-surplus, at_y, 1 - share)
        return share * _sum(classes, _slopes(classes, log_q, values) * change)

    def by_share(change: Array) -> Array:
        of_p, of_q = _terms_of_mixture(log_p, log_q, surplus, share)
        return _sum(classes, of_q - of_p) * change

    return jensen_shannon(classes, *primals), numerics.change((by_x, by_y, by_share), tangents)


def _terms_of_mixture(log_p: Array, log_q: Array, surplus: Array, share: Array) -> tuple[Array, Array]:
    """The terms of KL(p ‖ m) and of KL(q ‖ m)."""
    # How far the larger of both is above the mixture, from the ratio of the smaller one to it.
    lead = -jnp.log1p(jnp.where(surplus > 0, 1 - share, share) * jnp.expm1(-jnp.abs(surplus)))
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    mixture = (1 - share) * p + share * q
    of_p = _terms(p, mixture, jnp.maximum(surplus, 0) - lead)
    return of_p, _terms(q, mixture, jnp.maximum(-surplus, 0) - lead)


def _lead_over_mixture(surplus: Array, there: Array, share: Array) -> Array:
    """log (p / m) of each class, minus that of the likeliest one of p,

    -log (1 - w + w e^d)

    with w = β q / m of that class, and d = log (q / p), minus that of that class, which is `there`.
    """
    surplus, there = numerics.finite(surplus), numerics.finite(there)
    logit = jnp.log(share) - jnp.log1p(-share)
    odds = there + logit
    w, further, most = jnp.exp(-logistic.softplus(-odds)), surplus - there, 80.0  # whose exponential is finite
    near = jnp.log1p(w * jnp.expm1(jnp.clip(further, -1, most)))
    below = jnp.log(jnp.exp(-logistic.softplus(odds)) + w * jnp.exp(jnp.minimum(further, -1)))
    above = jnp.logaddexp(jnp.where(further < most, 0, surplus + logit) - logistic.softplus(odds), 0)
    return -jnp.where(further < -1, below, jnp.where(further < most, near, above))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def entropy_of_listed(classes: ClassAxis, p: Array, logits: Array) -> Array:
    """KL(p ‖ q) of q = softmax x, for probabilities of some classes; the others count as one with the rest of the mass.

    A class of which p is 0 is one of the others. p has no derivative.
    """
    rest, log_others, log_q = _rest(classes, p, logits)

    def terms(p: Array, log_q: Array) -> Array:
        return _terms(p, jnp.exp(log_q), numerics.difference(log_q, jnp.log(p)))

    return _sum(classes, jnp.where(p == 0, 0, terms(jnp.where(p == 0, 1, p), log_q))) + terms(rest, log_others)


@entropy_of_listed.defjvp
def _entropy_of_listed_jvp(classes, primals, tangents):
    p, logits = primals
    rest, log_others, log_q = _rest(classes, p, logits)
    of_others = jnp.exp(log_q) - rest * jnp.exp(numerics.difference(log_q, log_others))
    surplus = numerics.difference(log_q, jnp.log(jnp.where(p == 0, 1, p)))
    of_listed = _excess(jnp.exp(log_q), p, surplus)
    return entropy_of_listed(classes, p, logits), _sum(classes, jnp.where(p == 0, of_others, of_listed) * tangents[1])


def _rest(classes: ClassAxis, p: Array, logits: Array) -> tuple[Array, Array, Array]:
    """The mass of p outside of its list, the logarithm of that of q, and log q."""
    log_q = log_softmax(classes, logits)
    others = jnp.where(p == 0, log_q, -jnp.inf)
    largest = classes.maximum(lax.stop_gradient(jnp.max(others)))
    exists = classes.exists()
    is_other = (p == 0) if exists is None else (p == 0) & exists
    scaled = jnp.sum(jnp.where(is_other, jnp.exp(numerics.difference(others, largest)), 0))
    listed, scaled, n_others = classes.sums(jnp.sum(p), scaled, jnp.sum(is_other, dtype=p.dtype))
    is_any = n_others > 0  # or the rest is a rounding error
    log_others = jnp.where(is_any, largest + jnp.log(jnp.where(is_any, scaled, 1)), -jnp.inf)
    return jnp.where(is_any, jnp.maximum(1 - listed, 0), 0), log_others, log_q


def _terms(p: Array, q: Array, surplus: Array) -> Array:
    """p log (p / q) - p + q, which is not negative. For two distributions, their sum is the divergence.

    The surplus is log q - log p.
    """
    near = p * special.small_exp_excess(jnp.clip(surplus, -1, 1))
    far = q - p - numerics.weighted(p, surplus)
    return jnp.where(jnp.abs(surplus) < 1, near, far)


def _excess(q: Array, p: Array, surplus: Array) -> Array:
    """q - p, from log q - log p where they are close."""
    return jnp.where(jnp.abs(surplus) < 1, p * jnp.expm1(jnp.clip(surplus, -1, 1)), q - p)


def _slopes(classes: ClassAxis, log_p: Array, values: Array) -> Array:
    """The derivative of Σ p v by the logits of p, where Σ p dv = 0: p (v - Σ p v).

    Values count from that of the likeliest class. Otherwise, the difference would be lost if it is almost certain.
    """
    values = numerics.finite(values)
    p = jnp.exp(log_p)
    (mean,) = classes.sums(_dot(p, values))
    return p * numerics.finite(values - mean)


def _at_highest(classes: ClassAxis, below: Array, largest: Array, values: Array) -> Array:
    """The value of the class with the highest logit, given how far each lies below it."""
    # Not where that is 0: XLA fuses the product that a logit may be with the difference, and then does not round it.
    is_highest = below >= -jnp.finfo(below.dtype).eps * jnp.abs(largest)
    return classes.maximum(lax.stop_gradient(jnp.max(jnp.where(is_highest, values, -jnp.inf))))


def _sum(classes: ClassAxis, terms: Array) -> Array:
    (total,) = classes.sums(jnp.sum(terms))
    return total


def _dot(x: Array, y: Array) -> Array:
    """Σ x y. In a loop, XLA:CPU takes a third of the time for a product of vectors (jaxlib 0.10.2).

    Elsewhere, such a product may round its factors.
    """
    return lax.platform_dependent(x, y, cpu=jnp.dot, default=lambda x, y: jnp.sum(x * y))


def _parts(classes: ClassAxis, logits: Array) -> tuple[Array, Array, Array]:
    """The scores, the exponentials of those below 0 (0 for the others), and the number of others, on this device."""
    scores = logits - classes.maximum(lax.stop_gradient(jnp.max(logits)))
    is_less = scores < 0
    return scores, jnp.where(is_less, jnp.exp(scores), 0), jnp.sum(jnp.where(is_less, 0, jnp.ones_like(scores)))


def _log(rest: Array, largest: Array) -> Array:
    return jnp.log1p(rest + (largest - 1))
