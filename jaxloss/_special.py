"""Special functions to a few units in the last place, where the obvious formula overflows or loses its digits.

Each has its derivative as a rule, for the same reason. The functions that JAX has are used where they are accurate.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _numerics as numerics


@jax.custom_jvp
def squared_log1p_difference(x: Array, y: Array) -> Array:
    """(log(1 + x) - log(1 + y))^2, and NaN for a number below -1."""
    return jnp.square(_log1p_distance(x, y))


def _log1p_distance(x: Array, y: Array) -> Array:
    """|log(1 + x) - log(1 + y)|, to a few units in the last place."""
    # Two large logarithms may differ by less than their rounding errors, so this is log(1 + (x - y) / (1 + y)) for the
    # parts of x and y above 0, which may be large, and for those below 0, so that the quotient cannot overflow.
    low, high = jnp.minimum(x, y), jnp.maximum(x, y)
    least, base = jnp.maximum(low, 0), 1 + jnp.minimum(low, 0)
    above = (jnp.maximum(high, 0) - least) / (1 + least)
    below = (jnp.minimum(high, 0) - jnp.minimum(low, 0)) / base
    # A number below -1 has no logarithm, although the quotient of two of them has one.
    below += jnp.minimum(base, 0) * float(jnp.finfo(x.dtype).max)
    return jnp.log1p(above) + jnp.log1p(below)


@squared_log1p_difference.defjvp
def _squared_log1p_difference_jvp(primals, tangents):
    x, y = primals
    change = 2 * _log1p_difference(x, y) * (tangents[0] / (1 + x) - tangents[1] / (1 + y))
    return squared_log1p_difference(x, y), change


@jax.custom_jvp
def _log1p_difference(x: Array, y: Array) -> Array:
    return jnp.sign(x - y) * _log1p_distance(x, y)


@_log1p_difference.defjvp
def _log1p_difference_jvp(primals, tangents):
    x, y = primals
    return _log1p_difference(x, y), tangents[0] / (1 + x) - tangents[1] / (1 + y)


def exp_excess(x: Array) -> Array:
    """e^x - 1 - x, which is about x^2 / 2 near 0. It is for the value of a loss, not for its derivative."""
    small = jnp.clip(x, -1, 1)
    series = 1.0
    for n in range(20, 2, -1):
        series = 1 + series * small / n
    return jnp.where(jnp.abs(x) < 1, small * small / 2 * series, jnp.exp(x) - 1 - x)


@jax.custom_jvp
def log_cosh(x: Array) -> Array:
    """log(cosh(x)), which does not overflow, and is about x^2 / 2 near 0."""
    size = jnp.abs(x)
    is_near = size < 1
    # Near 0, the logarithm of the sum of two exponentials has no digits left. There, cosh(x) - 1 is this Taylor series;
    # XLA:CPU's expm1 and sinh are off by 5 units in the last place.
    square = jnp.square(jnp.minimum(size, 1))
    excess = 1.0
    for n in range(16, 2, -2):
        excess = 1 + excess * square / (n * (n - 1))
    return jnp.where(is_near, 0, size - math.log(2)) + jnp.log1p(
        jnp.where(is_near, excess * square / 2, jnp.exp(-2 * size))
    )


@log_cosh.defjvp
def _log_cosh_jvp(primals, tangents):
    (x,) = primals
    return numerics.stored(log_cosh(x)), _tanh(x) * tangents[0]


@jax.custom_jvp
def _tanh(x: Array) -> Array:
    return jnp.tanh(x)


@_tanh.defjvp
def _tanh_jvp(primals, tangents):
    (x,) = primals
    # Not 1 - tanh(x)^2, which is 0 from x = 9 on.
    smaller = jnp.exp(-2 * jnp.abs(x))
    return _tanh(x), 4 * smaller / jnp.square(1 + smaller) * tangents[0]
