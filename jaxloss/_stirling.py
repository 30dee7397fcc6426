"""Stirling's error of log-gamma: its differences and slopes, to a few units in the last place.

It is log gamma(z) - ((z - 1/2) log z - z + log(2 pi) / 2), which is about 1 / (12 z), for z > 0. For a large z it is a
continued fraction: Abramowitz and Stegun, 1964, equation 6.1.48. For a low z, it is that at z + n plus the sum of what
it changes by in n steps.
"""

import jax
import jax.numpy as jnp
from jax import Array

_COEFFICIENTS = (1 / 12, 1 / 30, 53 / 210, 195 / 371, 22999 / 22737, 29944523 / 19733142, 109535241009 / 48264275462)


def _fraction(z: Array) -> Array:
    fraction = jnp.zeros_like(z)
    for coefficient in reversed(_COEFFICIENTS):
        fraction = coefficient / (z + fraction)
    return fraction


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
    """The continued fraction at z, minus that at z + y, which is a fraction of the differences inside it."""
    change, here, there = jnp.zeros_like(z), jnp.zeros_like(z), jnp.zeros_like(z)
    for coefficient in reversed(_COEFFICIENTS):
        change = coefficient * ((y - change) / (z + here) / (z + y + there))
        here, there = coefficient / (z + here), coefficient / (z + y + there)
    return change


def _step_difference(z: Array, y: Array) -> Array:
    """What one step from z to z + 1 changes the error by, minus what it does from z + y on."""
    return (z + 0.5) * jnp.log1p(y / z / (z + y + 1)) - y * jnp.log1p(1 / (z + y))


@difference.defjvp
def _difference_jvp(primals, tangents):
    z, y = primals
    by_z, by_y = difference_slope(z, y), -slope(z + y)
    return difference(z, y), by_z * tangents[0] + by_y * tangents[1]


def difference_slope(z: Array, y: Array) -> Array:
    """The derivative of `difference` with respect to z."""
    n = _steps(z)
    low, start = jnp.where(z < n, z, 1), jnp.where(z < n, z + n, z)

    def step(z: Array) -> Array:
        end = z + y
        share = y / end * (1 / z) * ((z + 0.5) / (z + 1) * (end + 1 + z) / (end + 1))
        return jnp.log1p(y / z / (end + 1)) - share + y / end / (end + 1)

    rest = jax.jvp(lambda start: _fraction_difference(start, y), (start,), (jnp.ones_like(start),))[1]
    return rest + jnp.where(z < n, sum(step(low + k) for k in range(n)), 0)
