r"""Norms, distances and cosines without intermediate overflow or underflow. Their gradients are never NaN.

Vectors are scaled by about their largest entry, so that powers of the entries stay within the range of the dtype. A
norm has a kink at the zero vector. Its gradient there is 0, and it follows the same ramp as the derivative of
`kinks.abs`.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _directions as directions
from jaxloss import _numerics as numerics
from jaxloss import _scaling as scaling
from jaxloss import kinks
from jaxloss._arrays import Real, Vector
from jaxloss._errors import as_broadcast, as_number, as_real, as_vectors
from jaxloss._interval import Interval

_POWERS, _DIMENSIONS = Interval("[1, inf]"), Interval("[1, 2147483647]")


def norm(x: Vector, p: float = 2.0, kink_width: Real | None = None) -> Array:
    r"""The p-norm of a vector.

    $$\|x\|_p = \Bigl(\sum_i |x_i|^p\Bigr)^{1/p}, \qquad \|x\|_\infty = \max_i |x_i|$$

    Args:
      x: floating `(..., d)`.
      p: Python number of at least 1, or infinity.
      kink_width: half-width of the ramp that the gradient follows at the kinks: at the zero vector, where an entry is 0
        (p < 2), and where entries tie (p infinite). A number, or an array `(...)`, at least 0; None means one machine
        epsilon.

    Returns:
      The norm along the last axis: `(...)`.

    Raises:
      TypeError: `x` is not floating, or `p` is not a Python number.
      ValueError: `x` has no entries, `p` is below 1, or `kink_width` is a negative Python number.

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
    as_number("vectors.norm", "p", p, _POWERS)
    width = width[..., None] if width.ndim else width
    if p == 1:
        return jnp.sum(kinks.abs(x, width), axis=-1)
    if p == float("inf"):
        return kinks.max(kinks.abs(x, width), width)
    return _norm(x, width, float(p))


def distance(x: Vector, y: Vector, *, p: float = 2.0, eps: Real = 0.0, kink_width: Real | None = None) -> Array:
    r"""The p-norm of the difference of two vectors.

    $$\|x - y + \epsilon\|_p$$

    Args:
      x: floating `(..., d)`.
      y: floating, the same shape.
      p: as in `norm`.
      eps: $\epsilon$, added to each entry of the difference. PyTorch adds it to avoid the kink; here 0 is safe.
      kink_width: as in `norm`.

    Returns:
      The distance along the last axis: `(...)`.

    Raises:
      TypeError: an array is not floating.
      ValueError: shapes differ, or for the reasons that `norm` gives.

    Reference:
      PyTorch documentation, `torch.nn.functional.pairwise_distance`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxloss import vectors
      >>> print(vectors.distance(jnp.array([1.0, 2.0]), jnp.array([4.0, 6.0])))
      5.0
    """
    x, y = _same_shape("vectors.distance", x, y)
    width = _width("vectors.distance", x, kink_width)
    as_number("vectors.distance", "p", p, _POWERS)
    added = as_real("vectors.distance", "eps", eps, x.dtype)
    _, of_rank = as_broadcast("vectors.distance", x=x, eps=added)
    if jnp.broadcast_shapes(x.shape, added.shape) != x.shape:
        raise ValueError(f"vectors.distance: eps has shape {added.shape} but takes one that broadcasts to {x.shape}")
    # The difference of halves overflows only if the distance itself does.
    return 2 * norm(x / 2 - y / 2 + of_rank / 2, p, width / 2)


def cosine_similarity(x: Vector, y: Vector) -> Array:
    r"""The cosine of the angle between two vectors, 0 with gradient 0 where one of them is zero.

    $$\cos(x, y) = \frac{x \cdot y}{\|x\|_2 \, \|y\|_2}$$

    Args:
      x: floating `(..., d)`.
      y: floating, the same shape.

    Returns:
      The cosine along the last axis, in [-1, 1]: `(...)`. It depends only on directions, however short the vectors are.

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
    return directions.cosine_and_distance(*_same_shape("vectors.cosine_similarity", x, y))[0]


def cosine_distance(x: Vector, y: Vector) -> Array:
    r"""One minus the cosine of the angle between two vectors, accurate for nearly parallel vectors.

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
    return directions.cosine_and_distance(*_same_shape("vectors.cosine_distance", x, y))[1]


def normalize(x: Vector) -> Array:
    r"""The vector of length 1 with the same direction; a zero vector stays zero, with gradient 0.

    $$\frac{x}{\|x\|_2}$$

    Args:
      x: floating `(..., d)`.

    Returns:
      The unit vectors along the last axis: `(..., d)`.

    Raises:
      TypeError: `x` is not floating.
      ValueError: `x` has no entries.

    Reference:
      As `norm`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxloss import vectors
      >>> print(vectors.normalize(jnp.array([[3e-30, 4e-30], [0.0, 0.0]])))
      [[0.6 0.8]
       [0.  0. ]]
    """
    return directions.normalize(as_vectors("vectors.normalize", "x", x))


def _same_shape(function: str, x: Vector, y: Vector) -> tuple[Array, Array]:
    x, y = as_vectors(function, "x", x), as_vectors(function, "y", y)
    if x.shape != y.shape:
        raise ValueError(f"{function}: takes two arrays of one shape, got {x.shape} and {y.shape}")
    if x.dtype != y.dtype:
        raise TypeError(f"{function}: takes two arrays of one dtype, got {x.dtype} and {y.dtype}")
    return x, y


def _width(function: str, x: Array, kink_width: Real | None) -> Array:
    width = kinks.resolve_width(function, x, kink_width)
    if width.ndim and width.shape != x.shape[:-1]:
        takes = f"a number or shape {x.shape[:-1]}, one per vector"
        raise ValueError(f"{function}: kink_width has shape {width.shape} but takes {takes}")
    return width


def unit(dimension: int, p: float = 2.0) -> float:
    r"""A power of two such that no p-norm of a difference of vectors divided by it overflows.

    $$u = 2^k \ge 2 \, d^{1/p}$$

    Divide vectors by this unit before you compute a function that scales with them, such as the difference of two
    distances, where infinity minus infinity would be NaN. Entries below $u$ times the smallest normal number then count
    as 0.

    Args:
      dimension: $d$, the dimension of the vectors, at least 1.
      p: as in `norm`.

    Returns:
      The unit, 8 for vectors of 16 entries.

    Raises:
      TypeError: `dimension` or `p` is not a Python number.
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
    as_number("vectors.unit", "dimension", dimension, _DIMENSIONS)
    as_number("vectors.unit", "p", p, _POWERS)
    return float(2 * scaling.above_root(dimension, p, float))


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
        # `kinks.ramp` along each ray, in a form that also has an exact second derivative at 0.
        inside, per_width = size < width, 1 / jnp.maximum(width, jnp.finfo(x.dtype).tiny)
        scale_share, share = (jnp.where(inside, each, 0) * per_width for each in (scale, size))
        ramp = jnp.where(inside, scale_share * (3 - share * share) / 2, 1)
        length = jnp.where(inside, 1, scaling.root(total, p))
        # Divide by an array, as in `scale_by_largest`; half of an entry is always below the length.
        gradient = scaled * ramp / jnp.maximum(length, lax.stop_gradient(jnp.abs(scaled)) / 2)
    else:
        # Not the length to the power p - 1: for large p the length is a rounded number near 1.
        power = total ** ((p - 1) / p)
        gradient = _signed_power(scaled, width / scale, p) / power * kinks.ramp(size, width)
    return _norm(x, width, p), jnp.sum(gradient * tangents[0], axis=-1)


def _signed_power(x: Array, width: Array, p: float) -> Array:
    """sign(x) |x|^(p-1). For p < 2, which is steep at 0, an odd cubic replaces it within the width of 0, joined C1."""
    if p < 2:
        per_width = numerics.finite(1 / width)
        near = x * per_width
        inside = jnp.abs(near) < 1
        near = jnp.where(inside, near, 0)
        cubic = x * per_width ** (2 - p) * ((4 - p) + (p - 2) * near * near) / 2
    else:
        inside, cubic = x == 0, 0
    # The derivative of the power at 0 may be infinite.
    steep = jnp.where(inside, 1, jnp.abs(x)) ** (p - 1)
    return jnp.where(inside, cubic, jnp.sign(x) * steep)
