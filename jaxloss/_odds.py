"""The ratio of two odds, from the logarithms of probabilities, exact for probabilities near 0 and 1."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _numerics as numerics
from jaxloss import _special as special


@jax.custom_jvp
def log_of_odds_ratio_loss(higher: Array, lower: Array) -> Array:
    """-log sigmoid(log odds of p - log odds of q) for log p and log q, both at most 0.

    The odds of a probability of 1 are infinite. For two of them, the ratio counts as 1.
    """
    p_missing, q_missing = _complement(higher), _complement(lower)
    lead = numerics.difference(lower, higher)
    # The larger probability has the larger odds. The ratio of odds is a product, because the exponential of a sum of
    # large logarithms loses digits.
    ratio = jnp.minimum(p_missing, q_missing) / jnp.maximum(p_missing, q_missing)
    ratio = jnp.where(p_missing == q_missing, 1, ratio)
    return jnp.where(lead > 0, lead - jnp.log(ratio), 0) + jnp.log1p(jnp.exp(-jnp.abs(lead)) * ratio)


@log_of_odds_ratio_loss.defjvp
def _log_of_odds_ratio_loss_jvp(primals, tangents):
    higher, lower = primals
    by_higher, by_lower = _slopes(higher, lower)
    return log_of_odds_ratio_loss(higher, lower), by_lower * tangents[1] - by_higher * tangents[0]


def _slopes(higher: Array, lower: Array) -> tuple[Array, Array]:
    """q / t and the share of t that is q (1 - p), divided by 1 - q, for t = q (1 - p) + p (1 - q)."""
    # Divided by the larger of p and q, the sum t is 0 only where both are 1.
    p, q = (jnp.exp(numerics.difference(each, jnp.maximum(higher, lower))) for each in (higher, lower))
    p_missing, q_missing = _complement(higher), _complement(lower)
    total = q * p_missing + p * q_missing
    share = jnp.where(total == 0, 0.5, q * p_missing / total)
    return numerics.finite(q / total), numerics.finite(share / q_missing)


def _complement(log_p: Array) -> Array:
    missing = special.complement(log_p)
    return jnp.where(missing == 0, 0, missing)  # not -0, whose inverse is negative
