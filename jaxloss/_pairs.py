"""Sums over the pairs of items of a list of which one is more relevant than the other."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss._errors import as_array, require_pairwise
from jaxloss._few_at_once import by_items, by_lists, divided, joined
from jaxloss._sharding import equally_varying, vary_over, varying_axes


@dataclasses.dataclass(frozen=True)
class Pairs:
    """What the pairs of a list add up.

    Args:
      function: the name of the loss.
      loss: maps how far the score of the more relevant item is ahead, and parameters, to the loss of a pair.
      weights: maps scores and target to the weights of pairs `(k, k)`, the more relevant item first, in arrays
        that fit in memory for few lists at a time; None means 1.
    """

    function: str
    loss: Callable[..., Array]
    weights: Callable[[Array, Array], Array] | None

    def weights_of(self, scores: Array, target: Array, exists: Array) -> Array:
        """The weights of the pairs of a list. They are constants."""
        assert self.weights is not None
        scores, target = lax.stop_gradient((jnp.where(exists, scores, -jnp.inf), target))
        returned, kinds = self.weights(scores, target), (jnp.floating, jnp.integer, jnp.bool_)
        weights = as_array(self.function, "what pair_weights returned", returned, kinds, "real numbers")
        if weights.shape != scores.shape * 2:
            what = f"what pair_weights returned has shape {weights.shape}"
            raise ValueError(f"{self.function}: {what} but takes shape {scores.shape * 2} for scores {scores.shape}")
        return lax.stop_gradient(weights).astype(scores.dtype)


def total(pairs: Pairs, scores: Array, target: Array, exists: Array, *parameters: Array) -> tuple[Array, Array]:
    """The sum of the weighted losses of the pairs of a list, and the sum of their weights."""
    if pairs.weights is not None:
        require_pairwise(pairs.function, "pair_weights", pairs.weights, "the scores and the target of a list")
    return _total(pairs, *equally_varying((scores, target, exists, *parameters)))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _total(pairs: Pairs, *arrays: Array) -> tuple[Array, Array]:
    return _by(by_lists, _sums, pairs)(*arrays)


@_total.defjvp
def _total_jvp(pairs, primals, tangents):
    loss, weight, *slopes = _sums_and_slopes(pairs, *primals)
    changes = (jnp.sum(slope * tangent) for slope, tangent in zip(slopes, (tangents[0], *tangents[3:]), strict=True))
    return (loss, weight), (sum(changes, start=jnp.zeros_like(loss)), jnp.zeros_like(weight))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sums_and_slopes(pairs: Pairs, *arrays: Array) -> tuple[Array, ...]:
    """The sums, and the gradients of the first with respect to the scores and to each parameter."""
    return _by(by_lists, _with_slopes, pairs)(*arrays)


@_sums_and_slopes.defjvp
def _sums_and_slopes_jvp(pairs, primals, tangents):
    # For second derivatives, all lists at once, because the loop over lists cannot be transposed.
    return jax.jvp(_by(lambda function, *arrays: function(*arrays), _with_slopes, pairs), primals, tangents)


def _by(by_lists: Callable[..., Any], function: Callable[..., Any], pairs: Pairs) -> Callable[..., Any]:
    """A function of a list: for all pairs at once if they have weights, which are in memory, else for few items."""
    if pairs.weights is None:
        return functools.partial(by_items, functools.partial(function, pairs))
    return functools.partial(by_lists, functools.partial(function, pairs, None))


def _sums(
    pairs: Pairs, at_once: int | None, scores: Array, target: Array, exists: Array, *parameters: Array
) -> tuple[Array, Array]:
    items = scores, target, exists

    def step(weight: Array, some: tuple[Array, ...]) -> tuple[Array, Array]:
        loss, added = _of_some(pairs, scores, parameters, some[0], some, items)
        return weight + added, loss

    weight, losses = _over_items(step, jnp.zeros((), scores.dtype), pairs, at_once, items)
    return jnp.sum(losses), weight


def _with_slopes(
    pairs: Pairs, at_once: int | None, scores: Array, target: Array, exists: Array, *parameters: Array
) -> tuple[Array, ...]:
    items = scores, target, exists

    # The derivative keeps the gradient, not what each pair computes.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def step(sums: Any, some: tuple[Array, ...]) -> tuple[Any, tuple[Array, Array]]:
        loss = functools.partial(_of_some, pairs, some=some, items=items)
        (loss, weight), (*slopes, own) = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(scores, parameters, some[0])
        return jax.tree.map(jnp.add, sums, (weight, *slopes)), (loss, own)

    zeros = jax.tree.map(jnp.zeros_like, (scores[0], scores, parameters))
    (weight, slopes, others), (losses, own) = _over_items(step, zeros, pairs, at_once, items)
    own = own if at_once is None else joined(own, scores.shape[0])
    return jnp.sum(losses), weight, slopes + own, *others


def _over_items(
    step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, pairs: Pairs, at_once: int | None, items: tuple[Array, ...]
) -> tuple[Any, Any]:
    """A loop over items, so many of them at once; None means all, with the weights of their pairs."""
    if at_once is None:
        return step(carry, (*items, pairs.weights_of(*items)))
    carry = jax.tree.map(functools.partial(vary_over, axes=varying_axes(items)), carry)
    return lax.scan(step, carry, divided(items, at_once))


def _of_some(
    pairs: Pairs,
    scores: Array,
    parameters: tuple[Array, ...],
    own_scores: Array,
    some: tuple[Array, ...],
    items: tuple[Array, ...],
) -> tuple[Array, Array]:
    """The sums over the pairs of which one of some items is the more relevant one."""
    (_, own_target, own_exist, *weights), (_, target, exists) = some, items
    is_pair = own_exist[:, None] & exists[None] & (own_target[:, None] > target[None])
    given = weights[0] if weights else jnp.ones((), scores.dtype)
    # Zero times an infinite loss is NaN.
    is_pair = is_pair & (given != 0)
    weight = jnp.where(is_pair, given, 0)
    ahead = jnp.where(is_pair, numerics.difference(own_scores[:, None], scores[None]), 0)
    return jnp.sum(weight * pairs.loss(ahead, *parameters)), jnp.sum(weight)
