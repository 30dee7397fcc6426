"""Stirling's error of log-gamma: its differences and slopes, to a few units in the last place.

It is log gamma(z) - ((z - 1/2) log z - z + log(2 pi) / 2), which is about 1 / (12 z), for z > 0. For a large z it is a
continued fraction: Abramowitz and Stegun, 1964, equation 6.1.48. For a low z, it is that at z + n plus the sum of what
it changes by in n steps.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_COEFFICIENTS = (1 / 12, 1 / 30, 53 / 210, 195 / 371, 22999 / 22737, 29944523 / 19733142, 109535241009 / 48264275462)


def _continuants() -> tuple[np.ndarray, np.ndarray]:
    """The fraction is u N(u^2) / D(u^2) for u = 1 / z: the coefficients of N and D, that of the constant first.

    It is evaluated like this because XLA:CPU writes the result of every division to memory. Then value and gradient of
    a negative binomial distribution had 14 times their inputs as temporaries, instead of 5.
    """
    numerator, denominator = np.eye(1, 4)[0], np.eye(1, 4)[0]
    for coefficient in reversed(_COEFFICIENTS[1:]):
        numerator, denominator = denominator, denominator + coefficient * np.roll(numerator, 1)
    return numerator, denominator


_N, _D = _continuants()


def _bezoutian() -> np.ndarray:
    """The coefficients of (N(t) D(s) - N(s) D(t)) / (t - s), none of which is positive."""
    products = np.outer(_N, _D) - np.outer(_D, _N)
    quotient = np.zeros((3, 3))
    for i in (2, 1, 0):
        for j in range(3):
            quotient[i, j] = products[i + 1, j] + (quotient[i + 1, j - 1] if i < 2 and j > 0 else 0)
    return quotient


_B = _bezoutian()


def _polynomial(coefficients: Sequence[Any], x: Array) -> Array:
    total = jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = coefficient + total * x
    return total


def _fraction(z: Array) -> Array:
    u = 1 / z
    return _COEFFICIENTS[0] * u * (_polynomial(_N.tolist(), u * u) / _polynomial(_D.tolist(), u * u))


def _steps(z: Array) -> int:
    """From where on the fraction has all digits of its dtype."""
    return 10 if z.dtype == jnp.float64 else 2


def slope(z: Array) -> Array:
    """The derivative of Stirling's error: digamma(z) - log z + 1 / (2 z)."""
    n = _steps(z)
    far, near = jnp.where(z < n, z + n, z), jnp.where(z < n, z, 1)
    steps = sum(jnp.log1p(1 / (near + k)) - (near + k + 0.5) / (near + k) / (near + k + 1) for k in range(n))
    return jax.jvp(_fraction, (far,), (jnp.ones_like(far),))[1] + jnp.where(z < n, steps, 0)


@jax.custom_jvp
def difference(z: Array, y: Array) -> Array:
    """Stirling's error at z, minus that at z + y >= z, in terms that do not cancel for a small y."""
    n = _steps(z)
    low, start = jnp.where(z < n, z, 1), jnp.where(z < n, z + n, z)
    return _fraction_difference(start, y) + jnp.where(z < n, sum(_step_difference(low + k, y) for k in range(n)), 0)


def _fraction_difference(z: Array, y: Array) -> Array:
    """The continued fraction at z, minus that at z + y, as the difference of 1 / z and 1 / (z + y) times its slope."""
    u, v = 1 / z, 1 / (z + y)
    t, s = u * u, v * v
    here, there = _polynomial(_D.tolist(), t), _polynomial(_D.tolist(), s)
    curve = _polynomial([_polynomial(row, s) for row in _B.tolist()], t)
    slope = (_polynomial(_N.tolist(), t) * there + v * (u + v) * curve) / (here * there)
    return _COEFFICIENTS[0] * (y * v * u) * slope


def _step_difference(z: Array, y: Array) -> Array:
    """What one step from z to z + 1 changes the error by, minus what it does from z + y on."""
    return (z + 0.5) * jnp.log1p(y / z / (z + y + 1)) - y * jnp.log1p(1 / (z + y))


@difference.defjvp
def _difference_jvp(primals, tangents):
    z, y = primals
    by_z, by_y = difference_slope(z, y), -slope(z + y)
    return difference(z, y), by_z * tangents[0] + by_y * tangents[1]


@jax.custom_jvp
def difference_slope(z: Array, y: Array) -> Array:
    """The derivative of `difference` with respect to z."""
    return _difference_slope(z, y)


@difference_slope.defjvp
def _difference_slope_jvp(primals, tangents):
    z, y = primals
    # About 1 / z^2, which may overflow, and times 0 would be NaN.
    return difference_slope(z, y), jax.jvp(_difference_slope, (jnp.maximum(z, 1e-12), y), tangents)[1]


def _difference_slope(z: Array, y: Array) -> Array:
    n = _steps(z)
    low, start = jnp.where(z < n, z, 1), jnp.where(z < n, z + n, z)

    def step(z: Array) -> Array:
        end = z + y
        share = y / end * (1 / z) * ((z + 0.5) / (z + 1) * (end + 1 + z) / (end + 1))
        return jnp.log1p(y / z / (end + 1)) - share + y / end / (end + 1)

    rest = jax.jvp(lambda start: _fraction_difference(start, y), (start,), (jnp.ones_like(start),))[1]
    return rest + jnp.where(z < n, sum(step(low + k) for k in range(n)), 0)
