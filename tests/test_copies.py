"""Losses under threads, copying, pickling, and switching 64-bit numbers on and off."""

import contextlib
import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss import imbalance
from tests.drawing import draw, each_declaration
from tests.registry import REGISTRY


@each_declaration
def test_threads_may_call_a_loss_at_the_same_time(row, full):
    """All make the first call, each with its own shape. Half enable data checks, which affect only their thread."""
    n = 3 if full else 1
    shapes, start = [(i % n + 1,) for i in range(2 * n)], threading.Barrier(2 * n)

    def call(i):
        arrays = draw(row, shapes[i])
        with jaxloss.data_checks(True) if i >= n else contextlib.nullcontext():
            start.wait()
            # Only traced, because programs with checks run only under checkify.
            return str(jax.make_jaxpr(lambda *arrays: row.loss(*arrays))(*arrays))

    with ThreadPoolExecutor(2 * n) as pool:
        programs = list(pool.map(call, range(2 * n)))
    for i in range(n):
        assert programs[i] == str(jax.make_jaxpr(lambda *arrays: row.loss(*arrays))(*draw(row, shapes[i])))
        assert "check" not in programs[i]
        assert ("check" in programs[i + n]) == bool(
            row.bad_data or row.declaration.domains.keys() & row.options[0].keys()
        )


def test_threads_that_compile_at_the_same_time_get_the_same_values():
    start = threading.Barrier(8)

    def call(i):
        x = np.linspace(0, 1, 17 + i % 2, dtype=np.float32)
        start.wait()
        return float(jaxloss.smooth_l1_loss(x, 0 * x, beta=0.37)), float(jax.grad(jaxloss.mse_loss)(x, 0 * x).sum())

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(call, range(8)))
    assert results == results[:2] * 4


@jaxloss.loss("(),()->()")
def users_own_loss(prediction, target, *, power=2.0, **options: Unpack[jaxloss.ReductionOptions]):
    return jnp.abs(prediction - target) ** power


TREES = (
    jaxloss.Total(jnp.ones(()), jnp.full((), 2.0)),
    jaxloss.AdaptiveSoftmax.init(jax.random.key(0), 4, 9, cutoffs=(2, 5)),
)


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: type(tree).__name__)
def test_pytrees_can_be_copied_and_pickled(tree):
    leaves, structure = jax.tree.flatten(tree)
    again = [copy.copy(tree), copy.deepcopy(tree), pickle.loads(pickle.dumps(tree)), structure.unflatten(leaves)]
    for one in [*again, jax.tree.map(jnp.copy, tree), jax.jit(lambda tree: tree)(tree)]:
        assert jax.tree.structure(one) == structure
        assert type(one) is type(tree)
        for leaf, other in zip(jax.tree.leaves(one), leaves, strict=True):
            np.testing.assert_array_equal(leaf, other)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    assert len(set(paths)) == len(leaves)


@pytest.mark.parametrize("key", [jax.random.key(3), jax.random.PRNGKey(3)], ids=["new", "old"])
def test_copies_of_a_sampler_draw_the_same_indices(key):
    sampler = imbalance.BalancedSampler.init(key, np.array([0, 1, 1, 0, 1]))
    expected, _ = sampler.draw(4)
    copies = [copy.copy(sampler), copy.deepcopy(sampler), jax.tree.unflatten(*jax.tree.flatten(sampler)[::-1])]
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):  # JAX cannot pickle typed keys
        copies.append(pickle.loads(pickle.dumps(sampler)))
    for one in copies:
        np.testing.assert_array_equal(one.draw(4)[0], expected)


@pytest.mark.parametrize(
    "function", [*dict.fromkeys(row.function for row in REGISTRY), users_own_loss], ids=lambda f: f.__name__
)
def test_losses_are_pickled_by_name(function):
    for one in (copy.copy(function), copy.deepcopy(function), pickle.loads(pickle.dumps(function))):
        assert one is function
    assert users_own_loss(3.0, 1.0, power=3.0) == 8


@each_declaration
def test_float64_and_float32_calls_can_alternate(row, full):
    """With the same shapes, and 64-bit numbers switched on and off, each result has the dtype of its own call."""
    narrow, wide = draw(row), draw(row, dtype=np.float64)

    def dtypes(arrays):
        return {
            str(leaf.dtype) for leaf in jax.tree.leaves(jax.eval_shape(lambda: row.loss(*arrays, reduction="total")))
        }

    for _ in range(2 if full else 1):
        assert dtypes(wide) == {"float32"}
        with jax.enable_x64(True):
            assert dtypes(wide) == {"float64"}
            assert dtypes(narrow) == {"float32"}
        assert dtypes(narrow) == {"float32"}
