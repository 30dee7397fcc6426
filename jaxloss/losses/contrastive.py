"""Contrastive losses of pairs: each query has a key, and the keys of others are its negatives."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp
from jax import Array

from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss import _positive as positive
from jaxloss import _ring as ring
from jaxloss import _sets as sets
from jaxloss import _two_directions as two_directions
from jaxloss._arrays import Boolean, Real, Vector
from jaxloss._decorator.batching import BatchLoss
from jaxloss._decorator.lift import batch_loss
from jaxloss._exp_sums import largest_and_sum, log_sum_exp
from jaxloss._lookup import at_class, leaves_out
from jaxloss._sharding import AxisName
from jaxloss.options import SetOptions

_SET = {"temperature": "(0, inf)", "chunk_size": "[1, inf)"}
_STATIC = ("chunk_size", "axis_name")


@batch_loss("(n,d),(n,d)->(n)", domains=_SET, static=_STATIC)
def info_nce_loss(
    queries: Vector,
    keys: Vector,
    *,
    temperature: Real = 0.07,
    symmetric: bool = False,
    normalize: bool = True,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    where: Boolean | None = None,
    **options: Unpack[SetOptions],
) -> BatchLoss:
    r"""Cross-entropy of the pair of each query among all keys; if symmetric, CLIP's loss.

    $$l_i = -\log \frac{e^{s_{ii} / \tau}}{\sum_j e^{s_{ij} / \tau}}, \qquad s_{ij} = q_i \cdot k_j$$

    With `symmetric`, the mean of that and of the same with queries and keys exchanged. Similarities are computed in
    chunks of queries, together with their gradients, so that no array has N² entries.

    The mean over micro-batches is another loss, because each item meets fewer candidates. "Gradient caching" in the
    recipes for embeddings gives the gradient of the whole set.

    Args:
      queries: floating `(..., N, D)`: $q$.
      keys: floating, the same shape: $k$. The pair of a query is the key with the same index.
      temperature: above 0: $\tau$. A number, or an array with one value per set.
      symmetric: whether the loss of item i is the mean over the two directions.
      normalize: whether vectors are first brought to length 1, so that similarities are cosines. A zero vector then has
        similarity 0 and gradient 0.
      chunk_size: the maximum number of anchors whose similarities are in memory at a time, a Python number of at least
        1. None means at least 128, and as many as have 2²¹ similarities, on a CPU; elsewhere at least 512, and 8 · 2²⁰.
      axis_name: inside `shard_map`, the mesh axis (or axes) over which the items are split. The items of this device
        are anchors, and the items of all devices are candidates. The totals of the devices add up to that of all.
      where: boolean `(..., N)`: which items count. A masked item is neither an anchor nor a candidate.
      options: `weights`, `reduction`: see `jaxloss.SetOptions`. Weights multiply the loss of an item as an anchor.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per item. Products are in float32 or wider; without
      `normalize`, they are in the dtype of the vectors, and their sums in float32 or wider.

    Raises:
      ValueError: shapes do not fit, an option is out of its range, or no axis is called `axis_name`.
      TypeError: `queries` or `keys` is not floating, or the loss is differentiated in forward mode
        (`jax.jvp`, `jax.jacfwd`). Its gradient may be, as for a Hessian.

    Reference:
      van den Oord et al., Representation learning with contrastive predictive coding, 2018, equation 4; Radford et al.,
      Learning transferable visual models from natural language supervision, ICML 2021, figure 3 (symmetric).

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> queries, keys = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([[3.0, 0.0], [4.0, 3.0]])
      >>> print(jaxloss.info_nce_loss(queries, keys, temperature=0.5, reduction="none").round(4))
      [0.513  0.2633]
    """
    queries, keys = sets.prepared(queries, normalize), sets.prepared(keys, normalize)

    given: Any = {"chunk_size": chunk_size, "normalized": normalize, "numbers": {"temperature": temperature}}

    def towards(anchors: Array, others: Array) -> BatchLoss:
        if sets.is_passed_around("info_nce_loss", others, axis_name):
            own = sets.losses_of_rows(_own_logit, anchors, sets.Candidates.of("", others, where), **given)
            totals = sets.around_ring(_log_total, ring.LOG_SUM_EXP, anchors, others, where, axis_name, **given)
            return sets.from_losses(numerics.difference(totals, own.losses()))
        candidates = sets.Candidates.of("info_nce_loss", others, where, axis_name=axis_name)
        return sets.losses_of_rows(_info_nce, anchors, candidates, **given)

    if not symmetric:
        return towards(queries, keys)
    # Gradients of vectors in half precision would be rounded before a loss scale multiplies them.
    if axis_name is None and all(jnp.finfo(x.dtype).bits >= 32 for x in (queries, keys)):
        return two_directions.mean_of_directions(_surprise, queries, keys, where, **given)
    return sets.mean_of(towards(queries, keys), towards(keys, queries))


def _log_total(row: sets.Row, numbers: sets.Numbers) -> Array:
    logits = logits_of(row, numbers)
    among = jnp.ones(logits.shape, bool) if row.exists is None else row.exists | row.own
    return log_sum_exp(logits, among)


def _own_logit(row: sets.Row, numbers: sets.Numbers) -> Array:
    return jnp.sum(jnp.where(row.own, logits_of(row, numbers), 0))


def _info_nce(row: sets.Row, numbers: sets.Numbers) -> Array:
    return _surprise(row, numbers)[0]


def _surprise(row: sets.Row, numbers: sets.Numbers) -> tuple[Array, Array, Array, Array]:
    """The loss, the logits, the largest of them, and the log of the sum of exponentials relative to it."""
    assert row.index is not None
    logits = logits_of(row, numbers)
    # The anchor's own pair counts even if it is masked, so that every loss is finite.
    among = None if row.exists is None else row.exists | row.own
    largest, rest = largest_and_sum(logits, among, row.index)
    surprise, log_sum = numerics.surprise(at_class(logits, row.index) - largest, rest, leaves_out())
    return surprise, logits, largest, log_sum


@batch_loss("(n,d),(n,d)->(n)", domains={"chunk_size": "[1, inf)"}, static=_STATIC)
def siglip_loss(
    queries: Vector,
    keys: Vector,
    *,
    scale: Real = 10.0,
    bias: Real = -10.0,
    normalize: bool = True,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    where: Boolean | None = None,
    **options: Unpack[SetOptions],
) -> BatchLoss:
    r"""Logistic loss of every pair of a query and a key: is it a pair of the set?

    $$l_i = \sum_j \log\bigl(1 + e^{-z_{ij} (a\, s_{ij} + b)}\bigr), \qquad s_{ij} = q_i \cdot k_j, \qquad
    z_{ij} = \begin{cases} 1 & i = j \\ -1 & i \neq j \end{cases}$$

    Each pair is a problem of its own, without a softmax over the set. The mean over queries is the loss of the paper.

    The mean over micro-batches is another loss, because each item meets fewer candidates. "Gradient caching" in the
    recipes for embeddings gives the gradient of the whole set.

    Args:
      queries: floating `(..., N, D)`: $q$.
      keys: floating, the same shape: $k$. The pair of a query is the key with the same index.
      scale: $a$, usually a parameter that is learned as the exponential of another. A number, or an array with one
        value per set.
      bias: $b$, usually learned too. It starts low, because almost all pairs are negative.
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
      TypeError: `queries` or `keys` is not floating, or the loss is differentiated in forward mode
        (`jax.jvp`, `jax.jacfwd`). Its gradient may be, as for a Hessian.

    Reference:
      Zhai et al., Sigmoid loss for language image pre-training, ICCV 2023, equation 2.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> queries, keys = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([[3.0, 0.0], [4.0, 3.0]])
      >>> print(jaxloss.siglip_loss(queries, keys, bias=-5.0, reduction="none").round(4))
      [3.0553 0.32  ]
    """
    queries, keys = sets.prepared(queries, normalize), sets.prepared(keys, normalize)
    given: Any = {"chunk_size": chunk_size, "normalized": normalize, "numbers": {"scale": scale, "bias": bias}}
    if sets.is_passed_around("siglip_loss", keys, axis_name):
        losses = sets.around_ring(_siglip, ring.SUM, queries, keys, where, axis_name, **given)
        return sets.from_losses(losses)
    candidates = sets.Candidates.of("siglip_loss", keys, where, axis_name=axis_name)
    return sets.losses_of_rows(_siglip, queries, candidates, **given)


def _siglip(row: sets.Row, numbers: sets.Numbers) -> Array:
    logits = numerics.finite(row.similarities * numbers["scale"] + numbers["bias"])
    losses = logistic.softplus(jnp.where(row.own, -logits, logits))
    return jnp.sum(losses if row.exists is None else jnp.where(row.exists, losses, 0))


def logits_of(row: sets.Row, numbers: sets.Numbers) -> Array:
    return positive.divided(row.similarities, jnp.asarray(numbers["temperature"]))
