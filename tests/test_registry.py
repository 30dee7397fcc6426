"""Every generic test, over every row of the registry."""

import contextlib
import inspect
import itertools
import math
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.experimental import checkify

import jaxloss
from tests.references import N_CLASSES
from tests.registry import REGISTRY, Row

SHAPE = (3, 4)
each_row = pytest.mark.parametrize("row", REGISTRY, ids=lambda row: f"{row.name}{row.cores}-{'-'.join(row.options[0])}")
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
    losses, normalisers = row.expected(
        *(np.asarray(a, np.float64) if a.dtype.kind == "f" else a for a in arrays), **options
    )
    masks = (None, where)

    @jax.jit
    def run(*arrays):
        return {
            reduction: [
                row.loss(*arrays, **options, weights=weights, where=mask, reduction=reduction) for mask in masks
            ]
            for reduction in jaxloss.reductions.NAMES
        }

    for reduction, results in run(*arrays).items():
        for mask, result in zip(masks, results, strict=True):
            expected = reduced(losses, normalisers, weights, True if mask is None else mask, reduction)
            got = (result.loss, result.normaliser) if reduction == "total" else result
            np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)


numbers = st.floats(-1000, 1000, width=32, allow_subnormal=False)


@each_row
@given(pairs=st.lists(st.tuples(numbers, numbers), min_size=6, max_size=6))
def test_any_values(row, pairs):
    arrays = row.extremes(*np.asarray(pairs, np.float32).T, row.options[0])
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    scale = np.maximum(largest_entry(own_arrays(row, arrays)), 1)
    losses = np.asarray(row.loss(*arrays, reduction="none"), np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # the exponential of 1000
        assert is_right(losses, row.expected(*wide)[0], scale, row).all()


@each_variant
def test_callable_reduction_gets_losses_and_unweighted_normalisers(row, options):
    weights, where = weights_and_mask()
    arrays = draw(row)
    losses, normalisers = row.loss(*arrays, **options, weights=weights, where=where, reduction=lambda *pair: pair)
    expected, counts = row.expected(*arrays, **options)
    np.testing.assert_allclose(losses, np.where(where, expected * weights, 0), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(normalisers, np.where(where, counts, 0), rtol=1e-6)


@each_variant
def test_float64_value_and_gradient(row, options):
    """The gradient against central differences of the reference, itself in float64."""
    with jax.enable_x64(True):
        arrays = draw(row, dtype=np.float64)
        value, gradient = jax.value_and_grad(row.loss)(*arrays, **options, reduction="sum")
        expected = row.expected(*arrays, **options)[0].sum()
        np.testing.assert_allclose(value, expected, rtol=1e-13)
        assert gradient.dtype == value.dtype == np.float64
        for where in ((0, 0), (1, 2), (2, 3)):
            for place in [where] if arrays[0].ndim == 2 else [(*where, 0), (*where, -1)]:
                step = np.zeros_like(arrays[0])
                step[place] = 1e-5
                up, down = (row.expected(arrays[0] + s * step, *arrays[1:], **options)[0].sum() for s in (1, -1))
                np.testing.assert_allclose(gradient[place], (up - down) / 2e-5, rtol=1e-6, atol=1e-9)


@each_variant
def test_forward_and_reverse_mode_agree_and_second_derivatives_are_right(row, options):
    with jax.enable_x64(True):
        arrays = draw(row, (2,), np.float64)
        floats = random_floats(arrays)
        generator = np.random.default_rng(5)
        primals = tuple(arrays[i] for i in floats)
        direction = tuple(generator.normal(size=x.shape) for x in primals)

        def function(*floating):
            everything = list(arrays)
            for i, array in zip(floats, floating, strict=True):
                everything[i] = array
            return row.loss(*everything, **options)

        if not row.forward_mode:
            with pytest.raises(TypeError, match="forward-mode"):
                jax.jvp(function, primals, direction)

        @jax.jit
        def derivatives(*primals):
            gradient = jax.grad(function, tuple(range(len(primals))))
            again = jax.grad(lambda x: dot(gradient(*x), direction))(primals)
            if not row.forward_mode:
                slope = gradient(*primals)
                forward = dot(slope, direction)
                return function(*primals), forward, forward, slope, again, again, dot(again, direction)
            value, forward = jax.jvp(function, primals, direction)
            slope, curvature = jax.jvp(gradient, primals, direction)
            twice = jax.jvp(lambda *x: jax.jvp(function, x, direction)[1], primals, direction)[1]
            return value, forward, dot(slope, direction), slope, curvature, again, twice

        value, forward, reverse, _, curvature, again, twice = derivatives(*primals)
        np.testing.assert_allclose(forward, reverse, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(dot(curvature, direction), twice, rtol=1e-10, atol=1e-12)
        step = 1e-5
        up, down = (derivatives(*(x + s * step * d for x, d in zip(primals, direction, strict=True))) for s in (1, -1))
        np.testing.assert_allclose(forward, (up[0] - down[0]) / (2 * step), rtol=1e-6, atol=1e-8)
        for one, other, above, below in zip(curvature, again, up[3], down[3], strict=True):
            assert np.isfinite(one).all()
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(one, (above - below) / (2 * step), rtol=1e-5, atol=1e-8)
        del value


def dot(xs, ys):
    return sum((x * y).sum() for x, y in zip(xs, ys, strict=True))


@each_row
def test_derivative_by_weights_and_options(row):
    with jax.enable_x64(True):
        arrays = draw(row, dtype=np.float64)
        losses, _ = row.expected(*arrays)
        by_weights = jax.grad(lambda w: row.loss(*arrays, weights=w, reduction="sum"))(np.zeros(SHAPE))
        np.testing.assert_allclose(by_weights, losses, rtol=1e-12)
        for option, numbers in row.numbers.items():
            slope = jax.grad(lambda number, o=option: row.loss(*arrays, **{o: number}, reduction="sum"))(numbers[3])
            up, down = (row.expected(*arrays, **{option: numbers[3] + s * 1e-6})[0].sum() for s in (1, -1))
            np.testing.assert_allclose(slope, (up - down) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("row", [row for row in REGISTRY if "kink_width" in row.numbers], ids=lambda row: row.name)
def test_kinks_of_a_loss(row):
    """Along a line through kinks the derivative adds up to the rise, is C1 where the ramp is wide, and monotone."""
    with jax.enable_x64(True):
        options = row.kinked | {"reduction": "sum"}
        start, *rest = draw(row, (4,), np.float64)
        generator = np.random.default_rng(2)
        # No two entries move alike, so that every kink is crossed from end to end.
        direction = generator.permuted(np.broadcast_to(np.linspace(-1, 2, start.shape[-1]), start.shape), axis=-1)

        def along(t, width):
            return row.loss(start + t * direction, *rest, **options, kink_width=width)

        @jax.jit
        def derivatives(t, width):
            slope = jax.grad(along)
            return jax.vmap(slope, (0, None))(t, width), jax.vmap(jax.grad(slope), (0, None))(t, width)

        ends = np.array([-20.0, 20.0])
        low, high = (along(t, None) for t in ends)
        # A loss of angles or distances levels off, and a wide ramp would reach to where it does.
        wide = (0.05, 0.3, 1.0) if row.convex else (0.02, 0.05)
        for width in (0.0, 1e-12, *wide):
            coarse, fine = (derivatives(np.linspace(*ends, n), width) for n in (12801, 102401))
            np.testing.assert_array_equal(along(ends[1], width), high)  # the width is no part of the value
            variation = np.abs(np.diff(fine[0])).sum()
            step = (ends[1] - ends[0]) / 102400
            error = np.trapezoid(fine[0], dx=step) - (high - low)
            assert np.abs(error) <= step * variation * (0.01 if width in wide else 1)
            if row.convex:
                assert np.diff(fine[0]).min() >= -1e-10
            if width in wide:
                for rough, smooth in zip(coarse, fine, strict=True):  # a jump would stay as high on the finer grid
                    assert np.abs(np.diff(smooth)).max() < 0.25 * np.abs(np.diff(rough)).max()


@each_row
def test_options_with_one_value_a_sample(row):
    arrays = draw(row)
    for option, numbers in row.numbers.items():
        many = np.resize(np.asarray(numbers, np.float32), SHAPE)
        together = row.loss(*arrays, **{option: many}, reduction="none")
        for i in itertools.product(range(SHAPE[0]), range(SHAPE[1])):
            alone = row.loss(*row.batched(operator.itemgetter(i), arrays), **{option: float(many[i])})
            np.testing.assert_allclose(together[i], alone, rtol=1e-6, atol=1e-7)


@each_row
def test_transformations_change_nothing(row):
    arrays = draw(row)
    in_axes, rows = row.batched(lambda _: 0, tuple(None for _ in arrays)), jnp.arange(SHAPE[0])
    expected = row.loss(*arrays, reduction="none")
    for function in (
        jax.jit(lambda *a: row.loss(*a, reduction="none")),
        jax.vmap(lambda *a: row.loss(*a, reduction="none"), in_axes),
        jax.vmap(jax.vmap(row.loss, in_axes), in_axes),
        jax.checkpoint(lambda *a: row.loss(*a, reduction="none")),
        lambda *a: jax.lax.map(lambda i: row.loss(*row.batched(lambda x: x[i], a), reduction="none"), rows),
    ):
        np.testing.assert_allclose(function(*map(jnp.asarray, arrays)), expected, rtol=1e-6, atol=1e-7)


@each_row
def test_axis(row):
    if not row.has_axis:
        with pytest.raises(TypeError, match=f"{row.name}: there is no option axis"):
            row.loss(*draw(row), axis=0)
        return
    arrays = draw(row)
    expected = row.loss(*arrays, reduction="none")
    for axis in (0, 1, -2):
        moved = [np.moveaxis(a, -1, axis) if core else a for a, core in zip(arrays, row.cores, strict=True)]
        np.testing.assert_allclose(row.loss(*moved, axis=axis, reduction="none"), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=f"{row.name}: axis is 3"):
        row.loss(*arrays, axis=3)


@each_row
@pytest.mark.parametrize("dtype", HALF, ids=lambda dtype: dtype.__name__)
def test_half_precision_computes_in_float32(row, dtype):
    arrays = tuple(jnp.asarray(a, dtype) if a.dtype.kind == "f" else jnp.asarray(a) for a in draw(row))
    wide = tuple(a.astype(jnp.float32) if jnp.issubdtype(a.dtype, jnp.floating) else a for a in arrays)
    both = jax.jit(lambda *pair: [jax.value_and_grad(row.loss)(*arrays) for arrays in pair])
    (value, gradient), (expected, wide_gradient) = both(arrays, wide)
    assert value.dtype == jnp.float32
    assert gradient.dtype == dtype
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(
        gradient.astype(jnp.float32),
        wide_gradient.astype(dtype).astype(jnp.float32),
        rtol=2 * float(jnp.finfo(dtype).eps),
        # Where products are in half precision, each term of a sum is rounded.
        atol=0 if row.forward_mode else float(jnp.finfo(dtype).eps) * float(jnp.abs(wide_gradient).max()),
    )


@pytest.mark.nans
@each_variant
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_what_stands_in_masked_samples_has_no_effect(row, options, poison):
    arrays = draw(row)
    weights, where = weights_and_mask()
    poisoned = row.batched(lambda a: corrupt(a, ~where, poison), arrays)
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
            return row.loss(*everything, **extra, weights=weights, where=where)

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
    if "ignore_index" in inspect.signature(row.function).parameters and row.has_indices:
        nothing.append(((np.full_like(arrays[0], np.nan), *arrays[1:-1], np.full_like(arrays[-1], -100)), {}))
    for given_arrays, options in nothing:

        @jax.jit
        def run(*arrays, options=options):
            names = ("mean", "weighted_mean", "batchmean", "sum")
            return [jax.value_and_grad(row.loss)(*arrays, **options, reduction=reduction) for reduction in names]

        for value, gradient in run(*given_arrays):
            assert value == 0
            assert not np.any(gradient)


@each_row
@pytest.mark.nans
def test_nan_stays_in_its_own_sample(row):
    arrays = draw(row)
    expected = np.array(row.loss(*arrays, reduction="none"))
    for i in set(random_floats(arrays)) - set(row.shared):
        poisoned = list(arrays)
        poisoned[i] = corrupt(arrays[i], (1, 2), math.nan)
        expected[1, 2] = math.nan
        np.testing.assert_array_equal(row.loss(*poisoned, reduction="none"), expected)


@each_row
@pytest.mark.nans
def test_a_label_out_of_range_is_nan_for_its_sample_alone(row):
    if not row.has_indices:
        return
    *arrays, target = draw(row)
    clean, clean_gradient = row.loss(*arrays, target, reduction="none"), jax.grad(row.loss)(*arrays, target)
    for bad in (N_CLASSES, -1, 2**31 - 1, -(2**31)):
        labels = target.copy()
        labels[1, 2] = bad
        losses = np.asarray(row.loss(*arrays, labels, reduction="none"))
        assert np.isnan(losses[1, 2])
        others = np.ones(SHAPE, bool)
        others[1, 2] = False
        np.testing.assert_array_equal(losses[others], clean[others])
        gradient = jax.grad(row.loss)(*arrays, labels)
        np.testing.assert_allclose(gradient[others], clean_gradient[others], rtol=1e-6)
    for dtype in (np.uint8, np.int8, np.uint32, np.int64):
        np.testing.assert_array_equal(row.loss(*arrays, target.astype(dtype), reduction="none"), clean)


@pytest.mark.nans
@each_row
def test_data_checks(row):
    arrays = draw(row)

    def error(arrays, **options):
        with jaxloss.data_checks(True):
            return checkify.checkify(lambda: row.loss(*arrays, **options))()[0].get()

    assert error(arrays) is None
    for name, (value, domain) in row.bad_data.items():
        # Counted from the end, as parameters may be drawn in pieces.
        i = input_names(row.function).index(name) - len(input_names(row.function))
        bad = [np.array(array) for array in arrays]
        bad[i][(0, 1, 2)[: bad[i].ndim]] = value
        assert f"{row.name}: {name} is {value} but lies in {domain}" in error(bad)
        assert error(bad, where=np.arange(12).reshape(SHAPE) != 1) is None
    for option, numbers in row.bad_numbers.items():
        assert f"{row.name}: {option} is " in error(arrays, **{option: jnp.asarray(numbers[0], jnp.float32)})
    clean = str(jax.make_jaxpr(row.loss)(*arrays))
    assert "check" not in clean
    assert "debug" not in clean


@each_variant
def test_exports(row, options):
    """Value and gradient, with the mask and the weights that training has."""
    arrays = draw(row)
    weights, where = weights_and_mask()

    @jax.jit
    def both(*arrays):
        return jax.value_and_grad(row.loss)(*arrays, **options, weights=weights, where=where)

    exported = jax.export.deserialize(jax.export.export(both)(*arrays).serialize())
    for got, expected in zip(exported.call(*arrays), both(*arrays), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@each_row
def test_ten_numbers_or_ten_batches_are_one_program(row):
    arrays = draw(row, (2, 3))
    for option, numbers in row.numbers.items():
        row.loss(*arrays, **{option: numbers[0]})
        with traces() as seen:
            for number in (*numbers, np.float32(0.5), 1 if option == "label_smoothing" else 2):
                row.loss(*arrays, **{option: number})
        assert not seen
    row.loss(*arrays)
    with traces() as seen:
        for seed in range(10):
            row.loss(*draw(row, (2, 3), seed=seed))
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


def extreme_arrays(row, options, dtype):
    """Every pair of extreme numbers of the dtype, in arrays that the loss takes."""
    numbers = [np.asarray(sign * x, dtype) for x in EXTREMES[dtype] for sign in (1, -1)]
    pairs = np.asarray(list(itertools.product(numbers, numbers)), dtype)
    return row.extremes(pairs[:, 0], pairs[:, 1], {**row.options[0], **options})


def losses_and_gradients(row, options, arrays):
    """Of each sample, with weight 1 and with weight 0."""
    floats = [i for i, a in enumerate(arrays) if jnp.issubdtype(a.dtype, jnp.floating)]
    arrays = row.batched(lambda a: jnp.stack([a, a]), map(jnp.asarray, arrays))
    weights = np.array([[1.0], [0.0]], np.float32)

    def loss(floating):
        everything = list(arrays)
        for i, array in zip(floats, floating, strict=True):
            everything[i] = array
        return row.loss(*everything, **options, weights=weights, reduction="none")

    @jax.jit
    def run(floating):
        losses, pull = jax.vjp(loss, floating)
        return losses, pull(jnp.ones_like(losses))[0]

    return run([arrays[i] for i in floats])


@each_variant
def test_extreme_finite_inputs(row, options):
    """No NaN in value or first derivative, and values right to 1e-5 of the inputs' scale."""
    parts = [extreme_arrays(row, options, dtype) for dtype in EXTREMES]
    sized = [own_arrays(row, arrays) for arrays in parts]
    near_overflow = np.concatenate(list(map(is_near_overflow, sized, EXTREMES)))
    joined = [np.concatenate([widened(a) for a in same]) for same in zip(*parts, strict=True)]
    arrays = [widened(parts[0][i]) if i in row.shared else a for i, a in enumerate(joined)]
    both, gradients = losses_and_gradients(row, options, arrays)
    assert not np.isnan(both).any()
    assert not any(np.isnan(gradient).any() for gradient in gradients)
    losses, scale = np.asarray(both[0], np.float64), largest_entry(own_arrays(row, arrays))
    wide = [np.asarray(a, np.float64) if a.dtype.kind == "f" else a for a in arrays]
    # A subnormal may count as itself or as zero.
    flushed = [np.where(np.abs(a) < jnp.finfo(jnp.float32).tiny, np.zeros_like(a), a) for a in wide]
    with np.errstate(all="ignore"):
        right = [is_right(losses, row.expected(*a, **options)[0], scale, row) for a in (wide, flushed)]
    assert np.all(right[0] | right[1] | near_overflow)


@each_row
@pytest.mark.parametrize("dtype", HALF, ids=lambda dtype: dtype.__name__)
def test_extreme_finite_inputs_in_half_precision(row, dtype):
    """The same program behind a conversion: what comes back in half precision is no NaN either."""
    losses, gradients = losses_and_gradients(row, {}, extreme_arrays(row, {}, dtype))
    assert not np.isnan(losses).any()
    assert not any(np.isnan(gradient.astype(jnp.float32)).any() for gradient in gradients)


def own_arrays(row, arrays):
    return [a for i, a in enumerate(arrays) if i not in row.shared]


def widened(array):
    return array.astype(np.float32) if jnp.issubdtype(array.dtype, jnp.floating) else array


def largest_entry(arrays):
    return np.max([np.abs(widened(a)).reshape(len(a), -1).max(-1) for a in arrays], axis=0).astype(np.float64)


def is_near_overflow(arrays, dtype):
    """Within a factor of 8 of the largest number; in float16 nothing is, as all is computed in float32."""
    return (largest_entry(arrays) > float(jnp.finfo(dtype).max) / 8) & (dtype != jnp.float16)


def is_right(losses, expected, scale, row):
    """Whether each loss is within 1e-5 of the scale, or an infinity in the place of what float32 cannot hold."""
    tolerance = 1e-5 * np.maximum(np.maximum(scale, row.scale), np.abs(expected)) + 1e-37
    overflows = np.abs(expected) > float(jnp.finfo(jnp.float32).max)
    return np.where(overflows, losses == np.copysign(np.inf, expected), np.abs(losses - expected) < tolerance)


@each_row
def test_errors_name_function_argument_and_what_was_given(row):
    names, arrays, name = input_names(row.function), row.pack(*draw(row)), row.name
    first, ones = arrays[0], np.ones(SHAPE, np.float32)
    a, b = names[0], names[-1]
    listed = ", ".join(names)

    def f(**changes):
        return row.call(**(dict(zip(names, arrays, strict=True)) | changes))

    cases = [
        (TypeError, f"{name}: {a} is a list", lambda: f(**{a: first.tolist()})),
        (TypeError, f"{name}: {a} takes a number or an array, got str", lambda: f(**{a: "abc"})),
        (TypeError, f"{name}: {b} takes a number or an array, got NoneType", lambda: f(**{b: None})),
        (TypeError, f"{name}: {a} has dtype int32", lambda: f(**{a: np.ones_like(first, np.int32)})),
        (TypeError, f"{name}: {a} has dtype complex64", lambda: f(**{a: first.astype(np.complex64)})),
        (TypeError, f"{name}: where has dtype float32", lambda: f(where=ones)),
        (TypeError, f"{name}: weights has dtype complex64", lambda: f(weights=ones.astype(np.complex64))),
        (ValueError, f"{name}: reduction is 'average' but takes 'none'", lambda: f(reduction="average")),
        (TypeError, f"{name}: reduction takes a name", lambda: f(reduction=None)),
        (TypeError, f"{name}: there is no option wieghts; did you mean weights", lambda: f(wieghts=1.0)),
        (TypeError, f"{name}: takes the arrays {listed}, got no {b}", lambda: row.call(*arrays[:-1])),
        (TypeError, f"{name}: takes the arrays {listed}, got {len(arrays) + 1}", lambda: row.call(*arrays, first)),
        (TypeError, f"{name}: {a} is given twice", lambda: row.call(*arrays, **{a: first})),
        (ValueError, rf"{name}: weights has shape \(3, 5\)", lambda: f(weights=np.ones((3, 5), np.float32))),
        (ValueError, rf"{name}: weights has shape \(3,\)", lambda: f(weights=np.ones(3, np.float32))),
        (
            ValueError,
            rf"{name}: where has shape \(3, 4, 1\).*use where\[:, :, 0\]",
            lambda: f(where=np.ones((3, 4, 1), bool)),
        ),
    ]
    for option, numbers in {**row.bad_numbers, **row.bad_static}.items():
        cases += [
            (ValueError, rf"{name}: {option} is {number} but lies in", lambda o=option, n=number: f(**{o: n}))
            for number in numbers
        ]
        message = f"{name}: {option} is (a list|compiled into the program)"
        cases.append((TypeError, message, lambda o=option: f(**{o: [1.0]})))
    for error, message, call in cases:
        for run in (call, lambda c=call: jax.jit(lambda: c())()):
            with pytest.raises(error, match=message):
                run()


def input_names(function):
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is kind]


@each_row
def test_arrays_by_name_and_scalars(row):
    arrays = draw(row)
    by_name = dict(reversed(list(zip(input_names(row.function), row.pack(*arrays), strict=True))))
    np.testing.assert_array_equal(row.call(**by_name), row.loss(*arrays))
    if not any(row.cores):
        scalars = [float(array[0, 0]) for array in arrays]
        np.testing.assert_allclose(row.loss(*scalars), row.expected(*map(np.float64, scalars))[0], rtol=1e-6)


@each_row
@pytest.mark.parametrize(("shape", "thin"), [((2,), (1,)), ((2, 3), (1, 3)), ((2, 3), (2, 1)), ((1, 2, 3), (2, 1, 1))])
def test_batch_axes_broadcast_at_equal_rank(row, shape, thin):
    (first, *_), (_, *rest) = draw(row, shape), draw(row, thin)
    everywhere = np.broadcast_shapes(shape, thin)
    _, *broadcast = row.batched(lambda a: np.broadcast_to(a, everywhere + a.shape[len(thin) :]), (first, *rest))
    run = jax.jit(lambda *arrays: row.loss(*arrays, reduction="none"))
    np.testing.assert_allclose(run(first, *rest), run(first, *broadcast), rtol=1e-6, atol=1e-7)


@each_row
def test_debug_nans_and_strict_dtypes(row):
    arrays = draw(row)
    weights, where = weights_and_mask()
    with jax.debug_nans(True):
        for options in row.options:
            jax.value_and_grad(row.loss)(*arrays, **options, weights=weights, where=where)
