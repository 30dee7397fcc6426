"""Scaling of vectors by about their largest entry, so that sums of powers neither overflow nor underflow."""

import math

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxloss._sizes import is_symbolic


def scale_by_largest(x: Array, *, power_of_two: bool) -> tuple[Array, Array]:
    """Returns (x / scale, scale). The scale is the largest entry, or a power of two near it, which divides exactly.

    It is 1 if the largest entry is 0 or subnormal.
    """
    sizes = lax.stop_gradient(jnp.abs(x))
    largest = jnp.max(sizes, axis=-1, keepdims=True)
    if power_of_two:
        scale = power_of_two_near(largest)
        return x * (1 / scale), scale
    scale = jnp.where(largest < jnp.finfo(x.dtype).tiny, 1, largest)
    # Divide by an array, not by one number per row: XLA would multiply by the rounded reciprocal of one number, and the
    # largest entry would not become exactly 1.
    return x / jnp.maximum(scale, sizes), scale


def power_of_two_near(size: Array) -> Array:
    """A power of two near a size, which has a reciprocal; 1 for a size of 0 or a subnormal one. No gradient."""
    info, size = jnp.finfo(size.dtype), lax.stop_gradient(size)
    # The reciprocal of more than 2^126 is subnormal and would be flushed to 0.
    bounded = jnp.minimum(jnp.where(size < info.tiny, 1, size), 2.0 ** (info.maxexp - 3))
    return lax.reduce_precision(bounded, info.nexp, 0)


def sum_of_powers(scaled: Array, p: float) -> tuple[Array, Array]:
    """Returns (sum, is_zero). The sum of a zero vector is replaced by 1, because the root has no derivative at 0."""
    powers = scaled * scaled if p == 2 else jnp.abs(scaled) ** p
    total = jnp.sum(powers, axis=-1, keepdims=True)
    return jnp.where(total == 0, 1, total), total == 0


def above_root(size: int, p: float, dtype: DTypeLike) -> float | Array:
    """A power of two that is at least the p-th root of a size."""
    if not is_symbolic(size):
        return 2.0 ** math.ceil(math.log2(size) / p)
    bits = 32 - lax.clz(jnp.asarray(size, jnp.int32) - 1)
    return jnp.asarray([2.0 ** math.ceil(n / p) for n in range(33)], dtype)[bits]


def root(total: Array, p: float) -> Array:
    return jnp.sqrt(total) if p == 2 else total ** (1 / p)


def norm_and_parts(x: Array, p: float) -> tuple[Array, Array, Array, Array]:
    """Returns (x / scale, scale, sum of powers of x / scale, norm of x)."""
    # A power of two scales without rounding, which suffices for p = 2. For other p, entries above 1 could overflow.
    scaled, scale = scale_by_largest(x, power_of_two=p == 2)
    total, is_zero = sum_of_powers(scaled, p)
    return scaled, scale, total, jnp.where(is_zero, 0, scale * root(total, p))
