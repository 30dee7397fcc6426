"""The sum over all paths through the lattice of a transducer, whose nodes are pairs of a frame and a number of labels.

From node (t, u), a path goes to (t + 1, u) by a blank or to (t, u + 1) by the next label. It begins at (0, 0) and ends
with the blank of the last frame. All nodes with the same t + u, a diagonal, are computed at once from the diagonal
before, in t + u steps instead of t * u.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss._arrays import is_within
from jaxloss._log_sums import constant_level, finite_or_0, log_add, log_sum, recursion, shares, start_at
from jaxloss._lookup import at_class


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def log_likelihood(logits: Array, target: Array, blank: int, n_frames: Array | None, n_labels: Array | None) -> Array:
    """The logarithm of the sum of the probabilities of all paths, for logits (frames, labels + 1, classes)."""
    arcs = _arcs(_log_softmax(logits), target, blank, n_frames, n_labels)
    return _recursion(*arcs, n_frames, n_labels, mirrored=False)[0]


@log_likelihood.defjvp
def _log_likelihood_jvp(blank, primals, tangents):
    # With g the probability that a path takes a blank or a label from a node, the derivative is g (1[class] - softmax),
    # formed from the logits in one step, without an array of log-probabilities.
    logits, target, n_frames, n_labels = primals
    log_probabilities = _log_softmax(logits)
    blanks, labels = _arcs(log_probabilities, target, blank, n_frames, n_labels)
    total, before = _recursion(blanks, labels, n_frames, n_labels, mirrored=True)
    by_blank, by_label = _taken(blanks, labels, before, n_frames=logits.shape[0])
    classes = jnp.arange(logits.shape[-1], dtype=target.dtype)[None, None]
    is_blank = classes == jnp.asarray(blank if blank >= 0 else logits.shape[-1] + blank, target.dtype)
    next_label = jnp.concatenate([target, jnp.full(1, -1, target.dtype)])[None, :, None]
    gradient = (
        jnp.where(is_blank, by_blank, 0)
        + jnp.where(classes == next_label, by_label, 0)
        - (by_blank + by_label) * jnp.exp(log_probabilities)
    )
    return total, jnp.sum(gradient * tangents[0])


def _log_softmax(logits: Array) -> Array:
    """The log-probabilities, which XLA computes where they are used; -inf where all logits are."""
    # Without positive infinities, of which there is no difference.
    logits = jnp.minimum(logits, jnp.finfo(logits.dtype).max)
    # Not the logarithm of the sum of all at once, which would be rounded at the scale of the logits.
    shifted = logits - constant_level(jnp.max(logits, axis=-1, keepdims=True))
    log_probabilities = shifted - finite_or_0(log_sum(shifted))[..., None]
    # Differences this low come from an infinity that was bounded: the probability is 0.
    return jnp.where(log_probabilities < jnp.finfo(logits.dtype).min / 2, -jnp.inf, log_probabilities)


def _arcs(
    log_probabilities: Array, target: Array, blank: int, n_frames: Array | None, n_labels: Array | None
) -> tuple[Array, Array]:
    """The log-probabilities of the blank and of the next label by diagonals, -inf where no path goes on."""
    n_frames = jnp.asarray(log_probabilities.shape[0], jnp.int32) if n_frames is None else n_frames
    n_labels = jnp.asarray(target.shape[0], jnp.int32) if n_labels is None else n_labels
    t = jnp.arange(log_probabilities.shape[0], dtype=n_frames.dtype)[:, None]
    u = jnp.arange(log_probabilities.shape[1], dtype=n_labels.dtype)[None]
    next_label = jnp.concatenate([target, jnp.zeros(1, target.dtype)])
    to_label = jax.vmap(jax.vmap(at_class), in_axes=(0, None))(log_probabilities, next_label)
    to_label = jnp.where((t < n_frames) & (u < n_labels), to_label, -jnp.inf)
    to_blank = log_probabilities[..., blank]
    # From the last frame, only the end is reached.
    goes_on = ((t < n_frames - 1) & (u <= n_labels)) | ((t == n_frames - 1) & (u == n_labels))
    to_blank = jnp.where(goes_on, to_blank, -jnp.inf)
    return _by_diagonals(to_blank), _by_diagonals(to_label)[:, :-1]


def _recursion(
    blanks: Array, labels: Array, n_frames: Array | None, n_labels: Array | None, *, mirrored: bool
) -> tuple[Array, Array]:
    """The log-likelihood, and the sums over all beginnings of paths up to each node, by diagonals.

    If `mirrored`, a second direction has the sums over all ends of paths from the nodes of the next diagonal: in the
    mirror image they are beginnings. Both take the same steps of one loop.
    """
    n_diagonals, n_nodes = blanks.shape
    last = jnp.asarray(n_nodes - 1, jnp.int32) if n_labels is None else n_labels
    end = jnp.asarray(n_diagonals - n_nodes + 1, last.dtype) if n_frames is None else n_frames
    exists = is_within(end.astype(last.dtype) + last, n_diagonals)
    exists = jnp.stack([exists, exists[::-1]][: 1 + mirrored], axis=-1)
    arcs = [(blanks, labels), (blanks[::-1, ::-1], labels[::-1, ::-1])][: 1 + mirrored]
    first = jnp.stack([jnp.zeros_like(last), n_nodes - 1 - last][: 1 + mirrored])

    def step(sums: Array, arcs: list[tuple[Array, Array]]) -> tuple[Array, Array]:
        by_blank, by_label = (jnp.stack(each) for each in zip(*arcs, strict=True))
        empty = jnp.full((len(arcs), 1), -jnp.inf, sums.dtype)
        return log_add(sums + by_blank, jnp.concatenate([empty, sums[:, :-1] + by_label], axis=-1)), sums

    start = start_at(first, n_nodes, (blanks, labels, end))
    sums, factor, before = recursion(step, start, arcs, None if n_frames is n_labels is None else exists)
    return factor[0] + at_class(sums[0], last), before


def _taken(blanks: Array, labels: Array, before: Array, n_frames: int) -> tuple[Array, Array]:
    """The probabilities that a path takes the blank and the next label of each node, of shape (frames, nodes, 1)."""
    beginnings, ends = before[:, 0], before[::-1, 1, ::-1]
    n_nodes = blanks.shape[1]
    both = jnp.concatenate([beginnings + blanks + ends, beginnings[:, :-1] + labels + ends[:, 1:]], axis=-1)
    # A path takes one step from each diagonal, whatever the recursions have rounded off.
    taken = shares(both)
    by_label = jnp.concatenate([taken[:, n_nodes:], jnp.zeros_like(taken[:, :1])], axis=-1)
    return _by_frames(taken[:, :n_nodes], n_frames)[..., None], _by_frames(by_label, n_frames)[..., None]


def _by_diagonals(x: Array) -> Array:
    """An array of shape (frames, nodes) as (diagonals, nodes): entry (t, u) at (t + u, u), and -inf elsewhere."""
    n_frames, n_nodes = x.shape
    padded = jnp.concatenate([x.T, jnp.full((n_nodes, n_nodes), -jnp.inf, x.dtype)], axis=1)
    return padded.reshape(-1)[: n_nodes * (n_frames + n_nodes - 1)].reshape(n_nodes, -1).T


def _by_frames(x: Array, n_frames: int) -> Array:
    """The inverse of `_by_diagonals`."""
    n_nodes = x.shape[1]
    padded = jnp.concatenate([x.T.reshape(-1), jnp.zeros(n_nodes, x.dtype)])
    return padded.reshape(n_nodes, n_frames + n_nodes)[:, :n_frames].T
