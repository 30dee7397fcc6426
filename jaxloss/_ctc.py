"""The sum over all alignments of a sequence of labels with frames, for connectionist temporal classification.

The states of an alignment are a blank, the first label, a blank, the second label, and so on: 2S + 1 of them for S
labels. It begins in one of the first two states, and from frame to frame it stays or moves on by one state, or by two
from a label to a different one. It ends in one of the last two states.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss._arrays import is_within
from jaxloss._log_sums import log_add, moved, recursion, shares, start_at
from jaxloss._lookup import at_class


class States(NamedTuple):
    """The states of the alignments of one sample.

    Args:
      may_skip: boolean, one per state: whether an alignment may come from two states before.
      n_frames: how many frames exist; None if all do.
      last: the last state, in which the blank after the last label is.
    """

    may_skip: Array
    n_frames: Array | None
    last: Array

    @staticmethod
    def of(target: Array, n_frames: Array | None, n_labels: Array | None) -> States:
        length = target.shape[0]
        differs = (moved(target, 1, -1) != target) & (jnp.arange(length) > 0)
        may_skip = jnp.stack([jnp.zeros(length, bool), differs], axis=-1).reshape(2 * length)
        last = 2 * (jnp.asarray(length, jnp.int32) if n_labels is None else n_labels)
        return States(jnp.concatenate([may_skip, jnp.zeros(1, bool)]), n_frames, last)

    def reached(self, emissions: Array) -> Array:
        """The emissions, -inf in states that do not exist."""
        # Bounded, so that no two infinities of different signs meet.
        emissions = jnp.minimum(emissions, jnp.finfo(emissions.dtype).max)
        index = jnp.arange(emissions.shape[1], dtype=self.last.dtype)[None]
        return jnp.where(index <= self.last, emissions, -jnp.inf)

    def exists(self, n_frames: int) -> Array | None:
        """Which frames exist; None if all do."""
        return None if self.n_frames is None else is_within(self.n_frames, n_frames)

    def ends(self, sums: Array) -> tuple[Array, Array]:
        """The sums in which an alignment may end: at the last label, and at the blank after it."""
        # The state before the first, in which no alignment ends, stands for the last label of an empty target.
        ends = moved(jnp.concatenate([sums, sums[:1]]), 1)
        return at_class(ends, self.last), at_class(ends, self.last + 1)


def emissions_of(log_probabilities: Array, target: Array, blank: int) -> Array:
    """The log-probability of each frame in each state."""
    n_frames, length = log_probabilities.shape[0], target.shape[0]
    labels = jax.vmap(at_class, in_axes=(0, None))(log_probabilities, target)
    blanks = log_probabilities[:, blank, None]
    both = jnp.stack([jnp.broadcast_to(blanks, (n_frames, length)), labels], axis=-1).reshape(n_frames, 2 * length)
    return jnp.concatenate([both, blanks], axis=-1)


class Decoded(NamedTuple):
    """The decoded labels, and how many there are.

    Args:
      labels: integer `(..., T)`, filled up with -1.
      lengths: integer `(...)`.
    """

    labels: Array
    lengths: Array


@jax.custom_jvp
def log_likelihood(emissions: Array, states: States) -> Array:
    """The logarithm of the sum of the probabilities of all alignments, from `emissions` of shape (frames, states)."""
    return _recursion(states.reached(emissions), states, mirrored=False)[0]


@log_likelihood.defjvp
def _log_likelihood_jvp(primals, tangents):
    # The derivative is the posterior of the states. Backpropagation through the recursion would store more, take twice
    # the steps, and lose the digits that normalising each frame keeps.
    total, posterior = log_likelihood_and_posterior(*primals)
    return total, jnp.sum(posterior * tangents[0])


def log_likelihood_and_posterior(emissions: Array, states: States) -> tuple[Array, Array]:
    """The same, and the probability of each state at each frame, given that the labels are the target."""
    emissions = states.reached(emissions)
    total, before = _recursion(emissions, states, mirrored=True)
    # As each frame is in some state, its shares add up to 1, whatever the recursions have rounded off.
    posterior = shares(emissions + before[:, 0] + before[::-1, 1, ::-1])
    exists = states.exists(emissions.shape[0])
    return total, posterior if exists is None else jnp.where(exists[:, None], posterior, 0)


def _recursion(emissions: Array, states: States, *, mirrored: bool) -> tuple[Array, Array]:
    """The log-likelihood, and the sums over all beginnings of alignments, before the emission of each frame and state.

    If `mirrored`, a second direction has the sums over all ends: in the mirror image, with frames and states in reverse
    order, they are beginnings. Both take the same steps of one loop.
    """
    n_frames, n_states = emissions.shape
    frames = [emissions, emissions[::-1, ::-1]][: 1 + mirrored]
    may_skip = jnp.stack([states.may_skip, moved(states.may_skip[::-1], 2, fill=False)][: 1 + mirrored])
    first = jnp.stack([jnp.zeros_like(states.last), n_states - 1 - states.last][: 1 + mirrored])
    exists = states.exists(n_frames)
    exists = None if exists is None else jnp.stack([exists, exists[::-1]][: 1 + mirrored], axis=-1)

    def step(sums: Array, emission: list[Array]) -> tuple[Array, Array]:
        before = log_add(sums, moved(sums, 1), jnp.where(may_skip, moved(sums, 2), -jnp.inf))
        return before + jnp.stack(emission), before

    sums, factor, before = recursion(step, start_at(first, n_states, (emissions, states)), frames, exists)
    total = factor[0] + log_add(*states.ends(sums[0]))
    # Infinite again where an infinity was bounded.
    return jnp.where(total > jnp.finfo(total.dtype).max / 2, jnp.inf, total), before


def best_states(emissions: Array, states: States) -> tuple[Array, Array]:
    """The state of each frame on the most probable alignment, and whether there is an alignment."""
    emissions = states.reached(emissions)
    n_frames, n_states = emissions.shape
    exists = states.exists(n_frames)

    def step(best: Array, emission: Array) -> tuple[Array, Array]:
        ways = jnp.stack([best, moved(best, 1), jnp.where(states.may_skip, moved(best, 2), -jnp.inf)])
        return jnp.max(ways, axis=0) + emission, jnp.argmax(ways, axis=0).astype(states.last.dtype)

    start = start_at(jnp.zeros_like(states.last), n_states, (emissions, states))
    best, _, places = recursion(step, start, emissions, exists)
    places = places if exists is None else jnp.where(exists[:, None], places, 0)
    by_label, by_blank = states.ends(best)
    end = jnp.where(by_label > by_blank, states.last - 1, states.last)

    def back(state: Array, places: Array) -> tuple[Array, Array]:
        return state - at_class(places, state), state

    _, path = lax.scan(back, end, places, reverse=True)
    return path, jnp.maximum(by_label, by_blank) > -jnp.inf
