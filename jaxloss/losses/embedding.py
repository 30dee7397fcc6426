"""Metric learning: losses of the distances and angles between embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import jax.numpy as jnp
from jax import Array

from jaxloss import _numerics as numerics
from jaxloss import _scaling as scaling
from jaxloss import kinks, vectors
from jaxloss._arrays import Real, Vector
from jaxloss._data_checks import nan_unless
from jaxloss._decorator.lift import loss
from jaxloss._errors import as_array, require_pairwise
from jaxloss.options import AxisOptions

_EPS = 1e-6  # PyTorch's


@loss(
    "(d),(d),(d)->()",
    domains={"p": "[1, inf]", "eps": "[0, inf)", "kink_width": "[0, inf)"},
    static=("p",),
)
def triplet_margin_loss(
    anchor: Vector,
    positive: Vector,
    negative: Vector,
    *,
    margin: Real = 1.0,
    p: float = 2.0,
    eps: Real = _EPS,
    swap: bool = False,
    kink_width: Real | None = None,
    **options: Unpack[AxisOptions],
) -> Array:
    r"""Hinge loss that requires an anchor to be closer, by a margin, to a positive than to a negative vector.

    $$l = \max\bigl(0,\, d(a, p) - d(a, n) + m\bigr), \qquad d(x, y) = \| x - y + \epsilon \|_p$$

    Args:
      anchor: floating `(..., D)`: $a$.
      positive: floating, the same shape: $p$, similar to the anchor.
      negative: floating, the same shape: $n$, dissimilar to the anchor.
      margin: $m$. A number, or an array with one value per sample.
      p: order of the norm: a Python number of at least 1, or infinity.
      eps: at least 0: $\epsilon$, added to each difference as in PyTorch; 0 is safe.
      swap: whether $d(p, n)$ replaces $d(a, n)$ if it is smaller (the harder negative).
      kink_width: half-width of the ramp that the derivative follows at the kinks of the loss and of the norm, at least
        0. None means one machine epsilon. See `jaxloss.kinks`.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per triplet.

    Raises:
      ValueError: shapes do not fit, `p` is below 1, or `eps` or `kink_width` is negative.
      TypeError: an array is not floating.

    Reference:
      Balntas et al., Learning local feature descriptors with triplets and shallow convolutional neural networks,
      BMVC 2016, section 3 (the swap: section 3.3).

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> anchor, positive, negative = jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]]), jnp.array([[0.0, 5.5]])
      >>> print(jaxloss.triplet_margin_loss(anchor, positive, negative).round(4))
      0.5
      >>> print(jaxloss.triplet_margin_loss(anchor, positive, negative, swap=True).round(4))
      2.6459
    """
    return _triplet_margin(anchor, positive, negative, margin, p, eps, swap, kink_width)


def _pairwise_distance(x: Vector, y: Vector) -> Array:
    """The distance of `triplet_margin_loss` with its defaults."""
    return vectors.distance(x, y, eps=_EPS)


@loss("(d),(d),(d)->()", domains={"kink_width": "[0, inf)"}, static=("distance_function",))
def triplet_margin_with_distance_loss(
    anchor: Vector,
    positive: Vector,
    negative: Vector,
    *,
    distance_function: Callable[[Vector, Vector], Array] = _pairwise_distance,
    margin: Real = 1.0,
    swap: bool = False,
    kink_width: Real | None = None,
    **options: Unpack[AxisOptions],
) -> Array:
    r"""`triplet_margin_loss` with a custom distance.

    $$l = \max\bigl(0,\, d(a, p) - d(a, n) + m\bigr)$$

    Args:
      anchor: floating `(..., D)`: $a$.
      positive: floating, the same shape: $p$, similar to the anchor.
      negative: floating, the same shape: $n$, dissimilar to the anchor.
      distance_function: $d$, which maps two vectors `(D,)` to a scalar; by default, the distance of
        `triplet_margin_loss`. It is static: pass the same function object each time, not a new lambda.
      margin: $m$. A number, or an array with one value per sample.
      swap: whether $d(p, n)$ replaces $d(a, n)$ if it is smaller.
      kink_width: half-width of the ramp that the derivative follows at the kink of the loss, at least 0. None means one
        machine epsilon. See `jaxloss.kinks`.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per triplet.

    Raises:
      ValueError: shapes do not fit, or `kink_width` is negative.
      TypeError: an array is not floating, or `distance_function` is not a callable of two arguments that returns a
        real scalar.

    Reference:
      Balntas et al., BMVC 2016, as `triplet_margin_loss`.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> anchor, positive, negative = jnp.array([[1.0, 0.0]]), jnp.array([[3.0, 4.0]]), jnp.array([[0.0, 5.0]])
      >>> distance = jaxloss.vectors.cosine_distance
      >>> loss = jaxloss.triplet_margin_with_distance_loss(anchor, positive, negative, distance_function=distance)
      >>> print(f"{loss:.4f}")
      0.4000
    """
    if distance_function is _pairwise_distance:
        return _triplet_margin(anchor, positive, negative, margin, 2.0, _EPS, swap, kink_width)
    function, kinds = "triplet_margin_with_distance_loss", (jnp.floating, jnp.integer)
    require_pairwise(function, "distance_function", distance_function, "two vectors")

    def distance(x: Vector, y: Vector) -> Array:
        returned = distance_function(x, y)
        scalar = as_array(function, "what distance_function returned", returned, kinds, "a real scalar")
        if scalar.ndim:
            got = f"what distance_function returned has shape {scalar.shape}"
            raise TypeError(f"{function}: {got} but takes a real scalar")
        return scalar

    return _triplet(anchor, positive, negative, distance, margin, swap, kink_width)


def _triplet_margin(
    anchor: Vector,
    positive: Vector,
    negative: Vector,
    margin: Real,
    p: float,
    eps: Real,
    swap: bool,
    kink_width: Real | None,
) -> Array:
    # The loss scales with its vectors. In this unit no distance overflows, so no difference is infinity minus infinity.
    unit = 2 * scaling.above_root(anchor.shape[0], p, anchor.dtype)
    width = kinks.resolve_width("triplet_margin_loss", anchor, kink_width) / unit

    def distance(x: Vector, y: Vector) -> Array:
        return vectors.norm(x - y + eps / unit, p, width)

    return unit * _triplet(anchor / unit, positive / unit, negative / unit, distance, margin / unit, swap, width)


def _triplet(
    anchor: Vector,
    positive: Vector,
    negative: Vector,
    distance: Callable[[Vector, Vector], Array],
    margin: Real,
    swap: bool,
    kink_width: Real | None,
) -> Array:
    to_negative = distance(anchor, negative)
    if swap:
        to_negative = -kinks.maximum(-to_negative, -distance(positive, negative), kink_width)
    return kinks.positive_part(numerics.difference(distance(anchor, positive), to_negative) + margin, kink_width)


@loss("(d),(d),()->()", domains={"target": "{-1, 1}", "kink_width": "[0, inf)"})
def cosine_embedding_loss(
    first: Vector,
    second: Vector,
    target: Real,
    *,
    margin: Real = 0.0,
    kink_width: Real | None = None,
    **options: Unpack[AxisOptions],
) -> Array:
    r"""Cosine distance of similar vectors; for dissimilar vectors, the excess of their cosine over a margin.

    $$l = \begin{cases} 1 - \cos(x_1, x_2) & y = 1 \\ \max(0, \cos(x_1, x_2) - m) & y = -1 \end{cases}$$

    Args:
      first: floating `(..., D)`: $x_1$.
      second: floating, the same shape: $x_2$.
      target: 1 for similar, -1 for dissimilar vectors, `(...)`: $y$.
      margin: $m$, usually in [-1, 1]. A number, or an array with one value per sample.
      kink_width: half-width of the ramp that the derivative follows at the kink $\cos = m$, at least 0. None means one
        machine epsilon. See `jaxloss.kinks`.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per pair. The cosine with a zero vector is 0. NaN
      for any other target, to which neither case applies.

    Raises:
      ValueError: shapes do not fit, or `kink_width` is negative.
      TypeError: `first` or `second` is not floating.

    Reference:
      Chopra, Hadsell and LeCun, Learning a similarity metric discriminatively, CVPR 2005; in this form in
      PyTorch's `torch.nn.functional.cosine_embedding_loss`.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> first, second = jnp.array([[3.0, 4.0], [3.0, 4.0]]), jnp.array([[4.0, 3.0], [4.0, 3.0]])
      >>> print(jaxloss.cosine_embedding_loss(first, second, jnp.array([1, -1]), reduction="none").round(4))
      [0.04 0.96]
    """
    cosine = vectors.cosine_similarity(first, second)
    excess = kinks.positive_part(cosine - margin, kink_width)
    return jnp.where(target == 1, vectors.cosine_distance(first, second), nan_unless(target == -1, excess))
