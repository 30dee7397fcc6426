"""Losses of a set of embeddings and a proxy for each class."""

from __future__ import annotations

from typing import Unpack

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _labelled_items as labelled
from jaxloss import _logistic as logistic
from jaxloss import _sets as sets
from jaxloss._arrays import Boolean, Real, Vector, compute_dtype
from jaxloss._decorator.batching import BatchLoss
from jaxloss._decorator.lift import batch_loss
from jaxloss._sharding import AxisName, vary_over, varying_axes
from jaxloss.options import ReductionOptions


@batch_loss(
    "(n,d),(c,d),(n)->()",
    indices={"target": "[0, c)"},
    domains={"alpha": "(0, inf)", "chunk_size": "[1, inf)"},
    parameters={"proxies": "(c,d)"},
    static=("chunk_size", "axis_name"),
)
def proxy_anchor_loss(
    embeddings: Vector,
    proxies: Vector,
    target: Vector,
    *,
    margin: Real = 0.1,
    alpha: Real = 32.0,
    valid: Boolean | None = None,
    normalize: bool = True,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    **options: Unpack[ReductionOptions],
) -> BatchLoss:
    r"""Loss of a set of embeddings and learned proxies, one for each class, which are the anchors.

    $$l = \frac{1}{|C^+|} \sum_{c \in C^+} \log\Bigl(1 + \sum_{i:\, y_i = c} e^{-\alpha (s_{ci} - m)}\Bigr)
    + \frac1C \sum_c \log\Bigl(1 + \sum_{i:\, y_i \neq c} e^{\alpha (s_{ci} + m)}\Bigr), \qquad s_{ci} = p_c \cdot x_i$$

    $C^+$ are the classes of the items of the set. Similarities are computed in chunks of proxies, together with their
    gradients.

    The mean over micro-batches is another loss, because each item meets fewer candidates. "Gradient caching" in the
    recipes for embeddings gives the gradient of the whole set.

    Args:
      embeddings: floating `(..., N, D)`: $x$, the items of a set.
      proxies: floating `(C, D)`: $p$, parameters of the loss.
      target: integer `(..., N)`, the class of each item, in [0, C): $y$.
      margin: $m$. A number, or an array with one value per set.
      alpha: above 0: $\alpha$, the steepness.
      valid: boolean `(..., N)`: which items exist, in a set with padding. None means all.
      normalize: whether vectors are first brought to length 1, as in `info_nce_loss`.
      chunk_size: the maximum number of proxies whose similarities are in memory at a time, a Python number of at least
        1. None means at least 128, and as many as have 2²¹ similarities, on a CPU; elsewhere at least 512, and 8 · 2²⁰.
      axis_name: inside `shard_map`, the mesh axis (or axes) over which the items are split, while each device has all
        proxies. A device computes the terms of a part of the proxies, for the items of all devices. The totals of the
        devices add up to that of all.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`. A sample is a set.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per set. NaN for a set with a class out of range. A
      set without items has loss and normaliser 0.

    Raises:
      ValueError: shapes do not fit, an option is out of its range, or no axis is called `axis_name`.
      TypeError: `embeddings` or `proxies` is not floating, `target` is not integer, or the loss is differentiated in
        forward mode (`jax.jvp`, `jax.jacfwd`). Its gradient may be, as for a Hessian.

    Reference:
      Kim et al., Proxy anchor loss for deep metric learning, CVPR 2020, equation 4.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> embeddings, proxies = jnp.array([[1.0, 0.0], [3.0, 4.0]]), jnp.array([[4.0, 3.0], [0.0, 1.0], [-1.0, 0.0]])
      >>> print(f"{jaxloss.proxy_anchor_loss(embeddings, proxies, jnp.array([0, 1]), alpha=2.0):.4f}")
      1.3734
    """
    x, anchors, target = (
        sets.prepared(embeddings, normalize),
        sets.prepared(proxies, normalize),
        jnp.asarray(target).astype(jnp.int32),
    )
    items = sets.Candidates.of("proxy_anchor_loss", x, valid, target, axis_name)
    batch_shape, c, devices, dtype = x.shape[:-2], anchors.shape[0], 1, compute_dtype([x])
    label = jnp.arange(c, dtype=jnp.int32)
    n_used = jnp.sum(labelled.count_labels(jnp.broadcast_to(label, (*batch_shape, c)), items) > 0, axis=-1)
    if axis_name is not None:
        # Each device has the terms of a part of the proxies, for the items of all.
        devices = lax.axis_size(axis_name)
        size = -(-c // devices)
        label = lax.axis_index(axis_name) * size + jnp.arange(size, dtype=jnp.int32)
        anchors = anchors.at[label].get(mode="fill", fill_value=0)
    # Varying over devices before they are repeated, so that devices send one gradient of the proxies.
    anchors = vary_over(anchors, varying_axes(x))
    anchors = sets.repeated(anchors, batch_shape)
    rows = sets.losses_of_rows(
        _proxy_anchor,
        anchors,
        items,
        jnp.broadcast_to(label, anchors.shape[:-1]),
        chunk_size=chunk_size,
        is_among_candidates=False,
        of_candidates={"share": (1 / jnp.maximum(n_used, 1)).astype(dtype)},
        numbers={"margin": margin, "alpha": alpha, "n_proxies": c},
    )
    is_proxy = jnp.broadcast_to(label < c, anchors.shape[:-1]).astype(dtype)
    any_item = jnp.ones(batch_shape, bool) if items.exists is None else jnp.any(items.exists, axis=-1)
    return BatchLoss(
        losses=lambda: jnp.sum(rows.losses() * is_proxy, axis=-1),
        weighted_sum=lambda weights: rows.weighted_sum(weights[..., None] * is_proxy),
        normalisers=any_item.astype(dtype) / devices,
    )


def _proxy_anchor(row: sets.Row, numbers: sets.Numbers) -> Array:
    """What one proxy adds: its positives count among the proxies that have some, its negatives among all."""
    s, margin, alpha = row.similarities, numbers["margin"], jnp.asarray(numbers["alpha"], row.similarities.dtype)
    share = jnp.asarray(1 / numbers["n_proxies"], s.dtype)
    of_positives = logistic.softplus_of_sum(margin - s, row.positives, alpha, numbers["share"])
    return of_positives + logistic.softplus_of_sum(s + margin, row.negatives, alpha, share)
