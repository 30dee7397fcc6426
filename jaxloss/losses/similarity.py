"""Similarities of positives and negatives, weighted by how far they are from where they should be."""

from __future__ import annotations

from typing import Unpack

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _labelled_items as labelled
from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss import _sets as sets
from jaxloss._arrays import Boolean, Real, Vector
from jaxloss._decorator.batching import BatchLoss
from jaxloss._decorator.lift import batch_loss
from jaxloss._exp_sums import log_sum_exp
from jaxloss._sharding import AxisName
from jaxloss.options import SetOptions

_STATIC = ("chunk_size", "axis_name")


@batch_loss(
    "(n,d),(n)->(n)",
    domains={"alpha": "(0, inf)", "beta": "(0, inf)", "chunk_size": "[1, inf)"},
    static=_STATIC,
)
def multi_similarity_loss(
    embeddings: Vector,
    labels: Vector,
    *,
    alpha: Real = 2.0,
    beta: Real = 50.0,
    base: Real = 0.5,
    normalize: bool = True,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    where: Boolean | None = None,
    **options: Unpack[SetOptions],
) -> BatchLoss:
    r"""Soft maxima of the similarities of an item with its positives and with its negatives.

    $$l_i = \frac1\alpha \log\Bigl(1 + \sum_{p \in P_i} e^{-\alpha (s_{ip} - \lambda)}\Bigr)
    + \frac1\beta \log\Bigl(1 + \sum_{n \in N_i} e^{\beta (s_{in} - \lambda)}\Bigr), \qquad s_{ij} = x_i \cdot x_j$$

    The positives $P_i$ are the other items with the label of item i, and the negatives $N_i$ are those with another.
    All pairs count, without the mining step of the paper.

    The mean over micro-batches is another loss, because each item meets fewer candidates. "Gradient caching" in the
    recipes for embeddings gives the gradient of the whole set.

    Args:
      embeddings: floating `(..., N, D)`: $x$, one for each item of a set.
      labels: integer `(..., N)`, of any value. They are compared with each other and nothing else.
      alpha: above 0: $\alpha$, the steepness for positives. A number, or an array with one value per set.
      beta: above 0: $\beta$, the steepness for negatives.
      base: $\lambda$, the similarity from which pairs count.
      normalize: whether vectors are first brought to length 1, as in `info_nce_loss`.
      chunk_size: the maximum number of anchors per chunk, as in `info_nce_loss`.
      axis_name: inside `shard_map`, the mesh axis (or axes) over which the items are split, as in `info_nce_loss`.
      where: boolean `(..., N)`: which items count. A masked item is neither an anchor nor a candidate.
      options: `weights`, `reduction`: see `jaxloss.SetOptions`. Weights multiply the loss of an item as an anchor.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per item. Products are in float32 or wider; without
      `normalize`, they are in the dtype of the vectors, and their sums in float32 or wider.

    Raises:
      ValueError: shapes do not fit, an option is out of its range, or no axis is called `axis_name`.
      TypeError: `embeddings` is not floating, `labels` is not integer, or the loss is differentiated in forward mode
        (`jax.jvp`, `jax.jacfwd`). Its gradient may be, as for a Hessian.

    Reference:
      Wang et al., Multi-similarity loss with general pair weighting for deep metric learning, CVPR 2019, equation 15.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> embeddings = jnp.array([[1.0, 0.0], [4.0, 3.0], [0.0, 1.0], [3.0, 4.0]])
      >>> print(jaxloss.multi_similarity_loss(embeddings, jnp.array([0, 0, 1, 1]), reduction="none").round(4))
      [0.3189 0.6787 0.3189 0.6787]
    """
    items = labelled.LabelledItems.of("multi_similarity_loss", embeddings, labels, where, normalize, axis_name)
    return items.losses(
        _multi_similarity, None, chunk_size=chunk_size, numbers={"alpha": alpha, "beta": beta, "base": base}
    )


def _multi_similarity(row: sets.Row, numbers: sets.Numbers) -> Array:
    def part(excess: Array, among: Array, steepness: Real) -> Array:
        steepness = jnp.asarray(steepness, excess.dtype)
        return logistic.softplus_of_sum(excess, among, steepness, 1 / steepness)

    s, base = row.similarities, numbers["base"]
    return part(base - s, row.positives, numbers["alpha"]) + part(s - base, row.negatives, numbers["beta"])


@batch_loss("(n,d),(n)->(n)", domains={"gamma": "(0, inf)", "chunk_size": "[1, inf)"}, static=_STATIC)
def circle_loss(
    embeddings: Vector,
    labels: Vector,
    *,
    margin: Real = 0.4,
    gamma: Real = 80.0,
    normalize: bool = True,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    where: Boolean | None = None,
    **options: Unpack[SetOptions],
) -> BatchLoss:
    r"""Circle loss: pairs are weighted by how far their similarity is from its optimum.

    $$l_i = \log\Bigl(1 + \sum_{p \in P_i} e^{-\gamma\, [1 + m - s_{ip}]_+ (s_{ip} - 1 + m)}
    \sum_{n \in N_i} e^{\gamma\, [s_{in} + m]_+ (s_{in} - m)}\Bigr), \qquad s_{ij} = x_i \cdot x_j$$

    The positives $P_i$ are the other items with the label of item i, and the negatives $N_i$ are those with another.
    The weights $[\cdot]_+ = \max(0, \cdot)$ are constants of the gradient. An item without positives or without
    negatives has $l = 0$ and $n = 0$: it does not count in a mean.

    The mean over micro-batches is another loss, because each item meets fewer candidates. "Gradient caching" in the
    recipes for embeddings gives the gradient of the whole set.

    Args:
      embeddings: floating `(..., N, D)`: $x$, one for each item of a set.
      labels: integer `(..., N)`, of any value. They are compared with each other and nothing else.
      margin: $m$. A number, or an array with one value per set.
      gamma: above 0: $\gamma$, the scale.
      normalize: whether vectors are first brought to length 1, as in `info_nce_loss`.
      chunk_size: the maximum number of anchors per chunk, as in `info_nce_loss`.
      axis_name: inside `shard_map`, the mesh axis (or axes) over which the items are split, as in `info_nce_loss`.
      where: boolean `(..., N)`: which items count. A masked item is neither an anchor nor a candidate.
      options: `weights`, `reduction`: see `jaxloss.SetOptions`. Weights multiply the loss of an item as an anchor.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per item. Products are in float32 or wider; without
      `normalize`, they are in the dtype of the vectors, and their sums in float32 or wider.

    Raises:
      ValueError: shapes do not fit, an option is out of its range, or no axis is called `axis_name`.
      TypeError: `embeddings` is not floating, `labels` is not integer, or the loss is differentiated in forward mode
        (`jax.jvp`, `jax.jacfwd`). Its gradient may be, as for a Hessian.

    Reference:
      Sun et al., Circle loss: a unified perspective of pair similarity optimization, CVPR 2020, equation 6.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> embeddings = jnp.array([[1.0, 0.0], [4.0, 3.0], [0.0, 1.0], [3.0, 4.0]])
      >>> print(jaxloss.circle_loss(embeddings, jnp.array([0, 0, 1, 1]), gamma=2.0, reduction="none").round(4))
      [1.0097 1.7547 1.0097 1.7547]
    """
    items = labelled.LabelledItems.of("circle_loss", embeddings, labels, where, normalize, axis_name)
    counts = (items.n_positives > 0) & (items.n_negatives > 0)
    return items.losses(_circle, counts, chunk_size=chunk_size, numbers={"margin": margin, "gamma": gamma})


def _circle(row: sets.Row, numbers: sets.Numbers) -> Array:
    m, gamma = numbers["margin"], numbers["gamma"]
    # The anchor itself has no part in it, but its similarity may be so large that its gradient is 0 times infinity.
    s = jnp.where(row.positives | row.negatives, row.similarities, 0)
    # The logits are -gamma pace (s - 1 + m) for positives and gamma pace (s - m) for negatives.
    is_positive = row.positives
    pace = lax.stop_gradient(jnp.maximum(jnp.where(is_positive, 1 + m - s, s + m), 0))
    logits = numerics.finite(numerics.finite(gamma * pace) * jnp.where(is_positive, 1 - m - s, s - m))
    total = log_sum_exp(logits, row.positives) + log_sum_exp(logits, row.negatives)
    return logistic.softplus(total)
