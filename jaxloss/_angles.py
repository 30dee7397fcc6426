"""Angles between vectors: the lengths that cosines are divided by, and a margin added to the angle of a cosine."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss._arrays import Real, compute_dtype
from jaxloss._scaling import power_of_two_near


def units(x: Array, axis: int) -> tuple[Array, Array | None]:
    """Returns (vectors of length 1 along an axis, None), or (vectors, 1 / length of each) in bfloat16.

    A zero vector stays 0, and has gradient 0.

    In bfloat16, unit vectors would have three digits, and so would their cosines. There, the vectors are x, divided by
    a power of two near their largest entry, which is exact.
    """
    wide = x.astype(compute_dtype([x]))
    if wide.dtype == x.dtype:
        return _unit(x, axis), None
    wide = wide * _per_size(wide, axis)
    return wide.astype(x.dtype), jnp.squeeze(_per_length(wide, axis), axis)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _unit(x: Array, axis: int) -> Array:
    scaled = x * _per_size(x, axis)
    return scaled * _per_length(scaled, axis)


@_unit.defjvp
def _unit_jvp(axis, primals, tangents):
    (x,) = primals
    # Of all arrays of the size of x, a gradient keeps the unit vectors alone. With two factors instead of one, XLA:CPU
    # would write each of them for every entry.
    unit, per_size = _unit(x, axis), _per_size(x, axis)
    change = tangents[0] * (per_size * _per_length(x * per_size, axis))
    return unit, change - unit * jnp.sum(unit * change, axis=axis, keepdims=True)


def _per_size(x: Array, axis: int) -> Array:
    """The reciprocal of a power of two near the largest entry along the axis."""
    return 1 / power_of_two_near(jnp.max(jnp.abs(x), axis=axis, keepdims=True))


def _per_length(x: Array, axis: int) -> Array:
    """1 / length along the axis, and 0 for a zero vector."""
    total = jnp.sum(x * x, axis=axis, keepdims=True)
    is_zero = total == 0
    return jnp.where(is_zero, 0, 1 / jnp.sqrt(jnp.where(is_zero, 1, total)))


@jax.custom_jvp
def cosine_of_sum(cosine: Array, margin: Real) -> Array:
    """cos(θ + m) for the angle θ with this cosine, and cos θ - m sin m where θ + m > π.

    (1 - c)(1 + c) has all digits of 1 - c^2 that c has: an angle near 0 or π is known to the root of one machine
    epsilon, 3e-4 in float32. The slope of sin θ is infinite there. It is bounded where the angle is not known, so that
    it is finite; its product with the derivative of the cosine, which is 0 there, is right to the same precision.
    """
    return _turned(cosine, margin, _sine(cosine, 0))


@cosine_of_sum.defjvp
def _cosine_of_sum_jvp(primals, tangents):
    cosine, margin = primals
    sine = _sine(cosine, 0)
    is_past, turn, step = _is_past(cosine, margin), jnp.sin(margin), jnp.cos(margin)
    by_cosine = jnp.where(is_past, 1, step + cosine / _sine(cosine, float(jnp.finfo(cosine.dtype).eps)) * turn)
    by_margin = jnp.where(is_past, -turn - margin * step, -cosine * turn - sine * step)
    return _turned(cosine, margin, sine), by_cosine * tangents[0] + by_margin * tangents[1]


def _turned(cosine: Array, margin: Real, sine: Array) -> Array:
    turned = cosine * jnp.cos(margin) - sine * jnp.sin(margin)
    return jnp.where(_is_past(cosine, margin), cosine - margin * jnp.sin(margin), turned)


def _is_past(cosine: Array, margin: Real) -> Array:
    # An angle is between 0 and π, so a margin of 0 or less never leads past π, and one of π or more always.
    bound = jnp.where(margin <= 0, -jnp.inf, jnp.where(margin >= math.pi, jnp.inf, -jnp.cos(margin)))
    return cosine <= bound


def _sine(cosine: Array, least_square: float) -> Array:
    # Rounding may make a cosine larger than 1.
    square = jnp.maximum((1 - cosine) * (1 + cosine), least_square)
    return jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))
