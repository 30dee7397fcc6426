"""Every generic test, over every row of the registry."""

import contextlib
import inspect
import itertools
import math

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.experimental import checkify

import jaxloss
from tests.registry import N_CLASSES, REGISTRY, Row

SHAPE = (3, 4)
each_row = pytest.mark.parametrize("row", REGISTRY, ids=lambda row: f"{row.name}{row.cores}")
each_variant = pytest.mark.parametrize(
    ("row", "options"),
    [(row, options) for row in REGISTRY for options in row.options],
    ids=lambda value: value.name if isinstance(value, Row) else "-".join(value) or "defaults",
)
HALF = (jnp.bfloat16, jnp.float16)


def draw(row, shape=SHAPE, dtype=np.float32, seed=0):
    """Valid arrays; floating ones of the dtype."""
    arrays = row.draw(np.random.default_rng(seed), shape)
    return tuple(a.astype(dtype) if np.issubdtype(a.dtype, np.floating) else a.astype(np.int32) for a in arrays)


def weights_and_mask(shape=SHAPE, seed=1):
    generator = np.random.default_rng(seed)
    where = generator.uniform(size=shape) < 0.6
    where.flat[0], where.flat[-1] = True, False
    return generator.uniform(0.5, 2, size=shape).astype(np.float32), where


def reduced(losses, normalisers, weights, where, reduction):
    """What the design's table of reductions says, in NumPy."""
    losses, normalisers = np.where(where, losses * weights, 0), np.where(where, normalisers, 0)
    return {
        "none": losses,
        "sum": losses.sum(),
        "mean": losses.sum() / normalisers.sum(),
        "weighted_mean": losses.sum() / (weights * normalisers).sum(),
        "batchmean": losses.sum() / losses.shape[0],
        "total": (losses.sum(), normalisers.sum()),
    }[reduction]


def corrupt(array, mask, value):
    """The array with the value in the masked samples; indices get one out of range."""
    array = np.array(array)
    array[mask] = value if np.issubdtype(array.dtype, np.floating) else N_CLASSES + 3
    return array


def random_floats(arrays):
    return [i for i, a in enumerate(arrays) if np.issubdtype(a.dtype, np.floating)]


@each_variant
def test_every_reduction_is_the_reference(row, options):
    arrays = draw(row)
    weights, where = weights_and_mask()
    losses, normalisers = row.reference(
        *(np.asarray(a, np.float64) if a.dtype.kind == "f" else a for a in arrays), **options
    )
    for reduction in jaxloss.reductions.NAMES:
        for mask in (np.ones(SHAPE, bool), where):
            given_options = dict(options, weights=weights, reduction=reduction)
            if not mask.all():
                given_options["where"] = mask
            result = row.function(*arrays, **given_options)
            expected = reduced(losses, normalisers, weights, mask, reduction)
            got = (result.loss, result.normaliser) if reduction == "total" else result
            np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)


@each_variant
def test_callable_reduction_gets_losses_and_unweighted_normalisers(row, options):
    weights, where = weights_and_mask()
    arrays = draw(row)
    losses, normalisers = row.function(*arrays, **options, weights=weights, where=where, reduction=lambda *pair: pair)
    expected, counts = row.reference(*arrays, **options)
    np.testing.assert_allclose(losses, np.where(where, expected * weights, 0), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(normalisers, np.where(where, counts, 0), rtol=1e-6)


@each_variant
def test_float64_value_and_gradient(row, options):
    """The gradient against central differences of the reference, itself in float64."""
    with jax.enable_x64(True):
        arrays = draw(row, dtype=np.float64)
        value, gradient = jax.value_and_grad(row.function)(*arrays, **options, reduction="sum")
        expected = row.reference(*arrays, **options)[0].sum()
        np.testing.assert_allclose(value, expected, rtol=1e-13)
        assert gradient.dtype == value.dtype == np.float64
        for where in ((0, 0), (1, 2), (2, 3)):
            for place in [where] if arrays[0].ndim == 2 else [(*where, 0), (*where, 4)]:
                step = np.zeros_like(arrays[0])
                step[place] = 1e-5
                up, down = (row.reference(arrays[0] + s * step, *arrays[1:], **options)[0].sum() for s in (1, -1))
                np.testing.assert_allclose(gradient[place], (up - down) / 2e-5, rtol=1e-6, atol=1e-9)


@each_variant
def test_forward_and_reverse_mode_agree_and_second_derivatives_are_right(row, options):
    with jax.enable_x64(True):
        arrays = draw(row, (2,), np.float64)
        floats = random_floats(arrays)

        def function(*floating):
            everything = list(arrays)
            for i, array in zip(floats, floating, strict=True):
                everything[i] = array
            return row.function(*everything, **options)

        jax.test_util.check_grads(function, [arrays[i] for i in floats], order=2, modes=("fwd", "rev"), rtol=1e-4)
        assert np.isfinite(jax.hessian(lambda x: row.function(x, *arrays[1:], **options))(arrays[0])).all()


@each_row
def test_derivative_by_weights_and_options(row):
    with jax.enable_x64(True):
        arrays = draw(row, dtype=np.float64)
        losses, _ = row.reference(*arrays)
        by_weights = jax.grad(lambda w: row.function(*arrays, weights=w, reduction="sum"))(np.zeros(SHAPE))
        np.testing.assert_allclose(by_weights, losses, rtol=1e-12)
        for option, numbers in row.numbers.items():
            slope = jax.grad(lambda number, o=option: row.function(*arrays, **{o: number}, reduction="sum"))(numbers[3])
            up, down = (row.reference(*arrays, **{option: numbers[3] + s * 1e-6})[0].sum() for s in (1, -1))
            np.testing.assert_allclose(slope, (up - down) / 2e-6, rtol=1e-6)


@each_row
def test_options_with_one_value_a_sample(row):
    arrays = draw(row)
    for option, numbers in row.numbers.items():
        many = np.resize(np.asarray(numbers, np.float32), SHAPE)
        together = row.function(*arrays, **{option: many}, reduction="none")
        for i in itertools.product(range(SHAPE[0]), range(SHAPE[1])):
            alone = row.function(*(a[i] for a in arrays), **{option: float(many[i])})
            np.testing.assert_allclose(together[i], alone, rtol=1e-6, atol=1e-7)


@each_row
def test_transformations_change_nothing(row):
    arrays = draw(row)
    expected = row.function(*arrays, reduction="none")
    for function in (
        jax.jit(lambda *a: row.function(*a, reduction="none")),
        jax.vmap(lambda *a: row.function(*a, reduction="none")),
        jax.vmap(jax.vmap(row.function)),
        jax.checkpoint(lambda *a: row.function(*a, reduction="none")),
        lambda *a: jax.lax.scan(lambda c, row_: (c, row.function(*row_, reduction="none")), 0, a)[1],
    ):
        np.testing.assert_allclose(function(*map(jnp.asarray, arrays)), expected, rtol=1e-6, atol=1e-7)


@each_row
def test_axis(row):
    if not row.has_classes:
        with pytest.raises(TypeError, match=f"{row.name}: there is no option axis"):
            row.function(*draw(row), axis=0)
        return
    arrays = draw(row)
    expected = row.function(*arrays, reduction="none")
    for axis in (0, 1, -2):
        moved = [np.moveaxis(a, -1, axis) if core else a for a, core in zip(arrays, row.cores, strict=True)]
        np.testing.assert_allclose(row.function(*moved, axis=axis, reduction="none"), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=f"{row.name}: axis is 3"):
        row.function(*arrays, axis=3)


@each_row
@pytest.mark.parametrize("dtype", HALF, ids=lambda dtype: dtype.__name__)
def test_half_precision_computes_in_float32(row, dtype):
    arrays = tuple(jnp.asarray(a, dtype) if a.dtype.kind == "f" else jnp.asarray(a) for a in draw(row))
    wide = tuple(a.astype(jnp.float32) if jnp.issubdtype(a.dtype, jnp.floating) else a for a in arrays)
    value, gradient = jax.value_and_grad(row.function)(*arrays)
    expected, wide_gradient = jax.value_and_grad(row.function)(*wide)
    assert value.dtype == jnp.float32
    assert gradient.dtype == dtype
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient.astype(jnp.float32), wide_gradient.astype(dtype).astype(jnp.float32), rtol=1e-2)


@each_variant
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_what_stands_in_masked_samples_has_no_effect(row, options, poison):
    arrays = draw(row)
    weights, where = weights_and_mask()
    poisoned = [corrupt(a, ~where, poison) for a in arrays]
    bad_weights = corrupt(weights, ~where, poison)
    extra = dict(options)
    for option, numbers in row.numbers.items():
        extra[option] = np.full(SHAPE, numbers[0], np.float32)

    def run(arrays, weights, extra):
        floats = random_floats(arrays)

        def function(floating, weights, extra):
            everything = list(arrays)
            for i, array in zip(floats, floating, strict=True):
                everything[i] = array
            return row.function(*everything, **extra, weights=weights, where=where)

        static = {k: v for k, v in extra.items() if not isinstance(v, np.ndarray)}
        traced = {k: v for k, v in extra.items() if isinstance(v, np.ndarray)}
        return jax.value_and_grad(lambda f, w, t: function(f, w, static | t), argnums=(0, 1, 2))(
            [arrays[i] for i in floats], weights, traced
        )

    clean = run(arrays, weights, extra)
    bad_extra = {
        k: corrupt(v, ~where, poison) if isinstance(v, np.ndarray) and v.shape == SHAPE else v for k, v in extra.items()
    }
    for expected, got in zip(
        jax.tree.leaves(clean), jax.tree.leaves(run(poisoned, bad_weights, bad_extra)), strict=True
    ):
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


@each_row
def test_nothing_counted_is_zero_with_zero_gradient(row):
    arrays = draw(row)
    nothing = [(arrays, {"where": np.zeros(SHAPE, bool)}), (draw(row, (0,)), {}), (draw(row, (2, 0)), {})]
    if row.has_indices:
        nothing.append(((np.full_like(arrays[0], np.nan), np.full_like(arrays[1], -100)), {}))
    for given_arrays, options in nothing:
        for reduction in ("mean", "weighted_mean", "batchmean", "sum"):
            value, gradient = jax.value_and_grad(row.function)(*given_arrays, **options, reduction=reduction)
            assert value == 0
            assert not np.any(gradient)


@each_row
def test_nan_stays_in_its_own_sample(row):
    arrays = draw(row)
    expected = np.array(row.function(*arrays, reduction="none"))
    for i in random_floats(arrays):
        poisoned = list(arrays)
        poisoned[i] = corrupt(arrays[i], (1, 2), math.nan)
        expected[1, 2] = math.nan
        np.testing.assert_array_equal(row.function(*poisoned, reduction="none"), expected)


@each_row
def test_a_label_out_of_range_is_nan_for_its_sample_alone(row):
    if not row.has_indices:
        return
    logits, target = draw(row)
    clean, clean_gradient = row.function(logits, target, reduction="none"), jax.grad(row.function)(logits, target)
    for bad in (N_CLASSES, -1, 2**31 - 1, -(2**31)):
        labels = target.copy()
        labels[1, 2] = bad
        losses = np.asarray(row.function(logits, labels, reduction="none"))
        assert np.isnan(losses[1, 2])
        others = np.ones(SHAPE, bool)
        others[1, 2] = False
        np.testing.assert_array_equal(losses[others], clean[others])
        gradient = jax.grad(row.function)(logits, labels)
        np.testing.assert_allclose(gradient[others], clean_gradient[others], rtol=1e-6)
    for dtype in (np.uint8, np.int8, np.uint32, np.int64):
        np.testing.assert_array_equal(row.function(logits, target.astype(dtype), reduction="none"), clean)


@each_row
def test_data_checks(row):
    arrays = draw(row)

    def error(*arrays, **options):
        with jaxloss.data_checks(True):
            return checkify.checkify(lambda: row.function(*arrays, **options))()[0].get()

    assert error(*arrays) is None
    bad = list(arrays)
    if row.has_indices:
        bad[1] = corrupt(arrays[1], (0, 1), 0)
        assert f"{row.name}: target is {N_CLASSES + 3} but lies in [0, {N_CLASSES})" in error(*bad)
        assert error(*bad, where=np.arange(12).reshape(SHAPE) != 1) is None
    for option, numbers in row.bad_numbers.items():
        assert f"{row.name}: {option} is " in error(*arrays, **{option: jnp.asarray(numbers[0], jnp.float32)})
    clean = str(jax.make_jaxpr(row.function)(*arrays))
    assert "check" not in clean
    assert "debug" not in clean


@each_row
def test_exports(row):
    arrays = draw(row)
    exported = jax.export.deserialize(jax.export.export(jax.jit(row.function))(*arrays).serialize())
    np.testing.assert_allclose(exported.call(*arrays), row.function(*arrays), rtol=1e-6)


@each_row
def test_ten_numbers_or_ten_batches_are_one_program(row):
    arrays = draw(row, (2, 3))
    for option, numbers in row.numbers.items():
        row.function(*arrays, **{option: numbers[0]})
        with traces() as seen:
            for number in (*numbers, np.float32(0.5), 1 if option == "label_smoothing" else 2):
                row.function(*arrays, **{option: number})
        assert not seen
    row.function(*arrays)
    with traces() as seen:
        for seed in range(10):
            row.function(*draw(row, (2, 3), seed=seed))
    assert not seen


@contextlib.contextmanager
def traces():
    """A list that gets an entry for each program traced inside the context."""
    seen = []

    def listen(event, duration, **_):
        if "jaxpr_trace" in event:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_traces_are_counted():
    with traces() as seen:
        jax.jit(lambda x: x + 1)(jnp.ones(3))
    assert seen


EXTREMES = {
    jnp.float32: (0.0, -0.0, 1e-45, 1.2e-38, 1.0, 1e4, 1e18, 3e37, 3.4028235e38),
    jnp.bfloat16: (0.0, -0.0, 1e-40, 1.2e-38, 1.0, 1e4, 1e18, 3e37, 3.3895314e38),
    jnp.float16: (0.0, -0.0, 6e-8, 6.1e-5, 1.0, 1e3, 8e3, 65504.0),
}


@each_variant
@pytest.mark.parametrize("dtype", EXTREMES, ids=lambda dtype: dtype.__name__)
def test_extreme_finite_inputs(row, options, dtype):
    """No NaN in value or first derivative, and values right to 1e-5 of the inputs' scale."""
    numbers = [jnp.asarray(sign * x, dtype) for x in EXTREMES[dtype] for sign in (1, -1)]
    pairs = jnp.asarray(list(itertools.product(numbers, numbers)), dtype)
    first, rest = _extreme_arrays(row, pairs)
    weights = jnp.asarray([0.0, 1.0], jnp.float32)[jnp.arange(len(pairs)) % 2]
    for extra in ({}, {"weights": weights}):
        losses = row.function(first, *rest, **options, **extra, reduction="none")
        gradient = jax.grad(lambda x, e=extra: row.function(x, *rest, **options, **e, reduction="sum"))(first)
        assert not np.isnan(losses).any()
        assert not np.isnan(gradient.astype(jnp.float32)).any()
        forward = jax.jvp(
            lambda x, e=extra: row.function(x, *rest, **options, **e, reduction="none"), (first,), (first,)
        )
        assert not np.isnan(forward[0]).any()
    wide = [
        np.asarray(a, np.float64) if jnp.issubdtype(a.dtype, jnp.floating) else np.asarray(a) for a in (first, *rest)
    ]
    expected, _ = row.reference(*wide, **options)
    losses = np.asarray(row.function(first, *rest, **options, reduction="none"), np.float64)
    scale = np.max([np.abs(a).reshape(len(pairs), -1).max(-1) for a in wide], axis=0)
    near_overflow = scale > float(jnp.finfo(dtype).max) / 8
    overflows = np.abs(expected) > float(jnp.finfo(jnp.float32).max)
    checked = ~(near_overflow & (dtype != jnp.float16)) & ~overflows
    np.testing.assert_array_less(
        np.abs(losses - expected)[checked], (1e-5 * np.maximum(scale, np.abs(expected)) + 1e-37)[checked]
    )
    assert np.isinf(losses[overflows & ~near_overflow]).all()


def _extreme_arrays(row, pairs):
    """The pairs as the arrays of a loss: logits (0, 0, a, b, 0), probabilities as targets where a loss takes them."""
    if row.cores == (0, 0):
        target = pairs[:, 1]
        if row.function is jaxloss.binary_cross_entropy_with_logits:
            target = jnp.clip(jnp.abs(target), 0, 1).astype(target.dtype)
        return pairs[:, 0], (target,)
    zero = jnp.zeros_like(pairs[:, :1])
    logits = jnp.concatenate([zero, zero, pairs, zero], axis=1)
    target = jnp.arange(len(pairs), dtype=jnp.int32) % N_CLASSES
    if row.cores == (1, 1):
        return logits, (jax.nn.one_hot(target, N_CLASSES, dtype=logits.dtype),)
    return logits, (target,)


@each_row
def test_errors_name_function_argument_and_what_was_given(row):
    first, second = draw(row)
    f, name = row.function, row.name
    a, b = input_names(f)
    cases = [
        (TypeError, f"{name}: {a} is a list", lambda: f(first.tolist(), second)),
        (TypeError, f"{name}: {a} takes an array, got str", lambda: f("abc", second)),
        (TypeError, f"{name}: {b} takes an array, got NoneType", lambda: f(first, None)),
        (TypeError, f"{name}: {a} has dtype int32", lambda: f(np.ones_like(first, np.int32), second)),
        (TypeError, f"{name}: {a} has dtype complex64", lambda: f(first.astype(np.complex64), second)),
        (TypeError, f"{name}: where has dtype float32", lambda: f(first, second, where=np.ones(SHAPE, np.float32))),
        (
            TypeError,
            f"{name}: weights has dtype complex64",
            lambda: f(first, second, weights=np.ones(SHAPE, np.complex64)),
        ),
        (ValueError, f"{name}: reduction is 'average' but takes 'none'", lambda: f(first, second, reduction="average")),
        (TypeError, f"{name}: reduction takes a name", lambda: f(first, second, reduction=None)),
        (TypeError, f"{name}: there is no option wieghts; did you mean weights", lambda: f(first, second, wieghts=1.0)),
        (TypeError, f"{name}: takes the arrays {a}, {b}, got no {b}", lambda: f(first)),
        (TypeError, f"{name}: takes the arrays {a}, {b}, got 3", lambda: f(first, second, second)),
        (TypeError, f"{name}: {a} is given twice", lambda: f(first, second, **{a: first})),
        (
            ValueError,
            rf"{name}: weights has shape \(3, 5\)",
            lambda: f(first, second, weights=np.ones((3, 5), np.float32)),
        ),
        (ValueError, rf"{name}: weights has shape \(3,\)", lambda: f(first, second, weights=np.ones(3, np.float32))),
        (
            ValueError,
            rf"{name}: where has shape \(3, 4, 1\).*use where\[:, :, 0\]",
            lambda: f(first, second, where=np.ones((3, 4, 1), bool)),
        ),
    ]
    for option, numbers in row.bad_numbers.items():
        cases += [
            (
                ValueError,
                rf"{name}: {option} is {number} but lies in",
                lambda o=option, n=number: f(first, second, **{o: n}),
            )
            for number in numbers
        ]
        cases.append((TypeError, f"{name}: {option} is a list", lambda o=option: f(first, second, **{o: [1.0]})))
    for error, message, call in cases:
        for run in (call, lambda c=call: jax.jit(lambda: c())()):
            with pytest.raises(error, match=message):
                run()


def input_names(function):
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is kind]


@each_row
def test_arrays_by_name_and_scalars(row):
    first, second = draw(row)
    a, b = input_names(row.function)
    np.testing.assert_array_equal(row.function(**{b: second, a: first}), row.function(first, second))
    if row.cores == (0, 0):
        np.testing.assert_allclose(row.function(0.25, 1), row.reference(np.float64(0.25), 1)[0], rtol=1e-6)


@each_row
@given(rank=st.integers(0, 3), data=st.data())
def test_batch_axes_broadcast_at_equal_rank(row, rank, data):
    shape = tuple(data.draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank)))
    squeezed = tuple(1 if data.draw(st.booleans()) else n for n in shape)
    full, thin = draw(row, shape), draw(row, squeezed)
    arrays = (full[0], thin[1])
    broadcast = np.broadcast_to(thin[1], shape + thin[1].shape[rank:])
    np.testing.assert_allclose(
        row.function(*arrays, reduction="none"),
        row.function(full[0], broadcast, reduction="none"),
        rtol=1e-6,
        atol=1e-7,
    )


@each_row
def test_debug_nans_and_strict_dtypes(row):
    arrays = draw(row)
    weights, where = weights_and_mask()
    with jax.debug_nans(True):
        for options in row.options:
            jax.value_and_grad(row.function)(*arrays, **options, weights=weights, where=where)
