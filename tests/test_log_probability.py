"""Tests of `linear_log_probability`, which is not a loss: values, gradients, masks, extremes, chunks and devices."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss
from tests.collectives import sent
from tests.compiling import temporaries
from tests.drawing import each_half

N, D, C, COLUMNS = 16, 6, 11, 16
OPTIONS = {
    "defaults": {},
    "bias": {"bias": np.linspace(-2, 1, C)},
    "temperature": {"temperature": 0.7, "chunk_size": 5},
    "cap": {"logit_softcap": 2.0, "temperature": np.linspace(0.5, 2, N), "chunk_size": 3},
}
each_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def layer(dtype=np.float64, scale=1.0):
    generator = np.random.default_rng(0)
    hidden, kernel = (generator.normal(size=shape) for shape in ((N, D), (D, C)))
    target, where = generator.integers(0, C, N), np.arange(N) % 5 != 0
    return (scale * hidden).astype(dtype), kernel.astype(dtype), target, where


def plain(hidden, kernel, target, where, *, bias=0.0, temperature=1.0, logit_softcap=None, chunk_size=None):
    x = hidden @ kernel + jnp.broadcast_to(bias, kernel.shape[-1:])[None]
    x = x if logit_softcap is None else logit_softcap * jnp.tanh(x / logit_softcap)
    log_p = jax.nn.log_softmax(x / jnp.broadcast_to(temperature, x.shape[:1])[:, None])
    chosen = jnp.take_along_axis(log_p, target[:, None], axis=1)[:, 0]
    return jnp.where(where, chosen, 0), jnp.where(where, -jnp.sum(jnp.exp(log_p) * log_p, axis=1), 0)


def ours(hidden, kernel, target, where, **options):
    return jaxloss.linear_log_probability(hidden, kernel, target, where=where, entropy=True, **options)


def weighted(function, cotangents=None):
    """The sum of both results with cotangents of either sign."""
    cotangents = np.random.default_rng(1).normal(size=(2, N)) if cotangents is None else cotangents

    def total(*arguments, **options):
        results = function(*arguments, **options)
        return sum(jnp.sum(jnp.asarray(c, r.dtype) * r) for c, r in zip(cotangents, results, strict=True))

    return total


@each_options
def test_values_and_gradients_match_plain_float64(options):
    with jax.enable_x64(True):
        arrays, (statics, numbers) = layer(), split(options)
        expected = jax.value_and_grad(weighted(plain), (0, 1))(*arrays, **options)
        got = jax.value_and_grad(weighted(ours), (0, 1))(*arrays, **options)
        chex.assert_trees_all_close(got, expected, rtol=1e-11, atol=1e-12)
        by_numbers = [
            jax.grad(lambda given, f=f: weighted(f)(*arrays, **statics, **given))(numbers) for f in (ours, plain)
        ]
        chex.assert_trees_all_close(*by_numbers, rtol=1e-10, atol=1e-12)
        alone = jaxloss.linear_log_probability(*arrays[:3], where=arrays[3], **options)
        chex.assert_trees_all_close(alone, plain(*arrays, **options)[0], rtol=1e-11)


def split(options):
    """What is compiled in, and the numbers."""
    statics = {name: value for name, value in options.items() if name == "chunk_size"}
    return statics, {name: jnp.asarray(value) for name, value in options.items() if name not in statics}


@each_options
def test_second_derivatives(options):
    with jax.enable_x64(True):
        hidden, *arrays = layer()
        direction = np.random.default_rng(2).normal(size=hidden.shape)

        def of(function):
            def total(x):
                return weighted(function)(x, *arrays, **options)

            forward = jax.jvp(jax.grad(total), (hidden,), (direction,))[1]
            return forward, jax.grad(lambda x: jnp.vdot(jax.grad(total)(x), direction))(hidden)

        chex.assert_trees_all_close(of(ours), of(plain), rtol=1e-9, atol=1e-11)
        with pytest.raises(TypeError, match="linear_log_probability: is differentiated in forward mode"):
            jax.jvp(lambda x: weighted(ours)(x, *arrays), (hidden,), (direction,))


@pytest.mark.nans
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_masked_and_ignored_rows_have_no_effect(poison):
    hidden, kernel, target, where = layer(np.float32)
    target[where & (np.arange(N) % 3 == 0)] = -100
    counted = where & (target != -100)

    def run(hidden):
        results, pull = jax.vjp(lambda h, k: ours(h, k, target, where, chunk_size=5), hidden, kernel)
        return results, pull(tuple(map(jnp.ones_like, results)))

    clean, poisoned = run(hidden), run(np.where(counted[:, None], hidden, poison).astype(np.float32))
    chex.assert_trees_all_equal(clean, poisoned)
    for each in (*clean[0], clean[1][0]):
        assert not np.any(np.asarray(each)[~counted])
    kept = jaxloss.linear_log_probability(hidden[counted], kernel, target[counted], entropy=True)
    chex.assert_trees_all_close([each[counted] for each in clean[0]], list(kept), rtol=1e-6)


@pytest.mark.nans
def test_a_class_out_of_range_is_nan():
    hidden, kernel, target, where = layer(np.float32)
    target[1:4] = C, -1, -100
    chosen, entropy = ours(hidden, kernel, target, where)
    assert np.isnan(chosen).tolist() == np.isnan(entropy).tolist() == [i in (1, 2) for i in range(N)]


@each_half
def test_half_precision_for_cotangents_of_any_size(dtype):
    hidden, kernel, target, where = layer(dtype)
    wide = hidden.astype(np.float32), kernel.astype(np.float32)
    for size in (1e-8, 1.0, 2.0**17):
        cotangents = size * np.random.default_rng(1).normal(size=(2, N))
        total = weighted(ours, cotangents)
        # Scaled before they are cast, as an optimiser with a loss scale does.
        gradients = jax.grad(lambda *a, total=total, size=size: total(*a) / size, (0, 1))(hidden, kernel, target, where)
        expected = jax.grad(weighted(plain, cotangents / size), (0, 1))(*wide, target, where)
        for one, other in zip(gradients, expected, strict=True):
            eps = float(jnp.finfo(dtype).eps)
            np.testing.assert_allclose(one.astype(np.float32), other, rtol=4 * eps, atol=8 * eps)


@pytest.mark.nans
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e3, 1e30, 3e38])
def test_extreme_logits(scale):
    hidden, kernel, target, where = layer(np.float32)
    hidden = np.clip(scale * hidden.astype(np.float64), -3.4e38, 3.4e38).astype(np.float32)
    results, pull = jax.vjp(lambda *arrays: ours(*arrays, target, where), hidden, kernel)
    gradients = pull(tuple(np.random.default_rng(1).normal(size=(2, N)).astype(np.float32)))
    assert not any(np.isnan(each).any() for each in jax.tree.leaves((results, gradients)))
    if scale == 3e38:  # the logits overflow, and are cut off
        return
    with jax.enable_x64(True):
        wide = plain(hidden.astype(np.float64), kernel.astype(np.float64), target, where)
    np.testing.assert_allclose(results[0], wide[0], rtol=1e-4, atol=1e-30)
    np.testing.assert_allclose(results[1], wide[1], rtol=1e-4, atol=1e-6)


def test_entropy_at_its_ends():
    """It keeps its digits where one class is almost certain, and where all are equal."""
    for lead in (0.0, 20.0, 40.0, 80.0):
        logits = np.array([lead, *[0.0] * (C - 1)])
        hidden, kernel = np.ones((1, 1), np.float32), logits[None].astype(np.float32)
        _, entropy = jaxloss.linear_log_probability(hidden, kernel, np.array([0]), entropy=True)
        p = np.exp(logits - np.logaddexp.reduce(logits))
        rest = (C - 1) * np.exp(-lead)
        expected = np.log1p(rest) + lead * rest / (1 + rest)
        np.testing.assert_allclose(entropy, [expected], rtol=2e-6 if lead < 40 else 0.05)
        assert entropy[0] > 0
        assert np.isclose(-(p * np.log(p)).sum(), expected, rtol=1e-6)


def mesh(kind=AxisType.Auto):
    return jax.make_mesh((8,), ("classes",), axis_types=(kind,))


@pytest.mark.cpu
@each_options
def test_classes_split_over_devices(options):
    with jax.enable_x64(True):
        hidden, kernel, target, where = layer()
        statics, numbers = split(options)
        expected = jax.value_and_grad(weighted(plain), (0, 1))(hidden, kernel, target, where, **options)
        missing = np.full((D, COLUMNS - C), np.nan)
        numbers = {n: np.pad(v, (0, COLUMNS - C)) if n == "bias" else v for n, v in numbers.items()}
        same, columns = PartitionSpec(), PartitionSpec(None, "classes")
        specs = {name: PartitionSpec("classes") if name == "bias" else same for name in numbers}

        def local(hidden, kernel, target, where, numbers):
            return ours(hidden, kernel, target, where, **statics, **numbers, axis_name="classes", n_classes=C)

        shard = jax.shard_map(local, mesh=mesh(), in_specs=(same, columns, same, same, specs), out_specs=(same, same))
        total = weighted(shard)
        value, (by_hidden, by_kernel) = jax.jit(jax.value_and_grad(total, (0, 1)))(
            hidden, np.concatenate([kernel, missing], axis=1), target, where, numbers
        )
        chex.assert_trees_all_close((value, (by_hidden, by_kernel[:, :C])), expected, rtol=1e-11, atol=1e-12)
        assert not np.any(by_kernel[:, C:])


@pytest.mark.cpu
def test_devices_send_a_few_numbers_per_row():
    n, d, c = 64, 16, 512
    shapes = [jax.ShapeDtypeStruct(s, np.float32) for s in ((n, d), (d, c))] + [jax.ShapeDtypeStruct((n,), np.int32)]

    def local(hidden, kernel, target):
        def total(hidden, kernel):
            return weighted(functools.partial(ours, axis_name="classes"), np.ones((2, n)))(hidden, kernel, target, True)

        return jax.grad(total, (0, 1))(hidden, kernel)

    same, columns = PartitionSpec(), PartitionSpec(None, "classes")
    program = jax.shard_map(local, mesh=mesh(), in_specs=(same, columns, same), out_specs=(same, columns))
    numbers = sum(sent(jax.jit(program).lower(*shapes).compile()).values()) / 4
    assert numbers - n * d <= 24 * n  # the gradient of hidden, and maxima and sums of two passes


@pytest.mark.cpu
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_rows_on_a_mesh(kind):
    arrays = layer(np.float32)
    run = jax.jit(jax.value_and_grad(weighted(ours), (0, 1)))
    expected = run(*arrays)
    with jax.set_mesh(mesh(kind)):
        rows, same = (NamedSharding(mesh(kind), PartitionSpec(*axes)) for axes in (("classes",), ()))
        placed = [jax.device_put(a, s) for a, s in zip(arrays, (rows, same, rows, rows), strict=True)]
        got = jax.device_get(run(*placed))
        results = jax.jit(ours)(*placed)
    chex.assert_trees_all_close(got, jax.device_get(expected), rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(jax.device_get(results), ours(*arrays), rtol=1e-5, atol=1e-6)


def test_batches_vmap_export_and_no_rows():
    hidden, kernel, target, where = layer(np.float32)
    flat = ours(hidden, kernel, target, where)
    shaped = ours(hidden.reshape(2, 8, D), kernel, target.reshape(2, 8), where.reshape(2, 8))
    mapped = jax.vmap(ours, in_axes=(0, None, 0, 0))(hidden, kernel, target, where)
    for got in (shaped, mapped):
        chex.assert_trees_all_close([each.reshape(-1) for each in got], list(flat), rtol=1e-6)
    (n,) = jax.export.symbolic_shape("n", constraints=["n >= 1"])
    shapes = [jax.ShapeDtypeStruct((n, *a.shape[1:]), a.dtype) for a in (hidden, target.astype(np.int32), where)]
    program = jax.jit(lambda h, t, w: ours(h, jnp.asarray(kernel), t, w))
    exported = jax.export.deserialize(jax.export.export(program)(*shapes).serialize())
    chex.assert_trees_all_close(exported.call(hidden, target.astype(np.int32), where), flat, rtol=1e-6)
    empty = jax.grad(lambda h: sum(map(jnp.sum, ours(h, kernel, target[:0], where[:0]))))(hidden[:0])
    assert empty.shape == (0, D)


def test_errors():
    hidden, kernel, target, _ = layer(np.float32)
    call = jaxloss.linear_log_probability
    with pytest.raises(ValueError, match=r"linear_log_probability: temperature is 0.0 but must lie in \(0, inf\)"):
        call(hidden, kernel, target, temperature=0.0)
    with pytest.raises(ValueError, match="linear_log_probability: axis d has length 11 in kernel"):
        call(hidden, kernel.T, target)
    with pytest.raises(TypeError, match="linear_log_probability: there is no option reduction"):
        call(hidden, kernel, target, reduction="mean")
    with pytest.raises(TypeError, match="linear_log_probability: target has dtype float32 but takes integer"):
        call(hidden, kernel, target.astype(np.float32))


@pytest.mark.cpu
@pytest.mark.parametrize(("n", "d", "c"), [(2048, 256, 32000), (4096, 128, 50257)])
def test_temporaries_are_an_eighth_of_those_of_all_logits(n, d, c):
    shapes = [jax.ShapeDtypeStruct(s, np.float32) for s in ((n, d), (d, c))] + [jax.ShapeDtypeStruct((n,), np.int32)]
    held = [
        temporaries(jax.value_and_grad(lambda h, k, t, f=f: sum(map(jnp.sum, f(h, k, t, True))), (0, 1)), *shapes)
        for f in (ours, plain)
    ]
    assert held[0] <= held[1] / 8
