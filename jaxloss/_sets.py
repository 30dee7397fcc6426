"""Losses of sets: a formula over the similarities of one item, the anchor, with all candidates.

The similarities are products of vectors, as the logits of an output layer are: an anchor is a row, and the candidates
are the columns of the kernel. So the loops are those of `_large_output.chunked`. The similarities of a chunk of anchors
are in memory at a time, and the gradients are computed together with the losses.

Items may be split over devices. Then each device has its own items as anchors, and gathers the candidates of all.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import max_dim

from jaxloss import _numerics as numerics
from jaxloss import vectors
from jaxloss._arrays import Boolean, Vector, compute_dtype, product_dtype
from jaxloss._decorator.batching import BatchLoss
from jaxloss._large_output import chunked as chunks
from jaxloss._large_output.layer import given as given_numbers
from jaxloss._large_output.matmul import needs_no_unit
from jaxloss._large_output.tiling import Tilings
from jaxloss._ring import Fold
from jaxloss._ring import around_ring as ring
from jaxloss._sharding import AxisName, require_split

_MOST_GATHERED = 2**30
"""The bytes of all candidates from which on they are passed around a ring instead of gathered."""

Numbers = Mapping[str, Any]
Formula = Callable[["Row", Numbers], Array]
"""Maps a row and the numeric options to the loss of the anchor."""

Similarity = Callable[[Array, chunks.Arrays, chunks.Arrays], Array]
"""Maps products, arrays of the candidates and arrays of the anchor to similarities."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One anchor and all candidates.

    Args:
      similarities: `(m,)`, of the anchor with each candidate.
      index: the candidate that is the anchor itself, or the other half of its pair; None if there is none.
      exists: `(m,)`, which candidates are not masked; None if none is.
      has_label: `(m,)`, which candidates have the label of the anchor; None without labels.
      of_anchor: named arrays of the anchor.
    """

    similarities: Array
    index: Array | None
    exists: Array | None
    has_label: Array | None = None
    of_anchor: chunks.Arrays = dataclasses.field(default_factory=dict)

    @property
    def own(self) -> Array:
        """Whether each candidate is that of the index."""
        assert self.index is not None
        return jnp.arange(self.similarities.shape[0], dtype=self.index.dtype) == self.index

    @property
    def others(self) -> Array:
        """The candidates other than that of the index."""
        others = jnp.ones(self.similarities.shape, bool) if self.index is None else ~self.own
        return others if self.exists is None else self.exists & others

    @property
    def positives(self) -> Array:
        """The others that have the label of the anchor."""
        assert self.has_label is not None
        return self.others & self.has_label

    @property
    def negatives(self) -> Array:
        """The candidates that have another label."""
        assert self.has_label is not None
        return ~self.has_label if self.exists is None else self.exists & ~self.has_label


@dataclasses.dataclass(frozen=True)
class Candidates:
    """What anchors are compared with, on all devices if items are split over them.

    Args:
      vectors: `(..., m, d)`.
      exists: `(..., m)`, which are not masked; None if none is.
      labels: `(..., m)`; None without labels.
      first: the index of the first one that belongs to this device.
    """

    vectors: Array
    exists: Array | None
    labels: Array | None
    first: Array | int

    @staticmethod
    def of(
        function: str, x: Array, where: Boolean | None, labels: Vector | None = None, axis_name: AxisName | None = None
    ) -> Candidates:
        """Gathers the items of all devices; raises a ValueError if the mesh axis does not exist."""
        exists = None if where is None else jnp.asarray(where)
        labels = None if labels is None else jnp.asarray(labels)
        if axis_name is None:
            return Candidates(x, exists, labels, 0)
        require_split(function, axis_name, "the items are")

        def gathered(array: Array | None, axis: int) -> Any:
            return None if array is None else lax.all_gather(array, axis_name, axis=array.ndim + axis, tiled=True)

        first = lax.axis_index(axis_name) * x.shape[-2]
        return Candidates(gathered(x, -2), gathered(exists, -1), gathered(labels, -1), first)


def over_sets(function: Callable[..., Any], rank: int) -> Callable[..., Any]:
    """The function of one set for a batch of sets with so many axes."""
    for _ in range(rank):
        function = jax.vmap(function)
    return function


def losses_of_rows(
    formula: Formula,
    anchors: Array,
    candidates: Candidates,
    labels: Vector | None = None,
    *,
    numbers: Numbers,
    chunk_size: int | None,
    is_among_candidates: bool = True,
    normalized: bool = False,
    n_numbers: int | None = None,
    similarity: Similarity | None = None,
    of_candidates: chunks.Arrays = types.MappingProxyType({}),
    of_anchors: chunks.Arrays = types.MappingProxyType({}),
) -> BatchLoss:
    """The loss of each anchor `(..., n, d)`, by default one of the candidates, or half of a pair with one.

    With `normalized`, no vector is longer than 1, and products cannot overflow. With `n_numbers`, the formula returns a
    tuple of so many numbers instead of a loss. With `similarity`, similarities are computed from the products and from
    named arrays of the candidates and the anchor.
    """
    given = given_numbers(**numbers)
    shared = {**given, "exists": candidates.exists, "labels": candidates.labels, **of_candidates}
    index = None
    if is_among_candidates:
        own_index = candidates.first + jnp.arange(anchors.shape[-2], dtype=jnp.int32)
        index = jnp.broadcast_to(own_index, anchors.shape[:-1])
    own = {"index": index, "label": labels, **of_anchors}
    dtype = product_dtype([anchors, candidates.vectors])
    hidden, kernel = anchors.astype(dtype), jnp.swapaxes(candidates.vectors, -1, -2).astype(dtype)
    layer = chunks.Layer(
        hidden,
        (kernel,),
        shared={name: value for name, value in shared.items() if value is not None},
        own={name: jnp.asarray(value) for name, value in own.items() if value is not None},
        bounded=normalized and needs_no_unit(hidden, kernel),
        numbers=n_numbers,
    )
    batch_shape = anchors.shape[:-2]
    defaults = {name: value for name, value in numbers.items() if name not in given}
    row = functools.partial(_loss_of_row, formula, similarity, defaults)
    tilings = Tilings.of_set(candidates.vectors, chunk_size)

    def of_each(function: Callable[..., Array], *arrays: Array) -> Array:
        return over_sets(functools.partial(function, row, tilings), len(batch_shape))(layer, *arrays)

    return BatchLoss(
        losses=lambda: of_each(chunks.losses),
        weighted_sum=lambda weights: jnp.sum(of_each(chunks.weighted_sum, weights)),
    )


def _loss_of_row(
    formula: Formula,
    similarity: Similarity | None,
    defaults: Numbers,
    products: Array,
    shared: chunks.Arrays,
    own: chunks.Arrays,
) -> Array:
    has_label = shared["labels"] == own["label"] if "label" in own else None
    similarities = products if similarity is None else similarity(products, shared, own)
    row = Row(similarities, own.get("index"), shared.get("exists"), has_label, own)
    return formula(row, {**defaults, **shared})


def around_ring(
    formula: Formula,
    fold: Fold,
    anchors: Array,
    others: Array,
    where: Boolean | None,
    axis_name: AxisName | None,
    *,
    numbers: Numbers,
    chunk_size: int | None,
    normalized: bool,
) -> Array:
    """A number for each anchor, combined from those of the candidates of one device after another."""
    assert axis_name is not None
    given = given_numbers(**numbers)

    def of_block(kept: Any, others: Array, exists: Array | None, first: Array) -> Array:
        anchors, given = kept
        candidates = Candidates(others, exists, None, first)
        options: Any = {"chunk_size": chunk_size, "normalized": normalized}
        return losses_of_rows(formula, anchors, candidates, numbers={**numbers, **given}, **options).losses()

    exists = None if where is None else jnp.asarray(where)
    return ring(of_block, fold, axis_name, (anchors, given), others, exists, others.shape[-2])


def is_passed_around(function: str, x: Array, axis_name: AxisName | None) -> bool:
    """Whether the vectors of all devices are too large to be gathered on each."""
    if axis_name is None:
        return False
    require_split(function, axis_name, "the items are")
    return x.size * x.dtype.itemsize * lax.axis_size(axis_name) > _MOST_GATHERED


def from_losses(losses: Array) -> BatchLoss:
    """A `BatchLoss` of losses that do not gain from being weighted before they are computed."""
    return BatchLoss(lambda: losses, lambda weights: jnp.sum(numerics.weighted(weights, losses)))


def prepared(x: Vector, normalize: bool) -> Array:
    """The vectors, of length 1 in float32 or wider if they are to be normalised."""
    x = jnp.asarray(x)
    return vectors.normalize(x.astype(compute_dtype([x]))) if normalize else x


def repeated(x: Array, batch_shape: tuple[int, ...]) -> Array:
    """The array for each set of a batch. Its gradient is a sum that is not infinity minus infinity on the way."""
    return _repeated(x, batch_shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _repeated(x: Array, batch_shape: tuple[int, ...]) -> Array:
    return jnp.broadcast_to(x, (*batch_shape, *x.shape))


def _repeated_forward(x: Array, batch_shape: tuple[int, ...]) -> tuple[Array, None]:
    return jnp.broadcast_to(x, (*batch_shape, *x.shape)), None


def _repeated_backward(batch_shape: tuple[int, ...], residuals: None, cotangent: Array) -> tuple[Array]:
    del residuals
    n = jnp.asarray(max_dim(math.prod(batch_shape), 1), cotangent.dtype)
    return (jnp.sum(cotangent / n, axis=range(len(batch_shape))) * n,)


_repeated.defvjp(_repeated_forward, _repeated_backward)


def mean_of(one: BatchLoss, other: BatchLoss) -> BatchLoss:
    """The mean of two losses of each item."""
    return BatchLoss(
        losses=lambda: (one.losses() + other.losses()) / 2,
        weighted_sum=lambda weights: one.weighted_sum(weights / 2) + other.weighted_sum(weights / 2),
    )
