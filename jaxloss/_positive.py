"""Logarithms, exponentials and quotients of positive numbers, finite where the numbers underflow or overflow."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics


@jax.custom_jvp
def normal(x: Array) -> Array:
    """x, but at least the smallest normal number, as what is smaller may be flushed to 0; a negative x as it is."""
    return numerics.raised(x, float(jnp.finfo(x.dtype).tiny))


@normal.defjvp
def _normal_jvp(primals, tangents):
    # Not that of a maximum, which multiplies a cotangent that has overflowed by 0.
    return normal(*primals), tangents[0]


@jax.custom_jvp
def log_of_positive(x: Array) -> Array:
    """log(x) of a positive x, finite even where x is flushed to 0; NaN below 0."""
    return jnp.log(normal(x))


@log_of_positive.defjvp
def _log_of_positive_jvp(primals, tangents):
    (x,) = primals
    return log_of_positive(x), tangents[0] / normal(x)


@jax.custom_jvp
def scaled_exp(y: Array, x: Array) -> Array:
    """y e^x for a y of at least 0, infinite only where that is, even if e^x overflows."""
    return y * _half_exp(x) * _half_exp(x)


def _half_exp(x: Array) -> Array:
    """e^(x/2), at most the largest power that is finite: times a y of 0 it is 0."""
    info = jnp.finfo(x.dtype)
    return jnp.exp(jnp.minimum(x / 2, math.log(2) * info.maxexp * (1 - float(info.eps))))


@scaled_exp.defjvp
def _scaled_exp_jvp(primals, tangents):
    y, x = primals
    by_y, by_x = numerics.finite(_half_exp(x) * _half_exp(x)), numerics.finite(scaled_exp(y, x))
    return scaled_exp(y, x), by_y * tangents[0] + by_x * tangents[1]


@jax.custom_jvp
def quotient(x: Array, y: Array) -> Array:
    """x / y, at most the largest number unless x is infinite, with derivatives that are."""
    return jnp.where(jnp.isinf(x), x, numerics.finite(x / y))


@quotient.defjvp
def _quotient_jvp(primals, tangents):
    x, y = primals
    result = quotient(x, y)
    return result, numerics.finite(1 / y) * tangents[0] - numerics.finite(result / y) * tangents[1]


@jax.custom_jvp
def divided(x: Array, y: Array) -> Array:
    """Finite numbers x divided by one number y, as `quotient`, for a function in which their derivatives are summed.

    The terms of the derivative by y are summed before 1 / y makes them infinities of both signs.
    """
    return numerics.finite(x / normal(y))


@divided.defjvp
def _divided_jvp(primals, tangents):
    x, y = primals
    result, rate = divided(x, y), 1 / normal(y)
    return result, rate * tangents[0] - result * (rate * tangents[1])


@jax.custom_jvp
def tempered(x: Array, temperature: Array) -> Array:
    """The scores x divided by a temperature, finite unless x is infinite.

    The derivative by the temperature is that of a function which does not change if all scores change by a number.
    """
    return quotient(x, temperature)


@functools.partial(tempered.defjvp, symbolic_zeros=True)
def _tempered_jvp(primals, tangents):
    x, temperature = primals
    result = tempered(x, temperature)
    values, is_infinite = numerics.finite(result), jnp.isinf(x)
    highest = lax.stop_gradient(jnp.max(jnp.where(is_infinite, -jnp.inf, values), initial=-jnp.inf))
    values = jnp.where(is_infinite, 0, numerics.finite(values - numerics.finite(highest)))
    # In a unit that is 1 unless entries are huge: a sum of cotangents times entries could be infinity minus infinity.
    largest = lax.stop_gradient(jnp.max(jnp.abs(values), initial=0))
    unit = jnp.maximum(largest / 2.0 ** (jnp.finfo(x.dtype).maxexp * 3 // 4), 1)
    shares = values / unit
    rate = numerics.finite(unit / normal(temperature))

    def by_x(change: Array) -> Array:
        return numerics.finite(1 / temperature) * change

    def by_temperature(change: Array) -> Array:
        return -shares * (rate * change)

    return result, numerics.change((by_x, by_temperature), tangents)
