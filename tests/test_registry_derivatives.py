"""For every row of the registry: first and second derivatives are right in forward and reverse mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.drawing import (
    HALF,
    Floats,
    dot,
    draw,
    each_of,
    each_row,
    each_variant,
    full_only,
    require_slope_of_temperature,
    widened,
)
from tests.registry import REGISTRY

AT = 0.3  # how far above their lower ends the options are at which derivatives are taken
TINY = 1e-9  # a kink width below the distance of any input from a kink


@pytest.mark.every_case
@each_variant(1)
def test_derivatives(row, variant):
    """All derivatives in one float64 program, compared with each other and with central differences."""
    options = row.options[variant]
    with jax.enable_x64(True):
        arrays = draw(row, (2,), np.float64)
        floats = Floats(arrays)
        generator = np.random.default_rng(5)
        direction = tuple(generator.normal(size=x.shape) for x in floats.values)

        def function(*values):
            return row.loss(*floats.put(values), **options)

        @jax.jit
        def program(*values):
            gradient = jax.grad(function, tuple(range(len(values))))
            slope, curvature = jax.jvp(gradient, values, direction)
            again = jax.grad(lambda x: dot(gradient(*x), direction))(values)
            if not row.forward_mode:
                return function(*values), dot(slope, direction), slope, curvature, again, dot(again, direction)
            value, forward = jax.jvp(function, values, direction)
            twice = jax.jvp(lambda *x: jax.jvp(function, x, direction)[1], values, direction)[1]
            return value, forward, slope, curvature, again, twice

        def derivatives(*values):
            return jax.tree.map(np.asarray, program(*values))

        value, forward, slope, curvature, again, twice = derivatives(*floats.values)
        assert slope[0].dtype == value.dtype == np.float64
        np.testing.assert_allclose(value, mean(row.expected(*arrays, **options)), rtol=1e-13)
        np.testing.assert_allclose(forward, dot(slope, direction), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(dot(curvature, direction), twice, rtol=1e-10, atol=1e-12)
        held = options | row.held(*arrays, **options)
        for where in (0, 1):
            for place in {(where, *[end] * row.cores[0]) for end in (0, -1)}:
                step = np.zeros_like(arrays[0])
                step[place] = 1e-5
                up, down = (mean(row.expected(arrays[0] + s * step, *arrays[1:], **held)) for s in (1, -1))
                np.testing.assert_allclose(slope[0][place], (up - down) / 2e-5, rtol=1e-6, atol=1e-9)
        step = 1e-5
        moved = [[x + s * step * d for x, d in zip(floats.values, direction, strict=True)] for s in (1, -1)]
        if row.detached:
            up, down = (mean(row.expected(*floats.put(values), **held)) for values in moved)
            np.testing.assert_allclose(forward, (up - down) / (2 * step), rtol=1e-6, atol=1e-8)
            return
        up, down = (derivatives(*values) for values in moved)
        np.testing.assert_allclose(forward, (up[0] - down[0]) / (2 * step), rtol=1e-6, atol=1e-8)
        for one, other, above, below in zip(curvature, again, up[2], down[2], strict=True):
            assert np.isfinite(one).all()
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(one, (above - below) / (2 * step), rtol=1e-5, atol=1e-8)


each_without_forward_mode = each_of([row for row in REGISTRY if not row.forward_mode])


@each_without_forward_mode
def test_forward_mode_of_a_loss_without_it_is_an_error(row):
    floats = Floats(draw(row, (2,)))

    def function(*values):
        return row.loss(*floats.put(values))

    for differentiate in (jax.jvp, lambda function, x, _: jax.jacfwd(function)(*x)):
        with pytest.raises(
            TypeError, match=rf"^{row.name}: is differentiated in forward mode .* but takes reverse mode"
        ):
            differentiate(function, floats.values, floats.values)
        with pytest.raises(TypeError, match="forward-mode"):  # from JAX, about a program that it has traced
            differentiate(jax.jit(function), floats.values, floats.values)


@each_without_forward_mode
def test_curvature_of_a_loss_without_forward_mode(row, full):
    """Forward and reverse mode over reverse mode, of a sum and of losses one by one, which is another program."""

    @jax.jit
    def curvatures(arrays, direction, weights):
        floats = Floats(arrays)

        def summed(*values):
            return row.loss(*floats.put(values), **row.options[-1], weights=weights, reduction="sum")

        def separate(*values):
            losses = row.loss(*floats.put(values), **row.options[-1], reduction="none")
            return dot([losses], [weights.astype(losses.dtype)])

        found = []
        for function in (separate, *([summed] if full else [])):
            gradient = jax.grad(function, tuple(range(len(floats.values))))
            found.append(jax.jvp(gradient, floats.values, direction)[1])
            found.append(jax.grad(lambda x, of=gradient: wide_dot(of(*x), direction))(floats.values))
        return found

    for dtype in (np.float64, np.float32, *(HALF if full else ())):
        generator = np.random.default_rng(5)
        with jax.enable_x64(True):
            arrays = draw(row, (7,), dtype)
            direction = tuple(generator.normal(size=x.shape).astype(dtype) for x in Floats(arrays).values)
            weights = generator.uniform(0.5, 2, size=7).astype(np.float32)
            # The program in float64, which is compiled once, also says what the others should give.
            exact, *others = curvatures(tuple(map(widened, arrays)), tuple(map(widened, direction)), weights)
            # Half precision is what products and results are rounded to. In the others, every sum is rounded.
            scale = (4 if dtype in HALF else 64) * float(jnp.finfo(dtype).eps)
            for found in others if dtype == np.float64 else curvatures(arrays, direction, weights):
                for one, other, array in zip(found, exact, Floats(arrays).values, strict=True):
                    assert one.dtype == array.dtype
                    np.testing.assert_allclose(widened(one), other, rtol=0, atol=scale * np.abs(other).max())


def wide_dot(xs, ys):
    return sum((widened(x) * widened(y)).sum() for x, y in zip(xs, ys, strict=True))


def mean(losses_and_normalisers):
    losses, normalisers = losses_and_normalisers
    return losses.sum() / (normalisers.sum() or 1)


@each_row
def test_derivatives_with_respect_to_weights_and_options(row):
    """With respect to all of them at once, at weights of 0 or 1."""
    with jax.enable_x64(True):
        arrays = draw(row, (2, 3), np.float64)
        numbers = {name: np.float64(TINY if name == "kink_width" else row.number(name, AT)) for name in row.numbers}

        @jax.jit
        def run(arrays, weights, numbers):
            return jax.grad(
                lambda weights, numbers: row.loss(*arrays, weights=weights, **numbers, reduction="sum"), (0, 1)
            )(weights, numbers)

        weights = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
        by_weights, slopes = run(arrays, weights, numbers)
        np.testing.assert_allclose(by_weights, row.expected(*arrays, **numbers)[0], rtol=1e-12)
        for name, slope in slopes.items():
            step = 1e-6 * (name != "kink_width")
            moved = [numbers | {name: numbers[name] + s * step} for s in (1, -1)]
            held = row.held(*arrays, **numbers)
            up, down = ((row.expected(*arrays, **each, **held)[0] * weights).sum() for each in moved)
            np.testing.assert_allclose(slope, (up - down) / 2e-6, rtol=1e-6)


@full_only
@each_row
def test_derivative_with_respect_to_one_option_at_a_time(row):
    with jax.enable_x64(True):
        arrays = draw(row, dtype=np.float64)
        losses, _ = row.expected(*arrays)
        by_weights = jax.grad(lambda w: row.loss(*arrays, weights=w, reduction="sum"))(np.zeros_like(losses))
        np.testing.assert_allclose(by_weights, losses, rtol=1e-12)
        for option in row.numbers:
            at = row.number(option, 0.38)
            slope = jax.grad(lambda number, o=option: row.loss(*arrays, **{o: number}, reduction="sum"))(at)
            held = row.held(*arrays, **{option: at})
            up, down = (row.expected(*arrays, **{option: at + s * 1e-6}, **held)[0].sum() for s in (1, -1))
            np.testing.assert_allclose(slope, (up - down) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("row", [row for row in REGISTRY if "temperature" in row.numbers], ids=lambda row: row.label)
def test_derivative_with_respect_to_a_tiny_temperature(row):
    arrays = draw(row)
    wide = [array.astype(np.float64) if array.dtype.kind == "f" else array for array in arrays]
    slope = jax.jit(jax.grad(lambda number: row.loss(*arrays, temperature=number, reduction="sum")))
    least = 0.9e-17 if "distillation" in row.name else 0  # the square of the temperature, a factor, underflows
    require_slope_of_temperature(slope, lambda number: row.expected(*wide, temperature=number)[0].sum(), least)


@pytest.mark.parametrize("row", [row for row in REGISTRY if "kink_width" in row.numbers], ids=lambda row: row.label)
def test_derivatives_across_kinks(row, full):
    """Along a line through kinks, the derivative integrates to the change, is monotone, and is C1 for a wide ramp."""
    with jax.enable_x64(True):
        options = row.kinked | {"reduction": "sum"}
        start, *rest = draw(row, (4,), np.float64)
        generator = np.random.default_rng(2)
        # No two entries move at the same speed, so that every kink is crossed completely.
        direction = generator.permuted(np.broadcast_to(np.linspace(-1, 2, start.shape[-1]), start.shape), axis=-1)

        def along(t, width):
            return row.loss(start + t * direction, *rest, **options, kink_width=width)

        @jax.jit
        def derivatives(t, width):
            slope = jax.grad(along)
            return [jax.vmap(function, (0, None))(t, width) for function in (along, slope, jax.grad(slope))]

        ends = np.array([-20.0, 20.0])
        n = 102400 if full else 25600
        # A loss of angles or distances levels off, and a wide ramp would extend that far.
        wide = ((0.05, 0.3, 1.0) if row.convex else (0.02, 0.05)) if full else (0.3 if row.convex else 0.05,)
        if row.name.startswith("multiclass"):
            wide = wide[:2]  # three scores lie within 1, where `kinks.max` is right to 1 % of the width
        low, high = None, None
        for width in (0.0, 1e-12, *wide):
            values, *fine = map(np.asarray, derivatives(np.linspace(*ends, n + 1), width))
            low, high = values[[0, -1]] if low is None else (low, high)
            np.testing.assert_array_equal(values[[0, -1]], [low, high])  # the width does not affect the value
            variation = np.abs(np.diff(fine[0])).sum()
            step = (ends[1] - ends[0]) / n
            error = np.trapezoid(fine[0], dx=step) - (high - low)
            assert np.abs(error) <= step * variation * (0.01 if width in wide else 1)
            if row.convex:
                assert np.diff(fine[0]).min() >= -1e-10
            if width in wide:
                for smooth in fine:  # a jump would be as high on the finer grid
                    assert np.abs(np.diff(smooth)).max() < 0.25 * np.abs(np.diff(smooth[::8])).max()
