"""Functions with a kink. The value is exact, and the derivative follows a smooth ramp through the kink.

A classical sub-gradient jumps at the kink, so an optimiser oscillates around it, and the second derivative is zero or
undefined. Here the derivative follows a cubic within `kink_width` of the kink,

    ramp(u) = u (3 - u^2) / 2,   u = x / kink_width clipped to [-1, 1],

which is C1, monotone and odd. Its integral across the kink is exactly the change of the function, and it is 0 at the
kink itself. Outside the ramp, the derivative is exact.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss._arrays import Real, Vector
from jaxloss._errors import as_broadcast, as_floating, as_real, as_vectors, require_broadcast
from jaxloss._interval import Interval

_WIDTHS = Interval("[0, inf)")


def abs(x: Real, kink_width: Real | None = None) -> Array:
    r"""Absolute value, with derivative 0 at the kink.

    $$f = |x|, \qquad f' = r(x, w)$$

    with the `ramp` $r$ in place of the sign.

    Args:
      x: floating array of any shape.
      kink_width: half-width of the ramp of the derivative, at least 0, broadcast against `x`. None means one machine
        epsilon of the dtype of `x`; 0 gives the classical symmetric sub-gradient, sign(x).

    Returns:
      |x|, exactly.

    Raises:
      TypeError: `x` is not floating.
      ValueError: `kink_width` is a negative Python number.

    Reference:
      Boyd and Vandenberghe, Convex Optimization, 2004, section 6.1.2 (smooth approximations of the absolute value).

    Example:
      >>> import jax
      >>> from jaxloss import kinks
      >>> [float(jax.grad(kinks.abs)(x, kink_width=0.5)) for x in (-1.0, 0.0, 0.25)]
      [-1.0, 0.0, 0.6875]
    """
    return _abs(*_broadcast_to_width("kinks.abs", x, kink_width))


def positive_part(x: Real, kink_width: Real | None = None) -> Array:
    r"""The larger of x and 0, with derivative one half at the kink.

    $$f = \max(x, 0), \qquad f' = \tfrac12 \bigl( 1 + r(x, w) \bigr)$$

    Args:
      x: floating array of any shape.
      kink_width: half-width of the ramp of the derivative, as in `abs`.

    Returns:
      max(x, 0), exactly.

    Raises:
      TypeError: `x` is not floating.
      ValueError: `kink_width` is a negative Python number.

    Reference:
      Rennie and Srebro, Loss functions for preference levels, 2005, section 3.2 (the smooth hinge).

    Example:
      >>> import jax
      >>> from jaxloss import kinks
      >>> [float(jax.grad(kinks.positive_part)(x)) for x in (-1.0, 0.0, 1.0)]
      [0.0, 0.5, 1.0]
    """
    return _positive_part(*_broadcast_to_width("kinks.positive_part", x, kink_width))


def maximum(x: Real, y: Real, kink_width: Real | None = None) -> Array:
    r"""The larger of x and y, with the derivative shared equally at a tie.

    $$f = \max(x, y), \qquad \partial f / \partial x = \tfrac12 \bigl( 1 + r(x - y, w) \bigr)
    = 1 - \partial f / \partial y$$

    Args:
      x: floating array.
      y: floating array of the same dtype that broadcasts against `x`.
      kink_width: half-width of the ramp of the derivative in x - y, as in `abs`.

    Returns:
      max(x, y), exactly.

    Raises:
      TypeError: `x` or `y` is not floating, or their dtypes differ.
      ValueError: shapes do not broadcast, or `kink_width` is a negative Python number.

    Reference:
      As `positive_part`: max(x, y) = y + max(x - y, 0).

    Example:
      >>> import jax
      >>> from jaxloss import kinks
      >>> [float(slope) for slope in jax.grad(kinks.maximum, argnums=(0, 1))(2.0, 2.0)]
      [0.5, 0.5]
    """
    x, y = as_floating("kinks.maximum", "x", x), as_floating("kinks.maximum", "y", y)
    require_broadcast("kinks.maximum", x=x, y=y)
    if x.dtype != y.dtype:
        raise TypeError(f"kinks.maximum: takes two arrays of one dtype, got {x.dtype} and {y.dtype}")
    x, y = jnp.broadcast_arrays(x, y)
    x, width = _broadcast_to_width("kinks.maximum", x, kink_width)
    return _maximum(*jnp.broadcast_arrays(x, y), width)


def max(x: Vector, kink_width: Real | None = None) -> Array:
    r"""The largest entry of a vector, with the derivative shared between tied entries.

    $$f = \max_i x_i$$

    Args:
      x: floating `(..., d)`.
      kink_width: how far below the largest an entry may lie and still have a share of the derivative, as in `abs`. For
        two entries, the shares are those of `maximum`, and integrate to the change of the value across the kink. For
        three or more entries within the width of each other, they do so to 1 % of the width.

    Returns:
      The largest entry along the last axis, exactly: `(...)`.

    Raises:
      TypeError: `x` is not floating.
      ValueError: `kink_width` is a negative Python number, or `x` has no entries.

    Reference:
      As `maximum`, which it extends to many entries.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxloss import kinks
      >>> print(jax.grad(kinks.max)(jnp.array([2.0, 1.0, 2.0])))
      [0.5 0.  0.5]
    """
    return _max(*_broadcast_to_width("kinks.max", as_vectors("kinks.max", "x", x), kink_width))


def ramp(x: Array, width: Array) -> Array:
    r"""The derivative of `abs`: the sign function, made C1 within a width of 0.

    $$r = u (3 - u^2) / 2, \qquad u = \min(1, \max(-1, x / w))$$

    Args:
      x: floating array.
      width: $w$, a floating array that broadcasts against `x`; 0 gives the sign itself.

    Returns:
      Numbers in [-1, 1].

    Raises:
      TypeError: `x` is not floating, or `width` is not real.
      ValueError: shapes do not broadcast.

    Reference:
      The cubic Hermite polynomial between -1 and 1 with slope 0 at both ends.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxloss import kinks
      >>> print(kinks.ramp(jnp.array([-2.0, 0.0, 0.5]), jnp.array(1.0)))
      [-1.      0.      0.6875]
    """
    x = as_floating("kinks.ramp", "x", x)
    width = as_real("kinks.ramp", "width", width, x.dtype)
    x, width = as_broadcast("kinks.ramp", x=x, width=width)
    # The width affects only derivatives, so it gets no derivative of its own.
    width = lax.stop_gradient(width)
    # A width below the smallest normal number would make x / width overflow to inf, or 0 / 0.
    u = jnp.clip(x / jnp.maximum(width, jnp.finfo(x.dtype).tiny), -1, 1)
    return jnp.where(width > 0, u * (3 - u * u) / 2, jnp.sign(x))


def resolve_width(function: str, x: Real, kink_width: Real | None) -> Array:
    """The half-width of the ramp for an array, in its dtype: the given one, or one machine epsilon.

    Args:
      function: name of the function that takes the width, for error messages.
      x: floating array.
      kink_width: a number, an array, or None.

    Returns:
      The width as an array.

    Raises:
      TypeError: `x` is not floating.
      ValueError: `kink_width` is a negative Python number.

    Reference:
      None; a default.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxloss import kinks
      >>> print(kinks.resolve_width("f", jnp.ones(3), None))
      1.1920929e-07
    """
    dtype = as_floating(function, "x", x).dtype
    if kink_width is None:
        return jnp.asarray(jnp.finfo(dtype).eps, dtype)
    return as_real(function, "kink_width", kink_width, dtype, _WIDTHS)


def _broadcast_to_width(function: str, x: Real, kink_width: Real | None) -> tuple[Array, Array]:
    """Returns x, broadcast against its widths, and the widths."""
    x = as_floating(function, "x", x)
    width = resolve_width(function, x, kink_width)
    x, width = as_broadcast(function, x=x, kink_width=width)
    return jnp.broadcast_to(x, jnp.broadcast_shapes(x.shape, width.shape)), width


# Each rule states the derivative once; differentiating the rule gives the finite second derivative. The width affects
# only derivatives, so its tangent is dropped.


@jax.custom_jvp
def _abs(x: Array, width: Array) -> Array:
    del width
    return jnp.abs(x)


@_abs.defjvp
def _abs_jvp(primals, tangents):
    x, width = primals
    return _abs(x, width), ramp(x, width) * tangents[0]


@jax.custom_jvp
def _positive_part(x: Array, width: Array) -> Array:
    del width
    return jnp.maximum(x, 0)


@_positive_part.defjvp
def _positive_part_jvp(primals, tangents):
    x, width = primals
    return _positive_part(x, width), (1 + ramp(x, width)) / 2 * tangents[0]


@jax.custom_jvp
def _maximum(x: Array, y: Array, width: Array) -> Array:
    del width
    return jnp.maximum(x, y)


@_maximum.defjvp
def _maximum_jvp(primals, tangents):
    x, y, width = primals
    slope = ramp(numerics.difference(x, y), width)
    return _maximum(x, y, width), (1 + slope) / 2 * tangents[0] + (1 - slope) / 2 * tangents[1]


@jax.custom_jvp
def _max(x: Array, width: Array) -> Array:
    del width
    return jnp.max(x, axis=-1)


@_max.defjvp
def _max_jvp(primals, tangents):
    x, width = primals
    largest = jnp.max(x, axis=-1, keepdims=True)
    # For two entries, the lower has the share (1 - r) / 2 and the upper (1 + r) / 2. This is the ratio of the shares.
    slope = ramp(numerics.difference(largest, x), width)
    share = (1 - slope) / (1 + slope)
    share = share / jnp.sum(share, axis=-1, keepdims=True)
    return _max(x, width), jnp.sum(share * tangents[0], axis=-1)
