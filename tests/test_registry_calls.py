"""For every row of the registry: a loss gives the same result however it is called or transformed. It compiles once."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiling import OPTIMISED
from tests.drawing import (
    SHAPE,
    Floats,
    Variable,
    draw,
    each_declaration,
    each_row,
    full_only,
    is_prediction,
    traces,
    widened,
)
from tests.test_registry_values import TEN


@each_declaration
def test_transformations_do_not_change_the_result(row):
    arrays = draw(row)
    in_axes, rows = row.batched(lambda _: 0, tuple(None for _ in arrays)), np.arange(SHAPE[0])
    expected = row.loss(*arrays, reduction="none")
    functions = (
        jax.vmap(lambda *a: row.loss(*a, reduction="none"), in_axes),
        jax.vmap(jax.vmap(functools.partial(row.loss, reduction="none"), in_axes), in_axes),
        jax.checkpoint(lambda *a: row.loss(*a, reduction="none")),
        lambda *a: jax.lax.map(lambda i: row.loss(*row.batched(lambda x: x[i], a), reduction="none"), rows),
    )
    # Under jit, which is one more transformation, and compiles all in one program.
    for result in jax.jit(lambda *a: [function(*a) for function in functions])(*arrays):
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-7)


@each_declaration
def test_the_axis_option(row):
    if not row.has_axis:
        with pytest.raises(TypeError, match=f"{row.name}: there is no option axis"):
            row.loss(*draw(row), axis=0)
        return
    arrays = draw(row)
    expected = row.loss(*arrays, reduction="none")

    @jax.jit
    def run(*arrays):
        moved = [
            [jnp.moveaxis(a, -1, axis) if core else a for a, core in zip(arrays, row.cores, strict=True)]
            for axis in (0, 1, -2)
        ]
        losses = [row.loss(*each, axis=axis, reduction="none") for each, axis in zip(moved, (0, 1, -2), strict=True)]
        apart = [a[None] if core else a for a, core in zip(arrays, row.cores, strict=True)]
        return [*losses, row.loss(*apart, axis=(0, -1), reduction="none")]

    for losses in run(*arrays):
        np.testing.assert_allclose(losses, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=f"{row.name}: axis is 3"):
        row.loss(*arrays, axis=3)


@full_only
@each_declaration
def test_arrays_that_the_program_computes(row):
    """XLA computes a product and a sum in one step, without rounding the product."""
    floats = Floats(draw(row))

    def program(factor, *values):
        products = [factor * x if i == 0 else x for i, x in enumerate(values)]
        return jax.value_and_grad(lambda *x: row.loss(*floats.put(x)), tuple(range(len(values))))(*products)

    arguments = np.float32(0.97), *floats.values
    compiled = jax.jit(program).lower(*arguments).compile(compiler_options=OPTIMISED)
    expected = program(*arguments)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(expected))
    chex.assert_trees_all_close(compiled(*arguments), expected, rtol=1e-5, atol=2e-6 * largest)


@each_declaration
def test_without_jit_valid_data_are_no_error(row):
    """There, jax_debug_nans makes an error of every NaN in between, also of a constant that is not selected."""
    arrays = draw(row, (2,))
    expected = jax.jit(jax.value_and_grad(row.loss))(*arrays)
    with jax.disable_jit():
        got = jax.value_and_grad(row.loss)(*arrays, weights=np.ones(2, np.float32), where=np.ones(2, bool))
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-7)


@each_row
def test_a_loss_of_constants_is_computed_while_a_program_is_traced(row):
    """Where JAX evaluates at once, optimization barriers are gone, and XLA may multiply constants with each other."""
    arrays = draw(row, (3,))

    @jax.jit
    def scaled(factor):
        with jax.ensure_compile_time_eval():
            loss = row.loss(*arrays)
        return factor * loss

    np.testing.assert_allclose(scaled(1.0), row.loss(*arrays), rtol=2e-6)


BATCHES = [((1, 2, 3), (2, 1, 1)), ((2,), (1,)), ((2, 3), (1, 3)), ((2, 3), (2, 1))]


@each_declaration
@pytest.mark.parametrize(
    ("shape", "thin"), [BATCHES[0], *(pytest.param(*batch, marks=full_only) for batch in BATCHES[1:])]
)
def test_batch_axes_broadcast_at_equal_rank(row, shape, thin):
    """Except predictions and their class indices, which have the full size."""
    everywhere = np.broadcast_shapes(shape, thin)
    full, thick, thinned = (draw(row, batch) for batch in (everywhere, shape, thin))
    first = full[:1] if is_prediction(row) else thick[:1]
    rest = [full[i] if row.indexed[i] else thinned[i] for i in range(1, len(full))]
    arrays = (*first, *rest)
    broadcast = row.batched(lambda a: a, arrays)
    broadcast = [
        a if i in row.shared else np.broadcast_to(a, everywhere + a.shape[len(everywhere) :])
        for i, a in enumerate(broadcast)
    ]
    losses = jax.jit(lambda *arrays: row.loss(*arrays, reduction="none"))(*arrays)
    expected, _ = row.expected(*map(widened, broadcast))
    np.testing.assert_allclose(losses, expected, rtol=2e-6, atol=2e-6)


@each_declaration
def test_a_prediction_has_the_full_size_on_every_batch_axis(row):
    if not is_prediction(row):
        return
    full, single, alone = (draw(row, shape) for shape in ((4, 3), (1, 3), (3,)))
    without_batch, scalar = draw(row, ()), draw(row, (4,))
    for arrays in (
        (single[0], *full[1:]),
        (without_batch[0], *scalar[1:]),
        (draw(row, (1,))[0], *scalar[1:]),
        (alone[0], *full[1:]),
    ):
        with pytest.raises(ValueError, match=f"^{row.name}: .* has shape"):
            row.loss(*arrays, reduction="none")
    if not row.has_indices:
        return
    for target in (single[-1], full[-1][:, :1], full[-1][0]):
        with pytest.raises(ValueError, match=f"^{row.name}: target has shape"):
            row.loss(*full[:-1], target, reduction="none")
    shared = row.loss(*scalar[:-1], without_batch[-1], reduction="none")
    expected, _ = row.expected(*map(widened, scalar[:-1]), np.broadcast_to(without_batch[-1], 4))
    np.testing.assert_allclose(shared, expected, rtol=2e-6, atol=1e-6)


@each_declaration
def test_ten_numbers_or_ten_batches_compile_once(row):
    arrays = draw(row)
    calls = [{name: row.number(name, share) for name in row.numbers} for share in (*TEN, np.float32(0.75))]
    calls.append(calls[0] | row.integers())
    row.loss(*arrays, **calls[0])
    row.loss(*arrays, reduction="none")
    with traces() as seen:
        for numbers in calls[1:]:
            row.loss(*arrays, **numbers)
        for seed in range(10):
            row.loss(*draw(row, seed=seed), reduction="none")
    assert not seen


def test_traces_are_counted():
    with traces() as seen:
        jax.jit(lambda x: x + 1)(jnp.ones(3))
    assert seen


@each_declaration
def test_variables_of_neural_network_libraries_are_accepted(row):
    arguments = row.pack(*draw(row))
    weights = np.linspace(0.5, 2, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    where = weights > 1
    expected = row.call(*arguments, weights=weights, where=where)
    wrapped = [Variable(argument) if isinstance(argument, np.ndarray) else argument for argument in arguments]
    assert row.call(*wrapped, weights=Variable(weights), where=Variable(where)) == expected
    if row.options[0] == {}:
        for option, number in ((name, row.number(name, TEN[0])) for name in row.numbers):
            given = row.call(*wrapped, **{option: Variable(np.float32(number))})
            assert given == row.call(*arguments, **{option: np.float32(number)})
