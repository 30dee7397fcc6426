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
    # Accelerators compute both from one logarithm, in one kernel.
    difference = _log1p_difference(x, y)
    change = 2 * difference * (tangents[0] / (1 + x) - tangents[1] / (1 + y))
    return jnp.square(difference), change


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


# Stirling's error is log gamma(z) - ((z - 1/2) log z - z + log(2 pi) / 2), which is about 1 / (12 z), for z > 0. For a
# large z it is a continued fraction: Abramowitz and Stegun, 1964, equation 6.1.48. For a low z, it is that at z + n
# plus the sum of what it changes by in n steps.
_STIRLING = (1 / 12, 1 / 30, 53 / 210, 195 / 371, 22999 / 22737, 29944523 / 19733142, 109535241009 / 48264275462)


def _stirling_fraction(z: Array) -> Array:
    fraction = jnp.zeros_like(z)
    for coefficient in reversed(_STIRLING):
        fraction = coefficient / (z + fraction)
    return fraction


def _stirling_steps(z: Array) -> int:
    """From where on the fraction has all digits of its dtype."""
    return 10 if z.dtype == jnp.float64 else 2


def stirling_slope(z: Array) -> Array:
    """The derivative of Stirling's error: digamma(z) - log z + 1 / (2 z)."""
    n = _stirling_steps(z)
    far, near = jnp.where(z < n, z + n, z), jnp.where(z < n, z, 1)
    steps = sum(jnp.log1p(1 / (near + k)) - (near + k + 0.5) / (near + k) / (near + k + 1) for k in range(n))
    return jax.jvp(_stirling_fraction, (far,), (jnp.ones_like(far),))[1] + jnp.where(z < n, steps, 0)


@jax.custom_jvp
def stirling_difference(z: Array, y: Array) -> Array:
    """Stirling's error at z, minus that at z + y >= z, in terms that do not cancel for a small y."""
    n = _stirling_steps(z)
    low, start = jnp.where(z < n, z, 1), jnp.where(z < n, z + n, z)
    return _fraction_difference(start, y) + jnp.where(z < n, sum(_step_difference(low + k, y) for k in range(n)), 0)


def _fraction_difference(z: Array, y: Array) -> Array:
    """The continued fraction at z, minus that at z + y, which is a fraction of the differences inside it."""
    difference, here, there = jnp.zeros_like(z), jnp.zeros_like(z), jnp.zeros_like(z)
    for coefficient in reversed(_STIRLING):
        difference = coefficient * ((y - difference) / (z + here) / (z + y + there))
        here, there = coefficient / (z + here), coefficient / (z + y + there)
    return difference


def _step_difference(z: Array, y: Array) -> Array:
    """What one step from z to z + 1 changes the error by, minus what it does from z + y on."""
    return (z + 0.5) * jnp.log1p(y / z / (z + y + 1)) - y * jnp.log1p(1 / (z + y))


@stirling_difference.defjvp
def _stirling_difference_jvp(primals, tangents):
    z, y = primals
    by_z, by_y = stirling_difference_slope(z, y), -stirling_slope(z + y)
    return stirling_difference(z, y), by_z * tangents[0] + by_y * tangents[1]


def stirling_difference_slope(z: Array, y: Array) -> Array:
    """The derivative of `stirling_difference` with respect to z."""
    n = _stirling_steps(z)
    low, start = jnp.where(z < n, z, 1), jnp.where(z < n, z + n, z)

    def step(z: Array) -> Array:
        end = z + y
        share = y / end * (1 / z) * ((z + 0.5) / (z + 1) * (end + 1 + z) / (end + 1))
        return jnp.log1p(y / z / (end + 1)) - share + y / end / (end + 1)

    slope = jax.jvp(lambda start: _fraction_difference(start, y), (start,), (jnp.ones_like(start),))[1]
    return slope + jnp.where(z < n, sum(step(low + k) for k in range(n)), 0)


def log_ratio(x: Array, y: Array, excess: Array) -> Array:
    """log(x / y) of positive numbers, from the excess (x - y) / y where they are close to each other."""
    quotient, is_near = x / y, jnp.abs(excess) < 0.5
    # The difference of two large logarithms has fewer digits than the logarithm of a quotient, which may overflow.
    is_moderate = (quotient > 1e-30) & (quotient < 1e30)
    far = jnp.where(is_moderate, jnp.log(jnp.where(is_moderate, quotient, 1)), jnp.log(x) - jnp.log(y))
    return jnp.where(is_near, jnp.log1p(jnp.where(is_near, excess, 0)), far)


def excess_of_log1p(x: Array) -> Array:
    """x - log(1 + x) for x >= -1, which is about x^2 / 2 near 0."""
    is_near = jnp.abs(x) < 0.5
    # log(1 + x) is 2 atanh(v), and x is v (2 + x).
    v = jnp.where(is_near, x / (2 + x), 0)
    series = jnp.zeros_like(x)
    for n in range(31, 1, -2):
        series = series * v * v + 2 / n
    return jnp.where(is_near, v * x - series * v * v * v, x - jnp.log1p(jnp.where(is_near, 0, x)))
