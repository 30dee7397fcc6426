r"""Norms, distances and cosines that neither overflow nor underflow on the way, and whose gradients are never NaN.

Each is worked out in units of the largest entry, so that no square of it is too large or too small for the dtype. At
the zero vector, where a norm has a kink, its gradient is 0, and runs there on the same ramp as that of `kinks.abs`.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import kinks, numerics
from jaxloss.checks import Interval, Real, Vector, as_real, as_vectors, require_broadcast

_POWERS = Interval("[1, inf]")


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
    scale = unit(x, y)
    by_scale = scale[..., None]
    return scale * norm(x / by_scale - y / by_scale + added / by_scale, p, width / scale)


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
    return _cosine(*_alike("vectors.cosine_similarity", x, y))


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
    return _cosine_distance(*_alike("vectors.cosine_distance", x, y))


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


def unit(*vectors: Vector) -> Array:
    r"""A power of two in units of which no norm of these vectors overflows: 1 for all but huge ones.

    $$u = \begin{cases} 2^{h} & \max_i |x_i| > 2^{h} \\ 1 & \text{else} \end{cases}$$

    with $h$ half of the dtype's largest exponent, 64 in float32.

    A function that scales with its arguments, such as the difference of two distances, is worked out in this unit, as
    infinity minus infinity is no number.

    Args:
      vectors: floating `(..., d)`.

    Returns:
      The unit `(...)`, no part of any derivative.

    Raises:
      TypeError: there is no vector, one is not floating, or their dtypes differ.
      ValueError: a vector has no entry, or shapes do not broadcast.

    Reference:
      As `norm`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxloss import vectors
      >>> print(vectors.unit(jnp.array([1.0, 2.0])), vectors.unit(jnp.array([1e30, 0.0])))
      1.0 1.8446744e+19
    """
    if not vectors:
        raise TypeError("vectors.unit: takes at least one vector")
    arrays = [as_vectors("vectors.unit", f"vectors[{i}]", vector) for i, vector in enumerate(vectors)]
    require_broadcast("vectors.unit", **{f"vectors[{i}]": array[..., 0] for i, array in enumerate(arrays)})
    dtype = arrays[0].dtype
    if any(array.dtype != dtype for array in arrays):
        raise TypeError(f"vectors.unit: takes vectors of one dtype, got {', '.join(str(a.dtype) for a in arrays)}")
    huge = jnp.asarray(2.0 ** (jnp.finfo(dtype).maxexp // 2), dtype)
    largest = functools.reduce(jnp.maximum, [jnp.max(jnp.abs(vector), axis=-1) for vector in arrays])
    return lax.stop_gradient(jnp.where(largest > huge, huge, 1))


def _in_units_of_largest(x: Array) -> tuple[Array, Array]:
    """(x / unit, unit), the unit being the largest entry, or (0, 1) where that is subnormal or zero."""
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    is_zero = largest < jnp.finfo(x.dtype).tiny
    scale = jnp.where(is_zero, 1, largest)
    # XLA divides by multiplying with the reciprocal, and that of a number beyond 2^126 is subnormal, so flushed to 0.
    eighth = jnp.where(scale > 1, 0.125, 1)
    return jnp.where(is_zero, 0, x * eighth / (scale * eighth)), scale


def _sum_of_powers(scaled: Array, p: float) -> Array:
    return jnp.sum(scaled * scaled if p == 2 else jnp.abs(scaled) ** p, axis=-1, keepdims=True)


def _root(total: Array, p: float) -> Array:
    return jnp.sqrt(total) if p == 2 else total ** (1 / p)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _norm(x: Array, width: Array, p: float) -> Array:
    del width
    scaled, scale = _in_units_of_largest(x)
    return jnp.squeeze(scale * _root(_sum_of_powers(scaled, p), p), -1)


@_norm.defjvp
def _norm_jvp(p, primals, tangents):
    x, width = primals
    scaled, scale = _in_units_of_largest(x)
    total = _sum_of_powers(scaled, p)
    # The root of 0 has no slope.
    length = _root(jnp.where(total == 0, 1, total), p)
    size = jnp.where(total == 0, 0, scale * length)
    if p == 2:
        inside = size < width
        near = jnp.where(inside, x / jnp.maximum(width, jnp.finfo(x.dtype).tiny), 0)
        # The ramp of `kinks.ramp` along each ray, written so that the second derivative at 0 is exact as well.
        ramp = near * (3 - jnp.sum(near * near, axis=-1, keepdims=True)) / 2
        gradient = jnp.where(inside, ramp, scaled / length)
    else:
        # Not the power p - 1 of the length, which for a high p is a rounded number near 1.
        power = jnp.where(total == 0, 1, total) ** ((p - 1) / p)
        gradient = _signed_power(scaled, scale, width, p) / power * kinks.ramp(size, width)
    return _norm(x, width, p), jnp.sum(gradient * tangents[0], axis=-1)


def _signed_power(scaled: Array, scale: Array, width: Array, p: float) -> Array:
    """sign(s) |s|^(p-1); for p < 2, where that is steep at 0, on an odd cubic within the width of 0, C1 at its ends."""
    if p < 2:
        per_width = numerics.finite(scale / width)
        near = scaled * per_width
        inside = jnp.abs(near) < 1
        near = jnp.where(inside, near, 0)
        cubic = scaled * per_width ** (2 - p) * ((4 - p) + (p - 2) * near * near) / 2
    else:
        inside, cubic = scaled == 0, 0
    # The power's own slope at 0 may be infinite.
    steep = jnp.where(inside, 1, jnp.abs(scaled)) ** (p - 1)
    return jnp.where(inside, cubic, jnp.sign(scaled) * steep)


def _direction(x: Array) -> tuple[Array, Array, Array]:
    """(direction, length / unit, unit); the direction of a zero vector is 0."""
    scaled, scale = _in_units_of_largest(x)
    total = _sum_of_powers(scaled, 2.0)
    length = jnp.sqrt(jnp.where(total == 0, 1, total))
    return scaled / length, length, scale


@jax.custom_jvp
def _cosine(x: Array, y: Array) -> Array:
    # Rounding may take the product of two unit vectors past 1.
    return jnp.clip(jnp.sum(_direction(x)[0] * _direction(y)[0], axis=-1), -1, 1)


@_cosine.defjvp
def _cosine_jvp(primals, tangents):
    (x, x_length, x_scale), (y, y_length, y_scale) = map(_direction, primals)
    # Divided by length and unit in turn: the square of a short vector's length would underflow in second derivatives.
    by_x = _across(_across(y, x), x) / x_length / x_scale
    by_y = _across(_across(x, y), y) / y_length / y_scale
    is_zero = jnp.all(x == 0, axis=-1, keepdims=True) | jnp.all(y == 0, axis=-1, keepdims=True)
    change = jnp.where(is_zero, 0, by_x) * tangents[0] + jnp.where(is_zero, 0, by_y) * tangents[1]
    return _cosine(*primals), jnp.sum(change, axis=-1)


def _across(x: Array, direction: Array) -> Array:
    """The part of x at right angles to a direction; of a nearly parallel x its rounding is left, if not taken twice."""
    return x - jnp.sum(x * direction, axis=-1, keepdims=True) * direction


@jax.custom_jvp
def _cosine_distance(x: Array, y: Array) -> Array:
    x, y = _direction(x)[0], _direction(y)[0]
    # Not 1 - cosine, of which rounding leaves 0 or 6e-8 for all small angles.
    distance = jnp.minimum(jnp.sum((x - y) * (x - y), axis=-1) / 2, 2)
    return jnp.where(jnp.all(x == 0, axis=-1) | jnp.all(y == 0, axis=-1), 1, distance)


@_cosine_distance.defjvp
def _cosine_distance_jvp(primals, tangents):
    _, change = jax.jvp(_cosine, primals, tangents)
    return _cosine_distance(*primals), -change
