"""Tests of losses of distillation that the registry does not cover: constants, lists, devices and memory."""

import functools

import chex
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import jaxloss
from tests.collectives import sent
from tests.compiling import OPTIMISED, temporaries
from tests.references import distillation as reference

N, D, E, C, COLUMNS = 16, 6, 4, 11, 16
GENERATOR = np.random.default_rng(0)
HIDDEN, KERNEL, TEACHER_HIDDEN, TEACHER_KERNEL = (
    GENERATOR.normal(size=shape) for shape in ((N, D), (D, C), (N, E), (E, C))
)
BIAS, WHERE = GENERATOR.normal(size=C), np.arange(N) % 5 != 0
TEACHER_LOGITS = TEACHER_HIDDEN @ TEACHER_KERNEL
LOG_P, CLASSES = jax.tree.map(np.asarray, jax.lax.top_k(jax.nn.log_softmax(TEACHER_LOGITS), 3))
# Each loss with the arrays of its teacher, and the axis of classes of each.
LOSSES = {
    "layer": (jaxloss.linear_distillation_loss, (TEACHER_HIDDEN, TEACHER_KERNEL), (None, 1)),
    "logits": (jaxloss.linear_distillation_loss_from_logits, (TEACHER_LOGITS,), (1,)),
    "list": (jaxloss.linear_distillation_loss_from_top_k, (LOG_P, CLASSES), (None, None)),
}
each_loss = pytest.mark.parametrize(("loss", "teacher", "split"), LOSSES.values(), ids=LOSSES)


def along(axis):
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, "classes")


def padded(array, axis, value=np.nan):
    if axis is None:
        return array
    missing = [(0, COLUMNS - C) if i == axis else (0, 0) for i in range(array.ndim)]
    return np.pad(array, missing, constant_values=value)


@pytest.mark.cpu
@each_loss
def test_classes_split_over_devices(loss, teacher, split):
    """Columns of padding hold NaN."""
    with jax.enable_x64(True):
        options = {"temperature": 1.5, "logit_softcap": 3.0, "where": WHERE, "chunk_size": 5}

        def whole(hidden, kernel, bias):
            return loss(hidden, kernel, *teacher, bias=bias, **options)

        def local(hidden, kernel, bias, *teacher):
            return loss(hidden, kernel, *teacher, bias=bias, **options, axis_name="classes", n_classes=C)

        specs = (along(None), along(1), along(0), *map(along, split))
        mesh = jax.make_mesh((8,), ("classes",), axis_types=(jax.sharding.AxisType.Auto,))
        shard = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=along(None))
        expected = jax.value_and_grad(whole, (0, 1, 2))(HIDDEN, KERNEL, BIAS)
        arrays = HIDDEN, padded(KERNEL, 1), padded(BIAS, 0), *map(padded, teacher, split)
        value, gradients = jax.jit(jax.value_and_grad(shard, (0, 1, 2)))(*arrays)
        got = value, (gradients[0], gradients[1][:, :C], gradients[2][:C])
        chex.assert_trees_all_close(got, expected, rtol=1e-11, atol=1e-13)
        assert not np.any(gradients[1][:, C:])


@pytest.mark.cpu
def test_devices_send_a_few_numbers_per_row():
    n, d, c = 64, 16, 512
    mesh = jax.make_mesh((8,), ("classes",), axis_types=(jax.sharding.AxisType.Auto,))

    def local(*arrays):
        def mean(hidden, kernel):
            return jaxloss.linear_distillation_loss(hidden, kernel, *arrays[2:], axis_name="classes")

        return jax.grad(mean, (0, 1))(*arrays[:2])

    columns = along(1)
    program = jax.shard_map(
        local, mesh=mesh, in_specs=(along(None), columns, along(None), columns), out_specs=(along(None), columns)
    )
    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((n, d), (d, c), (n, d), (d, c))]
    numbers = sum(sent(jax.jit(program).lower(*shapes).compile()).values()) / 4
    assert numbers - n * d <= 24 * n


@each_loss
def test_a_teacher_has_gradient_0(loss, teacher, split):
    floats = [i for i, array in enumerate(teacher) if array.dtype.kind == "f"]
    arrays = [array.astype(np.float32) if array.dtype.kind == "f" else array for array in teacher]

    def mean(*given):
        changed = [given[floats.index(i)] if i in floats else array for i, array in enumerate(arrays)]
        return loss(HIDDEN.astype(np.float32), KERNEL.astype(np.float32), *changed, temperature=2.0)

    for gradient in jax.grad(mean, tuple(range(len(floats))))(*(arrays[i] for i in floats)):
        assert not np.any(gradient)


def test_the_bias_of_a_teacher_has_gradient_0():
    hidden, kernel, *teacher, bias = map(np.float32, (HIDDEN, KERNEL, TEACHER_HIDDEN, TEACHER_KERNEL, BIAS))
    mean = functools.partial(jaxloss.linear_distillation_loss, hidden, kernel, *teacher)
    assert not np.any(jax.grad(lambda bias: mean(teacher_bias=bias))(bias))


def test_three_descriptions_of_a_teacher_agree():
    """Its hidden states, its logits, and a list of all classes; equal teachers have loss 0 and gradient 0."""
    with jax.enable_x64(True):
        order = np.argsort(-TEACHER_LOGITS)
        listed = np.take_along_axis(np.asarray(jax.nn.log_softmax(TEACHER_LOGITS)), order, -1)
        teachers = [(TEACHER_HIDDEN, TEACHER_KERNEL), (TEACHER_LOGITS,), (listed, order)]
        functions = [loss for loss, *_ in LOSSES.values()]
        values = [loss(HIDDEN, KERNEL, *teacher) for loss, teacher in zip(functions, teachers, strict=True)]
        np.testing.assert_allclose(values, jaxloss.distillation_loss(HIDDEN @ KERNEL, TEACHER_LOGITS), rtol=1e-9)
        for reverse in (False, True):
            value, gradient = jax.value_and_grad(jaxloss.linear_distillation_loss)(
                HIDDEN, KERNEL, HIDDEN, KERNEL, reverse=reverse
            )
            assert (value, np.max(np.abs(gradient))) == (0, 0)


def test_lists_may_be_padded_and_repeat_no_mass():
    hidden, kernel = HIDDEN.astype(np.float32), KERNEL.astype(np.float32)
    log_p, classes = LOG_P.astype(np.float32), CLASSES.astype(np.int32)
    padding = np.full((N, 2), -np.inf, np.float32), np.zeros((N, 2), np.int32)
    longer = [np.concatenate(pair, axis=1) for pair in zip((log_p, classes), padding, strict=True)]
    run = jax.value_and_grad(jaxloss.linear_distillation_loss_from_top_k, (0, 1))
    chex.assert_trees_all_close(run(hidden, kernel, *longer), run(hidden, kernel, log_p, classes), rtol=1e-6)


def test_a_student_that_is_almost_certain_of_the_list():
    """The mass of the other classes is a sum, not a difference from 1."""
    with jax.enable_x64(True):
        logits = np.array([[40.0, 39.0, 0.0, 0.0, 0.0]])
        exact = reference.from_top_k(np.ones((1, 1)), logits, np.log([[0.6, 0.3]]), np.array([[0, 1]]))[0]
    arrays = np.ones((1, 1), np.float32), logits.astype(np.float32), np.log([[0.6, 0.3]]).astype(np.float32)
    got = jaxloss.linear_distillation_loss_from_top_k(*arrays, np.array([[0, 1]]), reduction="none")
    np.testing.assert_allclose(got, exact, rtol=1e-6)


def test_stored_logits_are_never_converted_whole():
    """XLA:CPU copies them in half precision, to read them as integers."""
    n, d, c = 4096, 32, 32000
    shapes = [jax.ShapeDtypeStruct(s, t) for s, t in (((n, d), "float32"), ((d, c), "float32"), ((n, c), "bfloat16"))]
    held = temporaries(jax.value_and_grad(jaxloss.linear_distillation_loss_from_logits, (0, 1)), *shapes)
    assert held < 0.75 * n * c * 4


@pytest.mark.cpu
def test_temporaries_are_an_eighth_of_those_of_all_logits():
    n, d, c = 2048, 128, 32000
    shapes = [jax.ShapeDtypeStruct(s, np.float32) for s in ((n, d), (d, c), (n, d), (d, c))]

    def plain(h, k, e, f):
        log_p, log_q = jax.nn.log_softmax(e @ f), jax.nn.log_softmax(h @ k)
        return jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))

    held = [temporaries(jax.value_and_grad(f, (0, 1)), *shapes) for f in (jaxloss.linear_distillation_loss, plain)]
    assert held[0] <= held[1] / 8


def test_cotangents_of_any_size_in_half_precision():
    arrays = [a.astype(jnp.bfloat16) for a in (HIDDEN, KERNEL, TEACHER_HIDDEN, TEACHER_KERNEL)]
    expected = jax.grad(jaxloss.linear_distillation_loss, (0, 1))(*(a.astype(np.float32) for a in arrays))
    for size in (1e-8, 1.0, 2.0**17):
        got = jax.grad(lambda *a, size=size: size * jaxloss.linear_distillation_loss(*a), (0, 1))(*arrays)
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one.astype(np.float32) / size, other, rtol=0.02, atol=2e-3)


def test_gradients_beside_impossible_classes():
    """An impossible class of either side changes neither the derivative by the temperature nor that by the logits."""
    with jax.enable_x64(True):
        x, t = np.arange(5.0), np.array([0.5, 0.0, -1.0, 2.0, 1.0])
        for masked in (-np.inf, -1e300, -1e30, -1e9):
            hidden = np.where(np.arange(8) < 5, 0, masked)

            def of(loss, n, hidden=hidden, **options):
                def value(x, t, temperature):
                    x, t = (jnp.pad(each, (0, 8 - 5))[:n] + hidden[:n] for each in (x, t))
                    return loss(x, t, temperature=temperature, **options)

                return jax.grad(value, (0, 1, 2))(x, t, 1.5)

            for reverse in (False, True):
                pair = (of(jaxloss.distillation_loss, n, reverse=reverse) for n in (8, 5))
                chex.assert_trees_all_close(*pair, rtol=1e-9, atol=1e-12)
            chex.assert_trees_all_close(*(of(jaxloss.jensen_shannon_loss, n) for n in (8, 5)), rtol=1e-9, atol=1e-12)
        far = jax.grad(jaxloss.jensen_shannon_loss)(x, np.array([-np.inf] * 3 + [0.0, -np.inf]))
        near = jax.grad(jaxloss.jensen_shannon_loss)(x, np.array([-100.0] * 3 + [0.0, -100.0]))
        np.testing.assert_allclose(far, near, rtol=1e-9)


def test_the_derivative_by_the_temperature_ignores_padding():
    with jax.enable_x64(True):
        kernel, teacher = (np.pad(each, ((0, 0), (0, 5)), constant_values=7.0) for each in (KERNEL, TEACHER_KERNEL))

        def value(temperature, kernel, teacher, **options):
            arrays = HIDDEN, kernel, TEACHER_HIDDEN, teacher
            return jaxloss.linear_distillation_loss(*arrays, temperature=temperature, **options)

        whole = jax.grad(value)(1.5, KERNEL, TEACHER_KERNEL)
        np.testing.assert_allclose(jax.grad(value)(1.5, kernel, teacher, n_classes=C), whole, rtol=1e-10)


def softmax_of(logits, temperature):
    powers = [mpmath.exp(mpmath.mpf(float(x)) / temperature) for x in logits]
    return [power / mpmath.fsum(powers) for power in powers]


def exact_divergence(x, t, temperature, reverse):
    """The loss of one row and its gradient by the student's logits, in 60 digits."""
    with mpmath.workdps(60):
        q, p = softmax_of(x, temperature), softmax_of(t, temperature)
        ahead = [mpmath.log(b / a) for a, b in zip(p, q, strict=True)]
        if not reverse:
            slopes = [b - a for a, b in zip(p, q, strict=True)]
            value = -mpmath.fdot(p, ahead)
        else:
            value = mpmath.fdot(q, ahead)
            slopes = [b * (s - value) for b, s in zip(q, ahead, strict=True)]
        return float(temperature**2 * value), [float(temperature * slope) for slope in slopes]


@pytest.mark.parametrize("temperature", [0.25, 1.0, 30.0, 1e3, 1e6])
@pytest.mark.parametrize("reverse", [False, True])
def test_digits_at_every_temperature(temperature, reverse):
    """Also of two rows that differ in one class, and of two with other likeliest classes."""
    x, t = np.random.default_rng(1).integers(-12, 12, size=(2, 20, 50)).astype(np.float32) / 4
    t[0], t[1, ::2] = x[0], x[1, ::2]
    t[0, 7] += 1
    values, slopes = zip(
        *(exact_divergence(*rows, temperature, reverse) for rows in zip(x, t, strict=True)), strict=True
    )
    identity, options = np.eye(50, dtype=np.float32), {"temperature": temperature, "reverse": reverse}
    calls = {
        "logits": lambda x: jaxloss.distillation_loss(x, t, **options, reduction="none"),
        "layer": lambda x: jaxloss.linear_distillation_loss(x, identity, t, identity, **options, reduction="none"),
        "stored": lambda x: jaxloss.linear_distillation_loss_from_logits(x, identity, t, **options, reduction="none"),
    }
    largest = np.max(np.abs(slopes), axis=1, keepdims=True)
    for name, call in calls.items():
        np.testing.assert_allclose(call(x), values, rtol=2e-6, err_msg=name)
        gradient = jax.grad(lambda x, call=call: jnp.sum(call(x)))(x)
        np.testing.assert_allclose(gradient / largest, slopes / largest, rtol=0, atol=2e-6, err_msg=name)


@pytest.mark.usefixtures("each_platform")
@pytest.mark.parametrize("name", ["student", "teacher"])
def test_logits_that_are_products(name):
    """XLA computes a product and a difference in one step, without rounding the product."""
    x, y = np.float32(np.random.default_rng(0).normal(size=(2, 8, 100)))
    losses = (
        jaxloss.distillation_loss,
        lambda x, y: jaxloss.distillation_loss(x, y, reverse=True),
        lambda x, y: jaxloss.jensen_shannon_loss(x, y, beta=0.3),
    )

    def gradients(x, y, factor):
        products = (factor * x, y) if name == "student" else (x, factor * y)
        return [jax.grad(loss, ("student", "teacher").index(name))(*products) for loss in losses]

    compiled = jax.jit(gradients).lower(x, y, 3.3).compile(compiler_options=OPTIMISED)
    chex.assert_trees_all_close(compiled(x, y, 3.3), gradients(x, y, 3.3), atol=1e-7)
