"""Special functions to a few units in the last place, where the obvious formula overflows or loses its digits.

Each has its derivative as a rule, for the same reason. The functions that JAX has are used where they are accurate.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss import _positive as positive
from jaxloss._arrays import Real, Vector


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
    return jnp.where(jnp.abs(x) < 1, small_exp_excess(jnp.clip(x, -1, 1)), jnp.exp(x) - 1 - x)


def small_exp_excess(x: Array) -> Array:
    """e^x - 1 - x for an x between -1 and 1, from its Taylor series."""
    series = 1.0
    for n in range(20 if x.dtype == jnp.float64 else 12, 2, -1):
        series = 1 + series * x * (1 / n)
    return x * x / 2 * series


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


@jax.custom_jvp
def soft_cap(x: Array, cap: Array) -> Array:
    """cap tanh(x / cap) for a positive cap."""
    # The compiler does not fuse the bound. It would fuse the product with a difference, as an unrounded number, and the
    # largest of some large numbers minus their maximum would not be 0.
    return jnp.clip(cap * jnp.tanh(x / positive.normal(cap)), -cap, cap)


@soft_cap.defjvp
def _soft_cap_jvp(primals, tangents):
    x, cap = primals
    # Bounded, because the slope of the hyperbolic tangent is 0 where the quotient is infinite.
    quotient = jnp.clip(x / positive.normal(cap), -30, 30)
    value = jnp.tanh(quotient)
    by_x = (1 - value) * (1 + value)
    return soft_cap(x, cap), by_x * tangents[0] + (value - quotient * by_x) * tangents[1]


def log_ratio(x: Array, y: Array, excess: Array) -> Array:
    """log(x / y) of positive numbers, from the excess (x - y) / y where they are close to each other."""
    quotient, is_near = x / y, jnp.abs(excess) < 0.5
    # The difference of two large logarithms has fewer digits than the logarithm of a quotient. Where the quotient
    # overflows or underflows, that of the fourth roots does not.
    is_moderate = (quotient > 1e-30) & (quotient < 1e30)
    roots = jnp.sqrt(jnp.sqrt(x)) / jnp.sqrt(jnp.sqrt(y))
    far = jnp.log(jnp.where(is_moderate, quotient, roots)) * jnp.where(is_moderate, 1, 4)
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


def power(base: Array, exponent: Real) -> Array:
    """base^exponent for a base in [0, 1] and an exponent of at least 0, where 0^0 = 1. All derivatives are finite."""
    if isinstance(exponent, float | int) and exponent == int(exponent):
        return base ** int(exponent)
    return _power(base, jnp.asarray(exponent, base.dtype))


@jax.custom_jvp
def _power(base: Array, exponent: Array) -> Array:
    # A negative exponent comes from a derivative. That of a base of 0 is 0, because what reached 0 no longer moves.
    is_pole = (base == 0) & (exponent < 0)
    return jnp.where(is_pole, 0, jnp.where(is_pole, 1, base) ** exponent)


@_power.defjvp
def _power_jvp(primals, tangents):
    base, exponent = primals
    value = _power(base, exponent)
    # With a negative exponent, which comes from a derivative, both slopes of a small base may overflow.
    by_base = exponent * numerics.finite(_power(base, exponent - 1))
    by_exponent = numerics.finite(value * jnp.log(jnp.maximum(base, float(jnp.finfo(base.dtype).tiny))))
    return value, by_base * tangents[0] + by_exponent * tangents[1]


@jax.custom_jvp
def logistic(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return jax.nn.sigmoid(x)


@logistic.defjvp
def _logistic_jvp(primals, tangents):
    (x,) = primals
    # Not p (1 - p), which has no digits left where p is near 1.
    return logistic(x), _unless_0(logistic(x) * logistic(-x), tangents[0])


@jax.custom_jvp
def mixed_complement(x: Array, y: Array) -> Array:
    """1 - p for p = y / (1 + e^-x) + (1 - y) / (1 + e^x), as a sum that keeps the digits of small numbers."""
    return logistic(-x) * y + logistic(x) * (1 - y)


@mixed_complement.defjvp
def _mixed_complement_jvp(primals, tangents):
    x, y = primals
    by_x = _unless_0((1 - 2 * y) * logistic(x) * logistic(-x), tangents[0])
    # One slope, and not the difference of two terms, one of which may be 0 times infinity.
    return mixed_complement(x, y), by_x - jnp.tanh(x / 2) * tangents[1]


@jax.custom_jvp
def complement(log_p: Array) -> Array:
    """1 - p for the logarithm of p, to a unit in the last place."""
    # XLA:CPU's expm1 is off by 5 units near 0.
    is_near, near, _ = _near_zero(log_p, log_p)
    return jnp.where(is_near, -near * _taylor(near, [1 / math.factorial(n + 1) for n in range(18)]), 1 - jnp.exp(log_p))


@complement.defjvp
def _complement_jvp(primals, tangents):
    (log_p,) = primals
    return complement(log_p), _unless_0(-jnp.exp(log_p), tangents[0])


def _unless_0(slope: Array, tangent: Array) -> Array:
    """The product, and 0 for a slope of 0 even if a cotangent has overflowed, which the loss is where p underflows."""
    return jnp.where(slope == 0, 0, slope * tangent)


@jax.custom_jvp
def log_sum(log_x: Array, y: Array) -> Array:
    """log(x + y) for the logarithm of x and a y of at least 0."""
    log_y = jnp.log(y)
    return jnp.maximum(log_x, log_y) + jnp.log1p(jnp.exp(-jnp.abs(numerics.difference(log_x, log_y))))


@log_sum.defjvp
def _log_sum_jvp(primals, tangents):
    log_x, y = primals
    value = log_sum(log_x, y)
    # Bounded, so that its square, in the second derivative, does not overflow.
    inverse = jnp.exp(jnp.minimum(-value, math.log(float(jnp.finfo(value.dtype).max)) / 2))
    return value, jnp.exp(numerics.difference(log_x, value)) * tangents[0] + inverse * tangents[1]


@jax.custom_jvp
def missing_power(log_p: Array, q: Array) -> Array:
    """(1 - p^q) / q for the logarithm of p, which is -log p at q = 0."""
    exponent = numerics.weighted(q, log_p)
    is_near, near, log_p = _near_zero(exponent, log_p)
    near = -log_p * _taylor(near, [1 / math.factorial(n + 1) for n in range(18)])
    return jnp.where(is_near, near, (1 - jnp.exp(exponent)) / jnp.where(is_near, 1, q))


@missing_power.defjvp
def _missing_power_jvp(primals, tangents):
    log_p, q = primals
    # Bounded, because e^x x is not a number at minus infinity.
    exponent = jnp.maximum(numerics.weighted(q, log_p), -1e4)
    is_near, near, near_log = _near_zero(exponent, log_p)
    near = near_log * near_log * _taylor(near, [-(n + 1) / math.factorial(n + 2) for n in range(18)])
    far = (jnp.exp(exponent) * (1 - exponent) - 1) / jnp.square(jnp.where(is_near, 1, q))
    by_q = numerics.finite(jnp.where(is_near, near, far))
    return missing_power(log_p, q), by_q * tangents[1] - jnp.exp(exponent) * tangents[0]


def _near_zero(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Whether each number of at most 0 is near 0; it, and the other one with it, which are 0 where it is not."""
    is_near = x > -1
    return is_near, jnp.where(is_near, x, 0), jnp.where(is_near, y, 0)


def _taylor(x: Array, coefficients: Sequence[float]) -> Array:
    """The polynomial with these coefficients, that of x^0 first."""
    total = jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = coefficient + total * x
    return total


def nearest_in_simplex(x: Vector) -> tuple[Array, Array]:
    """The point of the simplex that is nearest to a vector, max(0, s - t) for s = x - max x, and the threshold t."""
    # No entry below -1 is in the support. Bounded, they cannot overflow, nor spoil the sums.
    scores = jnp.maximum(numerics.difference(jnp.asarray(x), lax.stop_gradient(jnp.max(x))), -1)
    falling = -jnp.sort(-lax.stop_gradient(scores))
    place = jnp.arange(1, scores.size + 1, dtype=scores.dtype)
    lowest = jnp.min(jnp.where(1 + place * falling > jnp.cumsum(falling), falling, 0))
    in_support = scores >= lowest
    # Summed again, because a long cumulative sum has rounded, and for its derivative.
    size = jnp.sum(in_support, dtype=scores.dtype)
    threshold = (jnp.sum(jnp.where(in_support, scores, 0)) - 1) / size
    return jnp.where(scores > threshold, scores - threshold, 0), threshold
