"""Classes split over devices: the result of one device, a few numbers sent per row, and a share of the memory."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import jaxloss
from tests.collectives import sent
from tests.compiling import OPTIMISED
from tests.drawing import full_only
from tests.test_sharding import SAME, assert_same, mesh

pytestmark = pytest.mark.cpu
N, D, C, COLUMNS = 16, 6, 11, 12
GENERATOR = np.random.default_rng(0)
LAYER = [GENERATOR.normal(size=shape) for shape in ((N, D), (D, C), (C,))] + [GENERATOR.uniform(0.5, 2, C)]
INDEX = np.where(np.arange(N) == 3, -100, GENERATOR.integers(0, C, N))
SOFT = GENERATOR.dirichlet(np.ones(C), N)
WEIGHTS = GENERATOR.uniform(0.5, 2, N)
WHERE = np.arange(N) % 5 != 0
EVERYTHING = {"label_smoothing": 0.2, "class_weights": True, "z_loss": 0.1, "logit_softcap": 2.0}
TARGETS = {"index": INDEX, "soft": SOFT}
IN_SPECS = (SAME, PartitionSpec(None, "classes"), PartitionSpec("classes"), PartitionSpec("classes"))


def padded(array):
    """The array with padding columns of NaN, which must have no effect."""
    return np.concatenate([array, np.full((*array.shape[:-1], COLUMNS - C), np.nan)], axis=-1)


def of_layer(hidden, kernel, bias, class_weights, weights, target, where, *, fused, options, **extra):
    """The loss of an output layer, computed in chunks if `fused`, otherwise from full logits."""
    options = {**options, **extra, "weights": weights, "where": where}
    if "class_weights" in options:
        options["class_weights"] = class_weights
    if fused:
        return jaxloss.linear_cross_entropy(hidden, kernel, target, bias=bias, chunk_size=3, **options)
    for name in ("z_loss", "logit_softcap"):
        options.pop(name, None)
    return jaxloss.cross_entropy(hidden @ jnp.nan_to_num(kernel) + bias[None], target, **options)


def summed(result, cotangent):
    parts = (result.loss, result.normaliser) if isinstance(result, jaxloss.Total) else jax.tree.leaves(result)
    return sum((jnp.sum(part * factor) for part, factor in zip(parts, cotangent, strict=True)), 0.0)


def check_split(fused, options, target, reduction, local, devices, in_specs, out_specs, **shard_map_options):
    """Compares value and gradients of `local` on a mesh with those of the whole loss on one device."""
    with jax.enable_x64(True):
        arguments = (*LAYER, WEIGHTS)
        each = [np.linspace(-1, 1, N), np.linspace(1, 2, N)]
        cotangent = {"none": each[:1], "pair": each, "total": [1.0, 0.5]}.get(reduction, [1.0])
        whole = pair if reduction == "pair" else reduction

        def expected(*arguments):
            result = of_layer(*arguments, target, WHERE, fused=fused, options=options, reduction=whole)
            return summed(result, cotangent)

        target_spec = PartitionSpec("data" if "data" in devices.axis_names else None, *["classes"] * (target.ndim - 1))
        specs = (*in_specs, target_spec, in_specs[-1])
        split = jax.shard_map(local, mesh=devices, in_specs=specs, out_specs=out_specs, **shard_map_options)
        split_target = padded(target) if target.ndim == 2 else target

        def got(*arguments):
            return summed(split(*arguments, split_target, WHERE), cotangent)

        by = tuple(range(len(arguments)))
        value, gradients = jax.value_and_grad(expected, by)(*arguments)
        split_arguments = (LAYER[0], *map(padded, LAYER[1:]), WEIGHTS)
        split_value, split_gradients = jax.jit(jax.value_and_grad(got, by))(*split_arguments)
        assert_same(split_value, value, rtol=1e-11)
        for one, other in zip(map(np.asarray, split_gradients), gradients, strict=True):
            columns = other.shape[-1]
            np.testing.assert_array_equal(one[..., columns:], 0)
            assert_same(one[..., :columns], other, rtol=1e-11)


def pair(losses, normalisers):
    return losses, normalisers


REDUCTIONS = ("none", "sum", "mean", "weighted_mean", "batchmean", "total", "pair")
IN_EVERY_RUN = ("none", "mean")


@pytest.mark.parametrize("fused", [True, False], ids=["linear_cross_entropy", "cross_entropy"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "reduction", [pytest.param(name, marks=[] if name in IN_EVERY_RUN else [full_only]) for name in REDUCTIONS]
)
def test_every_reduction_with_rows_sharded_automatically_and_classes_by_hand(fused, target, reduction):
    def local(hidden, *arguments):
        extra = {"axis_name": "classes", "n_classes": C, "reduction": pair if reduction == "pair" else reduction}
        return of_layer(hidden, *arguments, fused=fused, options=EVERYTHING, **extra)

    devices = mesh(4, 2, names=("rows", "classes"))
    out = (SAME, SAME) if reduction == "pair" else jaxloss.Total(SAME, SAME) if reduction == "total" else SAME
    with jax.set_mesh(devices):
        check_split(
            fused,
            EVERYTHING,
            TARGETS[target],
            reduction,
            local,
            devices,
            (*IN_SPECS, SAME),
            out,
            axis_names={"classes"},
        )


SETS = ({}, {"label_smoothing": 0.2}, {"class_weights": True}, {"z_loss": 0.1, "logit_softcap": 2.0}, EVERYTHING)
CASES = [
    pytest.param(fused, target, options, check, marks=[] if check and options in ({}, EVERYTHING) else [full_only])
    for fused, target, options, check in itertools.product((True, False), TARGETS, SETS, (True, False))
    if (check or options is EVERYTHING) and (fused or "z_loss" not in options or options is EVERYTHING)
]


@pytest.mark.parametrize(("fused", "target", "options", "check_vma"), CASES)
def test_rows_and_classes_split_by_hand(fused, target, options, check_vma):
    def local(hidden, *arguments):
        extra = {"axis_name": "classes", "n_classes": C, "reduction": "total"}
        return of_layer(hidden, *arguments, fused=fused, options=options, **extra).psum("data").mean()

    rows = PartitionSpec("data")
    in_specs = (rows, *IN_SPECS[1:], rows)
    devices = mesh(4, 2, names=("data", "classes"))
    check_split(fused, options, TARGETS[target], "mean", local, devices, in_specs, SAME, check_vma=check_vma)


def test_unreduced_losses_with_rows_and_classes_split_by_hand():
    def local(*arguments):
        extra = {"axis_name": "classes", "n_classes": C, "reduction": "none"}
        return of_layer(*arguments, fused=True, options=EVERYTHING, **extra)

    rows = PartitionSpec("data")
    devices = mesh(4, 2, names=("data", "classes"))
    check_split(True, EVERYTHING, INDEX, "none", local, devices, (rows, *IN_SPECS[1:], rows), rows)


def compiled_split(devices, n=64, d=16, c=64, chunk_size=16, fused=True, compiler_options=None):
    """Compiles value and gradients of a layer with its classes split over this number of devices."""

    def fused_loss(hidden, kernel, target):
        return jaxloss.linear_cross_entropy(hidden, kernel, target, axis_name="classes", chunk_size=chunk_size)

    def plain_loss(hidden, logits, target):
        return jaxloss.cross_entropy(logits, target, axis_name="classes")

    columns = PartitionSpec(None, "classes")
    split = jax.shard_map(
        fused_loss if fused else plain_loss,
        mesh=mesh(devices, names=("classes",)),
        in_specs=(SAME, columns, SAME),
        out_specs=SAME,
    )
    shapes = ((n, d), jnp.float32), ((d if fused else n, c), jnp.float32), ((n,), jnp.int32)
    return (
        jax.jit(jax.value_and_grad(split, (0, 1)))
        .lower(*(jax.ShapeDtypeStruct(*shape) for shape in shapes))
        .compile(compiler_options=compiler_options)
    )


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_split_classes_send_a_few_numbers_per_row(devices):
    n, d = 64, 16
    for c in (64, 1024):
        # The maximum, two numbers, and the gradient of a hidden row. There is no all-gather, and nothing grows with c.
        assert sent(compiled_split(devices, n, d, c)) == {"all-reduce": n * (4 + 8 + 4 * d)}
        assert sent(compiled_split(devices, n, d, c, fused=False)) == {"all-reduce": n * (4 + 8)}


@pytest.mark.parametrize(
    ("kind", "options", "more", "more_fused"),
    [
        ("index", {"label_smoothing": 0.1}, 0, 0),
        ("index", {"class_weights": True}, 1, 2),
        ("index", {"class_weights": True, "label_smoothing": 0.1}, 2, 3),
        ("soft", {}, 1, 1),
        ("soft", {"class_weights": True, "label_smoothing": 0.1}, 1, 1),
    ],
)
@pytest.mark.parametrize("fused", [True, False], ids=["linear_cross_entropy", "cross_entropy"])
def test_options_of_split_classes_send_the_documented_numbers(kind, options, more, more_fused, fused):
    n, d, c = 64, 16, 32

    def local(first, kernel, class_weights, target):
        weighted = {"class_weights": class_weights} if "class_weights" in options else {}
        shared = {**options, **weighted, "axis_name": "classes"}
        if fused:
            return jaxloss.linear_cross_entropy(first, kernel, target, chunk_size=16, **shared)
        return jaxloss.cross_entropy(first, target, **shared)

    columns = PartitionSpec(None, "classes")
    in_specs = (SAME if fused else columns, columns, PartitionSpec("classes"), columns if kind == "soft" else SAME)
    split = jax.shard_map(local, mesh=mesh(4, names=("classes",)), in_specs=in_specs, out_specs=SAME)
    shapes = [(n, d if fused else c), (d, c), (c,)]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    soft = kind == "soft"
    arguments.append(jax.ShapeDtypeStruct((n, c) if soft else (n,), jnp.float32 if soft else jnp.int32))
    compiled = jax.jit(jax.value_and_grad(split)).lower(*arguments).compile()
    numbers = 3 + (more_fused + d if fused else more)
    assert sent(compiled) == {"all-reduce": 4 * n * numbers}


def test_split_rows_and_classes_send_both():
    n, d, c = 64, 16, 32  # on 4 x 2 devices

    def local(hidden, kernel, target):
        total = jaxloss.linear_cross_entropy(hidden, kernel, target, axis_name="classes", reduction="total")
        return total.psum("data").mean()

    rows, columns = PartitionSpec("data"), PartitionSpec(None, "classes")
    devices = mesh(4, 2, names=("data", "classes"))
    split = jax.shard_map(local, mesh=devices, in_specs=(rows, columns, rows), out_specs=SAME)
    shapes = ((n, d), jnp.float32), ((d, c), jnp.float32), ((n,), jnp.int32)
    arguments = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    compiled = jax.jit(jax.value_and_grad(split, (0, 1))).lower(*arguments).compile()
    n, c = n // 4, c // 2
    assert sent(compiled) == {"all-reduce": 24 + n * (12 + 4 * d) + 4 * d * c}


@full_only
def test_split_classes_divide_the_memory():
    def temporaries(devices, c, chunk_size):
        compiled = compiled_split(devices, 512, 32, c, chunk_size, compiler_options=OPTIMISED)
        return compiled.memory_analysis().temp_size_in_bytes

    def growth(devices, chunk_size):
        """The growth of a device's temporaries with the vocabulary, in units of a chunk's logits on one device."""
        small, large = (temporaries(devices, c, chunk_size) for c in (2**14, 2**16))
        return (large - small) / (4 * chunk_size * (2**16 - 2**14))

    whole, eighth = growth(1, 128), growth(8, 128)
    assert eighth <= 1.1 * whole / 8
    gradient = 32 / 128  # of the kernel, in float32
    assert whole <= 2.05 + gradient
    assert eighth <= (2.05 + gradient) / 8
    # For some shapes, XLA's heap has a gap, and three arrays where two would be enough.
    assert growth(1, 64) <= 3.4
    assert growth(8, 64) <= 3.4 / 8
    assert temporaries(8, 2**16, None) <= temporaries(1, 2**16, None)


@pytest.mark.nans
def test_padding_is_not_a_class_on_one_device_either():
    target = np.array([0, 2, -100])
    logits = np.array([[1.0, 2.0, 0.5], [0.0, 1.0, 3.0], [0.0, 0.0, 0.0]], np.float32)
    junk = np.concatenate([logits, np.full((3, 2), np.nan, np.float32)], axis=1)
    for smoothing in (0.0, 0.1):
        expected = jaxloss.cross_entropy(logits, target, label_smoothing=smoothing)
        value, gradient = jax.value_and_grad(
            lambda x, smoothing=smoothing: jaxloss.cross_entropy(x, target, label_smoothing=smoothing, n_classes=3)
        )(junk)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        assert not np.isnan(gradient).any()
    assert np.isnan(jaxloss.cross_entropy(junk, np.array([0, 3, 1]), n_classes=3, reduction="none")[1])
    np.testing.assert_array_equal(
        jaxloss.cross_entropy(logits, target, n_classes=3), jaxloss.cross_entropy(logits, target)
    )
    moved = jaxloss.cross_entropy(junk.T, target, n_classes=3, axis=0)
    np.testing.assert_allclose(moved, jaxloss.cross_entropy(logits, target), rtol=1e-6)


def test_errors_of_split_classes():
    logits, target = np.zeros((4, 6), np.float32), np.zeros(4, np.int32)
    kernel = np.zeros((6, 8), np.float32)
    for loss, arrays in (
        (jaxloss.cross_entropy, (logits, target)),
        (jaxloss.linear_cross_entropy, (logits, kernel, target)),
    ):
        for error, message, options in (
            (ValueError, "axis_name is 'classes' but shard_map maps over no such axis here", {"axis_name": "classes"}),
            (ValueError, r"n_classes is 9 but there are \d columns on all devices", {"n_classes": 9}),
            (ValueError, "n_classes is 0 but must lie in", {"n_classes": 0}),
            (TypeError, "n_classes is compiled into the program and takes int, got float", {"n_classes": 3.5}),
            (TypeError, "axis_name is compiled into the program and takes str or tuple, got int", {"axis_name": 1}),
        ):
            with pytest.raises(error, match=f"{loss.__name__}: {message}"):
                loss(*arrays, **options)
    with pytest.raises(TypeError, match="chunk_size is compiled into the program and takes int, got float"):
        jaxloss.linear_cross_entropy(logits, kernel, target, chunk_size=2.5)
