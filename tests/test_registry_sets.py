"""For every loss of a set: values and gradients against loops in NumPy, masks, extremes, chunks and devices."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss
from tests.collectives import sent
from tests.drawing import each_half, full_only, like_another, reduced, require_slope_of_temperature
from tests.registry import SETS

SHAPE = (2, 7)  # two sets of seven items
each_set = pytest.mark.parametrize("row", SETS, ids=lambda row: row.name)
# Tests of the machinery run by default for a loss of pairs, one of labelled items, and one that is not in chunks.
OF_EACH_KIND = ("info_nce_loss", "ntxent_loss", "batch_hard_triplet_loss")
each_declaration = pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=[] if row.name in OF_EACH_KIND else [like_another]) for row in SETS],
    ids=lambda row: row.name,
)
each_variant = pytest.mark.parametrize(
    ("row", "options"),
    [pytest.param(row, options, id="-".join([row.name, *options])) for row in SETS for options in row.options],
)
# The first options of each loss; the others run in the full matrix.
each_first_variant = pytest.mark.parametrize(
    ("row", "options"),
    [
        pytest.param(row, options, id="-".join([row.name, *options]), marks=[full_only] if i else [])
        for row in SETS
        for i, options in enumerate(row.options)
    ],
)


def drawn(row, shape=SHAPE, dtype=np.float32, seed=0):
    """Valid arrays, weights, and a mask that leaves out the first item of each set."""
    generator = np.random.default_rng(seed)
    arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in row.draw(generator, shape)]
    where = generator.uniform(size=shape) < 0.8
    where[..., 0] = False
    return *arrays, generator.uniform(0.5, 2, size=shape).astype(dtype), where


@each_variant
@pytest.mark.parametrize("chunk_size", [pytest.param(None, marks=full_only), 3])
def test_losses_match_loops_in_float64(row, options, chunk_size):
    with jax.enable_x64(True):
        first, second, weights, where = drawn(row, dtype=np.float64)
        losses, normalisers = row.expected(first, second, where, **options)

        @jax.jit
        def run(first):
            def loss(**more):
                return row.function(first, second, where=where, chunk_size=chunk_size, **options, **more)

            names = [name for name in jaxloss.reductions.NAMES if name != "total"]
            each = {name: loss(weights=weights, reduction=name) for name in names}
            return each, loss(reduction="total"), loss(weights=weights, reduction=lambda *pair: pair)

        results, total, pair = run(first)
        for name, got in results.items():
            wanted = reduced(losses, normalisers, weights, where, name)
            np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9, err_msg=name)
        np.testing.assert_allclose((total.loss, total.normaliser), (losses.sum(), normalisers.sum()), rtol=1e-9)
        np.testing.assert_allclose(pair, (losses * weights, normalisers), rtol=1e-9, atol=1e-12)


def slope(function, x, direction, step=3e-4):
    """The derivative of a function along a direction, by differences of fourth order."""
    near, far = ((function(x + s * direction) - function(x - s * direction)) / (2 * s) for s in (step, 2 * step))
    return (4 * near - far) / 3


@each_first_variant
def test_gradients_match_differences_of_loops(row, options):
    with jax.enable_x64(True):
        first, second, weights, where = drawn(row, dtype=np.float64)
        generator = np.random.default_rng(1)
        for position in range(1 if row.has_labels else 2):
            direction = generator.normal(size=first.shape)

            def reference(x, position=position):
                arrays = (x, second) if position == 0 else (first, x)
                if row.held is None:
                    return (weights * row.expected(*arrays, where, **options)[0]).sum()
                sets = zip(x, second, where, weights, first, strict=True)
                return sum((w * row.held(a, b, m, held=h, **options)[0]).sum() for a, b, m, w, h in sets)

            @jax.jit
            def gradients(first, second, position=position):
                def weighted_sum(*arrays):
                    return row.function(*arrays, where=where, weights=weights, reduction="sum", **options)

                def sum_of_weighted(*arrays):
                    return jnp.sum(weights * row.function(*arrays, where=where, reduction="none", **options))

                return [jax.grad(f, position)(first, second) for f in (weighted_sum, sum_of_weighted)]

            expected = slope(reference, (first, second)[position], direction)
            for gradient in gradients(first, second):
                np.testing.assert_allclose(np.vdot(gradient, direction), expected, rtol=1e-7, atol=1e-8)
                assert not np.any(np.asarray(gradient)[~where])


@each_first_variant
def test_gradients_with_respect_to_weights_and_options(row, options):
    with jax.enable_x64(True):
        first, second, weights, where = drawn(row, dtype=np.float64)
        given = {name: 0.7 for name in row.numbers if name not in ("kink_width", *options)}

        def loss(given, weights):
            return row.function(first, second, where=where, weights=weights, **options, **given)

        by_options, by_weights = jax.grad(loss, (0, 1))(given, weights)
        losses, normalisers = row.expected(first, second, where, **options, **given)
        np.testing.assert_allclose(by_weights, losses / normalisers.sum(), rtol=1e-9, atol=1e-12)
        for name, number in given.items() if row.held is None else ():
            expected = slope(lambda x, name=name: loss({**given, name: x}, weights), number, 1.0)
            np.testing.assert_allclose(by_options[name], expected, rtol=1e-6, atol=1e-9, err_msg=name)


@each_declaration
def test_options_with_one_value_per_set(row):
    first, second, _, where = drawn(row)
    for name in row.numbers:
        numbers = np.array([0.3, 0.9], np.float32)
        losses = row.function(first, second, where=where, **{name: numbers}, reduction="none")
        for i, number in enumerate(numbers):
            alone = row.function(first[i], second[i], where=where[i], **{name: float(number)}, reduction="none")
            np.testing.assert_allclose(losses[i], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.nans
@each_first_variant
@pytest.mark.parametrize("poison", [np.nan, pytest.param(np.inf, marks=full_only)])
def test_a_masked_item_is_as_if_it_were_not_there(row, options, poison, if_full):
    first, second, weights, where = drawn(row)

    @functools.partial(jax.jit, compiler_options=if_full)
    def run(first, second, weights):
        def mean(first, weights):
            return row.function(first, second, where=where, weights=weights, **options)

        return jax.value_and_grad(mean, (0, 1))(first, weights)

    def poisoned(array):
        return np.where(where if array.ndim == where.ndim else where[..., None], array, poison)

    clean = run(first, second, weights)
    bad_second = np.where(where, second, -7) if row.has_labels else poisoned(second)
    chex.assert_trees_all_equal(run(poisoned(first), bad_second, poisoned(weights)), clean)
    assert not np.any(np.asarray(clean[1][0])[~where])
    totals = [
        row.function(x[m], y[m], weights=w[m], **options, reduction="total")
        for x, y, w, m in zip(first, second, weights, where, strict=True)
    ]
    np.testing.assert_allclose(sum(totals[1:], totals[0]).mean(), clean[0], rtol=2e-6)


@each_set
def test_nothing_to_count_gives_loss_0_and_gradient_0(row, full):
    first, second, _, where = drawn(row)
    cases = [(first, second, np.zeros_like(where)), (first[:0], second[:0], where[:0])]
    cases += [(first[:, :0], second[:, :0], where[:, :0])]
    if row.has_labels and row.function not in (jaxloss.multi_similarity_loss,):
        # Neither has any item both positives and negatives in the first case, nor positives in the second.
        alone = np.broadcast_to(np.arange(SHAPE[1]), SHAPE)
        cases += [(first, alone, np.ones_like(where))]
    for x, y, mask in cases:
        for reduction in ("mean", "weighted_mean", "sum") if full else ("mean",):
            value, gradient = jax.value_and_grad(row.function)(x, y, where=mask, reduction=reduction)
            assert value == 0
            assert not np.any(gradient)


TINY, LARGE = 1e-30, 1e30
EXTREME_SETS = {
    "zeros": lambda x: 0 * x,
    "one zero": lambda x: np.where(np.arange(len(x))[:, None] == 1, 0, x),
    "equal": lambda x: 0 * x + x[:1],
    "opposite": lambda x: np.where(np.arange(len(x))[:, None] % 2, x[:1], -x[:1]),
    "tiny": lambda x: TINY * x,
    "large": lambda x: LARGE * x,
    "mixed": lambda x: np.where(np.arange(len(x))[:, None] % 2, LARGE, TINY) * x,
    "mixed entries": lambda x: np.where(np.arange(x.shape[1])[None] % 2, LARGE, TINY) * x,
    "subnormal": lambda x: 1e-42 * x,
    "largest": lambda x: np.where(x > 0, 3.4e38, -3.4e38),
    "axes": lambda x: np.eye(*x.shape),
}


@pytest.mark.nans
@each_first_variant
def test_extreme_sets_have_no_nan(row, options, if_full):
    first, second, weights, _ = drawn(row, (7,))
    firsts, seconds = [], []
    for change in EXTREME_SETS.values():
        for labels in (second, np.zeros_like(second), np.arange(7)) if row.has_labels else (None, second):
            firsts.append(change(first.astype(np.float64)).astype(np.float32))
            seconds.append(firsts[-1] if labels is None else labels)
    arrays, weights = (np.stack(firsts), np.stack(seconds)), np.stack([weights * w for w in (1, 0, 100)])[:, None]

    @functools.partial(jax.jit, compiler_options=if_full)
    def run(first, second):
        def loss(first):
            batch = [jnp.broadcast_to(a, (3, *a.shape)) for a in (first, second)]
            return row.function(*batch, weights=weights, **options, reduction="none")

        losses, pull = jax.vjp(loss, first)
        sums = jax.value_and_grad(lambda x: row.function(x, second, **options, reduction="sum"))(first)
        return losses, pull(jnp.ones_like(losses)), sums

    results = jax.tree.leaves(run(*arrays))
    assert not any(np.isnan(leaf).any() for leaf in results)
    one = jax.value_and_grad(lambda x, y: row.function(x, y, **options))(first[:1], second[:1])
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(one))


@each_half
@each_declaration
def test_half_precision_computes_in_float32(row, dtype):
    first, second, weights, where = drawn(row, dtype=dtype)

    def run(first, second):
        return jax.value_and_grad(lambda x: row.function(x, second, where=where, weights=weights))(first)

    value, gradient = run(first, second)
    wide = [a.astype(np.float32) if jnp.issubdtype(a.dtype, jnp.floating) else a for a in (first, second)]
    expected, wide_gradient = run(*wide)
    assert (value.dtype, gradient.dtype) == (jnp.float32, dtype)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(gradient.astype(np.float32), wide_gradient, rtol=2 * eps, atol=2 * eps)


@each_declaration
def test_transformations(row):
    first, second, weights, where = drawn(row)

    def mean(x):
        return row.function(x, second, where=where, weights=weights)

    batched = row.function(first, second, where=where, reduction="none")
    each = jax.vmap(lambda x, y, m: row.function(x, y, where=m, reduction="none"))(first, second, where)
    np.testing.assert_allclose(each, batched, rtol=1e-5, atol=1e-6)
    deep = row.function(first[:, None], second[:, None], where=where[:, None], reduction="none")
    np.testing.assert_allclose(deep[:, 0], batched, rtol=1e-5, atol=1e-6)
    direction = np.random.default_rng(1).normal(size=first.shape).astype(np.float32)
    of_gradient = jax.jvp(jax.grad(mean), (first,), (direction,))[1]
    reverse = jax.grad(lambda x: jnp.vdot(jax.grad(mean)(x), direction))(first)
    np.testing.assert_allclose(of_gradient, reverse, rtol=1e-4, atol=1e-4)
    assert np.isfinite(of_gradient).all()
    if row.forward_mode:
        tangent = jax.jvp(mean, (first,), (direction,))[1]
        np.testing.assert_allclose(tangent, np.vdot(jax.grad(mean)(first), direction), rtol=1e-5)
    else:
        with pytest.raises(TypeError):
            jax.jvp(mean, (first,), (direction,))


@each_set
def test_a_scalar_weight_or_mask_applies_to_all_items(row):
    first, second, _, _ = drawn(row)
    losses = row.function(first, second, reduction="none")
    np.testing.assert_allclose(row.function(first, second, weights=2.0, reduction="none"), 2 * losses, rtol=1e-6)
    np.testing.assert_array_equal(row.function(first, second, where=True, reduction="none"), losses)
    total = row.function(first, second, weights=2.0, where=True, reduction="sum")
    np.testing.assert_allclose(total, 2 * np.sum(losses), rtol=1e-5)
    assert row.function(first[0], second[0], where=False) == 0


@each_set
def test_items_in_another_order_have_the_same_losses(row):
    first, second, _, where = drawn(row, (9,))
    order = np.random.default_rng(2).permutation(9)
    losses = row.function(first, second, where=where, reduction="none")
    again = row.function(first[order], second[order], where=where[order], reduction="none")
    np.testing.assert_allclose(again, np.asarray(losses)[order], rtol=1e-5, atol=1e-6)


@each_declaration
def test_export_with_symbolic_shapes(row):
    first, second, _, where = drawn(row, (3, 6))
    b, n = jax.export.symbolic_shape("b, n", constraints=["b >= 1", "n >= 1"])

    @jax.jit
    def both(first, second, where):
        return jax.value_and_grad(lambda x: row.function(x, second, where=where))(first)

    second = second.astype(np.int32) if row.has_labels else second
    shapes = [jax.ShapeDtypeStruct((b, n, *a.shape[2:]), a.dtype) for a in (first, second, where)]
    exported = jax.export.deserialize(jax.export.export(both)(*shapes).serialize())
    chex.assert_trees_all_close(exported.call(first, second, where), both(first, second, where), rtol=1e-5, atol=1e-6)


def mesh(kind=AxisType.Auto):
    return jax.make_mesh((8,), ("items",), axis_types=(kind,))


@pytest.mark.cpu
@each_variant
def test_items_split_over_devices_are_a_set(row, options):
    with jax.enable_x64(True):
        arrays = drawn(row, (16,), np.float64)

        def total_and_gradient(first, second, weights, where, **split):
            def loss(x, y):
                total = row.function(x, y, where=where, weights=weights, reduction="total", **options, **split)
                return total.loss, total

            positions = 0 if row.has_labels else (0, 1)
            (_, total), gradient = jax.value_and_grad(loss, positions, has_aux=True)(first, second)
            total = total.psum("items") if split else total
            return (total.loss, total.normaliser), gradient

        items = PartitionSpec("items")
        split = jax.shard_map(
            functools.partial(total_and_gradient, axis_name="items"),
            mesh=mesh(),
            in_specs=(items,) * 4,
            out_specs=((PartitionSpec(), PartitionSpec()), items if row.has_labels else (items, items)),
        )
        expected = total_and_gradient(*arrays)
        chex.assert_trees_all_close(jax.jit(split)(*arrays), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.cpu
@each_declaration
@pytest.mark.parametrize("kind", [AxisType.Auto, pytest.param(AxisType.Explicit, marks=full_only)])
def test_items_on_a_mesh_without_axis_name(row, kind):
    first, second, weights, where = drawn(row, (16,))

    @jax.jit
    def run(first, second, weights, where):
        return jax.value_and_grad(lambda x: row.function(x, second, where=where, weights=weights))(first)

    expected = run(first, second, weights, where)
    with jax.set_mesh(mesh(kind)):
        sharding = NamedSharding(mesh(kind), PartitionSpec("items"))
        placed = [jax.device_put(a, sharding) for a in (first, second, weights, where)]
        got = jax.device_get(run(*placed))
    chex.assert_trees_all_close(got, jax.device_get(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.cpu
@each_declaration
def test_devices_send_each_embedding_once_and_its_gradient_once(row):
    n, d = 64, 16
    first, second = row.draw(np.random.default_rng(0), (n,))
    first = np.resize(first, (n, d)).astype(np.float32)
    second = second.astype(np.int32) if row.has_labels else first

    def local(x, y):
        return jax.grad(lambda x: row.function(x, y, reduction="total", axis_name="items").loss)(x)

    items = PartitionSpec("items")
    split = jax.jit(jax.shard_map(local, mesh=mesh(), in_specs=items, out_specs=items))
    expected = {"all-gather": 4 * n * d}
    if row.has_labels:  # which are gathered too; and keys, which have no gradient here
        expected = {"all-gather": 4 * n * d + 4 * n, "reduce-scatter": 4 * n * d}
    assert sent(split.lower(first, second).compile()) == expected


@each_declaration
def test_bad_arguments(row):
    first, second, _, where = drawn(row, (5,))
    with pytest.raises(ValueError, match=f"{row.name}: axis_name is 'items' but shard_map maps over no such axis here"):
        row.function(first, second, axis_name="items")
    with pytest.raises(ValueError, match=f"{row.name}: chunk_size is 0 but must lie in \\[1, inf\\)"):
        row.function(first, second, chunk_size=0)
    with pytest.raises(ValueError, match=f"{row.name}: axis n has length 4 in .* but 5 in"):
        row.function(first, second[:4])
    with pytest.raises(ValueError, match=f"{row.name}: .* one sample of it alone has shape"):
        row.function(first[0], second)
    with pytest.raises(TypeError, match=f"{row.name}: where has dtype float32 but takes booleans"):
        row.function(first, second, where=where.astype(np.float32))
    # A mask for each set of a batch that does not exist.
    for name in ("where", "weights"):
        with pytest.raises(ValueError, match=f"{row.name}: .* is never repeated"):
            row.function(first, second, **{name: np.ones((5, 5), bool if name == "where" else np.float32)})
    with pytest.raises(ValueError, match=f"{row.name}: .* is never repeated"):
        row.function(first, np.stack([second, second]))
    if row.has_labels:
        with pytest.raises(TypeError, match=f"{row.name}: labels has dtype float32 but takes integer labels"):
            row.function(first, second.astype(np.float32))
        far = second.astype(np.int64) * 2**32 - 1
        np.testing.assert_array_equal(row.function(first, far), row.function(first, second))


@pytest.mark.cpu
@each_declaration
def test_no_array_has_an_entry_for_each_pair(row):
    n, d = 8192, 32
    first = jax.ShapeDtypeStruct((n, d), np.float32)
    second = jax.ShapeDtypeStruct((n,), np.int32) if row.has_labels else first
    compiled = jax.jit(jax.value_and_grad(row.function)).lower(first, second).compile()
    plain = 2 * n * n * 4  # the similarities and their gradients
    assert compiled.memory_analysis().temp_size_in_bytes < plain / 6


@pytest.mark.parametrize("row", [row for row in SETS if "temperature" in row.numbers], ids=lambda row: row.name)
@pytest.mark.parametrize("normalize", [False, True])
def test_derivative_with_respect_to_a_tiny_temperature(row, normalize):
    first, second, _, where = drawn(row)
    wide = [array.astype(np.float64) if array.dtype.kind == "f" else array for array in (first, second)]

    def loss(number):
        return row.function(first, second, where=where, normalize=normalize, temperature=number, reduction="sum")

    def expected(number):
        return row.expected(*wide, where, normalize=normalize, temperature=number)[0].sum()

    require_slope_of_temperature(jax.jit(jax.grad(loss)), expected)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row.name, marks=[] if row.name in ("info_nce_loss", "circle_loss") else [full_only])
        for row in SETS
        if row.numbers and not row.forward_mode
    ],
)
def test_the_third_derivative_with_respect_to_an_option_does_not_depend_on_chunks(row):
    """In a loop that is differentiated three times, JAX drops rules of derivatives, and differentiates formulas."""
    first, second, _, _ = drawn(row, (7,))
    name = next(name for name in row.numbers if name != "kink_width")

    def third(chunk_size):
        def loss(number):
            return row.function(first, second, chunk_size=chunk_size, **{name: number})

        return jax.jit(jax.grad(jax.grad(jax.grad(loss))))(0.7)

    np.testing.assert_allclose(third(2), third(7), rtol=1e-4, atol=1e-5)
