"""Losses of two views: items split over devices, the bytes that are sent, and features without variance."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import jaxloss
from tests.collectives import sent
from tests.compiling import temporaries
from tests.references import self_supervised
from tests.test_sharding import SAME, assert_same, mesh

LOSSES = {"barlow": jaxloss.barlow_twins_loss, "vicreg": jaxloss.vicreg_loss}
REFERENCES = {"barlow": self_supervised.barlow_twins, "vicreg": self_supervised.vicreg}
each_loss = pytest.mark.parametrize("name", LOSSES)
GENERATOR = np.random.default_rng(0)
N, D = 24, 5
FIRST = GENERATOR.normal(size=(N, D)).astype(np.float32)
SECOND = FIRST + GENERATOR.normal(size=(N, D)).astype(np.float32)
VALID = np.arange(N) % 5 != 2
VALID[:3] = False  # the first of eight devices has no valid item


@each_loss
@pytest.mark.parametrize("valid", [None, VALID], ids=["all", "valid"])
@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.cpu
def test_items_split_over_devices(name, valid, check_vma):
    exists = np.ones(N, bool) if valid is None else valid
    poisoned = [np.where(exists[:, None], x, np.nan) for x in (FIRST, SECOND)]

    def whole(first, second, number):
        options = {"off_diagonal": number} if name == "barlow" else {"variance": number}
        return LOSSES[name](first, second, valid=valid, **options)

    def local(first, second, number, exists):
        options = {"off_diagonal": number} if name == "barlow" else {"variance": number}
        return LOSSES[name](first, second, valid=exists, axis_name="items", **options)

    items = PartitionSpec("items")
    devices = mesh(8, names=("items",))
    specs = (items, items, SAME, items)
    split = jax.shard_map(local, mesh=devices, in_specs=specs, out_specs=SAME, check_vma=check_vma)
    number = np.float32(0.3)
    expected = jax.value_and_grad(whole, (0, 1, 2))(*poisoned, number)
    assert_same(jax.jit(jax.value_and_grad(split, (0, 1, 2)))(*poisoned, number, exists), expected)
    if check_vma:
        # The gradient inside `shard_map` is that of the whole loss, not multiplied by the number of devices.
        inside = jax.shard_map(
            jax.value_and_grad(local, (0, 1)), mesh=devices, in_specs=specs, out_specs=(SAME, (items, items))
        )
        value, gradients = jax.jit(inside)(*poisoned, number, exists)
        assert_same((value, gradients), (expected[0], expected[1][:2]))


@each_loss
@pytest.mark.cpu
def test_sets_and_items_split_over_devices(name):
    first, second = (x.reshape(2, N // 2, D) for x in (FIRST, SECOND))
    exists = VALID.reshape(2, N // 2)

    def local(first, second, exists):
        losses = LOSSES[name](first, second, valid=exists, axis_name="items", reduction="total")
        return losses.psum("sets").mean()

    items = PartitionSpec("sets", "items")
    devices = mesh(2, 4, names=("sets", "items"))
    split = jax.shard_map(local, mesh=devices, in_specs=(items,) * 3, out_specs=SAME)
    got = jax.jit(jax.value_and_grad(split, (0, 1)))(first, second, exists)
    assert_same(got, jax.value_and_grad(lambda *x: LOSSES[name](*x, valid=exists), (0, 1))(first, second))


@each_loss
@pytest.mark.parametrize("n", [32, 256])
@pytest.mark.cpu
def test_devices_send_moments_and_no_items(name, n):
    d = 12
    items = PartitionSpec("items")
    split = jax.shard_map(
        lambda first, second: LOSSES[name](first, second, axis_name="items"),
        mesh=mesh(8, names=("items",)),
        in_specs=(items, items),
        out_specs=SAME,
    )
    shape = jax.ShapeDtypeStruct((n, d), jnp.float32)
    compiled = jax.jit(jax.value_and_grad(split, (0, 1))).lower(shape, shape).compile()
    numbers = {"barlow": d * d + 9 * d + 1, "vicreg": 2 * d * d + 8 * d + 2}[name]
    assert sent(compiled) == {"all-reduce": 4 * numbers}


@each_loss
@pytest.mark.cpu
def test_memory_in_proportion_to_items_and_to_pairs_of_features(name):
    n, d = 512, 128
    shape = jax.ShapeDtypeStruct((n, d), jnp.float32)
    assert temporaries(jax.value_and_grad(LOSSES[name], (0, 1)), shape, shape) <= 4 * (8 * n * d + 4 * d * d)


@each_loss
def test_an_axis_that_is_not_split_raises(name):
    with pytest.raises(ValueError, match=r"axis_name is 'items' but shard_map maps over no such axis here.* the items"):
        LOSSES[name](FIRST, SECOND, axis_name="items")


@each_loss
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_a_feature_without_variance(name, scale, shift):
    """It has correlation 0 and gradient 0. Every number is one that a mean of seven would round."""
    scale, shift = np.float32(scale), np.float32(shift * scale)
    first, second = FIRST[:7] * scale + shift, SECOND[:7] * scale
    first[:, 2] = np.float32(0.1) * scale
    loss = LOSSES[name] if name == "barlow" else lambda x, y: jaxloss.vicreg_loss(x, y, similarity=0.0, covariance=0.0)
    value, gradients = jax.value_and_grad(loss, (0, 1))(first, second)
    options = {} if name == "barlow" else {"similarity": 0.0, "covariance": 0.0}
    wide = [np.asarray(x, np.float64) for x in (first, second)]
    np.testing.assert_allclose(value, REFERENCES[name](*wide, **options)[0], rtol=1e-5)
    np.testing.assert_array_equal(gradients[0][:, 2], 0)
    chex.assert_tree_all_finite(gradients)
    # At 1e30, no feature of `vicreg_loss` has a deviation below 1.
    assert np.any(gradients[1]) == (name == "barlow" or scale < 1e30)


def test_correlations_of_any_scale_and_shift():
    """Powers of two change no digit of the value, and divide the gradient."""
    scales = 2.0 ** np.array([-100, -50, 0, 50, 100], np.float32)
    value, gradient = jax.value_and_grad(jaxloss.barlow_twins_loss)(FIRST, SECOND)
    scaled, of_scaled = jax.value_and_grad(jaxloss.barlow_twins_loss)(FIRST * scales, SECOND * scales[::-1])
    np.testing.assert_allclose(scaled, value, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(of_scaled) * scales, gradient, rtol=1e-5, atol=1e-8)


def test_features_that_agree_have_loss_and_gradient_zero():
    def agreement(first, second):
        return jaxloss.barlow_twins_loss(first, second, off_diagonal=0.0)

    value, gradient = jax.value_and_grad(agreement)(FIRST, FIRST * 4)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)
    value, gradient = jax.value_and_grad(agreement)(FIRST, 3 * FIRST + 1)
    assert 0 <= value < 1e-25
    # Nearly the same: 1 - C is 1e-10, of which a correlation rounded to float32 has no digit.
    near = FIRST + np.float32(1e-5) * (SECOND - FIRST)
    with jax.enable_x64(True):
        expected = jax.value_and_grad(agreement)(FIRST.astype(float), near.astype(float))
    got = jax.value_and_grad(agreement)(FIRST, near)
    np.testing.assert_allclose(got[0], expected[0], rtol=0.05)
    np.testing.assert_allclose(got[1], expected[1], atol=0.05 * np.abs(expected[1]).max())


def test_small_variances_beside_large_means_keep_their_digits():
    first, second = (np.float32(1000) + np.round(x * 64) / 64 for x in (FIRST, SECOND))
    for name, loss in LOSSES.items():
        expected, _ = REFERENCES[name](first.astype(float), second.astype(float))
        np.testing.assert_allclose(loss(first, second), expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e8, 1e10, 1e12, 1e30])
def test_gradients_of_covariances_beyond_the_range_of_their_squares(scale):
    """The loss may be infinite where its gradient is an ordinary number, and where it is not, no entry is NaN."""
    scale = np.float32(scale)

    def loss(first):
        return jaxloss.vicreg_loss(first, first, similarity=0.0, variance=0.0)

    gradient = jax.grad(loss)(FIRST * scale)
    with jax.enable_x64(True):
        expected = np.asarray(jax.grad(loss)(np.asarray(FIRST * scale, np.float64)))
    assert not np.isnan(gradient).any()
    inside = np.abs(expected) < 1e38
    np.testing.assert_allclose(gradient[inside], expected[inside], rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert inside.all() == (scale < 1e13)


@pytest.mark.nans
@each_loss
def test_few_items(name):
    loss = LOSSES[name]
    one = jax.value_and_grad(loss, (0, 1))(FIRST[:1], SECOND[:1])
    chex.assert_tree_all_finite(one)
    distance = 25 * np.mean((FIRST[:1] - SECOND[:1]) ** 2) + 25 * (1 - np.sqrt(1e-4))
    np.testing.assert_allclose(one[0], D if name == "barlow" else distance, rtol=1e-6)
    none = np.zeros(N, bool)
    total = loss(FIRST, SECOND, valid=none, reduction="total")
    assert (total.loss, total.normaliser) == (0, 0)
    gradients = jax.grad(lambda *x: loss(*x, valid=none), (0, 1))(np.full_like(FIRST, np.nan), SECOND)
    chex.assert_trees_all_equal(gradients, (np.zeros_like(FIRST),) * 2)
    both = loss(np.stack([FIRST, FIRST]), np.stack([SECOND, SECOND]), valid=np.stack([VALID, none]))
    np.testing.assert_allclose(both, loss(FIRST[VALID], SECOND[VALID]), rtol=1e-6)


@pytest.mark.nans
@each_loss
def test_items_that_are_not_valid_have_no_effect(name):
    poisoned = [np.where(VALID[:, None], x, np.nan) for x in (FIRST, SECOND)]
    value, gradients = jax.value_and_grad(lambda *x: LOSSES[name](*x, valid=VALID), (0, 1))(*poisoned)
    expected = jax.value_and_grad(LOSSES[name], (0, 1))(FIRST[VALID], SECOND[VALID])
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    for got, other in zip(gradients, expected[1], strict=True):
        np.testing.assert_array_equal(got[~VALID], 0)
        np.testing.assert_allclose(got[VALID], other, rtol=1e-5, atol=1e-6)


def test_eps_zero_is_a_standard_deviation_with_gradient_0_at_0():
    first = np.concatenate([FIRST[:, :2] * np.float32(0.3), np.zeros((N, 1), np.float32)], axis=1)

    def loss(first):
        return jaxloss.vicreg_loss(first, first, eps=0.0, similarity=0.0, covariance=0.0)

    value, gradient = jax.value_and_grad(loss)(first)
    np.testing.assert_allclose(value, 25 * np.maximum(0, 1 - first.std(axis=0, ddof=1)).mean(), rtol=1e-6)
    np.testing.assert_array_equal(gradient[:, 2], 0)
    tiny = jax.grad(loss)(first * np.float32(1e-30))
    np.testing.assert_allclose(tiny, gradient, rtol=1e-5)
