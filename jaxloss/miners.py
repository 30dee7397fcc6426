"""Choosing positives and negatives in a set of labelled embeddings, for losses of pairs and triplets.

`jaxloss.batch_hard_triplet_loss` and `jaxloss.semi_hard_triplet_loss` choose for themselves. With the functions here,
any other loss of pairs or triplets takes what they choose. The choice itself has no gradient.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxloss import _errors
from jaxloss._arrays import Boolean, Vector, compute_dtype
from jaxloss._hard_pairs import HardPairs, PairMasks, hardest_pairs
from jaxloss._sets import Candidates, over_sets


def batch_hard(embeddings: Vector, labels: Vector, *, where: Boolean | None = None) -> HardPairs:
    r"""The farthest positive and the nearest negative of each item of a set.

    $$p_i = \operatorname*{argmax}_{j \neq i,\; y_j = y_i} \|x_i - x_j\|_2, \qquad
    n_i = \operatorname*{argmin}_{y_j \neq y_i} \|x_i - x_j\|_2$$

    The distances are computed in chunks, from products, so that no array has N² entries. Where two candidates are as
    far as rounding can tell, either may be chosen.

    Args:
      embeddings: floating `(..., N, D)`: $x$.
      labels: integer `(..., N)`: $y$, compared with each other and nothing else.
      where: boolean `(..., N)`: which items count. A masked item is neither chosen nor has a choice.

    Returns:
      `HardPairs`, a named tuple: `positive` and `negative`, integer `(..., N)`, the indices of the choices, and
      `exist`, boolean `(..., N)`, which items have both.

    Raises:
      TypeError: `embeddings` is not floating, `labels` is not integer, or `where` is not boolean.
      ValueError: shapes do not fit.

    Reference:
      Hermans et al., In defense of the triplet loss for person re-identification, 2017, section 2.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> embeddings, labels = jnp.array([[0.0], [1.0], [3.0], [7.0]]), jnp.array([0, 0, 1, 1])
      >>> pairs = jaxloss.miners.batch_hard(embeddings, labels)
      >>> print(pairs.positive, pairs.negative)
      [1 0 3 2] [2 2 1 1]
      >>> positive, negative = embeddings[pairs.positive], embeddings[pairs.negative]
      >>> print(jaxloss.triplet_margin_loss(embeddings, positive, negative, swap=True, where=pairs.exist).round(4))
      1.5
    """
    x = _errors.as_array("miners.batch_hard", "embeddings", embeddings, (jnp.floating,), "floating numbers")
    labels, where = _labels_and_mask("miners.batch_hard", labels, where)
    if x.ndim < 2 or x.shape[:-1] != labels.shape:
        raise ValueError(
            f"miners.batch_hard: labels has shape {labels.shape} but one label per row of embeddings {x.shape} has "
            f"shape {x.shape[:-1]}"
        )
    x = x.astype(compute_dtype([x]))

    def of_set(x: Array, labels: Array, where: Array) -> HardPairs:
        x = jnp.where(where[:, None], x, 0)
        candidates = Candidates.of("miners.batch_hard", x, where, labels)
        pairs = hardest_pairs(x, labels, candidates, None)
        return pairs._replace(exist=pairs.exist & where)

    return over_sets(of_set, x.ndim - 2)(x, labels, where)


def pair_masks(labels: Vector, *, where: Boolean | None = None) -> PairMasks:
    r"""Which pairs of items of a set have the same label, and which have different ones.

    $$P_{ij} = [i \neq j \wedge y_i = y_j], \qquad N_{ij} = [y_i \neq y_j]$$

    These have N² entries, for sets that are small enough to be compared as a whole.

    Args:
      labels: integer `(..., N)`: $y$, compared with each other and nothing else.
      where: boolean `(..., N)`: which items count. A masked item is in no pair.

    Returns:
      `PairMasks`, a named tuple: `positives` and `negatives`, boolean `(..., N, N)`.

    Raises:
      TypeError: `labels` is not integer, or `where` is not boolean.
      ValueError: shapes do not fit.

    Reference:
      As `batch_hard`.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> masks = jaxloss.miners.pair_masks(jnp.array([0, 0, 1]))
      >>> print(masks.positives.astype(int))
      [[0 1 0]
       [1 0 0]
       [0 0 0]]
    """
    labels, where = _labels_and_mask("miners.pair_masks", labels, where)
    both = where[..., :, None] & where[..., None, :]
    has_label = labels[..., :, None] == labels[..., None, :]
    is_other = jnp.expand_dims(~jnp.eye(labels.shape[-1], dtype=bool), range(labels.ndim - 1))
    return PairMasks(has_label & both & is_other, ~has_label & both)


def _labels_and_mask(function: str, labels: Vector, where: Boolean | None) -> tuple[Array, Array]:
    labels = _errors.as_array(function, "labels", labels, (jnp.integer,), "integer labels")
    if not labels.ndim:
        raise ValueError(f"{function}: labels has shape () but takes shape (..., n)")
    if where is None:
        return labels, jnp.ones(labels.shape, bool)
    where = _errors.as_array(function, "where", where, (jnp.bool_,), "booleans")
    if where.shape not in ((), labels.shape):
        raise ValueError(f"{function}: where has shape {where.shape} but labels has shape {labels.shape}")
    return labels, jnp.broadcast_to(where, labels.shape)
