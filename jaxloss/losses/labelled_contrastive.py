"""Contrastive losses of labelled items: an item's positives have its label, and its negatives have another."""

from __future__ import annotations

from typing import Unpack

import jax.numpy as jnp
from jax import Array

from jaxloss import _labelled_items as labelled
from jaxloss import _logistic as logistic
from jaxloss import _sets as sets
from jaxloss._arrays import Boolean, Real, Vector
from jaxloss._decorator.batching import BatchLoss
from jaxloss._decorator.lift import batch_loss
from jaxloss._exp_sums import log_sum_exp
from jaxloss._sharding import AxisName
from jaxloss.losses.contrastive import logits_of
from jaxloss.options import SetOptions

_SET = {"temperature": "(0, inf)", "chunk_size": "[1, inf)"}
_STATIC = ("chunk_size", "axis_name")


@batch_loss("(n,d),(n)->(n)", domains=_SET, static=_STATIC)
def ntxent_loss(
    embeddings: Vector,
    labels: Vector,
    *,
    temperature: Real = 0.07,
    normalize: bool = True,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    where: Boolean | None = None,
    **options: Unpack[SetOptions],
) -> BatchLoss:
    r"""Normalised temperature-scaled cross-entropy: each positive of an item against all of its negatives (SimCLR).

    $$l_i = \sum_{p \in P_i} -\log \frac{e^{s_{ip} / \tau}}{e^{s_{ip} / \tau} + \sum_{n \in N_i} e^{s_{in} / \tau}},
    \qquad s_{ij} = x_i \cdot x_j, \qquad n_i = |P_i|$$

    The positives $P_i$ are the other items with the label of item i, and the negatives $N_i$ are those with another.
    The normaliser is the number of positives, so that a mean runs over positive pairs. The labels of two views of N
    images are `jnp.tile(jnp.arange(N), 2)`.

    The mean over micro-batches is another loss, because each item meets fewer candidates. "Gradient caching" in the
    recipes for embeddings gives the gradient of the whole set.

    Args:
      embeddings: floating `(..., N, D)`: $x$, one for each item of a set.
      labels: integer `(..., N)`, of any value. They are compared with each other and nothing else.
      temperature: above 0: $\tau$. A number, or an array with one value per set.
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
      Chen et al., A simple framework for contrastive learning of visual representations, ICML 2020, equation 1; with
      several positives, as in pytorch-metric-learning's `NTXentLoss`.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> embeddings = jnp.array([[1.0, 0.0], [4.0, 3.0], [0.0, 1.0], [3.0, 4.0]])
      >>> print(jaxloss.ntxent_loss(embeddings, jnp.array([0, 0, 1, 1]), temperature=0.5, reduction="none").round(4))
      [0.6271 1.1143 0.6271 1.1143]
    """
    items = labelled.LabelledItems.of("ntxent_loss", embeddings, labels, where, normalize, axis_name)
    return items.losses(_ntxent, items.n_positives, chunk_size=chunk_size, numbers={"temperature": temperature})


def _ntxent(row: sets.Row, numbers: sets.Numbers) -> Array:
    logits = logits_of(row, numbers)
    of_negatives = log_sum_exp(logits, row.negatives)
    return jnp.sum(jnp.where(row.positives, logistic.softplus(of_negatives - logits), 0))


@batch_loss("(n,d),(n)->(n)", domains=_SET, static=_STATIC)
def supcon_loss(
    embeddings: Vector,
    labels: Vector,
    *,
    temperature: Real = 0.07,
    normalize: bool = True,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    where: Boolean | None = None,
    **options: Unpack[SetOptions],
) -> BatchLoss:
    r"""Supervised contrastive loss: each positive of an item against all other items.

    $$l_i = -\frac{1}{|P_i|} \sum_{p \in P_i} \log \frac{e^{s_{ip} / \tau}}{\sum_{j \neq i} e^{s_{ij} / \tau}},
    \qquad s_{ij} = x_i \cdot x_j$$

    The positives $P_i$ are the other items with the label of item i. An item without positives has $l = 0$ and $n = 0$:
    it does not count in a mean.

    The mean over micro-batches is another loss, because each item meets fewer candidates. "Gradient caching" in the
    recipes for embeddings gives the gradient of the whole set.

    Args:
      embeddings: floating `(..., N, D)`: $x$, one for each item of a set.
      labels: integer `(..., N)`, of any value. They are compared with each other and nothing else.
      temperature: above 0: $\tau$. A number, or an array with one value per set.
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
      Khosla et al., Supervised contrastive learning, NeurIPS 2020, equation 2.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> embeddings = jnp.array([[1.0, 0.0], [4.0, 3.0], [0.0, 1.0], [3.0, 4.0]])
      >>> print(jaxloss.supcon_loss(embeddings, jnp.array([0, 0, 1, 2]), temperature=0.5, reduction="none").round(4))
      [0.6271 1.1143 0.     0.    ]
    """
    items = labelled.LabelledItems.of("supcon_loss", embeddings, labels, where, normalize, axis_name)
    return items.losses(_supcon, items.n_positives > 0, chunk_size=chunk_size, numbers={"temperature": temperature})


def _supcon(row: sets.Row, numbers: sets.Numbers) -> Array:
    logits, positives = logits_of(row, numbers), row.positives
    surprises = log_sum_exp(logits, row.others) - logits
    count = jnp.sum(positives, dtype=logits.dtype)
    return jnp.sum(jnp.where(positives, surprises, 0)) / jnp.maximum(count, 1)
