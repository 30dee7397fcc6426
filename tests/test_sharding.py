"""The same number on one device and on eight: by automatic and explicit sharding, and by shard_map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss
from tests.collectives import sent
from tests.registry import REGISTRY, Row

BATCH = (8, 16)
OWN_BATCH = PartitionSpec("data", "other")
SAME = PartitionSpec()
SORTS_ROWS = ("adaptive_log_softmax_with_loss",)


def mesh(*lengths, names=("data", "other"), kind=AxisType.Auto):
    return jax.make_mesh(lengths, names[: len(lengths)], axis_types=(kind,) * len(lengths))


def called(row: Row, floats, others, **options):
    """The loss of floating arrays and others, by their positions."""
    arrays = floats | others
    return row.loss(*(arrays[i] for i in sorted(arrays)), **options)


def differentiated(row: Row):
    """(floating arrays, other arrays, mask) to the loss and its gradients by the first."""
    return jax.jit(jax.value_and_grad(lambda floats, others, where: called(row, floats, others, where=where)))


def drawn(row: Row):
    arrays = [np.asarray(array) for array in row.draw(np.random.default_rng(0), BATCH)]
    floating = {i: array.astype(np.float32) for i, array in enumerate(arrays) if array.dtype.kind == "f"}
    others = {i: array for i, array in enumerate(arrays) if i not in floating}
    # Half of the samples, none of them on some devices.
    where = (np.random.default_rng(1).random(BATCH) < 0.5) & (np.arange(8)[:, None] // 2 != 1)
    return floating, others, where


def assert_same(got, expected, rtol=1e-6):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * np.abs(other).max(initial=1e-30))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("row", REGISTRY, ids=lambda row: f"{row.name}{dict(row.options[0]) or ''}")
def test_automatic_sharding_gives_the_number_of_one_device_and_gathers_nothing(row, kind):
    floats, others, where = drawn(row)
    expected = differentiated(row)(floats, others, where)
    devices = mesh(4, 2, kind=kind)

    def placed(arrays):
        spec = {i: SAME if i in row.shared else OWN_BATCH for i in arrays}
        return {i: jax.device_put(array, NamedSharding(devices, spec[i])) for i, array in arrays.items()}

    with jax.set_mesh(devices):
        arguments = placed(floats), placed(others), jax.device_put(where, NamedSharding(devices, OWN_BATCH))
        compiled = differentiated(row).lower(*arguments).compile()
        assert_same(compiled(*arguments), expected)
    if row.name not in SORTS_ROWS:
        assert set(sent(compiled)) == {"all-reduce"}


@pytest.mark.parametrize("row", REGISTRY, ids=lambda row: f"{row.name}{dict(row.options[0]) or ''}")
def test_totals_of_all_devices_give_the_mean_of_one(row):
    floats, others, where = drawn(row)
    expected = differentiated(row)(floats, others, where)

    def local(floats, others, where):
        return called(row, floats, others, where=where, reduction="total").psum(("data", "other")).mean()

    specs = [{i: SAME if i in row.shared else OWN_BATCH for i in arrays} for arrays in (floats, others)]
    sharded = jax.shard_map(local, mesh=mesh(4, 2), in_specs=(*specs, OWN_BATCH), out_specs=SAME)
    compiled = jax.jit(jax.value_and_grad(sharded)).lower(floats, others, where).compile()
    assert_same(compiled(floats, others, where), expected)
    shared = sum(array.nbytes for i, array in floats.items() if i in row.shared)
    assert sent(compiled) == {"all-reduce": 8 + shared}  # the two sums, and gradients by what devices share


VECTORS = [row for row in REGISTRY if row.has_axis or row.name == "linear_cross_entropy"]


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: f"{row.name}{row.cores}")
def test_class_and_feature_axes_may_be_sharded(row):
    """As the last axis of the predictions, or of a kernel."""
    floats, others, where = drawn(row)
    expected = differentiated(row)(floats, others, where)
    split = floats[row.shared[0] if row.shared else 0].shape[-1]
    devices = mesh(1, split)

    def placed(arrays):
        def place(array):
            axes = [None] * array.ndim
            if array.ndim and array.shape[-1] == split:
                axes[-1] = "other"
            return jax.device_put(array, NamedSharding(devices, PartitionSpec(*axes)))

        return {i: place(array) for i, array in arrays.items()}

    got = differentiated(row)(placed(floats), placed(others), where)
    assert_same(got, expected)


def test_chunks_span_all_devices_that_rows_are_split_over():
    """Each device works on its part of a chunk, so that temporaries fall with their number."""
    n, d, c = 1024, 32, 4096
    layer = [jax.ShapeDtypeStruct(*each) for each in (((n, d), jnp.float32), ((d, c), jnp.float32), ((n,), jnp.int32))]

    def compiled(devices):
        shardings = [
            NamedSharding(mesh(devices), spec) for spec in (PartitionSpec("data"), SAME, PartitionSpec("data"))
        ]
        arguments = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s) for a, s in zip(layer, shardings, strict=True)]
        loss = jax.value_and_grad(lambda *a: jaxloss.linear_cross_entropy(*a, chunk_size=256), (0, 1))
        return jax.jit(loss).lower(*arguments).compile()

    one, eight = compiled(1), compiled(8)
    assert set(sent(eight)) == {"all-reduce"}
    logits = 256 * c * 4
    gradient = d * c * 4
    assert one.memory_analysis().temp_size_in_bytes >= logits
    assert eight.memory_analysis().temp_size_in_bytes <= 2.2 * (logits / 8 + gradient)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_split_rows_send_two_sums_and_the_gradient_by_the_kernel(devices):
    n, d, c = 64, 16, 32

    def local(hidden, kernel, target):
        total = jaxloss.linear_cross_entropy(hidden, kernel, target, chunk_size=16, reduction="total")
        return total.psum("data").mean()

    rows = PartitionSpec("data")
    split = jax.shard_map(local, mesh=mesh(devices), in_specs=(rows, SAME, rows), out_specs=SAME)
    shapes = ((n, d), jnp.float32), ((d, c), jnp.float32), ((n,), jnp.int32)
    arguments = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    compiled = jax.jit(jax.value_and_grad(split, (0, 1))).lower(*arguments).compile()
    assert sent(compiled) == {"all-reduce": 8 + 4 * d * c}


GATHERED_BEFORE = [
    ((8, 64), 8, 32),
    ((64, 8), 8, 32),
    ((8, 2, 64), 8, 64),
    ((16, 128), 8, None),
    ((2048,), 8, None),
]


@pytest.mark.parametrize(("batch", "devices", "chunk_size"), GATHERED_BEFORE)
def test_rows_stay_on_their_device_whatever_axes_the_batch_has(batch, devices, chunk_size):
    d, c = 4, 2**15 if chunk_size is None else 16
    rows = NamedSharding(mesh(devices), PartitionSpec("data"))
    hidden = jax.ShapeDtypeStruct((*batch, d), jnp.float32, sharding=rows)
    target = jax.ShapeDtypeStruct(batch, jnp.int32, sharding=rows)
    kernel = jax.ShapeDtypeStruct((d, c), jnp.float32)
    loss = jax.value_and_grad(lambda *a: jaxloss.linear_cross_entropy(*a, chunk_size=chunk_size), (0, 1))
    assert set(sent(jax.jit(loss).lower(hidden, kernel, target).compile())) == {"all-reduce"}


def test_explicit_axes_need_no_context_and_not_the_same_sharding():
    """Meshes of explicit axes are what jax.make_mesh makes by default."""
    devices = mesh(4, 2, kind=AxisType.Explicit)
    generator = np.random.default_rng(0)
    logits, target = generator.normal(size=(8, 6)).astype(np.float32), generator.integers(0, 6, 8)
    hidden, kernel = generator.normal(size=(8, 3)).astype(np.float32), generator.normal(size=(3, 6)).astype(np.float32)
    where = np.ones((8, 1), bool)

    def placed(array, *axes):
        return jax.device_put(array, NamedSharding(devices, PartitionSpec(*axes)))

    for loss in (jaxloss.cross_entropy, jaxloss.multi_margin_loss):
        both = jax.jit(jax.value_and_grad(loss))  # eagerly, JAX itself cannot without a context
        for axes in (("data",), (None, "other"), ("data", "other")):
            assert_same(both(placed(logits, *axes), target), both(logits, target))
    expected = jaxloss.mse_loss(logits, 0.0, where=where, reduction="none")
    assert_same(jaxloss.mse_loss(placed(logits, "data"), 0.0, where=where, reduction="none"), expected)
    layer = jax.jit(jax.value_and_grad(jaxloss.linear_cross_entropy, (0, 1)))
    got = layer(placed(hidden, "data"), placed(kernel, None, "other"), placed(target, "data"))
    assert_same(got, layer(hidden, kernel, target))
    losses = jaxloss.linear_cross_entropy(placed(hidden, "data"), placed(kernel), placed(target), reduction="none")
    assert_same(losses, jaxloss.linear_cross_entropy(hidden, kernel, target, reduction="none"))
    assert jax.typeof(losses).sharding.spec == PartitionSpec("data")


@pytest.mark.nans
def test_data_checks_see_sharded_data():
    with jaxloss.data_checks(True), jax.set_mesh(mesh(4, 2, kind=AxisType.Explicit)) as _:
        logits = jax.device_put(np.zeros((8, 3), np.float32), PartitionSpec("data"))
        error, _ = checkify.checkify(jax.jit(jaxloss.cross_entropy))(logits, np.full(8, 3))
    assert "cross_entropy: target is 3 but must lie in [0, 3)" in error.get()
