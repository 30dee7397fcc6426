"""Vectors in units of about their largest entry, in which sums of powers neither overflow nor underflow."""

import jax.numpy as jnp
from jax import Array, lax


def scale_by_largest(x: Array, *, power_of_two: bool) -> tuple[Array, Array]:
    """(x / scale, scale): the largest entry or, exactly, a power of two near it; 1 where that is 0 or subnormal."""
    info, sizes = jnp.finfo(x.dtype), lax.stop_gradient(jnp.abs(x))
    largest = jnp.max(sizes, axis=-1, keepdims=True)
    scale = jnp.where(largest < info.tiny, 1, largest)
    if power_of_two:
        # Beyond 2^126 the reciprocal is subnormal, so flushed to 0.
        scale = lax.reduce_precision(jnp.minimum(scale, 2.0 ** (info.maxexp - 3)), info.nexp, 0)
        return x * (1 / scale), scale
    # By an array, not by a number a row, which XLA would turn into its rounded reciprocal: the largest has to be 1.
    return x / jnp.maximum(scale, sizes), scale


def sum_of_powers(scaled: Array, p: float) -> tuple[Array, Array]:
    """The sum, of a zero vector 1, as the root of 0 has no slope, and whether it is one."""
    powers = scaled * scaled if p == 2 else jnp.abs(scaled) ** p
    total = jnp.sum(powers, axis=-1, keepdims=True)
    return jnp.where(total == 0, 1, total), total == 0


def root(total: Array, p: float) -> Array:
    return jnp.sqrt(total) if p == 2 else total ** (1 / p)


def norm_and_parts(x: Array, p: float) -> tuple[Array, Array, Array, Array]:
    """(x / scale, scale, the sum of the powers of that, the norm of x)."""
    # For p = 2 without rounding; by another p powers of numbers that are not at most 1 would overflow.
    scaled, scale = scale_by_largest(x, power_of_two=p == 2)
    total, is_zero = sum_of_powers(scaled, p)
    return scaled, scale, total, jnp.where(is_zero, 0, scale * root(total, p))
