"""Losses of two views of the same items, from the moments of their features. They need no negative items."""

from __future__ import annotations

import functools
import operator
from typing import Unpack

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _moments as moments
from jaxloss import _numerics as numerics
from jaxloss import kinks
from jaxloss._arrays import Boolean, Real, Vector
from jaxloss._decorator.lift import loss
from jaxloss._sharding import AxisName, require_split
from jaxloss.options import ReductionOptions


@loss("(n,d),(n,d)->()", domains={"off_diagonal": "[0, inf)"}, static=("axis_name",))
def barlow_twins_loss(
    first: Vector,
    second: Vector,
    *,
    off_diagonal: Real = 5e-3,
    valid: Boolean | None = None,
    axis_name: AxisName | None = None,
    **options: Unpack[ReductionOptions],
) -> tuple[Array, Array]:
    r"""How far the correlations of the features of two views are from the identity: each with itself, and no others.

    $$l = \sum_i (1 - C_{ii})^2 + \lambda \sum_{i \ne j} C_{ij}^2, \qquad C = \tfrac{1}{N} \hat A^\top \hat B$$

    where the features $\hat A$ and $\hat B$ have mean 0 and variance 1 over the N items, and no epsilon. The loss
    depends neither on the scale nor on the mean of a feature. A feature without variance has correlation 0 and
    gradient 0.

    The correlations are those of the items of one call, so the mean over micro-batches is not the loss of the batch:
    `jaxloss.accumulated` computes another loss. With `axis_name`, it is the loss of the items of all devices.

    Args:
      first: floating `(..., N, D)`: $A$, the features of one view, an item per row.
      second: floating, the same shape: $B$, the features of the other view of the same items.
      off_diagonal: at least 0: $\lambda$. A number, or an array with one value per set.
      valid: boolean, `(..., N)` or `(N,)`: which items exist. None means all.
      axis_name: inside `shard_map`, the mesh axis (or axes) over which the items are split, the same number on each
        device. Devices exchange the bounds, the sums and the second moments of features, D² + 9 D + 1 numbers, and
        nothing in the backward pass.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per set. A set without valid items has loss 0 and
      normaliser 0. With `axis_name`, each device has the loss of all items; do not add up the losses of devices.

    Raises:
      ValueError: shapes do not fit, `off_diagonal` is negative, or no axis is called `axis_name`.
      TypeError: an array is not floating.

    Reference:
      Zbontar et al., Barlow Twins: self-supervised learning via redundancy reduction, ICML 2021, equations 1 and 2.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> first = jnp.array([[1.0, 1.0], [2.0, -1.0], [3.0, -1.0], [4.0, 1.0]])
      >>> print(jaxloss.barlow_twins_loss(first, first), jaxloss.barlow_twins_loss(first, first[:, ::-1]))
      0.0 2.01
    """
    require_split("barlow_twins_loss", axis_name, "the items are")
    agreement, redundancy, count = moments.correlations(
        jnp.asarray(first), jnp.asarray(second), jnp.asarray(valid), axis_name
    )
    return jnp.where(count > 0, agreement + off_diagonal * redundancy, 0), jnp.minimum(count, 1)


@loss(
    "(n,d),(n,d)->()",
    domains={"similarity": "[0, inf)", "variance": "[0, inf)", "covariance": "[0, inf)", "eps": "[0, inf)"},
    static=("axis_name",),
)
def vicreg_loss(
    first: Vector,
    second: Vector,
    *,
    similarity: Real = 25.0,
    variance: Real = 25.0,
    covariance: Real = 1.0,
    eps: Real = 1e-4,
    valid: Boolean | None = None,
    axis_name: AxisName | None = None,
    **options: Unpack[ReductionOptions],
) -> tuple[Array, Array]:
    r"""Distance of two views of the same items, with a variance of at least 1 and no covariance of their features.

    $$l = \frac{\lambda}{N D} \sum_{n, j} (x_{nj} - y_{nj})^2 + \frac{\mu}{2} \bigl( v(x) + v(y) \bigr)
    + \nu \bigl( c(x) + c(y) \bigr)$$

    $$v(x) = \frac1D \sum_j \max\Bigl( 0,\, 1 - \sqrt{\operatorname{Var}_j(x) + \epsilon} \Bigr), \qquad
    c(x) = \frac1D \sum_{i \ne j} \operatorname{Cov}_{ij}(x)^2$$

    with variances and covariances over the N items, divided by N - 1. This is the authors' code, which halves the
    variance term of the paper. The variances and covariances of a single item are 0.

    They are those of the items of one call, so the mean over micro-batches is not the loss of the batch:
    `jaxloss.accumulated` computes another loss. With `axis_name`, it is the loss of the items of all devices.

    Args:
      first: floating `(..., N, D)`: $x$, the features of one view, an item per row.
      second: floating, the same shape: $y$, the features of the other view of the same items.
      similarity: at least 0: $\lambda$. A number, or an array with one value per set.
      variance: at least 0: $\mu$. A number, or an array with one value per set.
      covariance: at least 0: $\nu$. A number, or an array with one value per set.
      eps: at least 0: $\epsilon$, which bounds the slope of the square root; not differentiated. A number, or an array
        with one value per set.
      valid: boolean, `(..., N)` or `(N,)`: which items exist. None means all.
      axis_name: inside `shard_map`, the mesh axis (or axes) over which the items are split, the same number on each
        device. Devices exchange the bounds, the sums and the second moments of features, 2 D² + 8 D + 2 numbers, and
        nothing in the backward pass.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per set. A set without valid items has loss 0 and
      normaliser 0. With `axis_name`, each device has the loss of all items; do not add up the losses of devices.

    Raises:
      ValueError: shapes do not fit, a number is negative, or no axis is called `axis_name`.
      TypeError: an array is not floating.

    Reference:
      Bardes et al., VICReg: variance-invariance-covariance regularization for self-supervised learning, ICLR 2022,
      equations 1 to 6, with the scaling of the code at github.com/facebookresearch/vicreg.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> first = jnp.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
      >>> print(jaxloss.vicreg_loss(first, -first), jaxloss.vicreg_loss(first, 0 * first))
      200.0 62.375
    """
    require_split("vicreg_loss", axis_name, "the items are")
    first, second = jnp.asarray(first), jnp.asarray(second)
    found = moments.spread(first, second, jnp.asarray(valid), jnp.asarray(eps, first.dtype), axis_name)
    size = jnp.maximum(found.items * first.shape[1], 1)
    distance = jnp.sum(numerics.square(first - second) / size)
    distance = distance if axis_name is None else lax.psum(distance, axis_name)
    hinges = [jnp.mean(kinks.positive_part(1 - deviation)) / 2 for deviation in found.deviations]
    terms = (similarity, distance), (variance, hinges[0] + hinges[1]), (covariance, jnp.add(*found.covariances))
    weighted = (numerics.weighted(jnp.asarray(weight, term.dtype), term) for weight, term in terms)
    return jnp.where(found.items > 0, functools.reduce(operator.add, weighted), 0), jnp.minimum(found.items, 1)
