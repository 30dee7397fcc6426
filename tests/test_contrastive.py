"""Losses of sets on many devices: candidates passed around a ring, and proxies shared by all devices."""

import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxloss
from jaxloss import _sets as sets
from tests.collectives import sent
from tests.record_metric_learning import PATH
from tests.record_metric_learning import sets as metric_learning_sets

pytestmark = pytest.mark.cpu
ITEMS, ALL = PartitionSpec("items"), PartitionSpec()
GENERATOR = np.random.default_rng(0)
N, D, DEVICES = 24, 4, 8
QUERIES, KEYS = GENERATOR.normal(size=(2, N, D))
WEIGHTS, WHERE = GENERATOR.uniform(0.5, 2, size=N), np.arange(N) % 5 != 1
LOSSES = [(jaxloss.siglip_loss, {"scale": 3.0, "bias": -1.0}), (jaxloss.info_nce_loss, {"temperature": 0.3})]
LOSSES += [(jaxloss.info_nce_loss, {"symmetric": True})]
each_loss = pytest.mark.parametrize(("loss", "options"), LOSSES, ids=["siglip", "info_nce", "clip"])


def mesh():
    return jax.make_mesh((DEVICES,), ("items",), axis_types=(AxisType.Auto,))


@pytest.fixture
def ring(monkeypatch):
    """No set fits on one device."""
    jax.clear_caches()
    monkeypatch.setattr(sets, "_MOST_GATHERED", 0)
    yield
    jax.clear_caches()


@pytest.mark.usefixtures("ring")
@each_loss
@pytest.mark.parametrize("masked", [False, True])
def test_candidates_passed_around_a_ring_are_those_of_a_set(loss, options, masked):
    numbers = {name: number for name, number in options.items() if name != "symmetric"}
    fixed = {name: flag for name, flag in options.items() if name == "symmetric"}

    def run(queries, keys, weights, where, numbers, **split):
        mask = {"where": where} if masked else {}

        def total(queries, keys, weights, numbers):
            found = loss(queries, keys, weights=weights, **mask, **numbers, **fixed, reduction="total", **split)
            return found.loss, found.normaliser

        (value, normaliser), pull = jax.vjp(total, queries, keys, weights, numbers)
        one = jax.tree.map(jnp.ones_like, value), jnp.zeros_like(normaliser)
        losses = loss(queries, keys, **mask, **numbers, **fixed, reduction="none", **split)
        if split:
            value, normaliser = jax.lax.psum((value, normaliser), "items")
        return value, normaliser, losses, pull(one)

    with jax.enable_x64(True):
        arguments = (QUERIES, KEYS, WEIGHTS, WHERE, {k: jnp.asarray(v) for k, v in numbers.items()})
        specs = (ALL, ALL, ITEMS, (ITEMS, ITEMS, ITEMS, ALL))
        split = jax.shard_map(
            functools.partial(run, axis_name="items"), mesh=mesh(), in_specs=(ITEMS,) * 4 + (ALL,), out_specs=specs
        )
        lowered = jax.jit(split).lower(*arguments)
        assert "collective_permute" in lowered.as_text()
        assert "all_gather" not in lowered.as_text()
        chex.assert_trees_all_close(lowered.compile()(*arguments), run(*arguments), rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("ring")
def test_second_derivatives_around_a_ring():
    def curvature(queries, keys, **split):
        def gradient(queries):
            return jax.grad(lambda x: jaxloss.info_nce_loss(x, keys, reduction="sum", temperature=0.5, **split))(
                queries
            )

        return jax.grad(lambda x: jnp.sum(jnp.sin(gradient(x))))(queries)

    with jax.enable_x64(True):
        split = jax.shard_map(
            functools.partial(curvature, axis_name="items"), mesh=mesh(), in_specs=(ITEMS, ITEMS), out_specs=ITEMS
        )
        np.testing.assert_allclose(jax.jit(split)(QUERIES, KEYS), curvature(QUERIES, KEYS), rtol=1e-8, atol=1e-9)


@pytest.mark.usefixtures("ring")
@each_loss
def test_a_ring_sends_each_block_once_and_twice_with_its_gradient(loss, options):
    def both(queries, keys):
        losses, pull = jax.vjp(lambda *x: loss(*x, **options, reduction="none", axis_name="items"), queries, keys)
        return losses, pull(jnp.ones_like(losses))

    split = jax.jit(jax.shard_map(both, mesh=mesh(), in_specs=ITEMS, out_specs=ITEMS))
    compiled = split.lower(QUERIES.astype(np.float32), KEYS.astype(np.float32)).compile()
    block, directions = 4 * N * D // DEVICES, 2 if "symmetric" in options else 1
    assert sent(compiled) == {"collective-permute": directions * block * ((DEVICES - 1) + 2 * DEVICES)}


def test_a_mask_of_items_where_a_sample_is_a_set_is_an_error():
    proxies, target = np.ones((3, D)), np.zeros(N, np.int32)
    with pytest.raises(ValueError, match=r"is never repeated; to leave out entries of a sample, use valid="):
        jaxloss.proxy_anchor_loss(QUERIES, proxies, target, where=WHERE)


@pytest.mark.parametrize("masked", [False, True])
def test_proxies_of_items_split_over_devices(masked):
    x, proxies = GENERATOR.normal(size=(N, D)), GENERATOR.normal(size=(5, D))
    target, valid = GENERATOR.integers(0, 4, size=N), WHERE if masked else np.ones(N, bool)

    def run(x, proxies, target, valid, **split):
        def total(x, proxies):
            options = {"valid": valid} if masked else {}
            found = jaxloss.proxy_anchor_loss(x, proxies, target, **options, reduction="total", **split)
            return found.loss, found

        (_, found), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(x, proxies)
        found = found.psum("items") if split else found
        return found.loss, found.normaliser, gradients

    with jax.enable_x64(True):
        split = jax.shard_map(
            functools.partial(run, axis_name="items"),
            mesh=mesh(),
            in_specs=(ITEMS, ALL, ITEMS, ITEMS),
            out_specs=(ALL, ALL, (ITEMS, ALL)),
        )
        got, expected = (f(x, proxies, target, valid) for f in (jax.jit(split), run))
        chex.assert_trees_all_close(got, expected, rtol=1e-9, atol=1e-12)


OF_SETS = json.loads(PATH.read_text())["sets"]


@pytest.mark.parametrize("row", OF_SETS, ids=lambda row: row["loss"])
def test_parity_with_pytorch_metric_learning(row):
    with jax.enable_x64(True):
        embeddings, labels, proxies = metric_learning_sets()

        def loss(*arrays):
            function = getattr(jaxloss, row["loss"])
            return function(*arrays, labels, **row["options"], reduction="sum")

        arrays = (embeddings, proxies)[: len(row["gradients"])]
        value, gradients = jax.value_and_grad(loss, tuple(range(len(arrays))))(*arrays)
        np.testing.assert_allclose(value, row["sum"], rtol=1e-9)
        for got, expected in zip(gradients, row["gradients"], strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-10)


def test_gradient_caching_is_exact():
    """The recipe of the reference: embeddings first, then their gradient, fed back in micro-batches."""
    weights, images = GENERATOR.normal(size=(6, D)), GENERATOR.normal(size=(4, 8, 6))
    labels = GENERATOR.integers(0, 3, size=32)

    def model(weights, x):
        return jnp.tanh(x @ weights)

    def loss(embeddings):
        return jaxloss.ntxent_loss(embeddings.reshape(-1, D), labels)

    with jax.enable_x64(True):
        embeddings = jax.lax.map(lambda x: model(weights, x), jnp.asarray(images))
        cotangents = jax.grad(loss)(embeddings)
        parts = [jax.vjp(lambda w, x=x: model(w, x), weights)[1](c)[0] for x, c in zip(images, cotangents, strict=True)]
        whole = jax.grad(lambda weights: loss(model(weights, images)))(jnp.asarray(weights))
        np.testing.assert_allclose(sum(parts), whole, rtol=1e-12)
