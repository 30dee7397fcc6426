"""Functions with a kink: the value is exact, the derivative runs through the kink on a smooth ramp.

A classical sub-gradient jumps at the kink, so an optimiser that sits there is thrown from side to side, and
a second derivative is zero or undefined. Here the derivative follows, within `kink_width` of the kink, the cubic

    ramp(u) = u (3 - u^2) / 2,   u = x / kink_width clipped to [-1, 1],

which is C1, monotone and odd: it integrates to exactly the rise of the function across the kink, and it is 0
at the kink itself. Outside, the derivative is the exact one.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss.checks import Interval, Real

_WIDTHS = Interval("[0, inf)")


def abs(x: Real, kink_width: Real | None = None) -> Array:
    """Absolute value, its derivative 0 at the kink.

    Args:
      x: floating array of any shape.
      kink_width: half-width of the ramp of the derivative, at least 0, broadcast against `x`. None is one machine
        epsilon of the dtype of `x`; 0 is the classical symmetric sub-gradient, sign(x).

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
    x = jnp.asarray(x)
    return _abs(x, resolve_width("kinks.abs", x, kink_width))


def positive_part(x: Real, kink_width: Real | None = None) -> Array:
    """The larger of x and 0, its derivative one half at the kink.

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
    x = jnp.asarray(x)
    return _positive_part(x, resolve_width("kinks.positive_part", x, kink_width))


def maximum(x: Real, y: Real, kink_width: Real | None = None) -> Array:
    """The larger of x and y, the derivative shared equally between them where they tie.

    Args:
      x: floating array.
      y: floating array of the same dtype that broadcasts against `x`.
      kink_width: half-width of the ramp of the derivative in x - y, as in `abs`.

    Returns:
      max(x, y), exactly.

    Raises:
      TypeError: `x` or `y` is not floating.
      ValueError: `kink_width` is a negative Python number.

    Reference:
      As `positive_part`: max(x, y) = y + max(x - y, 0).

    Example:
      >>> import jax
      >>> from jaxloss import kinks
      >>> [float(slope) for slope in jax.grad(kinks.maximum, argnums=(0, 1))(2.0, 2.0)]
      [0.5, 0.5]
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    resolve_width("kinks.maximum", y, kink_width)
    return _maximum(x, y, resolve_width("kinks.maximum", x, kink_width))


def ramp(x: Array, width: Array) -> Array:
    """The derivative of `abs`: sign(x), made C1 within `width` of 0."""
    # A width below the smallest normal number would make x / width overflow to inf, or 0 / 0.
    u = jnp.clip(x / jnp.maximum(width, jnp.finfo(x.dtype).tiny), -1, 1)
    return jnp.where(width > 0, u * (3 - u * u) / 2, jnp.sign(x))


def resolve_width(function: str, x: Real, kink_width: Real | None) -> Array:
    """The half-width of the ramp for kinks in `x`, in its dtype: the one that was given, or a machine epsilon."""
    dtype = jnp.result_type(x)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{function}: takes floating arrays, got dtype {dtype}")
    if kink_width is None:
        return jnp.asarray(jnp.finfo(dtype).eps, dtype)
    if isinstance(kink_width, float | int):
        _WIDTHS.check_number(function, "kink_width", kink_width)
    return jnp.asarray(kink_width, dtype)


# Each rule states the derivative once; differentiating the rule itself gives the finite second derivative. The
# width shapes the derivative and not the value, so its own tangent is dropped.


@jax.custom_jvp
def _abs(x: Array, width: Array) -> Array:
    del width
    return jnp.abs(x)


@_abs.defjvp
def _abs_jvp(primals, tangents):
    x, width = primals
    return jnp.abs(x), ramp(x, width) * tangents[0]


@jax.custom_jvp
def _positive_part(x: Array, width: Array) -> Array:
    del width
    return jnp.maximum(x, 0)


@_positive_part.defjvp
def _positive_part_jvp(primals, tangents):
    x, width = primals
    return jnp.maximum(x, 0), (1 + ramp(x, width)) / 2 * tangents[0]


@jax.custom_jvp
def _maximum(x: Array, y: Array, width: Array) -> Array:
    del width
    return jnp.maximum(x, y)


@_maximum.defjvp
def _maximum_jvp(primals, tangents):
    x, y, width = primals
    slope = ramp(x - y, width)
    return jnp.maximum(x, y), (1 + slope) / 2 * tangents[0] + (1 - slope) / 2 * tangents[1]
