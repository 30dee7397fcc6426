"""Which candidates are the hardest for each item of a set, without the distances of all pairs in memory."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _scaling as scaling
from jaxloss._large_output.loops import Blocks, over_blocks, put_at
from jaxloss._large_output.tiling import Tiling, Tilings
from jaxloss._sets import Candidates, Row
from jaxloss._sharding import equally_varying, vary_over, varying_axes


class HardPairs(NamedTuple):
    """The hardest candidates of each item, as indices `(n,)`, and which items have them.

    Args:
      positive: the farthest other candidate with the label of the item.
      negative: the nearest candidate with another label.
      exist: whether there is a candidate of both kinds. If not, an index is 0.
    """

    positive: Array
    negative: Array
    exist: Array


class PairMasks(NamedTuple):
    """Which pairs of items are positives and which are negatives, each boolean `(..., n, n)`."""

    positives: Array
    negatives: Array


def hardest_pairs(x: Array, labels: Array, candidates: Candidates, chunk_size: int | None) -> HardPairs:
    """The hardest candidates of each item `(n, d)` of a set."""
    assert candidates.labels is not None
    m = candidates.vectors.shape[0]
    exists = jnp.ones(m, bool) if candidates.exists is None else candidates.exists
    own = candidates.first + jnp.arange(x.shape[0], dtype=jnp.int32)
    arrays = equally_varying((lax.stop_gradient((x, candidates.vectors)), labels, own, candidates.labels, exists))
    return HardPairs(*Tilings.of_set(candidates.vectors, chunk_size).per_platform(_hardest, arrays))


def _hardest(tiling: Tiling, arrays: tuple[tuple[Array, Array], Array, Array, Array, Array]) -> tuple[Array, ...]:
    (x, others), labels, own, all_labels, exists = arrays
    # The squared distances are sums of products, which lose fewer digits if the mean is taken off first.
    scale = scaling.power_of_two_near(jnp.max(jnp.abs(others), initial=0))
    x, others = x / scale, others / scale
    mean = jnp.mean(jnp.where(exists[:, None], others, 0), axis=0, keepdims=True)
    x, others = x - mean, jnp.where(exists[:, None], others - mean, 0)
    squares = jnp.sum(others * others, axis=-1)

    def of_row(farness: Array, label: Array, index: Array) -> tuple[Array, Array, Array]:
        row = Row(farness, index, exists, all_labels == label)
        positive = jnp.argmax(jnp.where(row.positives, farness, -jnp.inf)).astype(jnp.int32)
        negative = jnp.argmin(jnp.where(row.negatives, farness, jnp.inf)).astype(jnp.int32)
        return positive, negative, jnp.any(row.positives) & jnp.any(row.negatives)

    def step(carry: tuple[Array, ...], start: Array | int, block: tuple[Array, ...], inside: Array | None):
        del inside  # where blocks overlap, the same is found again
        x, labels, own = block
        products = jnp.dot(x, others.T, precision=lax.Precision.HIGHEST)
        # The squared distance without the square of the anchor.
        found = jax.vmap(of_row)(squares[None] - 2 * products, labels, own)
        return tuple(put_at(whole, start, part, 0) for whole, part in zip(carry, found, strict=True))

    axes = varying_axes(arrays)
    zeros = tuple(vary_over(jnp.zeros(x.shape[0], dtype), axes) for dtype in (jnp.int32, jnp.int32, bool))
    return over_blocks(step, zeros, (x, labels, own), Blocks.of(x.shape[0], tiling.rows), 0)
