"""Distances of an anchor from all candidates of a set, and the choice of semi-hard negatives among them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _scaling as scaling
from jaxloss import _sets as sets
from jaxloss import kinks
from jaxloss._decorator.batching import BatchLoss
from jaxloss._labelled_items import LabelledItems
from jaxloss._order import put_back


@jax.custom_jvp
def distances(products: Array, squares: tuple[Array, Array], points: tuple[Array, Array], width: Array) -> Array:
    """The Euclidean distances of a vector `(d,)` from candidates `(m, d)`.

    The value is computed from the differences, because squares minus twice a product would lose the digits of close
    vectors. The derivative is that of the products and the squares, so that gradients are matrix products too. It is a
    ramp of half-width `width` at distance 0, as in `vectors.norm`.
    """
    del products, squares, width
    vector, candidates = points
    return jnp.sqrt(jnp.sum((vector[None] - candidates) ** 2, axis=-1))


@distances.defjvp
def _distances_jvp(primals, tangents):
    width = primals[3]
    value = distances(*primals)
    by_products, (by_own, by_others), *_ = tangents
    per_width = 1 / jnp.maximum(width, jnp.finfo(value.dtype).tiny)
    share = jnp.where(value < width, value, 0) * per_width
    per_length = jnp.where(value < width, per_width * (3 - share * share) / 2, 1 / jnp.where(value > 0, value, 1))
    slope = jnp.where(value > 0, per_length, 0)
    return value, slope * ((by_own + by_others) / 2 - by_products)


@jax.custom_jvp
def semi_hard_sum(distances: Array, margin: Array, positives: Array, negatives: Array, width: Array) -> Array:
    """Σ max(0, d_p - d_n + m) over positives p, each with its nearest negative n that is farther, or the farthest."""
    excess, is_positive, *_ = _excess(distances, margin, positives, negatives)
    return jnp.sum(jnp.where(is_positive, kinks.positive_part(excess, width), 0))


@semi_hard_sum.defjvp
def _semi_hard_sum_jvp(primals, tangents):
    distances, margin, positives, negatives, width = primals
    excess, is_positive, is_negative, order = _excess(distances, margin, positives, negatives)
    slopes = jnp.where(is_positive, (1 + kinks.ramp(excess, width)) / 2, 0)
    # A negative has the slopes of the positives before it, as far as the negative before it. All are at most 1 and
    # almost all are 0 or 1, so that differences of their sums keep their digits.
    sums = jnp.cumsum(slopes)
    at_negatives = lax.cummax(jnp.where(is_negative, sums, 0))
    before = jnp.concatenate([jnp.zeros_like(sums[:1]), at_negatives[:-1]])
    # What comes after the farthest negative is its share too.
    is_farthest = is_negative & (jnp.cumsum(is_negative, dtype=jnp.int32) == jnp.sum(is_negative, dtype=jnp.int32))
    shares = jnp.where(is_farthest, sums[-1], sums) - before
    (gradient,) = put_back(order, jnp.where(is_negative, -shares, slopes))
    change = jnp.sum(gradient * tangents[0]) + jnp.sum(slopes) * tangents[1]
    return semi_hard_sum(*primals), change


def _excess(distances: Array, margin: Array, positives: Array, negatives: Array) -> tuple[Array, ...]:
    """Each positive's distance minus that of its negative, plus the margin; in the order of distances.

    Also which of them are positives and negatives, and their old places.
    """
    m = distances.shape[0]
    keys = jnp.where(positives | negatives, distances, jnp.inf)
    # Among equal distances, negatives come first, because a negative must be strictly farther.
    kinds = jnp.where(negatives, 0, jnp.where(positives, 1, 2))
    keys, places = lax.sort((keys, kinds * m + jnp.arange(m, dtype=jnp.int32)), num_keys=2)
    is_negative, is_positive = places < m, (places >= m) & (places < 2 * m)
    next_negative = lax.cummin(jnp.where(is_negative, keys, jnp.inf), reverse=True)
    farthest = jnp.max(jnp.where(is_negative, keys, -jnp.inf))
    chosen = jnp.where(next_negative < jnp.inf, next_negative, farthest)
    counts = is_positive & (farthest > -jnp.inf)
    excess = jnp.where(counts, keys, 0) - jnp.where(counts, chosen, 0) + margin
    return excess, counts, is_negative, places % m


def unit_of(x: Array) -> Array:
    """A power of two near the largest entry of each set `(..., n, d)`, in which squares do not overflow."""
    largest = jnp.max(jnp.abs(x), axis=(-2, -1), initial=0)
    # Bounded, so that neither a margin divided by the unit overflows nor a weight multiplied by it.
    return jnp.clip(scaling.power_of_two_near(largest), 2.0**-60, 2.0**100)


def losses_of_rows(
    formula: sets.Formula,
    items: LabelledItems,
    unit: Array,
    width: Array,
    chunk_size: int | None,
    numbers: sets.Numbers,
) -> BatchLoss:
    """`LabelledItems.losses` of a formula of distances in this unit. The number "width" is in the unit, too."""
    per_set = unit[..., None, None]
    anchors, candidates = items.anchors / per_set, items.candidates.vectors / per_set
    scaled = dataclasses.replace(
        items, anchors=anchors, candidates=dataclasses.replace(items.candidates, vectors=candidates)
    )
    return scaled.losses(
        formula,
        None,
        chunk_size=chunk_size,
        numbers=numbers,
        similarity=_of_products,
        of_candidates={
            "points": lax.stop_gradient(candidates),
            "squares": jnp.sum(candidates * candidates, axis=-1),
            "unit": unit,
            "width": jnp.broadcast_to(width, unit.shape) / unit,
        },
        of_anchors={"point": lax.stop_gradient(anchors), "square": jnp.sum(anchors * anchors, axis=-1)},
    )


def _of_products(products: Array, shared: Any, own: Any) -> Array:
    squares, points = (own["square"], shared["squares"]), (own["point"], shared["points"])
    return distances(products, squares, points, shared["width"])
