"""For every row of the registry: the losses and their reductions match the reference."""

import functools
import itertools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxloss
from tests.drawing import (
    HALF,
    SHAPE,
    Floats,
    draw,
    each_declaration,
    each_row,
    each_variant,
    full_only,
    reduced,
    weights_and_mask,
    widened,
)
from tests.registry import REGISTRY

CHEAP = [("none", False), ("mean", True), ("total", True)]
ALL = list(itertools.product(jaxloss.reductions.NAMES, (False, True)))


@pytest.mark.every_case
@each_variant(2)
def test_every_reduction_matches_the_reference(row, variant, full):
    arrays, options = draw(row), row.options[variant]
    losses, normalisers = row.expected(*map(widened, arrays), **options)
    weights, where = weights_and_mask(losses.shape)

    @jax.jit
    def run(*arrays):
        masks = {True: {"where": where}, False: {}}
        results = [
            row.loss(*arrays, **options, **masks[masked], weights=weights, reduction=reduction)
            for reduction, masked in (ALL if full else CHEAP)
        ]
        return results, row.loss(*arrays, **options, weights=weights, where=where, reduction=lambda *pair: pair)

    results, pair = run(*arrays)
    for (reduction, masked), result in zip(ALL if full else CHEAP, results, strict=True):
        expected = reduced(losses, normalisers, weights, where if masked else True, reduction)
        got = (result.loss, result.normaliser) if reduction == "total" else result
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)
    # A callable gets weighted losses and unweighted normalisers.
    np.testing.assert_allclose(pair[0], np.where(where, losses * weights, 0), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(pair[1], np.where(where, normalisers, 0), rtol=1e-6)


numbers = st.floats(-1000, 1000, width=32, allow_subnormal=False)


@pytest.mark.every_case
@each_row
@given(pairs=st.lists(st.tuples(numbers, numbers), min_size=6, max_size=6))
def test_arbitrary_values_match_the_reference(row, pairs):
    arrays = row.extreme_arrays(*np.asarray(pairs, np.float32).T, row.options[0])
    scale = np.maximum(largest_entry(own_arrays(row, arrays)), 1)
    losses = np.asarray(row.loss(*arrays, reduction="none"), np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # the exponential of 1000
        assert is_right(losses, row.expected(*map(widened, arrays))[0], scale, row).all()


TEN = tuple(np.linspace(0.11, 0.93, 10).tolist())


@each_row
def test_options_with_one_value_per_sample(row):
    arrays = draw(row)
    many = {option: row.number(option, np.resize(np.roll(TEN, i), SHAPE)) for i, option in enumerate(row.numbers)}
    narrow = {option: values.astype(np.float32) for option, values in many.items()}
    losses = row.loss(*arrays, **narrow, reduction="none")
    expected, _ = row.expected(*map(widened, arrays), **many)
    np.testing.assert_allclose(losses, expected, rtol=2e-6, atol=1e-6)


@full_only
@each_row
def test_each_option_with_one_value_per_sample_matches_single_samples(row):
    arrays = draw(row)
    for option in row.numbers:
        many = row.number(option, np.resize(np.asarray(TEN, np.float32), SHAPE))
        together = row.loss(*arrays, **{option: many}, reduction="none")
        for i in itertools.product(range(SHAPE[0]), range(SHAPE[1])):
            alone = row.loss(*row.batched(operator.itemgetter(i), arrays), **{option: float(many[i])}, reduction="sum")
            np.testing.assert_allclose(together[i], alone, rtol=1e-6, atol=1e-7)


@each_declaration
def test_arrays_by_name_and_scalars(row):
    arrays = draw(row)
    by_name = dict(reversed(list(zip(row.inputs, row.pack(*arrays), strict=True))))
    np.testing.assert_array_equal(row.call(**by_name, reduction="none"), row.loss(*arrays, reduction="none"))
    if not any(row.cores):
        scalars = [float(array[0, 0]) for array in arrays]
        np.testing.assert_allclose(row.loss(*scalars), row.expected(*map(np.float64, scalars))[0], rtol=1e-6)


EXTREMES = {
    jnp.float32: (0.0, -0.0, 1e-45, 1.2e-38, 1.0, 1e4, 1e18, 3e37, 3.4028235e38),
    jnp.bfloat16: (0.0, -0.0, 1e-40, 1.2e-38, 1.0, 1e4, 1e18, 3e37, 3.3895314e38),
    jnp.float16: (0.0, -0.0, 6e-8, 6.1e-5, 1.0, 1e3, 8e3, 65504.0),
}


def extreme_arrays(row, options, dtype):
    """Every pair of extreme numbers of the dtype, in valid arrays."""
    numbers = [np.asarray(sign * x, dtype) for x in EXTREMES[dtype] for sign in (1, -1)]
    pairs = np.asarray(list(itertools.product(numbers, numbers)), dtype)
    return row.extreme_arrays(pairs[:, 0], pairs[:, 1], options)


def losses_and_gradients(row, options, arrays, compiler_options):
    """The losses and gradients of each sample, with weight 1, 0 and 100."""
    floats = Floats(row.batched(lambda a: np.stack([a, a, a]), arrays))
    weights = np.array([[1.0], [0.0], [100.0]], np.float32)

    @functools.partial(jax.jit, compiler_options=compiler_options)
    def run(values):
        losses, pull = jax.vjp(
            lambda values: row.loss(*floats.put(values), **options, weights=weights, reduction="none"), values
        )
        return losses, pull(jnp.ones_like(losses))[0]

    losses, gradients = run(floats.values)
    return np.asarray(losses), list(map(np.asarray, gradients))


@pytest.mark.every_case
@each_variant(1)
def test_extreme_finite_inputs(row, variant, if_full):
    """No NaN in value or first derivative, and values accurate to 1e-5 of the scale of the inputs."""
    options = row.options[variant]
    parts = [extreme_arrays(row, options, dtype) for dtype in EXTREMES]
    sized = [own_arrays(row, arrays) for arrays in parts]
    near_overflow = np.concatenate(list(map(is_near_overflow, sized, EXTREMES)))
    joined = [np.concatenate([widened(a, np.float32) for a in same]) for same in zip(*parts, strict=True)]
    arrays = [widened(parts[0][i], np.float32) if i in row.shared else a for i, a in enumerate(joined)]
    weighted, gradients = losses_and_gradients(row, options, arrays, if_full)
    assert not np.isnan(weighted).any()
    assert not any(np.isnan(gradient).any() for gradient in gradients)
    losses, scale = np.asarray(weighted[0], np.float64), largest_entry(own_arrays(row, arrays))
    wide = list(map(widened, arrays))
    # A subnormal may count as itself or as zero.
    flushed = [np.where(np.abs(a) < jnp.finfo(jnp.float32).tiny, np.zeros_like(a), a) for a in wide]
    with np.errstate(all="ignore"):
        right = [is_right(losses, row.expected(*a, **options)[0], scale, row) for a in (wide, flushed)]
    assert np.all(right[0] | right[1] | near_overflow)


@pytest.mark.parametrize(
    ("row", "dtype"),
    [
        pytest.param(row, dtype, marks=[full_only] if row.forward_mode or dtype == jnp.float16 else [])
        for row in REGISTRY
        for dtype in HALF
    ],
    ids=lambda value: getattr(value, "label", None) or value.__name__,
)
def test_extreme_finite_inputs_in_half_precision(row, dtype, if_full):
    """Gradients returned in half precision are not NaN either.

    The default run leaves out losses that convert to float32 and run the same program.
    """
    losses, gradients = losses_and_gradients(row, {}, extreme_arrays(row, {}, dtype), if_full)
    assert not np.isnan(losses).any()
    assert not any(np.isnan(gradient.astype(np.float32)).any() for gradient in gradients)


@pytest.mark.parametrize(
    ("row", "options"),
    [
        pytest.param(row, {name: number}, id=f"{row.label}-{name}-{number}")
        for name, number in (("pos_weight", 5e36), ("pos_weight", 0.0), ("z_loss", 0.0), ("z_loss", 1e10))
        for row in REGISTRY
        if name in row.numbers
    ],
)
def test_extreme_options(row, options, if_full):
    """Numbers that make a loss as large as an extreme input does, or 0 times as large."""
    one_per_sample = {name: np.full((1, 1), number, np.float32) for name, number in options.items()}
    losses, gradients = losses_and_gradients(row, one_per_sample, extreme_arrays(row, {}, jnp.float32), if_full)
    assert not np.isnan(losses).any()
    assert not any(np.isnan(gradient).any() for gradient in gradients)


@pytest.mark.parametrize("row", [row for row in REGISTRY if row.numbers], ids=lambda row: row.label)
def test_derivatives_with_respect_to_options_at_extreme_inputs(row, if_full):
    """No NaN, whether a sample counts or not."""
    arrays = extreme_arrays(row, {}, jnp.float32)
    batched = row.batched(lambda a: np.stack([a, a, a]), arrays)
    weights, n = np.array([[1.0], [0.0], [100.0]], np.float32), len(own_arrays(row, arrays)[0])
    numbers = {name: np.full((3, n), row.number(name, 0.3), np.float32) for name in row.numbers if name != "kink_width"}

    @functools.partial(jax.jit, compiler_options=if_full)
    def run(numbers):
        return jax.grad(lambda numbers: row.loss(*batched, **numbers, weights=weights, reduction="sum"))(numbers)

    for name, slopes in run(numbers).items():
        assert not np.isnan(slopes).any(), name
        assert not np.any(slopes[1]), name


def own_arrays(row, arrays):
    return [a for i, a in enumerate(arrays) if i not in row.shared]


def largest_entry(arrays):
    return np.max([np.abs(widened(a)).reshape(len(a), -1).max(-1) for a in arrays], axis=0).astype(np.float64)


def is_near_overflow(arrays, dtype):
    """Within a factor of 8 of the largest number. Nothing in float16 is, because it is computed in float32."""
    return (largest_entry(arrays) > float(jnp.finfo(dtype).max) / 8) & (dtype != jnp.float16)


def is_right(losses, expected, scale, row):
    """Whether each loss is within 1e-5 of the scale, or infinite if float32 cannot hold the expected loss."""
    tolerance = 1e-5 * np.maximum(np.maximum(scale, row.scale), np.abs(expected)) + 1e-37
    overflows = np.abs(expected) > float(jnp.finfo(jnp.float32).max)
    return np.where(overflows, losses == np.copysign(np.inf, expected), np.abs(losses - expected) < tolerance)
