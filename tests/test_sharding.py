"""The same result on one device and on eight, with automatic sharding, explicit sharding and shard_map."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss
from tests.collectives import sent
from tests.compiling import OPTIMISED
from tests.drawing import SHAPE, Floats, draw, each_declaration, each_of, weights_and_mask
from tests.registry import REGISTRY, Row
from tests.test_registry_masks import array_options, differentiated

pytestmark = pytest.mark.cpu
OWN_BATCH = PartitionSpec("data", "other")
SAME = PartitionSpec()
SORTS_ROWS = ("adaptive_log_softmax_with_loss",)


def mesh(*lengths, names=("data", "other"), kind=AxisType.Auto):
    return jax.make_mesh(lengths, names[: len(lengths)], axis_types=(kind,) * len(lengths))


def drawn(row: Row):
    """Arrays, weights, a mask and array options, with the value and gradients of the loss on one device."""
    weights, where = weights_and_mask()
    where &= np.arange(len(where))[:, None] != 1  # some devices have only masked samples
    arguments = draw(row), weights, where, array_options(row, 0)
    return arguments, differentiated(row)(*arguments)


def specs(row: Row):
    """The specs of the arguments of `differentiated` on a mesh where each device has its own part of the batch."""
    arrays = tuple(SAME if i in row.shared else OWN_BATCH for i in range(len(row.cores)))
    extra = {name: OWN_BATCH if a.shape == SHAPE else SAME for name, a in array_options(row, 0).items()}
    return arrays, OWN_BATCH, OWN_BATCH, extra


def assert_same(got, expected, rtol=1e-6):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        # A gradient with respect to a weight is the difference of a loss and the mean, which are larger.
        np.testing.assert_allclose(one, other, rtol=rtol, atol=4 * rtol * np.abs(other).max(initial=1e-30))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@each_declaration
def test_automatic_sharding_matches_one_device_and_gathers_nothing(row, kind, full):
    """The default run only traces with explicit axes, because they affect only types."""
    arguments, expected = drawn(row)
    devices = mesh(4, 2, kind=kind)
    with jax.set_mesh(devices):
        arguments = jax.device_put(arguments, jax.tree.map(lambda spec: NamedSharding(devices, spec), specs(row)))
        traced = differentiated(row).trace(*arguments)
        if kind is AxisType.Explicit and not full:
            return
        compiled = traced.lower().compile()
        assert_same(compiled(*arguments), expected)
    if row.name not in SORTS_ROWS:
        assert set(sent(compiled)) == {"all-reduce"}


@each_declaration
def test_totals_summed_over_devices_give_the_mean_of_one_device(row):
    arguments, expected = drawn(row)

    def local(arrays, weights, where, extra):
        total = row.loss(*arrays, **extra, weights=weights, where=where, reduction="total")
        return total.psum(("data", "other")).mean()

    sharded = jax.shard_map(local, mesh=mesh(4, 2), in_specs=specs(row), out_specs=SAME)

    @jax.jit
    def run(arrays, weights, where, extra):
        floats = Floats(arrays)

        def mean(values, weights, extra):
            return sharded(tuple(floats.put(values)), weights, where, extra)

        return jax.value_and_grad(mean, (0, 1, 2))(floats.values, weights, extra)

    compiled = run.lower(*arguments).compile()
    assert_same(compiled(*arguments), expected)
    shared = sum(arguments[0][i].nbytes for i in row.shared if row.names[i] not in row.constant)
    assert sent(compiled) == {"all-reduce": 24 + shared}  # a total, and gradients of shared arrays


VECTORS = [row for row in REGISTRY if row.has_axis or row.name == "linear_cross_entropy"]


@each_of(VECTORS)
def test_class_and_feature_axes_may_be_sharded(row):
    """The last axis of the predictions or of a kernel."""
    (arrays, *others), expected = drawn(row)
    split = arrays[row.shared[0] if row.shared else 0].shape[-1]
    devices = mesh(1, split)

    def placed(array):
        axes = [None] * array.ndim
        if array.ndim and array.shape[-1] == split:
            axes[-1] = "other"
        return jax.device_put(array, NamedSharding(devices, PartitionSpec(*axes)))

    assert_same(differentiated(row)(tuple(map(placed, arrays)), *others), expected)


def test_chunks_span_all_devices_over_which_rows_are_split():
    """Each device processes its part of a chunk, so temporaries shrink with the number of devices."""
    n, d, c = 1024, 32, 4096
    layer = [jax.ShapeDtypeStruct(*each) for each in (((n, d), jnp.float32), ((d, c), jnp.float32), ((n,), jnp.int32))]

    def compiled(devices):
        shardings = [
            NamedSharding(mesh(devices), spec) for spec in (PartitionSpec("data"), SAME, PartitionSpec("data"))
        ]
        arguments = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s) for a, s in zip(layer, shardings, strict=True)]
        loss = jax.value_and_grad(lambda *a: jaxloss.linear_cross_entropy(*a, chunk_size=256), (0, 1))
        return jax.jit(loss).lower(*arguments).compile(compiler_options=OPTIMISED)

    one, eight = compiled(1), compiled(8)
    assert set(sent(eight)) == {"all-reduce"}
    logits = 256 * c * 4
    gradient = d * c * 4
    assert one.memory_analysis().temp_size_in_bytes >= logits
    assert eight.memory_analysis().temp_size_in_bytes <= 2.2 * (logits / 8 + gradient)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_split_rows_send_a_total_and_the_gradient_of_the_kernel(devices):
    n, d, c = 64, 16, 32

    def local(hidden, kernel, target):
        total = jaxloss.linear_cross_entropy(hidden, kernel, target, chunk_size=16, reduction="total")
        return total.psum("data").mean()

    rows = PartitionSpec("data")
    split = jax.shard_map(local, mesh=mesh(devices), in_specs=(rows, SAME, rows), out_specs=SAME)
    shapes = ((n, d), jnp.float32), ((d, c), jnp.float32), ((n,), jnp.int32)
    arguments = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    compiled = jax.jit(jax.value_and_grad(split, (0, 1))).lower(*arguments).compile()
    assert sent(compiled) == {"all-reduce": 24 + 4 * d * c}


@pytest.mark.parametrize("devices", [(8,), (4, 2), (2, 3)], ids=str)
def test_automatic_sharding_sends_the_gradient_of_the_kernel_once(devices):
    """With several chunks, and without a context that names the mesh."""
    n, d, c = 96, 16, 32
    rows = NamedSharding(mesh(*devices), PartitionSpec("data"))
    hidden = jax.ShapeDtypeStruct((n, d), jnp.float32, sharding=rows)
    target = jax.ShapeDtypeStruct((n,), jnp.int32, sharding=rows)
    kernel = jax.ShapeDtypeStruct((d, c), jnp.float32, sharding=NamedSharding(mesh(*devices), SAME))
    loss = jax.value_and_grad(lambda *a: jaxloss.linear_cross_entropy(*a, chunk_size=24), (0, 1))
    compiled = jax.jit(loss).lower(hidden, kernel, target).compile()
    assert set(sent(compiled)) == {"all-reduce"}
    assert 4 * d * c <= sent(compiled)["all-reduce"] <= 4 * d * c + 64  # and a few numbers


GATHERED_BEFORE = [
    ((8, 64), 8, 32),
    ((64, 8), 8, 32),
    ((8, 2, 64), 8, 64),
    ((16, 128), 8, None),
    ((2048,), 8, None),
]


@pytest.mark.parametrize(("batch", "devices", "chunk_size"), GATHERED_BEFORE)
def test_rows_stay_on_their_device_for_any_batch_axes(batch, devices, chunk_size):
    d, c = 4, 2**15 if chunk_size is None else 16
    rows = NamedSharding(mesh(devices), PartitionSpec("data"))
    hidden = jax.ShapeDtypeStruct((*batch, d), jnp.float32, sharding=rows)
    target = jax.ShapeDtypeStruct(batch, jnp.int32, sharding=rows)
    kernel = jax.ShapeDtypeStruct((d, c), jnp.float32)
    loss = jax.value_and_grad(lambda *a: jaxloss.linear_cross_entropy(*a, chunk_size=chunk_size), (0, 1))
    assert set(sent(jax.jit(loss).lower(hidden, kernel, target).compile())) == {"all-reduce"}


def test_explicit_axes_need_neither_a_context_nor_equal_shardings():
    """By default, jax.make_mesh makes meshes with explicit axes."""
    devices = mesh(4, 2, kind=AxisType.Explicit)
    generator = np.random.default_rng(0)
    logits, target = generator.normal(size=(8, 6)).astype(np.float32), generator.integers(0, 6, 8)
    hidden, kernel = generator.normal(size=(8, 3)).astype(np.float32), generator.normal(size=(3, 6)).astype(np.float32)
    where = np.ones((8, 1), bool)

    def placed(array, *axes):
        return jax.device_put(array, NamedSharding(devices, PartitionSpec(*axes)))

    for loss in (jaxloss.cross_entropy, jaxloss.multi_margin_loss):
        both = jax.jit(jax.value_and_grad(loss))  # under jit, because eager JAX needs a context
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


@pytest.mark.parametrize("with_context", [False, True])
def test_explicit_rows_with_a_kernel_that_is_on_no_mesh(with_context):
    devices = mesh(8, kind=AxisType.Explicit)
    generator = np.random.default_rng(0)
    hidden, kernel = generator.normal(size=(4, 16, 3)).astype(np.float32), np.ones((3, 6), np.float32)
    target = generator.integers(0, 6, (4, 16))
    gradients = jax.jit(jax.vmap(jax.grad(jaxloss.linear_cross_entropy, (0, 1)), in_axes=(0, None, 0)))
    expected = gradients(hidden, kernel, target)
    placed = jax.device_put(hidden, NamedSharding(devices, PartitionSpec(None, "data")))
    with jax.set_mesh(devices) if with_context else contextlib.nullcontext():
        got = gradients(placed, kernel, target)
    assert_same(got, expected)


@pytest.mark.nans
def test_data_checks_work_on_sharded_data():
    with jaxloss.data_checks(True), jax.set_mesh(mesh(4, 2, kind=AxisType.Explicit)) as _:
        logits = jax.device_put(np.zeros((8, 3), np.float32), PartitionSpec("data"))
        error, _ = checkify.checkify(jax.jit(jaxloss.cross_entropy))(logits, np.full(8, 3))
    assert "cross_entropy: target is 3 but must lie in [0, 3)" in error.get()
