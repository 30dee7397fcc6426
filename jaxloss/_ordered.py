"""The likelihood of an order, in which each place goes to one of the items that are left, by softmax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _logistic as logistic
from jaxloss._sizes import is_symbolic


@jax.custom_jvp
def surprise(scores: Array, keys: Array) -> Array:
    """Minus the log-likelihood that items are in rising order of their keys. What is not an item has the key inf."""
    keys, scores = lax.sort((keys, lax.stop_gradient(scores)), num_keys=1)
    return _in_order(scores, keys < jnp.inf)


@surprise.defjvp
def _surprise_jvp(primals, tangents):
    scores, keys = primals
    places = jnp.arange(keys.shape[0], dtype=jnp.int32)
    keys, scores, order = lax.sort((keys, scores, places), num_keys=1)
    value, slopes = jax.value_and_grad(_in_order)(scores, keys < jnp.inf)
    # Sorting by the old places puts the slopes back, without a scatter.
    _, slopes = lax.sort((order, slopes), num_keys=1)
    return value, jnp.sum(slopes * tangents[0])


def _in_order(scores: Array, exists: Array) -> Array:
    """Each item against all that come after it: the terms are positive, so none cancels."""
    # Not minus infinity, with which second derivatives are NaN.
    lowest = jnp.full(1, float(jnp.finfo(scores.dtype).min) / 4, scores.dtype)
    of_rest = _log_sums_of_rest(jnp.maximum(scores, lowest), lowest[0])
    surprises = logistic.softplus(jnp.concatenate([of_rest[1:], lowest]) - scores)
    return jnp.sum(jnp.where(exists, surprises, 0))


def _log_sums_of_rest(scores: Array, lowest: Array) -> Array:
    """log Σ exp of each score and of all that come after it."""
    if not is_symbolic(scores.shape[0]):
        return lax.cumlogsumexp(scores, reverse=True)

    # `cumlogsumexp` is a tree of additions, whose depth depends on a size that is not known here.
    def add(log_sum: Array, score: Array) -> tuple[Array, Array]:
        log_sum = jnp.logaddexp(log_sum, score)
        return log_sum, log_sum

    return lax.scan(add, lowest, scores, reverse=True)[1]
