"""Contrastive losses: the items of a batch are each other's positives and negatives."""

from __future__ import annotations

from typing import Unpack

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss import _sets as sets
from jaxloss import _special as special
from jaxloss._arrays import Boolean, Real, Vector
from jaxloss._class_axis import ClassAxis
from jaxloss._decorator.batching import BatchLoss
from jaxloss._decorator.lift import batch_loss
from jaxloss._sharding import AxisName
from jaxloss.losses.softmax import softmax_cross_entropy
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
    queries, keys = sets.prepared(queries, normalize), sets.prepared(keys, normalize)

    def towards(anchors: Array, others: Array) -> BatchLoss:
        candidates = sets.Candidates.of("info_nce_loss", others, where, axis_name=axis_name)
        return sets.losses_of_rows(_info_nce, anchors, candidates, chunk_size=chunk_size, temperature=temperature)

    return sets.mean_of(towards(queries, keys), towards(keys, queries)) if symmetric else towards(queries, keys)


def _info_nce(row: sets.Row, numbers: sets.Numbers) -> Array:
    m = row.similarities.shape[0]
    # The anchor's own pair counts even if it is masked, so that every loss is finite.
    classes = ClassAxis(m, None, m, None if row.exists is None else row.exists | row.own)
    return softmax_cross_entropy(classes, _logits(row, numbers), row.index, None, 0.0, 0.0, None)[0]


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
    queries, keys = sets.prepared(queries, normalize), sets.prepared(keys, normalize)
    candidates = sets.Candidates.of("siglip_loss", keys, where, axis_name=axis_name)
    return sets.losses_of_rows(_siglip, queries, candidates, chunk_size=chunk_size, scale=scale, bias=bias)


def _siglip(row: sets.Row, numbers: sets.Numbers) -> Array:
    logits = numerics.finite(row.similarities * numbers["scale"] + numbers["bias"])
    losses = logistic.softplus(jnp.where(row.own, -logits, logits))
    return jnp.sum(losses if row.exists is None else jnp.where(row.exists, losses, 0))


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
    items = sets.LabelledItems.of("ntxent_loss", embeddings, labels, where, normalize, axis_name)
    return items.losses(_ntxent, items.n_positives, chunk_size, temperature=temperature)


def _ntxent(row: sets.Row, numbers: sets.Numbers) -> Array:
    logits = _logits(row, numbers)
    of_negatives = special.log_sum_exp(logits, row.negatives)
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
    items = sets.LabelledItems.of("supcon_loss", embeddings, labels, where, normalize, axis_name)
    return items.losses(_supcon, items.n_positives > 0, chunk_size, temperature=temperature)


def _supcon(row: sets.Row, numbers: sets.Numbers) -> Array:
    logits, positives = _logits(row, numbers), row.positives
    surprises = special.log_sum_exp(logits, row.others) - logits
    count = jnp.sum(positives, dtype=logits.dtype)
    return jnp.sum(jnp.where(positives, surprises, 0)) / jnp.maximum(count, 1)


def _logits(row: sets.Row, numbers: sets.Numbers) -> Array:
    return numerics.finite(row.similarities / numbers["temperature"])


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
    items = sets.LabelledItems.of("multi_similarity_loss", embeddings, labels, where, normalize, axis_name)
    return items.losses(_multi_similarity, None, chunk_size, alpha=alpha, beta=beta, base=base)


def _multi_similarity(row: sets.Row, numbers: sets.Numbers) -> Array:
    def part(scale: Real, among: Array) -> Array:
        return logistic.softplus(special.log_sum_exp(numerics.finite(scale * excess), among))

    alpha, beta, excess = numbers["alpha"], numbers["beta"], row.similarities - numbers["base"]
    return part(-alpha, row.positives) / alpha + part(beta, row.negatives) / beta


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
    items = sets.LabelledItems.of("circle_loss", embeddings, labels, where, normalize, axis_name)
    counts = (items.n_positives > 0) & (items.n_negatives > 0)
    return items.losses(_circle, counts, chunk_size, margin=margin, gamma=gamma)


def _circle(row: sets.Row, numbers: sets.Numbers) -> Array:
    s, m, gamma = row.similarities, numbers["margin"], numbers["gamma"]
    # The paces are constants. The logits of both halves of the circle are -gamma pace (s - 1 + m) and gamma pace (s - m).
    is_positive = row.has_label
    pace = lax.stop_gradient(jnp.maximum(jnp.where(is_positive, 1 + m - s, s + m), 0))
    logits = numerics.finite(gamma * pace * jnp.where(is_positive, 1 - m - s, s - m))
    total = special.log_sum_exp(logits, row.positives) + special.log_sum_exp(logits, row.negatives)
    return logistic.softplus(total)
