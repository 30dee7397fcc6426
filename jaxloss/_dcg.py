"""The gains and the discounts of discounted cumulative gain."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxloss._order import put_back
from jaxloss._sizes import is_symbolic

_LARGEST_EXPONENT = 64


def gains(target: Array) -> Array:
    """2^y - 1 of each item, all of them divided by one power of 2 where the largest would overflow."""
    excess = jnp.maximum(jnp.max(target, axis=-1, keepdims=True) - _LARGEST_EXPONENT, 0)
    divided = jnp.exp2(target - excess) - jnp.exp2(-excess)
    return jnp.where(excess > 0, divided, jnp.expm1(math.log(2) * target))


def highest(gains: Array) -> Array:
    """The discounted cumulative gain of the best order."""
    discounts, _ = _discounts_by_rank(gains)
    return jnp.sum(-jnp.sort(-gains, axis=-1) * discounts, axis=-1)


def discounts(scores: Array) -> tuple[Array, Array]:
    """1 / log2(1 + r) for the rank r of each item by falling score, and what that was rounded off.

    Without the second, the difference of two late ranks would lose its digits. Items with the same score are ranked in
    the order given.
    """
    places = lax.broadcasted_iota(jnp.int32, scores.shape, scores.ndim - 1)
    _, order = lax.sort((-scores, places), num_keys=1)
    rounded, rest = put_back(order, *_discounts_by_rank(scores))
    return rounded, rest


def _discounts_by_rank(like: Array) -> tuple[Array, Array]:
    """The discounts of the ranks from 1 on, and what they were rounded off, each in an array like this one."""
    size = like.shape[-1]
    if is_symbolic(size):
        rounded = 1 / jnp.log2(2 + jnp.arange(size, dtype=like.dtype))
        return jnp.broadcast_to(rounded, like.shape), jnp.zeros_like(like)
    exact = 1 / np.log2(np.arange(size) + 2.0)
    rounded = exact.astype(like.dtype)
    rest = (exact - rounded).astype(like.dtype)
    return jnp.broadcast_to(rounded, like.shape), jnp.broadcast_to(rest, like.shape)


def differences(x: Array) -> Array:
    """The difference of each entry from each other one, `(..., k, k)`."""
    return x[..., :, None] - x[..., None, :]
