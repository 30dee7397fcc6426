"""The ratio of two odds, from the logarithms of probabilities, exact for probabilities near 0 and 1."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss import _special as special


@jax.custom_jvp
def log_of_odds_ratio_loss(higher: Array, lower: Array) -> Array:
    """-log sigmoid(log odds of p - log odds of q) for log p and log q, both at most 0.

    The odds of a probability of 1 are infinite. For two of them, the ratio counts as 1.
    """
    p_missing, q_missing = _complement(higher), _complement(lower)
    are_equal, lead = p_missing == q_missing, numerics.difference(lower, higher)
    # Where both probabilities are near 1, the difference of the two logarithms would lose digits.
    log_ratio = special.log_ratio(p_missing, q_missing, (p_missing - q_missing) / q_missing)
    log_ratio = jnp.where(are_equal, 0, log_ratio)
    # Not the exponential of the sum, which loses digits. The larger probability has the larger odds.
    ratio = jnp.minimum(p_missing, q_missing) / jnp.maximum(p_missing, q_missing)
    smaller = jnp.exp(-jnp.abs(lead)) * jnp.where(are_equal, 1, ratio)
    return jnp.maximum(lead + log_ratio, 0) + jnp.log1p(smaller)


@log_of_odds_ratio_loss.defjvp
def _log_of_odds_ratio_loss_jvp(primals, tangents):
    higher, lower = primals
    by_higher, by_lower = _slopes(higher, lower)
    return log_of_odds_ratio_loss(higher, lower), by_lower * tangents[1] - by_higher * tangents[0]


def _slopes(higher: Array, lower: Array) -> tuple[Array, Array]:
    """q / t and the share of t that is q (1 - p), divided by 1 - q, for t = q (1 - p) + p (1 - q)."""
    # Divided by the larger of p and q, the sum t is 0 only where both are 1.
    largest = lax.stop_gradient(jnp.maximum(higher, lower))
    p, q = (jnp.exp(numerics.difference(each, largest)) for each in (higher, lower))
    p_missing, q_missing = _complement(higher), _complement(lower)
    total = q * p_missing + p * q_missing
    is_certain, total = total == 0, jnp.where(total == 0, 1, total)
    share = jnp.where(is_certain, 0.5, q * p_missing / total)
    by_higher = jnp.where(is_certain, jnp.inf, q / total)
    return numerics.finite(by_higher), numerics.finite(share / q_missing)


def _complement(log_p: Array) -> Array:
    missing = special.complement(log_p)
    return jnp.where(missing == 0, 0, missing)  # not -0, whose inverse is negative
