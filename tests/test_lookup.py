"""Looking up classes: by a gather on a CPU, by comparison on accelerators, and with the same results."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss._lookup import at_class, spread
from tests.compiling import as_on
from tests.drawing import Floats, draw
from tests.registry import REGISTRY

# Losses of an output layer are left out: they also slice and sort rows.
INDEXED = [row for row in REGISTRY if any(row.indexed) and not row.declaration.sees_batch]
# These loop over the frames of a sequence, and slice them.
LOOPS = {row.label for row in INDEXED if row.declaration.lengths}
SCORES = draw(next(row for row in INDEXED if row.function is jaxloss.cross_entropy))
VALID = np.ones(SCORES[0].shape, bool)
CALLS = {
    **{
        f"{row.label}-{'-'.join(options) or 'defaults'}": (functools.partial(row.loss, **options), draw(row))
        for row in INDEXED
        for options in row.options
    },
    "cross_entropy-valid": (functools.partial(jaxloss.cross_entropy, valid=VALID), SCORES),
    "target_score": (jaxloss.target_score, SCORES),
    "highest_wrong_score": (jaxloss.highest_wrong_score, SCORES),
}
# These read every score for its class, and so compare on a CPU too.
COMPARED_EVERYWHERE = ("highest_wrong_score", "multiclass_sparsemax_loss", "coral_loss")
each_call = pytest.mark.parametrize(("function", "arrays"), CALLS.values(), ids=CALLS)


def value_and_gradients(function, arrays):
    floats = Floats(arrays)
    return jax.value_and_grad(lambda values: jnp.sum(function(*floats.put(values)))), floats.values


def lookups(program):
    """The operations of a program that read or write single elements."""
    return set(re.findall(r"stablehlo\.(\w*(?:gather|scatter|dynamic_slice|dynamic_update_slice|while)\w*)", program))


@pytest.mark.every_platform
@pytest.mark.parametrize("name", CALLS)
def test_programs_for_accelerators_compare_and_programs_for_cpus_gather(name):
    function, arrays = CALLS[name]
    function_and_gradients, values = value_and_gradients(function, arrays)
    traced = jax.jit(function_and_gradients).trace(values)
    of = {each: lookups(traced.lower(lowering_platforms=(each,)).as_text()) for each in ("cpu", "cuda", "rocm", "tpu")}
    loop = {"while", "dynamic_slice", "dynamic_update_slice"} if name.startswith(tuple(LOOPS)) else set()
    assert of["cuda"] == of["rocm"] == of["tpu"] == loop
    assert bool(of["cpu"] - loop) == (not name.startswith(COMPARED_EVERYWHERE))


@each_call
def test_comparing_gives_what_gathering_does(function, arrays, monkeypatch):
    function_and_gradients, values = value_and_gradients(function, arrays)
    expected = jax.jit(function_and_gradients)(values)
    monkeypatch.setattr(jax.lax, "platform_dependent", as_on("default"))
    jax.clear_caches()  # of programs for a CPU
    result = jax.jit(lambda values: function_and_gradients(values))(values)
    jax.clear_caches()
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), result, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, jnp.bfloat16])
@pytest.mark.parametrize("index", [np.int32(2), np.uint8(2), np.array([2, 0]), np.array([[4], [1]])], ids=str)
@pytest.mark.usefixtures("each_platform")
def test_any_dtype_and_shape_of_indices(dtype, index):
    values = np.array([0, 1, 2, 3, 4]).astype(dtype)
    found = at_class(values, index)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values[index])


@pytest.mark.nans
@pytest.mark.usefixtures("each_platform")
def test_other_classes_do_not_matter():
    values = jnp.array([jnp.nan, 1.0, jnp.inf, -jnp.inf])
    np.testing.assert_array_equal(at_class(values, jnp.arange(4)), values)
    np.testing.assert_array_equal(jax.grad(at_class)(values, 1), [0, 1, 0, 0])


@pytest.mark.usefixtures("each_platform")
def test_numbers_are_spread_over_classes():
    """Those of the same class add up, and those out of range count nowhere."""
    numbers, index = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0]), jnp.array([2, 0, 2, 3, -1])
    np.testing.assert_array_equal(spread(numbers, index, 3), [2, 0, 5])


@pytest.mark.usefixtures("each_platform")
def test_derivatives_of_lookups():
    values, index = jnp.array([0.5, 2.0, 3.0]), jnp.array([2, 0, 2])

    def cubes(values):
        return jnp.sum(at_class(values, index) ** 3)

    np.testing.assert_allclose(jax.grad(cubes)(values), [0.75, 0, 54])
    np.testing.assert_allclose(jax.jvp(cubes, (values,), (jnp.ones(3),))[1], 54.75)
    np.testing.assert_allclose(jax.hessian(cubes)(values), np.diag([3.0, 0, 36]))
    np.testing.assert_allclose(jax.jacrev(jax.grad(cubes))(values), np.diag([3.0, 0, 36]))


def test_gradients_outside_of_jit_store_the_index_alone():
    """Not the comparison with each class, which only the programs of accelerators make."""
    logits, target = jnp.ones((64, 1000)), jnp.zeros(64, jnp.int32)
    _, pullback = jax.vjp(lambda logits: jaxloss.target_score(logits, target), logits)
    assert all(leaf.size <= 64 for leaf in jax.tree.leaves(pullback))
