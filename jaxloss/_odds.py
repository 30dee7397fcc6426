"""The ratio of two odds, from the logarithms of probabilities, exact for probabilities near 0 and 1."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss import _special as special


@jax.custom_jvp
def log_of_odds_ratio_loss(higher: Array, lower: Array) -> Array:
    """-log sigmoid(log odds of p - log odds of q) for log p and log q, both at most 0.

    The odds of a probability of 1 are infinite. For two of them, the ratio counts as 1.
    """
    log_missing = jnp.log(special.complement(lower)), jnp.log(special.complement(higher))
    return logistic.softplus(numerics.difference(lower, higher) - numerics.difference(*log_missing))


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
    total = q * special.complement(higher) + p * special.complement(lower)
    is_certain, total = total == 0, jnp.where(total == 0, 1, total)
    share = jnp.where(is_certain, 0.5, q * special.complement(higher) / total)
    by_higher = jnp.where(is_certain, float(jnp.finfo(p.dtype).max), q / total)
    return by_higher, numerics.finite(share / special.complement(lower))
