"""Micro-batches with unequal numbers of unmasked samples: the gradient of the whole batch, not of a mean of means."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxloss
from tests import compiling
from tests.collectives import sent
from tests.drawing import dot

LENGTHS = (8, 3, 1, 8, 5, 0, 7)
WIDTH, FEATURES, CLASSES = 8, 4, 5


def micro_batches(k):
    generator = np.random.default_rng(k)
    return {
        "x": generator.normal(size=(k, WIDTH, FEATURES)).astype(np.float32),
        "y": generator.integers(0, CLASSES, (k, WIDTH)).astype(np.int32),
        "where": np.arange(WIDTH) < np.array(LENGTHS[:k])[:, None],
    }


def parameters():
    generator = np.random.default_rng(0)
    return {
        "kernel": generator.normal(size=(FEATURES, CLASSES)).astype(np.float32),
        "class_weights": np.linspace(0.5, 2, CLASSES, dtype=np.float32),
        "step": 3,
    }


def loss(parameters, batch, reduction="total"):
    logits = batch["x"] @ parameters["kernel"]
    options = {"class_weights": parameters["class_weights"], "where": batch["where"], "reduction": reduction}
    return jaxloss.cross_entropy(logits, batch["y"], **options)


def whole(batches):
    return {name: array.reshape(-1, *array.shape[2:]) for name, array in batches.items()}


def value_and_gradients(function):
    """With respect to the kernel and the class weights, on which the normaliser depends."""

    def of(kernel, class_weights, batches):
        return function({**parameters(), "kernel": kernel, "class_weights": class_weights}, batches)

    start = parameters()
    return lambda batches: jax.value_and_grad(of, (0, 1))(start["kernel"], start["class_weights"], batches)


def assert_close(got, expected, rtol=1e-6):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * np.abs(other).max())


@pytest.mark.parametrize("k", [2, 3, 7])
@pytest.mark.parametrize("jit", [True, False], ids=["jit", "eager"])
def test_accumulated_matches_the_whole_batch_unlike_a_mean_of_means(k, jit):
    batches = micro_batches(k)
    expected = value_and_gradients(lambda p, b: loss(p, whole(b), "mean"))(batches)
    mean = value_and_gradients(lambda p, b: jaxloss.accumulated(loss)(p, b).mean())
    assert_close((jax.jit(mean) if jit else mean)(batches), expected)
    means = value_and_gradients(lambda p, b: jax.vmap(lambda b: loss(p, b, "mean"))(b).mean())(batches)
    assert abs(means[0] - expected[0]) > 0.005 * expected[0]


def test_curvature_is_that_of_the_whole_batch_in_both_modes():
    batches, start = micro_batches(3), parameters()
    arrays = start["kernel"], start["class_weights"]
    direction = tuple(np.cos(np.arange(a.size, dtype=np.float32)).reshape(a.shape) for a in arrays)

    def accumulated(*arrays):
        return jaxloss.accumulated(loss)(dict(zip(("kernel", "class_weights"), arrays, strict=True)), batches).mean()

    def of_whole(*arrays):
        return loss(dict(zip(("kernel", "class_weights"), arrays, strict=True)), whole(batches), "mean")

    expected = jax.jvp(jax.grad(of_whole, (0, 1)), arrays, direction)[1]
    gradient = jax.grad(accumulated, (0, 1))
    assert_close(jax.jvp(gradient, arrays, direction)[1], expected, rtol=1e-5)
    assert_close(jax.grad(lambda *x: dot(gradient(*x), direction), (0, 1))(*arrays), expected, rtol=1e-5)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(accumulated, arrays, direction)


def test_gradients_with_respect_to_batches_and_closed_over_arrays():
    batches = micro_batches(3)

    def scaled(x, scale, accumulate):
        def closed(p, batch, reduction="total"):
            return loss({**p, "kernel": p["kernel"] * scale}, batch, reduction)

        if accumulate:
            return jaxloss.accumulated(closed)(parameters(), batches | {"x": x}).mean()
        return closed(parameters(), whole(batches | {"x": x}), "mean")

    expected = jax.grad(scaled, (0, 1))(batches["x"], 1.5, False)
    assert_close(jax.grad(scaled, (0, 1))(batches["x"], 1.5, True), expected)
    assert_close(jax.jit(jax.grad(lambda *a: scaled(*a, True), (0, 1)))(batches["x"], 1.5), expected)


def test_losses_may_close_over_keys_masks_and_counts():
    """A training step closes over such traced values: a dropout key, a mask and the step number."""
    batches = np.random.default_rng(0).normal(size=(3, 4, FEATURES)).astype(np.float32)

    def mean(kernel, key, kept, step, accumulate):
        def closed(kernel, batch, reduction="total"):
            x = batch * jax.random.bernoulli(jax.random.fold_in(key, step), 0.5, (4, FEATURES))
            return jaxloss.mse_loss(x @ kernel, 0.0, where=kept, reduction=reduction)

        if accumulate:
            return jaxloss.accumulated(closed)(kernel, batches).mean()
        return sum(closed(kernel, batch) for batch in batches).mean()

    arguments = np.ones(FEATURES, np.float32), jax.random.key(0), np.arange(4) < 3, 7
    with jax.numpy_dtype_promotion("standard"):
        gradients = [jax.jit(jax.grad(lambda *a, f=f: mean(*a, f)))(*arguments) for f in (True, False)]
        keys = jax.random.split(arguments[1], 2)
        by_key = [jax.vmap(lambda key, f=f: mean(arguments[0], key, *arguments[2:], f))(keys) for f in (True, False)]
    assert_close(*gradients)
    assert_close(*by_key)


def test_batches_may_contain_keys_and_none():
    batches = {"key": jax.random.split(jax.random.key(0), 3), "x": np.ones((3, 4), np.float32), "none": None}

    def of(scale, batch):
        noise = jax.random.normal(batch["key"], (4,))
        return jaxloss.mse_loss(scale * batch["x"], noise, reduction="total")

    got = jax.grad(lambda scale: jaxloss.accumulated(of)(scale, batches).mean())(2.0)
    noise = jax.vmap(lambda key: jax.random.normal(key, (4,)))(batches["key"])
    np.testing.assert_allclose(
        got, jax.grad(lambda scale: jaxloss.mse_loss(scale * jnp.ones((3, 4)), noise))(2.0), rtol=1e-6
    )


def test_a_handwritten_total_may_have_an_integer_normaliser():
    batches = jnp.arange(6.0).reshape(2, 3)
    of = lambda scale, batch: jaxloss.Total((scale * batch).sum(), batch.size)  # noqa: E731
    value, gradient = jax.value_and_grad(lambda scale: jaxloss.accumulated(of)(scale, batches).mean())(jnp.float32(2))
    assert (value, gradient) == (5, 2.5)


def test_intermediate_gradients_fit_in_half_precision():
    rows = jnp.full((2, 4096), 30.0)  # the sum of squares is beyond float16

    def of(scale, batch):
        return jaxloss.mse_loss(batch * scale.astype(jnp.float32), 0.0, reduction="total")

    assert jax.grad(lambda scale: jaxloss.accumulated(of)(scale, rows).mean())(jnp.float16(1)) == 1800
    zero = jnp.zeros((1, 1), jnp.float16)
    by_batch = lambda x: jaxloss.accumulated(lambda p, b: jaxloss.mse_loss(b, p, reduction="total"))(400.0, x).mean()  # noqa: E731
    assert jax.grad(by_batch)(zero) == -800


@pytest.mark.cpu
def test_temporaries_are_those_of_one_micro_batch_and_two_gradients():
    width, k = 512, 16
    x = jax.ShapeDtypeStruct((k, 64, width), jnp.float32)
    weights = jax.ShapeDtypeStruct((width, width), jnp.float32)

    def of(w, batch):
        return jaxloss.mse_loss(jnp.tanh(jnp.tanh(batch @ w) @ w), 0.0, reduction="total")

    accumulate = jax.value_and_grad(lambda w, x: jaxloss.accumulated(of)(w, x).mean())
    used = compiling.temporaries(accumulate, weights, x)
    gradient, activations = 4 * width * width, 4 * 64 * width
    assert used <= 2.1 * gradient + 8 * activations  # two gradients: the sum, and the term added to it


def test_gradients_of_half_precision_parameters_are_summed_in_float32():
    weights = jnp.ones(2, jnp.bfloat16)
    batches = jnp.linspace(1, 1.01, 512).reshape(256, 2)  # a sum in bfloat16 stops at 256

    def of(w, batch):
        return jaxloss.l1_loss(w.astype(jnp.float32) * batch, 0.0, reduction="total")

    gradient = jax.grad(lambda w: jaxloss.accumulated(of)(w, batches).loss)(weights)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(gradient.astype(jnp.float32), batches.sum(0), rtol=2**-8)


@pytest.mark.parametrize("k", [2, 3, 7])
def test_optax_multi_steps_matches_the_whole_batch(k):
    """The gradients are those of summed losses divided by the total normaliser. They are added, not averaged."""
    batches, start = micro_batches(k), parameters()
    normaliser = jax.vmap(lambda batch: loss(start, batch))(batches).normaliser.sum()

    def stepped(gradients, optimiser):
        kernel, state = start["kernel"], optimiser.init(start["kernel"])
        for gradient in gradients:
            updates, state = optimiser.update(gradient, state, kernel)
            kernel = optax.apply_updates(kernel, updates)
        return kernel

    def gradients(of):
        each = jax.grad(lambda kernel, batch: of({**start, "kernel": kernel}, batch))
        return [each(start["kernel"], jax.tree.map(lambda a, i=i: a[i], batches)) for i in range(k)]

    expected = stepped(
        [jax.grad(lambda w: loss({**start, "kernel": w}, whole(batches), "mean"))(start["kernel"])], optax.sgd(1)
    )
    with jax.numpy_dtype_promotion("standard"):  # Optax needs it
        sums = optax.MultiSteps(optax.sgd(1), k, use_grad_mean=False)
        got = stepped(gradients(lambda p, b: loss(p, b).loss / normaliser), sums)
        means = stepped(gradients(lambda p, b: loss(p, b, "mean")), optax.MultiSteps(optax.sgd(1), k))
    assert_close(got, expected)
    assert np.abs(means - expected).max() > 1e-3


@pytest.mark.cpu
@pytest.mark.parametrize("spec", [PartitionSpec("data"), PartitionSpec(None, "data"), PartitionSpec()], ids=str)
def test_parameters_and_batches_may_be_placed_on_a_mesh_with_explicit_axes(spec):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,))
    kernel = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    batches = np.random.default_rng(1).normal(size=(3, 4, 8)).astype(np.float32)

    def mean(kernel, batches):
        def of(kernel, batch):
            rows = jnp.einsum("nd,dc->nc", batch, kernel, out_sharding=PartitionSpec())
            return jaxloss.mse_loss(rows, 0.0, reduction="total")

        return jaxloss.accumulated(of)(kernel, batches).mean()

    def plain(kernel, batches):
        return ((batches @ kernel) ** 2).mean()

    with jax.set_mesh(mesh):
        for rows in (PartitionSpec(), PartitionSpec(None, "data")):
            placed = jax.device_put((kernel, batches), (spec, rows))
            got = jax.value_and_grad(mean, (0, 1))(*placed)
            assert_close(got, jax.value_and_grad(plain, (0, 1))(kernel, batches))
            assert [jax.typeof(x).sharding.spec for x in got[1]] == [jax.typeof(x).sharding.spec for x in placed]


def with_metrics(scale, batch):
    total = jaxloss.mse_loss(scale * batch["x"], 0.0, where=batch["where"], reduction="total")
    return total, {"largest": jnp.max(batch["x"] * scale), "counted": batch["where"].sum(), "rows": (batch["x"],)}


@pytest.mark.parametrize("jit", [True, False], ids=["jit", "eager"])
def test_auxiliary_data_are_stacked_over_micro_batches(jit):
    x, where = jnp.arange(6.0).reshape(3, 2), jnp.array([[True, False], [True, True], [False, False]])
    batches = {"x": x, "where": where}

    def mean(scale):
        total, metrics = jaxloss.accumulated(with_metrics, has_aux=True)(scale, batches)
        return total.mean(), metrics

    def run(scale):
        return jax.value_and_grad(mean, has_aux=True)(scale)

    expected = jax.value_and_grad(lambda scale: jaxloss.mse_loss(scale * x, 0.0, where=where))(2.0)
    (value, metrics), gradient = (jax.jit(run) if jit else run)(2.0)
    assert_close((value, gradient), expected)
    np.testing.assert_array_equal(metrics["largest"], [2, 6, 10])
    np.testing.assert_array_equal(metrics["counted"], [1, 2, 0])
    np.testing.assert_array_equal(metrics["rows"][0], x)
    without_gradient = mean(2.0)
    assert_close(without_gradient[0], value)
    jax.tree.map(np.testing.assert_array_equal, without_gradient[1], metrics)


def test_auxiliary_data_are_not_differentiated():
    batches = {"x": jnp.ones((2, 3)), "where": jnp.ones((2, 3), bool)}
    largest = lambda scale: jaxloss.accumulated(with_metrics, has_aux=True)(scale, batches)[1]["largest"].sum()  # noqa: E731
    assert jax.grad(largest)(2.0) == 0


@pytest.mark.cpu
def test_auxiliary_data_may_differ_between_devices():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    batches = {"x": jnp.arange(12.0).reshape(3, 4), "where": jnp.ones((3, 4), bool)}

    def local(scale, batches):
        total, metrics = jaxloss.accumulated(with_metrics, has_aux=True)(scale, batches)
        return total.psum("data").mean(), metrics["largest"][None]

    rows, same = PartitionSpec(None, "data"), PartitionSpec()
    sharded = jax.shard_map(local, mesh=mesh, in_specs=(same, rows), out_specs=(same, PartitionSpec("data")))
    (value, largest), gradient = jax.jit(jax.value_and_grad(sharded, has_aux=True))(2.0, batches)
    expected = jax.value_and_grad(lambda scale: jaxloss.mse_loss(scale * batches["x"], 0.0))(2.0)
    assert_close((value, gradient), expected)
    np.testing.assert_array_equal(largest, [[2, 10, 18], [6, 14, 22]])


def test_the_total_of_many_micro_batches_does_not_get_stuck():
    n = 2**22
    batches = jnp.full((n, 1), 0.1)
    mean = lambda scale: jaxloss.accumulated(of_scaled)(scale, batches).mean()  # noqa: E731
    np.testing.assert_allclose((mean(1.0), jax.value_and_grad(mean)(1.0)[0]), 0.1, rtol=1e-7)


def of_scaled(scale, batch):
    return jaxloss.l1_loss(scale * batch, 0.0, reduction="total")


@pytest.mark.cpu
def test_devices_exchange_gradients_once():
    """Not once per micro-batch, by the bytes that the program sends, with every loop iteration counted."""
    batches, start = micro_batches(3), parameters()
    expected = jax.value_and_grad(lambda w: loss({**start, "kernel": w}, whole(batches), "mean"))(start["kernel"])

    def local(kernel, batches):
        return jaxloss.accumulated(loss)({**start, "kernel": kernel}, batches).psum("data").mean()

    rows, same = PartitionSpec(None, "data"), PartitionSpec()
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.shard_map(local, mesh=mesh, in_specs=(same, rows), out_specs=same)
    compiled = jax.jit(jax.value_and_grad(sharded)).lower(start["kernel"], batches).compile()
    assert_close(compiled(start["kernel"], batches), expected)
    assert sent(compiled) == {"all-reduce": 24 + start["kernel"].nbytes}


@pytest.mark.cpu
def test_a_differentiated_array_shared_by_all_devices_must_be_a_parameter():
    batches = micro_batches(2)
    rows, same = PartitionSpec(None, "data"), PartitionSpec()
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))

    def sharded(of):
        def local(scale, batches, shared):
            return jaxloss.accumulated(of(scale))((scale, shared), batches).psum("data").mean()

        return jax.jit(jax.grad(jax.shard_map(local, mesh=mesh, in_specs=(same, rows, same), out_specs=same), (0, 2)))

    def whole_batch(scale, shared):
        return loss({**parameters(), "kernel": scale * shared}, whole(batches), "mean")

    kernel = parameters()["kernel"]
    expected = jax.grad(whole_batch, (0, 1))(1.5, kernel)
    as_parameter = lambda _: lambda p, b: loss({**parameters(), "kernel": p[0] * p[1]}, b)  # noqa: E731
    assert_close(sharded(as_parameter)(1.5, batches, kernel), expected)
    closed_over = lambda scale: lambda p, b: loss({**parameters(), "kernel": scale * p[1]}, b)  # noqa: E731
    with pytest.raises(ValueError, match=r"closes over an array .* make it a part of the parameters"):
        sharded(closed_over)(1.5, batches, kernel)


def test_errors():
    for error, message, of, batches in (
        (TypeError, "the loss returned an array but takes a jaxloss.Total; use reduction='total'",
         lambda p, b: jaxloss.l1_loss(p, b), np.ones(3)),
        (ValueError, r"over at least one micro-batch, got shapes \(3,\), \(2,\)",
         lambda p, b: jaxloss.l1_loss(p, b[0], reduction="total"), (np.ones(3), np.ones(2))),
        (ValueError, "got no array", lambda p, b: jaxloss.l1_loss(p, 0.0, reduction="total"), ()),
        (ValueError, r"got shapes \(0, 3\)", lambda p, b: jaxloss.l1_loss(p, b, reduction="total"), np.ones((0, 3))),
        (ValueError, r"got shapes \(\)", lambda p, b: jaxloss.l1_loss(p, b, reduction="total"), 1.0),
    ):  # fmt: skip
        with pytest.raises(error, match=f"accumulated: .*{message}"):
            jaxloss.accumulated(of)(1.0, batches)


def test_errors_of_auxiliary_data():
    for message, of in (
        (r"the loss returned Total but takes a pair \(Total, auxiliary data\)", lambda p, b: of_scaled(p, b)),
        ("the loss returned an array but takes a jaxloss.Total", lambda p, b: (p, b)),
        (r"aux\['name'\] is of type str but takes a number or an array", lambda p, b: (of_scaled(p, b), {"name": "x"})),
    ):
        with pytest.raises(TypeError, match=f"accumulated: {message}"):
            jaxloss.accumulated(of, has_aux=True)(1.0, np.ones(3))
