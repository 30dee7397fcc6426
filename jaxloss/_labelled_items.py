"""Items of a set with labels, which are anchors and candidates of each other."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jaxloss._arrays import Boolean, Vector, compute_dtype
from jaxloss._decorator.batching import BatchLoss
from jaxloss._sets import Candidates, Formula, losses_of_rows, over_sets, prepared
from jaxloss._sharding import AxisName, equally_varying
from jaxloss._sizes import is_symbolic


@dataclasses.dataclass(frozen=True)
class LabelledItems:
    """Items that are anchors and candidates of each other.

    Args:
      anchors: `(..., n, d)`, the items of this device.
      labels: `(..., n)`.
      candidates: the items of all devices.
      normalized: whether items have length 1.
    """

    anchors: Array
    labels: Array
    candidates: Candidates
    normalized: bool

    @staticmethod
    def of(
        function: str, x: Vector, labels: Vector, where: Boolean | None, normalize: bool, axis_name: AxisName | None
    ) -> LabelledItems:
        anchors, labels = prepared(x, normalize), jnp.asarray(labels)
        return LabelledItems(anchors, labels, Candidates.of(function, anchors, where, labels, axis_name), normalize)

    @functools.cached_property
    def _n_same(self) -> Array:
        return count_labels(self.labels, self.candidates)

    @property
    def n_positives(self) -> Array:
        """The other candidates with the label of each item."""
        return self._n_same - 1

    @property
    def n_negatives(self) -> Array:
        """The candidates with another label than each item."""
        exists, m = self.candidates.exists, self.candidates.vectors.shape[-2]
        total = m if exists is None else jnp.sum(exists, axis=-1, keepdims=True, dtype=jnp.int32)
        return total - self._n_same

    def losses(self, formula: Formula, normalisers: Array | None, **options: Any) -> BatchLoss:
        """The loss of each item, for the options of `losses_of_rows`."""
        sets = self.anchors, self.candidates, self.labels
        losses = losses_of_rows(formula, *sets, normalized=self.normalized, **options)
        if normalisers is None:
            return losses
        return dataclasses.replace(losses, normalisers=normalisers.astype(compute_dtype([self.anchors])))


def count_labels(labels: Array, candidates: Candidates) -> Array:
    """How many candidates have each of these labels, `(..., n)`."""
    assert candidates.labels is not None
    all_labels, exists = candidates.labels, candidates.exists
    exists = jnp.ones(all_labels.shape, bool) if exists is None else exists
    return over_sets(_count_in_set, labels.ndim - 1)(labels, all_labels, exists)


def _count_in_set(labels: Array, all_labels: Array, exists: Array) -> Array:
    def by_sorting(labels: Array, all_labels: Array, exists: Array) -> Array:
        all_labels, exists = lax.sort((all_labels, exists), num_keys=1)
        before = jnp.concatenate([jnp.zeros_like(labels[:1], jnp.int32), jnp.cumsum(exists, dtype=jnp.int32)])
        first, last = (jnp.searchsorted(all_labels, labels, side=side) for side in ("left", "right"))
        return before[last] - before[first]

    def by_comparing(labels: Array, all_labels: Array, exists: Array) -> Array:
        return jnp.sum((labels[:, None] == all_labels[None]) & exists[None], axis=1, dtype=jnp.int32)

    # A comparison of all with all is one kernel, but XLA:CPU writes it to memory: 264 MiB for 8192 items (jax 0.10).
    arrays = equally_varying((labels, all_labels, exists))
    if is_symbolic(all_labels.shape[0]):  # `searchsorted` takes a number
        return by_comparing(*arrays)
    return lax.platform_dependent(*arrays, cpu=by_sorting, default=by_comparing)
