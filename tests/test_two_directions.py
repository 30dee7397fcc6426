"""The contrastive loss in both directions, whose gradient comes from products that the directions share."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

GENERATOR = np.random.default_rng(0)
SETS, N, D = 2, 12, 5
QUERIES, KEYS = GENERATOR.normal(size=(2, SETS, N, D))
WEIGHTS, WHERE = GENERATOR.uniform(0.5, 2, size=(SETS, N)), np.arange(SETS * N).reshape(SETS, N) % 5 != 1
TEMPERATURES = np.asarray([0.3, 0.8])


def plain(queries, keys, weights, temperature, where):
    """The loss of one set from all similarities at once. Its own pair is a candidate of a masked item."""
    queries, keys = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (queries, keys))
    logits = queries @ keys.T / temperature
    own = jnp.eye(len(logits), dtype=bool)
    of_queries = jax.nn.logsumexp(jnp.where(where[None] | own, logits, -jnp.inf), axis=1)
    of_keys = jax.nn.logsumexp(jnp.where(where[:, None] | own, logits, -jnp.inf), axis=0)
    return jnp.sum(jnp.where(where, weights * ((of_queries + of_keys) / 2 - jnp.diagonal(logits)), 0))


def expected(queries, keys, weights, temperature, where=None):
    where = jnp.ones((SETS, N), bool) if where is None else where
    temperatures = jnp.broadcast_to(temperature, SETS)
    return jnp.sum(jax.vmap(plain)(queries, keys, weights, temperatures, where))


def found(queries, keys, weights, temperature, where=None, chunk_size=5):
    options = {} if where is None else {"where": where}
    return jaxloss.info_nce_loss(
        queries,
        keys,
        weights=weights,
        temperature=temperature,
        symmetric=True,
        chunk_size=chunk_size,
        reduction="sum",
        **options,
    )


@pytest.mark.parametrize(
    ("masked", "by_set", "chunk_size"),
    [
        (False, False, 5),
        (True, True, 12),
        *(pytest.param(*each, 5, marks=pytest.mark.full) for each in [(False, True), (True, False), (True, True)]),
    ],
)
def test_value_and_derivatives_are_those_of_both_sums(masked, by_set, chunk_size):
    where = WHERE if masked else None
    with jax.enable_x64(True):
        arguments = tuple(map(jnp.asarray, (QUERIES, KEYS, WEIGHTS, TEMPERATURES if by_set else 0.4)))
        ours = functools.partial(found, where=where, chunk_size=chunk_size)
        theirs = functools.partial(expected, where=where)
        for function in (
            jax.value_and_grad,
            # The gradient of a sum over the gradient is a product with the Hessian.
            lambda loss, by: jax.grad(lambda *x: sum(jnp.sum(jnp.sin(g)) for g in jax.grad(loss, by)(*x)), by),
        ):
            results = (function(loss, (0, 1, 2, 3))(*arguments) for loss in (ours, theirs))
            chex.assert_trees_all_close(*results, rtol=1e-9, atol=1e-9)


def test_a_cotangent_scales_the_gradient():
    gradient = jax.grad(lambda scale, x: scale * found(x, KEYS[0], WEIGHTS[0], 0.4), 1)
    queries = jnp.asarray(QUERIES[0], jnp.float32)
    np.testing.assert_array_equal(gradient(4.0, queries), 4 * gradient(1.0, queries))


@pytest.mark.parametrize("temperature", [1e-3, 1e-20, 1e-30, 1e30])
def test_gradients_at_extreme_temperatures(temperature):
    """Shares are exact where the logarithm of a sum is far below its largest logit. Cosines are 0, 1 or -1."""
    queries = np.float32([[1, 0], [0, 2], [0, 3], [-1, 0], [1, 0]])
    keys = np.float32([[-1, 0], [0, -3], [0, 1], [2, 0], [-1, 0]])
    temperature = float(np.float32(temperature))
    weights = np.ones(len(keys), np.float32)
    loss = functools.partial(found, weights=weights, temperature=temperature, chunk_size=None)
    value, gradients = jax.value_and_grad(loss, (0, 1))(queries, keys)
    with jax.enable_x64(True):
        wide = [jnp.asarray(x, jnp.float64) for x in (queries, keys)]

        def one(queries, keys):
            return plain(queries, keys, np.float64(weights), temperature, np.ones(len(keys), bool))

        expected_value, expected_gradients = jax.value_and_grad(one, (0, 1))(*wide)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    for each, reference in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(each, reference, rtol=0, atol=1e-6 * np.max(np.abs(reference)))


def test_a_masked_item_has_no_effect_whatever_it_is():
    poisoned = [np.where(WHERE[0][:, None], x[0], 1e38).astype(np.float32) for x in (QUERIES, KEYS)]
    clean = [np.where(WHERE[0][:, None], x[0], 0).astype(np.float32) for x in (QUERIES, KEYS)]
    loss = functools.partial(jaxloss.info_nce_loss, symmetric=True, where=WHERE[0], normalize=False)
    results = (jax.value_and_grad(loss, (0, 1))(*map(jnp.asarray, each)) for each in (poisoned, clean))
    chex.assert_trees_all_equal(*results)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_gradient_in_half_precision_may_be_scaled(dtype):
    """A loss scale keeps a gradient that is too small for the dtype."""
    queries, keys = (jnp.asarray(x[0], dtype) for x in (QUERIES, KEYS))
    weights = jnp.full(N, 1e-6, jnp.float32)
    loss = functools.partial(jaxloss.info_nce_loss, symmetric=True, normalize=False, reduction="sum", weights=weights)
    gradient = jax.grad(lambda x: 1e6 * loss(x, keys))(queries).astype(jnp.float32)
    wide, wide_keys = (each.astype(jnp.float32) for each in (queries, keys))
    whole = jax.grad(lambda x: jaxloss.info_nce_loss(x, wide_keys, symmetric=True, normalize=False, reduction="sum"))
    atol = float(jnp.finfo(dtype).eps) * float(jnp.max(jnp.abs(whole(wide))))
    np.testing.assert_allclose(gradient, whole(wide), rtol=0, atol=atol)
