"""Losses of a set of embeddings and a proxy for each class."""

from __future__ import annotations

from typing import Unpack

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss import _sets as sets
from jaxloss import _special as special
from jaxloss._arrays import Boolean, Real, Vector
from jaxloss._decorator.batching import BatchLoss
from jaxloss._decorator.lift import batch_loss
from jaxloss._sharding import AxisName
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
    x, anchors, target = sets.prepared(embeddings, normalize), sets.prepared(proxies, normalize), jnp.asarray(target)
    items = sets.Candidates.of("proxy_anchor_loss", x, valid, target, axis_name)
    batch_shape, c, devices = x.shape[:-2], anchors.shape[0], 1
    label = jnp.arange(c, dtype=target.dtype)
    n_used = jnp.sum(sets.count_labels(jnp.broadcast_to(label, (*batch_shape, c)), items) > 0, axis=-1)
    if axis_name is not None:
        # Each device has the terms of a part of the proxies, for the items of all.
        devices = lax.axis_size(axis_name)
        size = -(-c // devices)
        label = lax.axis_index(axis_name) * size + jnp.arange(size, dtype=target.dtype)
        anchors = anchors.at[label].get(mode="fill", fill_value=0)
    anchors = jnp.broadcast_to(anchors, (*batch_shape, *anchors.shape))
    rows = sets.losses_of_rows(
        _proxy_anchor,
        anchors,
        items,
        jnp.broadcast_to(label, anchors.shape[:-1]),
        chunk_size=chunk_size,
        is_among_candidates=False,
        of_candidates={"share": (1 / jnp.maximum(n_used, 1)).astype(x.dtype)},
        margin=margin,
        alpha=alpha,
        n_proxies=c,
    )
    is_proxy = (label < c).astype(x.dtype)
    any_item = jnp.ones(batch_shape, bool) if items.exists is None else jnp.any(items.exists, axis=-1)
    return BatchLoss(
        losses=lambda: jnp.sum(rows.losses() * is_proxy, axis=-1),
        weighted_sum=lambda weights: rows.weighted_sum(weights[..., None] * is_proxy),
        normalisers=any_item.astype(x.dtype) / devices,
    )


def _proxy_anchor(row: sets.Row, numbers: sets.Numbers) -> Array:
    """What one proxy adds: its positives count among the proxies that have some, its negatives among all."""
    s, margin, alpha = row.similarities, numbers["margin"], numbers["alpha"]
    of_positives = special.log_sum_exp(numerics.finite(-alpha * (s - margin)), row.positives)
    of_negatives = special.log_sum_exp(numerics.finite(alpha * (s + margin)), row.negatives)
    return logistic.softplus(of_positives) * numbers["share"] + logistic.softplus(of_negatives) / numbers["n_proxies"]
