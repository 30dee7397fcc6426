"""The cross-entropy of a softmax, a formula that several losses share. The classes may be split over devices."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss import _special as special
from jaxloss._arrays import Real, Vector
from jaxloss._class_axis import ClassAxis
from jaxloss._lookup import leaves_out
from jaxloss.options import is_given


def softmax_cross_entropy(
    classes: ClassAxis,
    logits: Vector,
    target: Vector | int,
    class_weights: Vector | None,
    label_smoothing: Real,
    z_loss: Real,
    logit_softcap: Real | None,
) -> tuple[Array, Array | None]:
    """`cross_entropy` of one sample, and its normaliser: with scores s = x - max x,

        l = (Σ w q) log Σ exp s - Σ w q s + ζ (max x + log Σ exp s)^2

    Each sum runs over the columns of all devices. No term is negative, so none cancels.
    """
    if logit_softcap is not None:
        logits = special.soft_cap(logits, jnp.asarray(logit_softcap, logits.dtype))
    exists, n_possible = classes.exists(), classes.n_classes
    if exists is not None:
        impossible = -jnp.inf
        if classes.valid is not None:
            (total,) = classes.sums(jnp.sum(exists, dtype=logits.dtype))
            n_possible = jnp.maximum(total, 1)
            # If no class is possible, every logit counts as 0, because infinity minus infinity is NaN.
            impossible = jnp.where(total == 0, 0, -jnp.inf)
        logits = jnp.where(exists, logits, impossible)
    # Subtract the maximum before anything is added, so that large logits keep their digits.
    maximum = classes.maximum(lax.stop_gradient(jnp.max(logits)))
    scores = logits - maximum

    # The penalty may overflow, and then its gradient with respect to an unlikely class would be infinity times 0.
    exp = numerics.exp_apart if is_given(z_loss) else jnp.exp

    def with_penalty(loss: Array, log_normaliser: Array) -> Array:
        if not is_given(z_loss):
            return loss
        return loss + numerics.weighted(jnp.asarray(z_loss), numerics.square(maximum + log_normaliser))

    is_index, is_smoothed = jnp.ndim(target) == 0, is_given(label_smoothing)
    weight = classes.share(class_weights, target) if is_index and class_weights is not None else None
    weights = [] if weight is None else [weight]
    if is_index and not is_smoothed:
        # Look up the logit, not the score, for which XLA:CPU would write all scores to memory, 40 % of the time.
        rest = classes.share_of_others(exp(scores), target)
        rest, logit, *weights = classes.sums(rest, classes.share(logits, target), *weights)
        surprise, log_normaliser = numerics.surprise(logit - maximum, rest, leaves_out())
        loss, weight = weighted_by_class(surprise, *weights)
        return with_penalty(loss, log_normaliser), weight

    normaliser = jnp.sum(exp(scores))

    def products(probabilities: Real, scores: Vector, weights: Vector | None) -> tuple[Array, Array]:
        """Σ w q and Σ w q s over the columns here."""
        # A class of probability 0 contributes 0 even where its score is -inf.
        probabilities = jnp.asarray(probabilities)
        if weights is None:
            return jnp.sum(probabilities), jnp.sum(numerics.weighted(probabilities, scores))
        return jnp.sum(probabilities * weights), jnp.sum(numerics.twice_weighted(probabilities, weights, scores))

    if is_index:
        mass, score = products(1 - label_smoothing, classes.share(scores, target), weight)
    else:
        mass, score = products((1 - label_smoothing) * target, scores, class_weights)
    if is_smoothed:
        each = jnp.broadcast_to(label_smoothing / n_possible, scores.shape)
        more, of_all = products(each if exists is None else jnp.where(exists, each, 0), scores, class_weights)
        mass, score = mass + more, score + of_all
    has_unit_mass = is_index and weight is None
    normaliser, score, *rest = classes.sums(normaliser, score, *([] if has_unit_mass else [mass]), *weights)
    log_normaliser = jnp.log(normaliser)
    loss = log_normaliser - score if has_unit_mass else rest[0] * log_normaliser - score
    return with_penalty(loss, log_normaliser), None if weight is None else rest[-1]


def weighted_by_class(surprise: Array, weight: Array | None = None) -> tuple[Array, Array | None]:
    """The loss of a class with this weight, and its normaliser."""
    return surprise if weight is None else numerics.weighted(weight, surprise), weight
