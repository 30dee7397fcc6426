r"""Norms, distances and cosines that neither overflow nor underflow on the way, and whose gradients are never NaN.

Powers are those of entries in units of about the largest, so that none is too large or too small for the dtype. At
the zero vector, where a norm has a kink, its gradient is 0, and runs there on the same ramp as that of `kinks.abs`.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss import _scaling as scaling
from jaxloss import kinks
from jaxloss._errors import Interval, Real, Vector, as_real, as_vectors, require_broadcast

_POWERS, _DIMENSIONS = Interval("[1, inf]"), Interval("[1, 2147483647]")


def norm(x: Vector, p: float = 2.0, kink_width: Real | None = None) -> Array:
    r"""The p-norm of a vector.

    $$\|x\|_p = \Bigl(\sum_i |x_i|^p\Bigr)^{1/p}, \qquad \|x\|_\infty = \max_i |x_i|$$

    Args:
      x: floating `(..., d)`.
      p: Python number of at least 1, or infinity.
      kink_width: a number, or an array `(...)`: half-width of the ramp on which the gradient runs through the kinks, at
        the zero vector, and where an entry is 0 (p < 2) or entries tie (p infinite). At least 0; None is one machine
        epsilon.

    Returns:
      The norm along the last axis: `(...)`.

    Raises:
      TypeError: `x` is not floating, or `p` no Python number.
      ValueError: `x` has no entries, `p` is below 1, or `kink_width` a negative Python number.

    Reference:
      Blue, A portable Fortran program to find the Euclidean norm of a vector, ACM TOMS 4, 1978 (scaling).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxloss import vectors
      >>> print(vectors.norm(jnp.array([3e30, 4e30])), jax.grad(vectors.norm)(jnp.zeros(2)))
      5e+30 [0. 0.]
    """
    x = as_vectors("vectors.norm", "x", x)
    width = _width("vectors.norm", x, kink_width)
    _POWERS.check_number("vectors.norm", "p", p)
    width = width[..., None] if width.ndim else width
    if p == 1:
        return jnp.sum(kinks.abs(x, width), axis=-1)
    if p == float("inf"):
        return kinks.max(kinks.abs(x, width), width)
    return _norm(x, width, float(p))


def distance(x: Vector, y: Vector, *, p: float = 2.0, eps: Real = 0.0, kink_width: Real | None = None) -> Array:
    r"""The p-norm of a difference, to whose entries a small number may be added.

    $$\|x - y + \epsilon\|_p$$

    Args:
      x: floating `(..., d)`.
      y: floating, the same shape.
      p: as in `norm`.
      eps: $\epsilon$, by which PyTorch's distances stay off the kink; 0 needs no such help here.
      kink_width: as in `norm`.

    Returns:
      The distance along the last axis: `(...)`.

    Raises:
      TypeError: an array is not floating.
      ValueError: shapes differ, or as `norm`.

    Reference:
      PyTorch documentation, `torch.nn.functional.pairwise_distance`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxloss import vectors
      >>> print(vectors.distance(jnp.array([1.0, 2.0]), jnp.array([4.0, 6.0])))
      5.0
    """
    x, y = _alike("vectors.distance", x, y)
    width = _width("vectors.distance", x, kink_width)
    _POWERS.check_number("vectors.distance", "p", p)
    added = as_real("vectors.distance", "eps", eps, x.dtype)
    require_broadcast("vectors.distance", x=x, eps=added)
    if jnp.broadcast_shapes(x.shape, added.shape) != x.shape:
        raise ValueError(f"vectors.distance: eps has shape {added.shape} but takes one that broadcasts to {x.shape}")
    # Halves, of which no difference overflows but where it is the distance that does.
    return 2 * norm(x / 2 - y / 2 + added / 2, p, width / 2)


def cosine_similarity(x: Vector, y: Vector) -> Array:
    r"""The cosine of the angle between two vectors, 0 with gradient 0 where one of them is zero.

    $$\cos(x, y) = \frac{x \cdot y}{\|x\|_2 \, \|y\|_2}$$

    Args:
      x: floating `(..., d)`.
      y: floating, the same shape.

    Returns:
      The cosine along the last axis, in [-1, 1]: `(...)`. It depends on directions alone, however short the vectors.

    Raises:
      TypeError: an array is not floating.
      ValueError: shapes differ, or there are no entries.

    Reference:
      Salton and McGill, Introduction to Modern Information Retrieval, 1983, chapter 4.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxloss import vectors
      >>> print(vectors.cosine_similarity(jnp.array([3e-30, 4e-30]), jnp.array([4e30, 3e30])).round(4))
      0.96
    """
    return _cosine_and_distance(*_alike("vectors.cosine_similarity", x, y))[0]


def cosine_distance(x: Vector, y: Vector) -> Array:
    r"""1 less the cosine of the angle between two vectors, with all its digits where they are nearly parallel.

    $$1 - \cos(x, y) = \tfrac12 \Bigl\| \frac{x}{\|x\|_2} - \frac{y}{\|y\|_2} \Bigr\|_2^2$$

    Args:
      x: floating `(..., d)`.
      y: floating, the same shape.

    Returns:
      The distance along the last axis, in [0, 2]: `(...)`; 1 with gradient 0 where one of the vectors is zero.

    Raises:
      TypeError: an array is not floating.
      ValueError: shapes differ, or there are no entries.

    Reference:
      As `cosine_similarity`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxloss import vectors
      >>> print(vectors.cosine_distance(jnp.array([1.0, 0.0]), jnp.array([1.0, 1e-5])))
      4.9999997e-11
    """
    return _cosine_and_distance(*_alike("vectors.cosine_distance", x, y))[1]


def _alike(function: str, x: Vector, y: Vector) -> tuple[Array, Array]:
    x, y = as_vectors(function, "x", x), as_vectors(function, "y", y)
    if x.shape != y.shape:
        raise ValueError(f"{function}: takes two arrays of one shape, got {x.shape} and {y.shape}")
    if x.dtype != y.dtype:
        raise TypeError(f"{function}: takes two arrays of one dtype, got {x.dtype} and {y.dtype}")
    return x, y


def _width(function: str, x: Array, kink_width: Real | None) -> Array:
    width = kinks.resolve_width(function, x, kink_width)
    if width.ndim and width.shape != x.shape[:-1]:
        takes = f"a number or shape {x.shape[:-1]}, one a vector"
        raise ValueError(f"{function}: kink_width has shape {width.shape} but takes {takes}")
    return width


def unit(dimension: int, p: float = 2.0) -> float:
    r"""A power of two in units of which no p-norm of a difference of finite vectors overflows.

    $$u = 2^k \ge 2 \, d^{1/p}$$

    A function that scales with its arguments, such as the difference of two distances, is worked out in this unit, as
    infinity minus infinity is no number. Entries below $u$ times the smallest normal number count as 0 in it.

    Args:
      dimension: $d$, of the vectors, at least 1.
      p: as in `norm`.

    Returns:
      The unit, 8 for vectors of 16 entries.

    Raises:
      TypeError: `dimension` or `p` is no Python number.
      ValueError: `dimension` or `p` is below 1.

    Reference:
      As `norm`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxloss import vectors
      >>> x, unit = jnp.full(16, 3e38), vectors.unit(16)
      >>> print(f"{vectors.distance(x, -x):.3} {vectors.distance(x / unit, -x / unit):.3}")
      inf 3e+38
    """
    _DIMENSIONS.check_number("vectors.unit", "dimension", dimension)
    _POWERS.check_number("vectors.unit", "p", p)
    return 2.0 ** math.ceil(1 + math.log2(dimension) / p)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _norm(x: Array, width: Array, p: float) -> Array:
    del width
    *_, size = scaling.norm_and_parts(x, p)
    return jnp.squeeze(size, -1)


@_norm.defjvp
def _norm_jvp(p, primals, tangents):
    x, width = primals
    scaled, scale, total, size = scaling.norm_and_parts(x, p)
    if p == 2:
        # The ramp of `kinks.ramp` along each ray, written so that the second derivative at 0 is exact as well.
        inside, per_width = size < width, 1 / jnp.maximum(width, jnp.finfo(x.dtype).tiny)
        scale_share, share = (jnp.where(inside, each, 0) * per_width for each in (scale, size))
        ramp = jnp.where(inside, scale_share * (3 - share * share) / 2, 1)
        length = jnp.where(inside, 1, scaling.root(total, p))
        # By an array, as in `scale_by_largest`: half of no entry is as large as the length.
        gradient = scaled * ramp / jnp.maximum(length, lax.stop_gradient(jnp.abs(scaled)) / 2)
    else:
        # Not the power p - 1 of the length, which for a high p is a rounded number near 1.
        power = total ** ((p - 1) / p)
        gradient = _signed_power(scaled, width / scale, p) / power * kinks.ramp(size, width)
    return _norm(x, width, p), jnp.sum(gradient * tangents[0], axis=-1)


def _signed_power(x: Array, width: Array, p: float) -> Array:
    """sign(x) |x|^(p-1); for p < 2, where that is steep at 0, on an odd cubic within the width of 0, C1 at its ends."""
    if p < 2:
        per_width = numerics.finite(1 / width)
        near = x * per_width
        inside = jnp.abs(near) < 1
        near = jnp.where(inside, near, 0)
        cubic = x * per_width ** (2 - p) * ((4 - p) + (p - 2) * near * near) / 2
    else:
        inside, cubic = x == 0, 0
    # The power's own slope at 0 may be infinite.
    steep = jnp.where(inside, 1, jnp.abs(x)) ** (p - 1)
    return jnp.where(inside, cubic, jnp.sign(x) * steep)


def _direction(x: Array) -> tuple[Array, Array, Array]:
    """(x / length, scale / length, scale), the first two 0 where x is."""
    # Parallel vectors are the same in units of their largest entries.
    scaled, scale = scaling.scale_by_largest(x, power_of_two=False)
    total, is_zero = scaling.sum_of_powers(scaled, 2.0)
    per_length = jnp.where(is_zero, 0, 1 / jnp.sqrt(total))
    return scaled * per_length, per_length, scale


@jax.custom_jvp
def _cosine_and_distance(x: Array, y: Array) -> tuple[Array, Array]:
    (x, x_per_length, _), (y, y_per_length, _) = _direction(x), _direction(y)
    # Rounding may take the product of two vectors of length 1 past 1.
    cosine = jnp.clip(jnp.sum(x * y, axis=-1), -1, 1)
    # Not 1 - cosine, of which rounding leaves 0 or 6e-8 for all small angles.
    distance = jnp.minimum(jnp.sum((x - y) * (x - y), axis=-1) / 2, 2)
    return cosine, jnp.where(_either_is_0(x_per_length, y_per_length), 1, distance)


@_cosine_and_distance.defjvp
def _cosine_and_distance_jvp(primals, tangents):
    (x, x_per_length, x_scale), (y, y_per_length, y_scale) = map(_direction, primals)
    cosine, distance = _cosine_and_distance(*primals)
    # At right angles nothing changes when a multiple is taken away, which of nearly parallel vectors leaves the digits.
    sign = jnp.where(cosine < 0, -1, 1)[..., None]
    # Divided by length and scale in turn: the square of a short vector's length would underflow in second derivatives.
    by_x = _across(y - sign * x, x) * x_per_length / x_scale
    by_y = _across(x - sign * y, y) * y_per_length / y_scale
    change = jnp.sum(by_x * tangents[0] + by_y * tangents[1], axis=-1)
    change = jnp.where(_either_is_0(x_per_length, y_per_length), 0, change)
    return (cosine, distance), (change, -change)


def _either_is_0(x: Array, y: Array) -> Array:
    return jnp.squeeze((x == 0) | (y == 0), -1)


def _across(x: Array, direction: Array) -> Array:
    """The part of x at right angles to a direction."""
    return x - jnp.sum(x * direction, axis=-1, keepdims=True) * direction
