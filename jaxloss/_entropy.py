"""The entropy of a softmax, whose classes may be split over devices."""

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
    value, surprise = entropy(classes, logits), surprises(classes, logits)
    (change,) = classes.sums(jnp.sum(jnp.exp(-surprise) * (surprise - value) * tangents[0]))
    return value, change


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def surprises(classes: ClassAxis, logits: Array) -> Array:
    """-log p of each class, finite."""
    scores, rest, largest = _parts(classes, logits)
    return numerics.finite(_log(*classes.sums(rest, largest)) - scores)


@surprises.defjvp
def _surprises_jvp(classes, primals, tangents):
    surprise = surprises(classes, *primals)
    (change,) = classes.sums(jnp.sum(jnp.exp(-surprise) * tangents[0]))
    return surprise, change - tangents[0]


def _parts(classes: ClassAxis, logits: Array) -> tuple[Array, Array, Array]:
    """The scores, the sum of the exponentials of those below 0, and the number of the others, on this device.

    On a CPU, the sum of all and 0, because a second sum takes XLA:CPU as long as the first.
    """
    scores = logits - classes.maximum(lax.stop_gradient(jnp.max(logits)))

    def apart(scores: Array) -> tuple[Array, Array]:
        is_less = scores < 0
        return jnp.sum(jnp.where(is_less, jnp.exp(scores), 0)), jnp.sum(~is_less, dtype=scores.dtype)

    def together(scores: Array) -> tuple[Array, Array]:
        total = jnp.sum(jnp.exp(scores))
        return total, jnp.zeros_like(total)

    rest, largest = lax.platform_dependent(scores, cpu=together, default=apart)
    return scores, rest, largest


def _log(rest: Array, largest: Array) -> Array:
    return jnp.log1p(rest + (largest - 1))
