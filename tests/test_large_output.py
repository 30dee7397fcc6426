"""Tests of large output layers that the registry does not cover."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxloss
from jaxloss._large_output.tiling import Tilings
from jaxloss._sharding import varying_axes
from tests import compiling
from tests.drawing import full_only


def layer(n=23, d=6, c=11, dtype=np.float32, seed=0):
    generator = np.random.default_rng(seed)
    hidden, kernel, bias = (generator.normal(size=shape).astype(dtype) for shape in ((n, d), (d, c), (c,)))
    return hidden, kernel, bias, generator.integers(0, c, size=n).astype(np.int32)


def plain(hidden, kernel, bias, target, *, z_loss=0.0, logit_softcap=None, reduction="mean", **options):
    """The loss with all logits in memory."""
    x = hidden @ kernel + bias[None]
    x = x if logit_softcap is None else logit_softcap * jnp.tanh(x / logit_softcap)
    cross, normalisers = jaxloss.cross_entropy(x, target, **options, reduction=lambda *pair: pair)
    losses = cross + jnp.where(normalisers > 0, z_loss * jax.nn.logsumexp(x, axis=-1) ** 2, 0)
    return losses if reduction == "none" else losses.sum() / normalisers.sum()


def fused(hidden, kernel, bias, target, **options):
    return jaxloss.linear_cross_entropy(hidden, kernel, target, bias=bias, **options)


@pytest.mark.parametrize("chunk_size", [*(pytest.param(n, marks=full_only) for n in (1, 100)), 5, 23, None])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_chunks_do_not_change_the_result(chunk_size, reduction):
    with jax.enable_x64(True):
        arrays = layer(dtype=np.float64)
        weights = np.linspace(0.5, 2, 11)
        options = {"class_weights": weights, "label_smoothing": 0.2, "z_loss": 0.01, "logit_softcap": 3.0}
        cotangent = 1.0 if reduction == "mean" else np.linspace(-1, 1, 23)

        def total(function, *arrays, **extra):
            return (cotangent * function(*arrays, arrays_target, **options, **extra, reduction=reduction)).sum()

        *arrays, arrays_target = arrays
        expected = jax.value_and_grad(lambda *a: total(plain, *a), (0, 1, 2))(*arrays)
        got = jax.value_and_grad(lambda *a: total(fused, *a, chunk_size=chunk_size), (0, 1, 2))(*arrays)
        for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


def test_weights_of_ignored_rows_have_gradient_0():
    hidden, kernel, _, target = layer()
    target[3] = -100

    def mean(weights):
        options = {"class_weights": np.linspace(0.5, 2, 11, dtype=np.float32), "reduction": "weighted_mean"}
        return jaxloss.linear_cross_entropy(hidden, kernel, target, weights=weights, **options)

    gradient = jax.grad(mean)(jnp.ones(23))
    assert gradient[3] == 0
    assert np.isfinite(gradient).all()


def test_derivatives_with_respect_to_options_and_soft_targets_match_full_logits():
    arrays = layer()[:3]
    soft = jax.nn.softmax(jnp.asarray(np.random.default_rng(1).normal(size=(23, 11)), jnp.float32))

    def of(function):
        def loss(weights, smoothing, z_loss, softcap, target):
            options = {
                "class_weights": weights,
                "label_smoothing": smoothing,
                "z_loss": z_loss,
                "logit_softcap": softcap,
            }
            return function(*arrays, target, **options)

        return jax.grad(loss, (0, 1, 2, 3, 4))(jnp.linspace(0.5, 2, 11), 0.1, 0.01, 3.0, soft)

    with jax.numpy_dtype_promotion("standard"):
        expected = of(plain)
    for one, other in zip(of(fused), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.__name__)
def test_half_precision_is_as_accurate_as_its_products(dtype):
    """Against float64 on the same rounded inputs, with sums beyond the range of half precision."""
    *arrays, target = layer(n=300)
    half = [jnp.asarray(array, dtype) for array in arrays]
    value, gradients = jax.value_and_grad(fused, (0, 1, 2))(*half, target)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        wide = [np.asarray(array, np.float64) for array in half]
        expected, wide_gradients = jax.value_and_grad(plain, (0, 1, 2))(*wide, target)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for got, wanted in zip(gradients, map(np.asarray, wide_gradients), strict=True):
        assert got.dtype == dtype
        error = np.abs(np.asarray(got, np.float64) - wanted).max()
        assert error <= 2 * float(jnp.finfo(dtype).eps) * np.abs(wanted).max()


def test_sums_are_scaled_before_they_are_rounded_to_half_precision():
    hidden, kernel = jnp.full((4096, 1), 100, jnp.float16), jnp.zeros((1, 2), jnp.float16)
    gradient = jax.grad(jaxloss.linear_cross_entropy, 1)(hidden, kernel, jnp.zeros(4096, int))
    np.testing.assert_array_equal(gradient, [[-50, 50]])


def temporaries(function, n, d, c):
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((n, d), (d, c))]
    target = jax.ShapeDtypeStruct((n,), jnp.int32)
    return compiling.temporaries(jax.value_and_grad(function, (0, 1)), *shapes, target)


@pytest.mark.cpu
@pytest.mark.parametrize(("n", "d", "c"), [(2048, 256, 32000), (4096, 128, 50257)])
def test_temporaries_are_an_eighth_of_those_of_full_logits_and_grow_only_with_the_input(n, d, c):
    naive = temporaries(lambda h, k, t: jaxloss.cross_entropy(h @ k, t), n, d, c)
    ours = temporaries(jaxloss.linear_cross_entropy, n, d, c)
    assert ours <= naive / 8
    more = temporaries(jaxloss.linear_cross_entropy, 4 * n, d, c)
    assert more - ours <= 3 * n * 4 * 2 * (d + 8)  # like the input and its gradient, not like the logits


def forward_over_reverse(loss, *arrays):
    return jax.jvp(jax.grad(loss, (0, 1)), arrays, arrays)[1]


def reverse_over_reverse(loss, *arrays):
    def slope(*moved):
        products = jax.tree.map(jnp.vdot, jax.grad(loss, (0, 1))(*moved), jax.lax.stop_gradient(moved))
        return sum(jax.tree.leaves(products))

    return jax.grad(slope, (0, 1))(*arrays)


@pytest.mark.cpu
@pytest.mark.parametrize("product", [forward_over_reverse, reverse_over_reverse])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_product_with_the_hessian_keeps_the_logits_of_a_few_chunks(product, reduction):
    n, d, c = 8192, 64, 4000
    hidden, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((n, d), (d, c)))

    def loss(hidden, kernel):
        options = {"chunk_size": 64, "reduction": reduction}
        return jnp.sum(jnp.square(jaxloss.linear_cross_entropy(hidden, kernel, np.zeros(n, np.int32), **options)))

    assert compiling.temporaries(functools.partial(product, loss), hidden, kernel) < n * c  # a quarter of the logits


def test_default_chunks_are_bounded():
    def tilings(c, d=2048, dtype=jnp.bfloat16):
        return Tilings.of(jax.ShapeDtypeStruct((d, c), dtype))

    assert [tilings(c).cpu.rows for c in (2, 32000, 50257, 10**6)] == [2**20, 128, 128, 128]
    assert [tilings(c).other.rows for c in (2, 32000, 128_256, 10**6)] == [2**23, 2048, 2048, 536]
    assert [tilings(50_000, d).tpu.rows for d in (256, 2048, 8192)] == [512, 1024, 2048]
    assert tilings(50_000, 1024, jnp.float32).tpu.rows == 1024
    assert [Tilings.of_tail(c).cpu.rows for c in (2, 50_000, 10**6)] == [128, 64, 64]
    assert [Tilings.of_tail(c).other.rows for c in (2, 50_000, 10**6)] == [2048, 2048, 536]


@pytest.mark.parametrize("platform", ["cpu", "tpu", "other"])
@pytest.mark.parametrize("chunk_size", [7, pytest.param(24, marks=full_only)])
def test_the_loops_of_every_platform_give_the_same(platform, chunk_size, monkeypatch):
    """The loop of another platform, run on the CPU: chunks in parts, and the first of them outside of the loop."""
    *arrays, target = layer(n=100)
    options = {"z_loss": 0.1, "label_smoothing": 0.2}
    expected = jax.value_and_grad(lambda *a: plain(*a, target, **options), (0, 1, 2))(*arrays)
    tilings = Tilings.of(jax.ShapeDtypeStruct((6, 11), jnp.float32), chunk_size)
    tiling = getattr(tilings, platform)
    monkeypatch.setattr(Tilings, "of", lambda *_: Tilings(tiling, tiling, tiling))
    for reduction in ("mean", "none"):

        def loss(*arrays, reduction=reduction):
            return fused(*arrays, target, **options, reduction=reduction, chunk_size=chunk_size).mean()

        jax.clear_caches()
        got = jax.value_and_grad(loss, (0, 1, 2))(*arrays)
        for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def test_the_value_of_many_chunks_keeps_its_digits_beside_a_gradient():
    hidden, kernel = np.full((131_072, 1), 0.1, np.float32), np.zeros((1, 3), np.float32)
    value, _ = jax.value_and_grad(jaxloss.linear_cross_entropy)(hidden, kernel, np.zeros(131_072, int), chunk_size=128)
    np.testing.assert_allclose(value, np.log(3), rtol=5e-7)


@pytest.mark.cpu
@pytest.mark.parametrize("n", [0, 8])
def test_the_loss_varies_over_the_mesh_axes_of_rows_and_weights(n):
    mesh = jax.make_mesh((2, 2), ("data", "other"), axis_types=(AxisType.Auto,) * 2)
    hidden, kernel, _, target = layer(n=n)
    found = []

    def total(hidden, kernel, target, weights):
        loss = jaxloss.linear_cross_entropy(hidden, kernel, target, weights=weights, reduction="sum")
        found.append(varying_axes(loss))
        return jax.lax.psum(loss, ("data", "other"))

    rows, others, same = PartitionSpec("data"), PartitionSpec("other"), PartitionSpec()
    sharded = jax.shard_map(total, mesh=mesh, in_specs=(rows, same, rows, others), out_specs=same)
    jax.eval_shape(sharded, hidden, kernel, target, np.ones(n, np.float32))
    assert found == [{"data", "other"}]


@pytest.mark.cpu
def test_data_parallel_gradients_match_one_device():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    hidden, kernel, bias, target = layer(n=24)
    where = np.arange(24) % 5 != 0

    def mean(hidden, kernel, bias, target, where):
        return fused(hidden, kernel, bias, target, where=where, reduction="total", chunk_size=5).psum("data").mean()

    rows, same = PartitionSpec("data"), PartitionSpec()
    sharded = jax.shard_map(mean, mesh=mesh, in_specs=(rows, same, same, rows, rows), out_specs=same)
    got = jax.jit(jax.value_and_grad(sharded, (0, 1, 2)))(hidden, kernel, bias, target, where)
    expected = jax.value_and_grad(lambda *a: fused(*a, target, where=where), (0, 1, 2))(hidden, kernel, bias)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_errors():
    hidden, kernel, bias, target = layer()
    for error, message, call in (
        (ValueError, r"kernel has shape \(23, 6, 11\) but takes shape \(d, c\) exactly",
         lambda: fused(hidden, np.stack([kernel] * 23), bias, target)),
        (ValueError, r"axis d has length 11 in kernel of shape \(11, 6\) but 6 in hidden",
         lambda: fused(hidden, kernel.T, None, target)),
        (ValueError, "chunk_size is 0 but must lie in", lambda: fused(hidden, kernel, bias, target, chunk_size=0)),
        (TypeError, "chunk_size is compiled into", lambda: fused(hidden, kernel, bias, target, chunk_size=[1])),
        (TypeError, "there is no option axis", lambda: fused(hidden, kernel, bias, target, axis=0)),
    ):  # fmt: skip
        with pytest.raises(error, match=f"linear_cross_entropy: {message}"):
            call()


@pytest.mark.parametrize("shape", [(0,), (4, 0)])
@pytest.mark.parametrize("reduction", ["none", "mean", lambda losses, normalisers: losses.sum()])
def test_an_empty_batch(shape, reduction):
    arrays = np.zeros((*shape, 6), np.float32), np.ones((6, 3), np.float32)

    def loss(*arrays):
        return jnp.sum(jaxloss.linear_cross_entropy(*arrays, np.zeros(shape, int), reduction=reduction))

    value, gradients = jax.value_and_grad(loss, (0, 1))(*arrays)
    assert value == 0
    np.testing.assert_array_equal(gradients[1], np.zeros((6, 3)))
