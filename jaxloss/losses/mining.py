"""Losses of triplets that are chosen within a set."""

from __future__ import annotations

import dataclasses
from typing import Unpack

import jax.numpy as jnp
from jax import Array

from jaxloss import _distances as distances
from jaxloss import _hard_pairs as hard_pairs
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
    embeddings = jnp.asarray(embeddings)
    embeddings = embeddings.astype(compute_dtype([embeddings]))
    items = sets.LabelledItems.of("semi_hard_triplet_loss", embeddings, labels, where, False, axis_name)
    width = kinks.resolve_width("semi_hard_triplet_loss", embeddings, kink_width)
    unit = distances.unit_of(items.candidates.vectors)
    losses = distances.losses_of_rows(_semi_hard, items, unit, width, chunk_size, margin=margin)
    counts = jnp.where(items.n_negatives > 0, items.n_positives, 0).astype(embeddings.dtype)
    return dataclasses.replace(losses, normalisers=counts)


def _semi_hard(row: sets.Row, numbers: sets.Numbers) -> Array:
    unit = numbers["unit"]
    # The excess of a distance is linear in the unit.
    total = distances.semi_hard_sum(
        row.similarities, numbers["margin"] / unit, row.positives, row.negatives, numbers["width"]
    )
    return unit * total
