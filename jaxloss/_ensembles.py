"""Sums over the members of an ensemble, and over their pairs, for proper scores."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss import kinks, vectors
from jaxloss._arrays import Vector
from jaxloss._order import put_back
from jaxloss._sizes import is_symbolic, n_entries


def sizes(members: Vector, fair: bool) -> tuple[Any, Any]:
    """The number of members, and by how many of them each one is compared with them: not itself, in a fair score."""
    m, others = (n_entries(each.shape[:1], each.dtype, least=1.0) for each in (members, members[int(fair) :]))
    return m, others


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def crps(half: Array, fair: bool) -> Array:
    return _score_in_order(jnp.sort(half), fair)


def _score_in_order(half: Array, fair: bool) -> Array:
    """Each error counts by the number of members beyond it, seen from the target, so no terms cancel."""
    below = jnp.arange(half.shape[0])
    m, others = sizes(half, fair)
    counts = 2 * jnp.where(half < 0, below, below[::-1]).astype(half.dtype) + (1 - m + others)
    return jnp.sum(numerics.weighted(2 * counts / (m * others), jnp.abs(half)))


@crps.defjvp
def _crps_jvp(fair, primals, tangents):
    (half,) = primals
    (m, others), width = sizes(half, fair), kinks.resolve_width("ensemble_crps", half, None) / 2
    places = jnp.arange(half.shape[0])
    ordered, order = lax.sort((half, places), num_keys=1)
    (counts,) = put_back(order, _lower_minus_higher(ordered, places))
    apart = counts.astype(half.dtype) / (m * others)
    change = jnp.sum(2 * (kinks.ramp(half, width) / m - apart) * tangents[0])
    return _score_in_order(ordered, fair), change


def _lower_minus_higher(ordered: Array, places: Array) -> Array:
    """How many numbers are lower than each number, minus how many are higher. Equal ones are neither."""
    is_new = jnp.concatenate([jnp.ones(1, bool), ordered[1:] != ordered[:-1]])
    first = lax.cummax(jnp.where(is_new, places, 0))
    highest = places + places[::-1]
    last = lax.cummin(jnp.where(jnp.roll(is_new, -1), places, highest), reverse=True)
    return first + last - highest


@jax.custom_jvp
def spread(members: Array, width: Array) -> Array:
    """The sum of the distances of all ordered pairs of members."""
    return jnp.sum(
        _of_each_member(lambda member, place: jnp.sum(_distances_of(member, place, members, width)), members)
    )


@spread.defjvp
def _spread_jvp(primals, tangents):
    members, width = primals

    # The derivative keeps the gradient, not what each pair of members computes.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def value_and_slopes(member: Array, place: Array) -> tuple[Array, Array]:
        return jax.value_and_grad(lambda member: jnp.sum(_distances_of(member, place, members, width)))(member)

    values, slopes = _of_each_member(value_and_slopes, members)
    # Each distance is in the sum twice.
    return jnp.sum(values), jnp.sum(2 * slopes * tangents[0])


def _distances_of(member: Array, place: Array, members: Array, width: Array) -> Array:
    """The distances of a member from all members."""
    # At the distance from itself, the second derivative is as large as the kink is narrow, and cancels with rounding.
    width = jnp.where(jnp.arange(members.shape[0]) == place, 1, width)
    return vectors.norm(member[None] - members, kink_width=width)


def _of_each_member(function: Callable[[Array, Array], Any], members: Array) -> Any:
    """A function of each member and its place. Few at once: an array of all differences has m^2 d numbers."""

    def mapped(batch_size: int | None = None) -> Callable[..., Any]:
        return lambda *members: lax.map(lambda member: function(*member), members, batch_size=batch_size)

    each = members, jnp.arange(members.shape[0])
    if is_symbolic(members.shape[0]):
        return mapped()(*each)
    # What XLA:CPU computes at once it writes to memory. Other devices read all members for each step.
    return lax.platform_dependent(*each, cpu=mapped(), default=mapped(batch_size=16))
