"""Directions of vectors, and the cosine of two of them, exact for short, long and nearly parallel vectors."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss import _scaling as scaling
from jaxloss._sharding import equally_varying


@jax.custom_jvp
def normalize(x: Array) -> Array:
    """The vector divided by its length; 0 with gradient 0 for a zero vector."""
    scaled, _, total, _ = scaling.norm_and_parts(x, 2.0)
    return scaled / jnp.sqrt(total)


@normalize.defjvp
def _normalize_jvp(primals, tangents):
    direction, per_length, scale = _direction(primals[0])
    # In this order, a gradient is perpendicular before the division by a short length, which may overflow.
    return direction, _perpendicular(tangents[0] * per_length / scale, direction)


@jax.custom_jvp
def cosine_and_distance(x: Array, y: Array) -> tuple[Array, Array]:
    """The cosine of two vectors, and one minus it; 0 and 1 where a vector is zero."""
    (x, x_per_length, _), (y, y_per_length, _) = _direction(x), _direction(y)
    # Rounding may make the product of two unit vectors larger than 1.
    cosine = jnp.clip(jnp.sum(x * y, axis=-1), -1, 1)
    # Not 1 - cosine, which rounds to 0 or 6e-8 for all small angles.
    distance = numerics.at_most(jnp.sum((x - y) * (x - y), axis=-1) / 2, 2.0)
    return cosine, jnp.where(_either_is_zero(x_per_length, y_per_length), 1, distance)


@cosine_and_distance.defjvp
def _cosine_and_distance_jvp(primals, tangents):
    (x, x_per_length, x_scale), (y, y_per_length, y_scale) = map(_direction, primals)
    cosine, distance = cosine_and_distance(*primals)
    sign = jnp.where(cosine < 0, -1, 1).astype(x.dtype)[..., None]
    # Divide by length and scale in turn: in second derivatives, the squared length of a short vector would underflow.
    by_x = _across(y, x, sign) * x_per_length / x_scale
    by_y = _across(x, y, sign) * y_per_length / y_scale
    change = jnp.sum(by_x * tangents[0] + by_y * tangents[1], axis=-1)
    change = jnp.where(_either_is_zero(x_per_length, y_per_length), 0, change)
    return (cosine, distance), (change, -change)


def _either_is_zero(x: Array, y: Array) -> Array:
    return jnp.squeeze((x == 0) | (y == 0), -1)


def _across(x: Array, direction: Array, sign: Array) -> Array:
    """The part of x that is perpendicular to a direction, for a unit vector on this side of it.

    Subtracting a multiple of the direction does not change that part. For nearly parallel vectors, it keeps the digits.
    """

    def along(x: Array, direction: Array, sign: Array | int) -> Array:
        return jnp.sum((x - sign * direction) * direction, axis=-1, keepdims=True)

    def along_either(x: Array, direction: Array, sign: Array) -> Array:
        return jnp.where(sign < 0, along(x, direction, -1), along(x, direction, 1))

    # Elsewhere than on a CPU, both are computed in the pass that finds the cosine, so that none has to wait for it.
    arrays = equally_varying((x, direction, sign))
    shift = lax.platform_dependent(*arrays, cpu=along, default=along_either)
    return x - sign * direction - shift * direction


def _perpendicular(x: Array, direction: Array) -> Array:
    """The part of x that is perpendicular to a direction."""
    return x - jnp.sum(x * direction, axis=-1, keepdims=True) * direction


def _direction(x: Array) -> tuple[Array, Array, Array]:
    """Returns (x / length, scale / length, scale); the first two are 0 if x is."""
    # Parallel vectors become equal when divided by their largest entries.
    scaled, scale = scaling.scale_by_largest(x, power_of_two=False)
    total, is_zero = scaling.sum_of_powers(x, scaled, scale, 2.0)
    per_length = jnp.where(is_zero, 0, 1 / jnp.sqrt(total))
    return scaled * per_length, per_length, scale
