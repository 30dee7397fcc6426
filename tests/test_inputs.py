"""What a caller may hand over: wide integers, variables of neural network libraries, and kernels of any kind."""

import enum
from collections.abc import Callable
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

import jaxloss
from jaxloss import imbalance, kinks, vectors
from tests.drawing import SHAPE, Variable, draw, each_declaration, each_of
from tests.registry import REGISTRY

GENERATOR = np.random.default_rng(0)


LOGITS = GENERATOR.normal(size=(4, 6)).astype(np.float32)


TARGET = np.array([0, 3, 5, 3])


@pytest.mark.nans
def test_an_ignored_index_may_be_beyond_32_bits():
    expected = jaxloss.cross_entropy(LOGITS, np.array([0, -100, 5, 3]), reduction="none")
    for ignored, dtype in ((2**32 - 1, np.uint32), (2**40, np.int64), (-(2**40), np.int64), (2**63, np.uint64)):
        target = np.array([0, ignored, 5, 3], dtype)
        got = jaxloss.cross_entropy(LOGITS, target, ignore_index=ignored, reduction="none")
        np.testing.assert_array_equal(got, expected)
        one_off = np.array([0, ignored, ignored - 1, 3], dtype)
        losses = jaxloss.cross_entropy(LOGITS, one_off, ignore_index=ignored, reduction="none")
        np.testing.assert_array_equal(np.isnan(losses), [False, False, True, False])
        assert jaxloss.cross_entropy(LOGITS, TARGET, ignore_index=ignored) == jaxloss.cross_entropy(LOGITS, TARGET)
    for ignored in (2**31 - 1, -(2**31), -(2**31) + 1):
        target = np.array([0, ignored, 2**40, -(2**40)])
        losses = jaxloss.cross_entropy(LOGITS, target, ignore_index=ignored, reduction="none")
        np.testing.assert_array_equal(np.isnan(losses), [False, False, True, True])


@pytest.mark.nans
def test_64_bit_integers_of_numpy_do_not_wrap():
    np.testing.assert_allclose(jaxloss.mse_loss(jnp.zeros(1), np.array([2**32])), 2.0**64)
    np.testing.assert_allclose(jaxloss.mse_loss(jnp.ones(2), 0.0, weights=np.array([2**32, 0]), reduction="sum"), 2**32)
    assert jaxloss.mse_loss(jnp.ones(2), np.array([1, 3])) == 2
    target = np.array([0, 2**40, 5, 3])
    expected = jaxloss.cross_entropy(LOGITS, target, ignore_index=2**40)
    assert jaxloss.cross_entropy(LOGITS, target, ignore_index=np.int64(2**40)) == expected
    for index in (np.array([1, 2]), jnp.arange(2)):
        with pytest.raises(TypeError, match="cross_entropy: ignore_index is compiled into the program and takes int"):
            jaxloss.cross_entropy(LOGITS, target, ignore_index=index)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_a_masked_array_is_an_error_also_where_its_data_have_been_taken(dtype):
    target = TARGET.astype(dtype)
    jaxloss.cross_entropy(LOGITS, target)
    with pytest.raises(TypeError, match="cross_entropy: target is a MaskedArray but takes an array"):
        jaxloss.cross_entropy(LOGITS, np.ma.masked_array(target, target == 3))
    with pytest.raises(TypeError, match="cross_entropy: weights is a MaskedArray but takes an array"):
        jaxloss.cross_entropy(LOGITS, target, weights=np.ma.masked_array(LOGITS[:, 0], target == 3))


@each_declaration
def test_a_foreign_byte_order_is_an_error_also_where_a_program_for_native_numbers_exists(row):
    """JAX itself takes such an array for a native one, if it has compiled a program for native ones (jax 0.10.2)."""
    arrays, weights = draw(row), np.ones(SHAPE, np.float32)
    row.loss(*arrays, weights=weights)
    foreign = [array.astype(array.dtype.newbyteorder()) for array in arrays]
    for i, (array, name) in enumerate(zip(foreign, row.names, strict=True)):
        with pytest.raises(TypeError, match=rf"has dtype {array.dtype} but takes") as caught:
            row.loss(*arrays[:i], array, *arrays[i + 1 :], weights=weights)
        assert name in row.declaration.structures or str(caught.value).startswith(f"{row.name}: {name} has")
    with pytest.raises(TypeError, match=f"{row.name}: weights has dtype >f4 but takes numbers in a dtype that JAX has"):
        row.loss(*arrays, weights=weights.astype(">f4"))


class Subclass(np.ndarray):
    """Like `np.memmap`, `np.matrix` and `np.recarray`."""


@pytest.mark.nans
@each_declaration
def test_integers_in_a_subclass_of_array_do_not_wrap(row):
    """Also if all other arrays are JAX's."""
    arrays = [jnp.asarray(array) for array in draw(row, (2,))]
    weights = np.array([1, 2**32 + 1])
    expected = row.loss(*arrays, weights=weights, reduction="sum")
    assert row.loss(*arrays, weights=weights.view(Subclass), reduction="sum") == expected
    assert row.loss(*arrays, weights=weights.astype(np.float32), reduction="sum") == expected
    if row.has_indices:
        losses = row.loss(*arrays[:-1], np.array([0, 2**32 + 1]).view(Subclass), reduction="none")
        np.testing.assert_array_equal(np.isnan(losses), [False, True])


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_a_matrix_of_wide_integers_is_an_array():
    x, target = jnp.zeros((1, 2)), np.array([[1, 2**32]])
    assert jaxloss.mse_loss(x, np.matrix(target)) == jaxloss.mse_loss(x, target)


def made_under_x64(arrays):
    """Arrays of JAX in 64 bits, as a program has them that enables these in another place."""
    with jax.enable_x64(True):
        return [jnp.asarray(array, np.int64 if array.dtype.kind == "i" else np.float64) for array in arrays]


@pytest.mark.filterwarnings("error")
@each_declaration
def test_arrays_of_64_bits_are_taken_where_those_are_not_enabled(row):
    arrays = draw(row, (2, 3))
    wide = made_under_x64(arrays)
    value, gradient = jax.value_and_grad(row.loss)(*wide)
    expected, wanted = jax.value_and_grad(row.loss)(*arrays)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.nans
@each_of([row for row in REGISTRY if row.has_indices])
def test_class_indices_of_64_bits_do_not_wrap_where_those_are_not_enabled(row):
    *arrays, _ = draw(row, (3,))
    options = {} if "ignore_index" not in row.declaration.defaults else {"ignore_index": 2**40 + 1}
    for dtype, beyond in ((np.int64, -(2**40)), (np.int64, 2**32 + 1), (np.uint64, 2**63 + 1)):
        with jax.enable_x64(True):
            target = jnp.asarray(np.array([1, beyond, 2**40 + 1], dtype))
        losses = row.loss(*arrays, target, **options, reduction="none")
        np.testing.assert_array_equal(np.isnan(losses), [False, True, not options])
        np.testing.assert_array_equal(imbalance.class_counts(target, 3), [0, 1, 0])


class Number(enum.IntEnum):
    FIRST, SECOND, THIRD, IGNORED, LAST = 0, 1, 2, -7, -1


class Reduction(enum.StrEnum):
    SUM = "sum"


@each_declaration
def test_members_of_enumerations_are_numbers_and_names(row):
    arrays = draw(row, (2, 3))
    assert row.loss(*arrays, reduction=Reduction.SUM) == row.loss(*arrays, reduction="sum")
    options = {name: Number(n) for name, n in row.integers().items()} | ({"axis": Number.LAST} if row.has_axis else {})
    assert row.loss(*arrays, **options) == row.loss(*arrays, **{name: int(of) for name, of in options.items()})
    if "ignore_index" in row.declaration.defaults and row.has_indices:
        *rest, target = arrays
        target[0] = -7
        ignored = row.loss(*rest, target, ignore_index=Number.IGNORED)
        assert ignored == row.loss(*rest, target, where=np.array([[False], [True]]))


class Parameter(Variable):
    """A variable that is also a pytree, like `flax.nnx.Param`."""


jax.tree_util.register_pytree_node(Parameter, lambda p: ((p.value,), None), lambda _, children: Parameter(*children))


@pytest.mark.parametrize("kind", [Variable, Parameter])
def test_a_variable_of_a_neural_network_library_is_unwrapped(kind):
    expected = jaxloss.cross_entropy(LOGITS, TARGET, class_weights=np.arange(6.0, dtype=np.float32))
    got = jaxloss.cross_entropy(kind(LOGITS), kind(TARGET), class_weights=kind(np.arange(6.0, dtype=np.float32)))
    assert got == expected
    assert jaxloss.l1_loss(kind(LOGITS), 0.0, where=kind(LOGITS > 0)) == jaxloss.l1_loss(LOGITS, 0.0, where=LOGITS > 0)
    gradient = jax.grad(lambda x: jaxloss.cross_entropy(kind(x), TARGET))(LOGITS)
    np.testing.assert_array_equal(gradient, jax.grad(jaxloss.cross_entropy)(LOGITS, TARGET))
    if kind is Parameter:
        by_parameter = jax.grad(jaxloss.cross_entropy)(Parameter(LOGITS), TARGET)
        np.testing.assert_array_equal(by_parameter.value, gradient)
    with pytest.raises(TypeError, match="cross_entropy: logits has dtype int32 but takes floating numbers"):
        jaxloss.cross_entropy(kind(TARGET), TARGET)


def test_several_indices_per_sample_cannot_be_ignored():
    def segment(logits, target, *, ignore_index=-100, **options):
        return jnp.mean(logits)

    with pytest.raises(TypeError, match="segment has ignore_index, but a sample has several indices in target"):
        jaxloss.loss("(c,p),(p)->()", indices={"target": "[0, c)"})(segment)


def test_the_options_of_split_classes_are_static():
    @jaxloss.loss("(c),()->()", indices={"target": "[0, c)"}, split="c")
    def score(classes, logits, target, *, axis_name=None, n_classes=None, **options):
        assert classes.n_classes == (n_classes or 6)
        return classes.share(logits, target)

    assert score(LOGITS[0], 1, n_classes=4) == LOGITS[0, 1]
    with pytest.raises(ValueError, match="score: axis_name is 'x' but shard_map maps over no such axis here"):
        score(LOGITS[0], 1, axis_name="x")
    with pytest.raises(ValueError, match="score: n_classes is 0 but must lie in"):
        score(LOGITS[0], 1, n_classes=0)


@pytest.mark.parametrize("returned", [None, "text", (1.0, 2.0, 3.0), (None, 1.0), 1j, [1.0]])
def test_a_kernel_returns_a_loss_or_a_pair(returned):
    odd_loss = jaxloss.loss("()->()")(lambda prediction, **options: returned)
    with pytest.raises(TypeError, match=r"<lambda>: the kernel returned .* but takes a loss of shape"):
        odd_loss(1.0)


def test_annotations_that_only_type_checkers_import():
    script = """
from __future__ import annotations
import jaxloss
@jaxloss.loss("()->()", static=("power",))
def odd(prediction: NotThere, *, power: AlsoNotThere = 2, **options: NeitherIsThis):
    return prediction**power
assert odd(3.0) == 9
"""
    exec(script, {"__name__": "scratch"})


def test_a_callable_that_is_compiled_in_may_be_annotated():
    @jaxloss.loss("(k)->()", static=("pair_weights",))
    def pair_loss(
        scores, *, pair_weights: Callable[[Array], Array] | None = None, **options: Unpack[jaxloss.AxisOptions]
    ):
        return jnp.sum(scores if pair_weights is None else pair_weights(scores))

    assert pair_loss(np.ones(3, np.float32), pair_weights=jnp.square) == 3
    with pytest.raises(TypeError, match="pair_loss: pair_weights is compiled into the program and takes Callable"):
        pair_loss(np.ones(3, np.float32), pair_weights=3)


def test_variables_in_the_other_public_functions():
    x, counts = LOGITS, np.array([3.0, 1.0, 2.0], np.float32)
    width, beta = np.float32(0.1), np.float32(0.9)
    for function, *arguments in (
        (kinks.abs, x, width),
        (kinks.maximum, x, -x, width),
        (kinks.max, x, width),
        (lambda x: vectors.norm(x, 2.0), x),
        (lambda x, y, eps: vectors.distance(x, y, eps=eps), x, -x, width),
        (vectors.cosine_similarity, x, 2 * x),
        (lambda target: imbalance.class_counts(target, 6), TARGET),
        (imbalance.inverse_frequency_weights, counts),
        (lambda counts, beta: imbalance.effective_number_weights(counts, beta=beta), counts, beta),
        (lambda counts, beta: imbalance.logit_adjustment(counts, temperature=beta), counts, beta),
        (lambda loss: jaxloss.Total(loss, loss).mean(), width),
    ):
        np.testing.assert_array_equal(function(*map(Variable, arguments)), function(*arguments))
    sampler = imbalance.BalancedSampler.init(jax.random.key(0), Variable(np.array([0, 1, 1])))
    assert sampler.length.tolist() == [1, 2]


def test_wide_integers_in_the_other_public_functions_do_not_wrap():
    wide, narrow = np.array([2**33, 2**32]), np.array([2.0, 1.0], np.float32)
    for function in (imbalance.inverse_frequency_weights, imbalance.logit_adjustment):
        np.testing.assert_array_equal(function(wide), function(narrow))
    np.testing.assert_array_equal(imbalance.effective_number_weights(wide, beta=0.5), [1, 1])
    np.testing.assert_array_equal(imbalance.logit_adjustment(narrow, temperature=np.array([2**32, 0]))[1], 0)
    with jax.numpy_dtype_promotion("standard"):  # a total may have an int and a float
        assert jaxloss.Total(np.int64(2**33), np.int64(2**32)).mean() == 2


def test_a_masked_array_is_an_error_in_the_other_public_functions():
    masked = np.ma.masked_array(TARGET, TARGET == 3)
    for name, function in (
        ("class_counts", lambda: imbalance.class_counts(masked, 6)),
        ("inverse_frequency_weights", lambda: imbalance.inverse_frequency_weights(masked)),
        ("BalancedSampler.init", lambda: imbalance.BalancedSampler.init(jax.random.key(0), masked)),
        ("target_score", lambda: jaxloss.target_score(LOGITS, masked)),
        ("Total.mean", lambda: jaxloss.Total(masked[1], 1).mean()),
    ):
        with pytest.raises(TypeError, match=f"{name}: .* is a Masked"):
            function()
