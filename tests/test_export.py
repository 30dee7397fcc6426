"""Programs that are exported for arrays of any size give what the functions give at each size."""

import functools
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss import imbalance, kinks, vectors
from jaxloss._compensated import Compensated
from jaxloss._large_output.tiling import Tilings
from jaxloss._scaling import above_root
from jaxloss._sizes import n_entries
from jaxloss.reductions import NAMES
from tests.drawing import SHAPE, draw, each_variant, full_only, weights_and_mask
from tests.references import N_CLASSES, sequence
from tests.registry import OF_EACH_KIND, REGISTRY
from tests.test_registry_masks import array_options, differentiated

PLATFORMS = ("cpu", "cuda", "tpu")
N_FEATURES = 3
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
pytestmark = pytest.mark.every_platform


def any_size(tree, symbols):
    """The arrays with symbols for the sizes that are their keys."""

    def spec(array):
        array = jnp.asarray(array)
        return jax.ShapeDtypeStruct(tuple(symbols.get(size, size) for size in array.shape), array.dtype)

    return jax.tree.map(spec, tree)


def of_row(row, arrays, *rest):
    """The drawn arrays of a row and its options, with symbolic batch axes, classes, features, frames and labels."""
    batch, core = {}, {}
    sizes = jax.export.symbolic_shape("b, t, c, d, f, s")
    batch[SHAPE[0]], batch[SHAPE[1]], core[N_CLASSES], core[N_FEATURES], frames, labels = sizes
    core |= {sequence.N_FRAMES: frames, sequence.N_LABELS: labels, sequence.N_LABELS + 1: labels + 1}
    specs = []
    for array, n_core in zip(arrays, row.cores, strict=True):
        n_batch = array.ndim - n_core  # an axis of a known length may be as long as a batch axis
        sizes = [(batch if i < n_batch else core).get(size, size) for i, size in enumerate(array.shape)]
        specs.append(jax.ShapeDtypeStruct(tuple(sizes), array.dtype))
    return tuple(specs), *any_size(rest, batch | core)


def arguments(row, variant, shape):
    return draw(row, shape), *weights_and_mask(shape), array_options(row, variant, shape)


def stored(function, *specs, order=0):
    """The program for every platform and its derivatives up to an order, written to bytes and read again."""
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*specs)
    return jax.export.deserialize(exported.serialize(vjp_order=order)).call


@pytest.mark.parametrize("row", [row for row in REGISTRY if row not in OF_EACH_KIND], ids=lambda row: row.label)
def test_a_loss_like_another_can_be_exported(row):
    """Its formula decides that. The tests below, which have the other losses, also run the programs."""
    specs = of_row(row, *arguments(row, 0, SHAPE))
    jax.export.export(differentiated(row), platforms=PLATFORMS)(*specs)


@each_variant(1, of_kinds=True)
def test_value_and_gradients_of_any_size(row, variant, full):
    """With a mask, weights and options, as in training."""
    run = differentiated(row, variant)
    call = stored(run, *of_row(row, *arguments(row, variant, SHAPE)))
    for shape in (SHAPE, *([(1, 1), (2, 1), (1, 7), (1000, 2)] if full else [])):
        given = arguments(row, variant, shape)
        chex.assert_trees_all_close(call(*given), run(*given), **CLOSE)


@full_only
@each_variant(1, of_kinds=True)
def test_every_reduction_of_any_size(row, variant, full):
    reductions = (*NAMES, lambda losses, normalisers: losses.max() / normalisers.sum())
    if row is not REGISTRY[0] and not full:
        reductions = ("total", *reductions[-1:])  # the sums that all of them are made of, and one of the caller's own

    def run(arrays, weights, where, extra):
        loss = functools.partial(row.loss, *arrays, **{**row.options[variant], **extra})
        masked = [loss(reduction=reduction, weights=weights, where=where) for reduction in reductions]
        return masked, [loss(reduction=reduction) for reduction in reductions if full or reduction == "total"]

    given = arguments(row, variant, SHAPE)
    chex.assert_trees_all_close(stored(run, *of_row(row, *given))(*given), jax.jit(run)(*given), **CLOSE)


@pytest.mark.parametrize("row", OF_EACH_KIND, ids=lambda row: row.label)
@full_only
@pytest.mark.parametrize("reduction", ["mean", "batchmean", "total"])
def test_one_batch_axis_and_the_derivative_of_the_program(row, reduction):
    def run(arrays):
        total = row.loss(*arrays, reduction=reduction)
        return total.mean() if isinstance(total, jaxloss.Total) else total

    exported = stored(run, of_row(row, draw(row, SHAPE[:1]))[0], order=1)
    floats = [i for i, array in enumerate(draw(row, ())) if array.dtype.kind == "f"]

    def gradient(function, arrays):
        def of(values):
            return function(tuple(values.get(i, array) for i, array in enumerate(arrays)))

        return jax.value_and_grad(of)({i: arrays[i] for i in floats})

    for n in (1, 2, 7, 1000):
        arrays = draw(row, (n,))
        chex.assert_trees_all_close(gradient(exported, arrays), gradient(run, arrays), **CLOSE)


@pytest.mark.parametrize(("platform", "chunk_size"), [("cpu", 8), ("tpu", 12), ("other", 16)])
def test_an_output_layer_with_chunks_of_rows_and_columns(platform, chunk_size, monkeypatch):
    """The loops of each platform, run on the CPU. Multiples of the chunk need no mask."""
    tiling = getattr(Tilings.of(jax.ShapeDtypeStruct((6, 11), jnp.float32), chunk_size), platform)
    monkeypatch.setattr(Tilings, "of", lambda *_: Tilings(tiling, tiling, tiling))
    loss = jax.value_and_grad(functools.partial(jaxloss.linear_cross_entropy, chunk_size=chunk_size), (0, 1))
    n, d, c = jax.export.symbolic_shape("n, d, c")
    generator = np.random.default_rng(0)
    for rows, sizes in ((n, (3, 50)), (chunk_size * n, (2 * chunk_size,))):
        specs = ((rows, d), np.float32), ((d, c), np.float32), ((rows,), np.int32)
        call = stored(loss, *(jax.ShapeDtypeStruct(*each) for each in specs))
        for size in sizes:
            hidden, kernel = (generator.normal(size=shape).astype(np.float32) for shape in ((size, 2), (2, 4100)))
            given = hidden, kernel, generator.integers(0, 4100, size=size, dtype=np.int32)
            chex.assert_trees_all_close(call(*given), loss(*given), **CLOSE)


SOFTMAX = jaxloss.AdaptiveSoftmax.init(jax.random.key(0), N_FEATURES, 20, cutoffs=(5, 12), head_bias=True)
X, Y = np.random.default_rng(0).normal(size=(2, 11, N_FEATURES)).astype(np.float32)
COUNTS, LABELS = np.float32([3, 0, 2]), np.int32([0, 2, 1, 2, 5])


def accumulated_loss(kernel, batches):
    def loss(kernel, batch):
        return jaxloss.mse_loss(batch["x"] @ kernel, batch["y"], reduction="total")

    return jax.value_and_grad(lambda kernel: jaxloss.accumulated(loss)(kernel, batches).mean())(kernel)


FUNCTIONS = {
    "kinks.abs": (kinks.abs, X),
    "kinks.positive_part": (kinks.positive_part, X),
    "kinks.maximum": (kinks.maximum, X, Y),
    "kinks.max": (kinks.max, X),
    "kinks.ramp": (kinks.ramp, X, Y),
    **{f"vectors.norm {p}": (functools.partial(vectors.norm, p=p), X) for p in (1.0, 1.5, 2.0, np.inf)},
    "vectors.distance": (vectors.distance, X, Y),
    "vectors.cosine_similarity": (vectors.cosine_similarity, X, Y),
    "vectors.cosine_distance": (vectors.cosine_distance, X, Y),
    "target_score": (jaxloss.target_score, X, np.int32([0, 1, 2] * 3 + [0, 1])),
    "highest_wrong_score": (jaxloss.highest_wrong_score, X, np.int32([0, 1, 2] * 3 + [0, 1])),
    "class_counts": (functools.partial(imbalance.class_counts, n_classes=4), LABELS),
    "inverse_frequency_weights": (imbalance.inverse_frequency_weights, COUNTS),
    "effective_number_weights": (imbalance.effective_number_weights, COUNTS),
    "logit_adjustment": (imbalance.logit_adjustment, COUNTS),
    "BalancedSampler.draw": (
        lambda sampler: sampler.draw(4)[0],
        imbalance.BalancedSampler.init(jax.random.PRNGKey(0), np.array([0, 1, 1, 2, 2, 0, 1, 1, 2, 1, 0])),
    ),
    "AdaptiveSoftmax.log_prob": (jaxloss.AdaptiveSoftmax.log_prob, SOFTMAX, X),
    "AdaptiveSoftmax.predict": (jaxloss.AdaptiveSoftmax.predict, SOFTMAX, X),
    "linear_cross_entropy of a known number of rows": (
        jax.value_and_grad(jaxloss.linear_cross_entropy),
        X[:7],
        X.T,
        np.int32([0, 1, 2, 3, 4, 5, 10]),
    ),
    "accumulated": (accumulated_loss, X[0], {"x": np.stack([X, Y] * 3), "y": np.ones((6, 11), np.float32)}),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_other_functions(name):
    function, *given = FUNCTIONS[name]
    b, d, n, m = jax.export.symbolic_shape("b, d, n, m")
    call = stored(function, *any_size(tuple(given), {11: b, N_FEATURES: d, len(LABELS): n, 6: m}))
    chex.assert_trees_all_close(call(*given), jax.jit(function)(*given), **CLOSE)


def test_a_batch_that_may_be_empty():
    def losses(x, y):
        return {reduction: jaxloss.mse_loss(x, y, reduction=reduction) for reduction in NAMES}

    (b,) = jax.export.symbolic_shape("b - 1")
    call = stored(losses, *[jax.ShapeDtypeStruct((b, 3), np.float32)] * 2)
    for n in (0, 2):
        found = call(X[:n], Y[:n])
        chex.assert_trees_all_close(found, losses(X[:n], Y[:n]), **CLOSE)
        assert found["total"].normaliser == 3 * n


def test_the_product_of_symbols_may_exceed_32_bits():
    """Without entries, so that the arrays have no memory."""
    b, t = jax.export.symbolic_shape("b, t")

    def counts(x):
        return n_entries(x.shape[:2], x.dtype), *Compensated.of_size(x.shape[:2], x.dtype)

    count = stored(counts, jax.ShapeDtypeStruct((b, t, 0), np.float32))
    for shape in ((7, 9), (2**17, 2**18), (2**14 + 1, 2**19 - 1)):
        nearly, rounded, rest = map(np.float64, count(np.zeros((*shape, 0), np.float32)))
        assert nearly == np.float32(math.prod(shape))
        assert rounded + rest == math.prod(shape)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, np.inf])
def test_a_power_of_two_above_the_root_of_a_symbol(p):
    (b,) = jax.export.symbolic_shape("b")
    call = stored(lambda x: above_root(x.shape[0], p, jnp.float32), jax.ShapeDtypeStruct((b,), np.bool_))
    for n in (1, 2, 3, 4, 5, 8, 9, 2**24 + 1):
        most = above_root(n, p, None) * (1 if p in (1.0, 2.0, np.inf) else 2)  # the logarithm is rounded up first
        assert float(call(np.zeros(n, bool))) in (above_root(n, p, None), most)


B, C = jax.export.symbolic_shape("b, c")


def cross_entropy(logits):
    return jaxloss.cross_entropy(logits, jnp.zeros(logits.shape[:1], int))


def accumulated(x):
    return jaxloss.accumulated(lambda _, x: jaxloss.mse_loss(x, 0.0, reduction="total"))((), x)


@pytest.mark.parametrize(
    ("function", "shapes", "message"),
    [
        (
            jaxloss.mse_loss,
            [(B,), (C,)],
            "mse_loss: target has shape (c,) beside prediction of shape (b,): their batch",
        ),
        (
            cross_entropy,
            [(B - 1, 5)],
            "cross_entropy: takes symbolic sizes of at least 1, got samples of shape (b - 1,)",
        ),
        (cross_entropy, [(B, C - 1)], "cross_entropy: axis c of logits of shape (b, c - 1) may be empty"),
        (SOFTMAX.predict, [(B - 1, 3)], "AdaptiveSoftmax.predict: takes symbolic sizes of at least 1, got samples of"),
        (
            accumulated,
            [(B - 1, 3)],
            "accumulated: every array of batches takes the same leading axis, over at least one",
        ),
        (
            lambda head: jaxloss.AdaptiveSoftmax(head, None, ()).predict(head.T),
            [(3, C)],
            "AdaptiveSoftmax: the number of classes of its head or a tail is c but must be a number in an exported",
        ),
        (
            lambda hidden, kernel: jaxloss.linear_cross_entropy(hidden, kernel, 0, n_classes=3),
            [(3,), (3, C)],
            "linear_cross_entropy: the number of columns beside n_classes is c but must be a number in an exported",
        ),
        (
            lambda x: imbalance.class_counts(LABELS, x.shape[0]),
            [(C,)],
            "class_counts: n_classes is a symbolic size but takes an integer",
        ),
        (
            lambda x: vectors.unit(x.shape[0]),
            [(C,)],
            "vectors.unit: dimension is a symbolic size but takes a real number",
        ),
    ],
)
def test_an_error_names_what_must_be_known(function, shapes, message):
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(message)}"):
        jax.export.export(jax.jit(function))(*(jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes))
