"""The contrastive loss of pairs in both directions, from products that the directions share.

The loss of a query has a sum over keys, and that of a key has a sum over queries. With both sums, the gradients of both
losses depend on one similarity alone. So a first loop over chunks computes the losses of keys and their sums, and a
second one the losses of queries and all gradients. There are four products of matrices, where one direction after the
other takes six.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss import _sets as sets
from jaxloss._arrays import Boolean
from jaxloss._decorator.batching import BatchLoss
from jaxloss._large_output.layer import given as given_numbers
from jaxloss._sharding import equally_varying

Formula = Callable[[sets.Row, sets.Numbers], tuple[Array, Array, Array, Array]]
"""Maps a row and the numeric options to the loss of the anchor, its logits x, max x, and log Σ e^(x - max x)."""

Total = Callable[[dict[str, Array], Array, Array | None], Array]
"""Maps (queries, keys and options; weights; which items count) to the weighted sum of the losses."""


def mean_of_directions(
    formula: Formula, queries: Array, keys: Array, where: Boolean | None, numbers: sets.Numbers, **options: Any
) -> BatchLoss:
    """The mean of the losses of each query and its key, for the options of `losses_of_rows`."""
    exists = None if where is None else jnp.asarray(where)
    arrays = {"queries": queries, "keys": keys, **given_numbers(**numbers)}
    defaults = {name: value for name, value in numbers.items() if name not in arrays}

    def rows(formula: Any, arrays: dict[str, Array], where: Array | None, *names: str, **others: Any) -> BatchLoss:
        anchors, candidates = (arrays[name] for name in names)
        numbers = defaults | {name: value for name, value in arrays.items() if name not in names}
        candidates = sets.Candidates.of("", candidates, where)
        return sets.losses_of_rows(formula, anchors, candidates, numbers=numbers, **options, **others)

    def directions(arrays: dict[str, Array], where: Array | None) -> BatchLoss:
        def loss(row: sets.Row, numbers: sets.Numbers) -> Array:
            return formula(row, numbers)[0]

        of_queries, of_keys = rows(loss, arrays, where, "queries", "keys"), rows(loss, arrays, where, "keys", "queries")
        return sets.mean_of(of_queries, of_keys)

    def apart(arrays: dict[str, Array], weights: Array, where: Array | None) -> Array:
        return directions(arrays, where).weighted_sum(weights)

    def at_once(arrays: dict[str, Array], weights: Array, where: Array | None) -> Array:
        def of_key(row: sets.Row, numbers: sets.Numbers) -> tuple[Array, Array, Array]:
            loss, _, largest, log_sum = formula(row, numbers)
            return loss, largest, log_sum

        def of_query(row: sets.Row, numbers: sets.Numbers) -> Array:
            loss, logits, *_ = formula(row, numbers)
            # Not relative to the sum of the two, in which the logarithm would lose its digits beside a large maximum.
            scores = logits - numbers["largest"] - numbers["log_sums"]
            of_keys = _change(scores, numbers["weights"], row.own, row.of_anchor.get("counts"))
            return numerics.product(row.of_anchor["weight"], numerics.finite(loss)) + of_keys

        weights = weights / 2
        numbers = rows(of_key, arrays, where, "keys", "queries", n_numbers=3).losses()
        # The second loop waits for the first one, so that there is one chunk of similarities at a time.
        arrays, (losses, largest, log_sums) = lax.optimization_barrier((arrays, lax.stop_gradient(numbers)))
        of_queries = rows(
            of_query,
            arrays,
            where,
            "queries",
            "keys",
            of_candidates={"largest": largest, "log_sums": log_sums, "weights": lax.stop_gradient(weights)},
            of_anchors={"weight": weights, **({} if where is None else {"counts": where})},
        )
        ones = jnp.ones_like(weights)
        return of_queries.weighted_sum(ones) + jnp.sum(numerics.weighted(weights, losses))

    return BatchLoss(
        losses=lambda: directions(arrays, exists).losses(),
        weighted_sum=lambda weights: _weighted_sum(at_once, apart, *equally_varying((arrays, weights, exists))),
    )


@jax.custom_jvp
def _change(scores: Array, weights: Array, own: Array, counts: Array | None) -> Array:
    """0, with the derivative of the weighted losses of the keys by the logarithms of their shares in a query."""
    del weights, own, counts
    return jnp.zeros_like(scores, shape=())


@_change.defjvp
def _change_jvp(primals, tangents):
    scores, weights, own, counts = primals
    shares = jnp.exp(scores if counts is None else jnp.where(counts, scores, -jnp.inf))
    return _change(*primals), jnp.sum(weights * jnp.where(own, shares - 1, shares) * tangents[0])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _weighted_sum(at_once: Total, apart: Total, arrays: Any, weights: Array, where: Array | None) -> Array:
    """The value and second derivative of `apart`, with the gradient of `at_once`, which holds sums constant."""
    del at_once
    return apart(arrays, weights, where)


def _forward(at_once: Total, apart: Total, arrays: Any, weights: Array, where: Array | None) -> tuple[Array, Any]:
    return _with_gradients(at_once, apart, arrays, weights, where)


def _backward(at_once: Total, apart: Total, gradients: Any, cotangent: Array) -> tuple[Any, Array, None]:
    del at_once, apart
    return (*jax.tree.map(lambda gradient: cotangent * gradient, gradients), None)


_weighted_sum.defvjp(_forward, _backward)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _with_gradients(at_once: Total, apart: Total, arrays: Any, weights: Array, where: Array | None) -> Any:
    del apart
    return jax.value_and_grad(at_once, (0, 1))(arrays, weights, where)


@_with_gradients.defjvp
def _with_gradients_jvp(at_once: Total, apart: Total, primals: Any, tangents: Any) -> Any:
    del at_once
    *differentiated, where = primals

    def with_gradients(arrays: Any, weights: Array) -> Any:
        return jax.value_and_grad(apart, (0, 1))(arrays, weights, where)

    return jax.jvp(with_gradients, tuple(differentiated), tuple(tangents[:2]))
