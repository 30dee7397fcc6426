"""Losses of triplets that are chosen within a set."""

from __future__ import annotations

import dataclasses
from typing import Unpack

import jax.numpy as jnp
from jax import Array

from jaxloss import _distances as distances
from jaxloss import _hard_pairs as hard_pairs
from jaxloss import _labelled_items as labelled
from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss import _sets as sets
from jaxloss import kinks, vectors
from jaxloss._arrays import Boolean, Real, Vector, compute_dtype
from jaxloss._decorator.batching import BatchLoss
from jaxloss._decorator.lift import batch_loss, loss
from jaxloss._sharding import AxisName
from jaxloss.options import SetOptions

_DOMAINS = {"kink_width": "[0, inf)", "chunk_size": "[1, inf)"}
_STATIC = ("chunk_size", "axis_name")


@loss("(n,d),(n)->(n)", domains=_DOMAINS, static=_STATIC)
def batch_hard_triplet_loss(
    embeddings: Vector,
    labels: Vector,
    *,
    margin: Real = 1.0,
    soft: bool = False,
    kink_width: Real | None = None,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    where: Boolean | None = None,
    **options: Unpack[SetOptions],
) -> tuple[Array, Array]:
    r"""Triplet loss of each item, its farthest positive and its nearest negative.

    $$l_i = \max\Bigl(0,\, \max_{p \in P_i} \|x_i - x_p\| - \min_{n \in N_i} \|x_i - x_n\| + m\Bigr)$$

    With `soft`, it is $\log(1 + e^\Delta)$ of the same difference $\Delta$. The positives $P_i$ are the other items
    with the label of item i, and the negatives $N_i$ are those with another. An item without one of them has $l = 0$
    and $n = 0$: it does not count in a mean. The triplets are those of `jaxloss.miners.batch_hard`.

    The mean over micro-batches is another loss, because each item meets fewer candidates. "Gradient caching" in the
    recipes for embeddings gives the gradient of the whole set.

    Args:
      embeddings: floating `(..., N, D)`: $x$, one for each item of a set.
      labels: integer `(..., N)`, of any value. They are compared with each other and nothing else.
      margin: $m$. A number, or an array with one value per set. It has no effect with `soft`.
      soft: whether the soft margin replaces the hinge.
      kink_width: half-width of the ramp that the derivative follows at the kinks of the loss and of the distance, at
        least 0. None means one machine epsilon. See `jaxloss.kinks`.
      chunk_size: the maximum number of anchors per chunk, as in `info_nce_loss`.
      axis_name: inside `shard_map`, the mesh axis (or axes) over which the items are split, as in `info_nce_loss`.
      where: boolean `(..., N)`: which items count. A masked item is neither an anchor nor a candidate.
      options: `weights`, `reduction`: see `jaxloss.SetOptions`. Weights multiply the loss of an item as an anchor.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per item.

    Raises:
      ValueError: shapes do not fit, an option is out of its range, or no axis is called `axis_name`.
      TypeError: `embeddings` is not floating, `labels` is not integer.

    Reference:
      Hermans et al., In defense of the triplet loss for person re-identification, 2017, equation 5.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> embeddings, labels = jnp.array([[0.0], [1.0], [3.0], [7.0]]), jnp.array([0, 0, 1, 1])
      >>> print(jaxloss.batch_hard_triplet_loss(embeddings, labels, reduction="none"))
      [0. 0. 3. 0.]
    """
    embeddings = jnp.asarray(embeddings)
    candidates = sets.Candidates.of("batch_hard_triplet_loss", embeddings, where, labels, axis_name)
    pairs = hard_pairs.hardest_pairs(embeddings, jnp.asarray(labels), candidates, chunk_size)
    width = kinks.resolve_width("batch_hard_triplet_loss", embeddings, kink_width)
    # In this unit, no distance overflows, so that no difference is infinity minus infinity.
    unit = vectors.unit(embeddings.shape[1])

    def distance(x: Array, y: Array) -> Array:
        return vectors.norm(x / unit - y / unit, kink_width=width / unit)

    positive, negative = candidates.vectors[pairs.positive], candidates.vectors[pairs.negative]
    gap = unit * (distance(embeddings, positive) - distance(embeddings, negative))
    losses = logistic.softplus(gap) if soft else kinks.positive_part(gap + margin, width)
    exist = pairs.exist.astype(losses.dtype)
    return numerics.weighted(exist, losses), exist


@batch_loss("(n,d),(n)->(n)", domains=_DOMAINS, static=_STATIC)
def semi_hard_triplet_loss(
    embeddings: Vector,
    labels: Vector,
    *,
    margin: Real = 1.0,
    kink_width: Real | None = None,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    where: Boolean | None = None,
    **options: Unpack[SetOptions],
) -> BatchLoss:
    r"""Triplet loss of each item and positive, with the nearest negative that is farther than the positive.

    $$l_i = \sum_{p \in P_i} \max(0,\, d_{ip} - d_{i\,n(p)} + m), \qquad
    n(p) = \operatorname*{argmin}_{n \in N_i,\; d_{in} > d_{ip}} d_{in}, \qquad d_{ij} = \|x_i - x_j\|$$

    If no negative is farther, n(p) is the farthest. The positives $P_i$ are the other items with the label of item i,
    and the negatives $N_i$ are those with another. The normaliser is the number of positives, or 0 without negatives.

    Distances are exact also for close embeddings. Gradients are products of matrices, so their rounding errors are
    those of the largest embedding.

    The mean over micro-batches is another loss, because each item meets fewer candidates. "Gradient caching" in the
    recipes for embeddings gives the gradient of the whole set.

    Args:
      embeddings: floating `(..., N, D)`: $x$, one for each item of a set.
      labels: integer `(..., N)`, of any value. They are compared with each other and nothing else.
      margin: $m$. A number, or an array with one value per set.
      kink_width: half-width of the ramp that the derivative follows at the kinks of the loss and of the distance, at
        least 0. None means one machine epsilon. See `jaxloss.kinks`.
      chunk_size: the maximum number of anchors per chunk, as in `info_nce_loss`.
      axis_name: inside `shard_map`, the mesh axis (or axes) over which the items are split, as in `info_nce_loss`.
      where: boolean `(..., N)`: which items count. A masked item is neither an anchor nor a candidate.
      options: `weights`, `reduction`: see `jaxloss.SetOptions`. Weights multiply the loss of an item as an anchor.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per item. Products are in float32 or wider.

    Raises:
      ValueError: shapes do not fit, an option is out of its range, or no axis is called `axis_name`.
      TypeError: `embeddings` is not floating, `labels` is not integer, or the loss is differentiated in forward mode
        (`jax.jvp`, `jax.jacfwd`). Its gradient may be, as for a Hessian.

    Reference:
      Schroff et al., FaceNet: a unified embedding for face recognition and clustering, CVPR 2015, section 3.2, which
      squares the distances; in this form in TensorFlow Addons' `TripletSemiHardLoss`.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> embeddings, labels = jnp.array([[0.0], [1.0], [3.0], [7.0]]), jnp.array([0, 0, 1, 1])
      >>> print(jaxloss.semi_hard_triplet_loss(embeddings, labels, reduction="none"))
      [0. 0. 2. 0.]
    """
    embeddings = jnp.asarray(embeddings)
    embeddings = embeddings.astype(compute_dtype([embeddings]))
    items = labelled.LabelledItems.of("semi_hard_triplet_loss", embeddings, labels, where, False, axis_name)
    width = kinks.resolve_width("semi_hard_triplet_loss", embeddings, kink_width)
    unit = distances.unit_of(items.candidates.vectors)
    losses = distances.losses_of_rows(_semi_hard, items, unit, width, chunk_size=chunk_size, numbers={"margin": margin})
    counts = jnp.where(items.n_negatives > 0, items.n_positives, 0).astype(embeddings.dtype)
    return dataclasses.replace(losses, normalisers=counts)


def _semi_hard(row: sets.Row, numbers: sets.Numbers) -> Array:
    unit = numbers["unit"]
    # The excess of a distance is linear in the unit.
    total = distances.semi_hard_sum(
        row.similarities, numbers["margin"] / unit, row.positives, row.negatives, numbers["width"]
    )
    return unit * total
