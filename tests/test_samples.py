"""Samples that are sets, lists, images, boxes or labels, tested with small losses defined here."""

from collections.abc import Callable
from typing import Unpack

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.experimental import checkify
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss


@jaxloss.loss("(n,d),(n)->(n)", domains={"scale": "(0, inf)"})
def spread_loss(embeddings, labels, *, where=None, scale=1.0, **options: Unpack[jaxloss.SetOptions]):
    """The mean squared distance of an item to the items with its label, normalised by their number."""
    squared = jnp.sum((embeddings[:, None] - embeddings) ** 2, axis=-1)
    same = (labels[:, None] == labels) & where
    return scale * jnp.sum(jnp.where(same, squared, 0), axis=1), jnp.sum(same, axis=1)


@jaxloss.loss("(k),(k)->()", per_sample={"item_weights": "(k)"})
def list_loss(
    scores, target, *, temperature=1.0, item_weights=None, valid=None, **options: Unpack[jaxloss.AxisOptions]
):
    """The softmax cross-entropy of a list, without its padding."""
    log_probabilities = jax.nn.log_softmax(jnp.where(valid, scores / temperature, -jnp.inf))
    terms = jnp.where(valid, target * log_probabilities, 0)
    return -jnp.sum(terms if item_weights is None else item_weights * terms)


@jaxloss.loss("(p),(p)->()", domains={"target": "[0, 1]"})
def overlap_loss(probabilities, target, *, smooth=1.0, **options: Unpack[jaxloss.AxisOptions]):
    """The Dice loss of the pixels of one image."""
    return 1 - (2 * jnp.sum(probabilities * target) + smooth) / (jnp.sum(probabilities) + jnp.sum(target) + smooth)


@jaxloss.loss("(4),(4)->()")
def box_loss(boxes, target, **options: Unpack[jaxloss.ReductionOptions]):
    return jnp.max(jnp.abs(boxes - target))


@jaxloss.loss("(c),()->()", indices={"target": "[0, c)"})
def lowest_score(logits, target, *, valid=None, **options: Unpack[jaxloss.AxisOptions]):
    return logits[target] - jnp.min(jnp.where(valid, logits, jnp.inf))


GENERATOR = np.random.default_rng(0)
EMBEDDINGS = GENERATOR.normal(size=(2, 5, 3)).astype(np.float32)
LABELS = np.array([[0, 1, 0, 0, 2], [3, 3, 3, 3, 3]], np.int32)
WHERE = np.array([[True, True, True, False, True], [True, False, True, True, True]])
WEIGHTS = GENERATOR.uniform(0.5, 2, size=(2, 5)).astype(np.float32)


def spread(embeddings, labels, where):
    """Losses and normalisers of one set, computed by two loops."""
    losses, counts = np.zeros(len(labels)), np.zeros(len(labels))
    for i in np.flatnonzero(where):
        for j in np.flatnonzero(where & (labels == labels[i])):
            losses[i] += ((np.float64(embeddings[i]) - embeddings[j]) ** 2).sum()
            counts[i] += 1
    return losses, counts


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "weighted_mean", "batchmean", "total"])
def test_a_set_has_a_loss_for_each_item(reduction):
    losses, counts = (np.stack(each) for each in zip(*map(spread, EMBEDDINGS, LABELS, WHERE), strict=True))
    loss_sum, count = (WEIGHTS * losses).sum(), counts.sum()
    expected = {
        "none": WEIGHTS * losses,
        "sum": loss_sum,
        "mean": loss_sum / count,
        "weighted_mean": loss_sum / (WEIGHTS * counts).sum(),
        "batchmean": loss_sum / 2,
        "total": (loss_sum, count),
    }[reduction]
    got = spread_loss(EMBEDDINGS, LABELS, where=WHERE, weights=WEIGHTS, reduction=reduction)
    got = (got.loss, got.normaliser) if reduction == "total" else got
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.nans
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_masked_item_is_neither_anchor_nor_candidate(poison):
    def run(embeddings, weights):
        def loss(embeddings, weights):
            return spread_loss(embeddings, LABELS, where=WHERE, weights=weights)

        return jax.value_and_grad(loss, (0, 1))(embeddings, weights)

    poisoned = np.where(WHERE[..., None], EMBEDDINGS, poison), np.where(WHERE, WEIGHTS, poison)
    got, expected = run(*poisoned), run(EMBEDDINGS, WEIGHTS)
    chex.assert_trees_all_close(got, expected, rtol=1e-6)
    chex.assert_tree_all_finite(got)
    assert not np.any(np.asarray(got[1][0])[~WHERE])
    alone = [spread_loss(x[m], y[m], reduction="sum") for x, y, m in zip(EMBEDDINGS, LABELS, WHERE, strict=True)]
    np.testing.assert_allclose(spread_loss(*poisoned[:1], LABELS, where=WHERE, reduction="sum"), sum(alone), rtol=1e-6)


@pytest.mark.nans
def test_a_set_under_transformations():
    losses = spread_loss(EMBEDDINGS, LABELS, where=WHERE, reduction="none")
    assert losses.shape == (2, 5)
    each = jax.vmap(lambda x, y, m: spread_loss(x, y, where=m, reduction="none"))(EMBEDDINGS, LABELS, WHERE)
    np.testing.assert_allclose(each, losses, rtol=1e-6)
    np.testing.assert_allclose(spread_loss(EMBEDDINGS[0], LABELS[0], where=WHERE[0], reduction="none"), losses[0], 1e-6)
    everywhere = spread_loss(EMBEDDINGS, LABELS, reduction="total")
    one_for_all = spread_loss(EMBEDDINGS, LABELS, where=True, weights=2.0, reduction="total")
    assert (float(one_for_all.normaliser), float(everywhere.normaliser)) == (36.0, 36.0)
    np.testing.assert_allclose(one_for_all.loss, 2 * everywhere.loss, rtol=1e-6)
    mean = spread_loss(EMBEDDINGS, LABELS, weights=2.0, reduction="weighted_mean")
    np.testing.assert_allclose(mean, everywhere.mean(), rtol=1e-6)
    shared = spread_loss(EMBEDDINGS, LABELS[0], where=WHERE[0], reduction="none")
    again = spread_loss(EMBEDDINGS, np.stack([LABELS[0]] * 2), where=np.stack([WHERE[0]] * 2), reduction="none")
    np.testing.assert_array_equal(shared, again)
    scales = spread_loss(EMBEDDINGS, LABELS, scale=np.array([1.0, 3.0]), reduction="none")
    np.testing.assert_allclose(scales[1], 3 * spread_loss(EMBEDDINGS[1], LABELS[1], reduction="none"), rtol=1e-6)
    pair = spread_loss(EMBEDDINGS, LABELS, where=WHERE, reduction=lambda losses, normalisers: (losses, normalisers))
    assert [part.shape for part in pair] == [(2, 5), (2, 5)]
    half = spread_loss(jnp.asarray(EMBEDDINGS, jnp.bfloat16), LABELS, reduction="none")
    assert half.dtype == jnp.float32

    @jax.jit
    def both(embeddings):
        return jax.value_and_grad(lambda x: spread_loss(x, LABELS, where=WHERE))(embeddings)

    exported = jax.export.deserialize(jax.export.export(both)(EMBEDDINGS).serialize())
    chex.assert_trees_all_close(exported.call(EMBEDDINGS), both(EMBEDDINGS), rtol=1e-6)
    with jaxloss.data_checks(True):
        error, _ = checkify.checkify(lambda x: spread_loss(EMBEDDINGS, LABELS, scale=x))(jnp.float32(-1))
    assert "spread_loss: scale is -1.0 but must lie in (0, inf)" in error.get()
    with pytest.raises(ValueError, match=r"spread_loss: axis n has length 4 in labels of shape \(2, 4\) but 5 in"):
        spread_loss(EMBEDDINGS, LABELS[:, :4])
    with pytest.raises(TypeError, match="spread_loss: labels has dtype float32 but takes integer labels"):
        spread_loss(EMBEDDINGS, LABELS.astype(np.float32))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (0, 5, 3)])
def test_an_empty_or_masked_set_has_loss_0_and_gradient_0(shape):
    embeddings, labels = np.zeros(shape, np.float32), np.zeros(shape[:-1], np.int32)
    for reduction in ("sum", "mean", "weighted_mean", "batchmean"):
        value, gradient = jax.value_and_grad(spread_loss)(embeddings, labels, reduction=reduction)
        assert (float(value), gradient.shape) == (0, shape)
    assert spread_loss(embeddings, labels, reduction="none").shape == shape[:-1]
    value, gradient = jax.value_and_grad(spread_loss)(EMBEDDINGS, LABELS, where=False)
    assert value == 0
    assert not np.any(gradient)


def test_sets_on_a_mesh():
    expected = jax.value_and_grad(spread_loss)(EMBEDDINGS, LABELS, where=WHERE)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            placed = [
                jax.device_put(a, NamedSharding(mesh, PartitionSpec("data"))) for a in (EMBEDDINGS, LABELS, WHERE)
            ]
            got = jax.jit(jax.value_and_grad(lambda x, y, m: spread_loss(x, y, where=m)))(*placed)
            losses = jax.jit(lambda x, y, m: spread_loss(x, y, where=m, reduction="none"))(*placed)
        chex.assert_trees_all_close(jax.device_get(got), jax.device_get(expected), rtol=1e-6)
        assert losses.shape == (2, 5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint32, np.int64, np.uint64])
def test_labels_of_any_integer_dtype(dtype):
    expected = spread_loss(EMBEDDINGS, LABELS, reduction="none")
    np.testing.assert_array_equal(spread_loss(EMBEDDINGS, LABELS.astype(dtype), reduction="none"), expected)
    largest = np.iinfo(dtype).max - LABELS.astype(dtype)
    np.testing.assert_array_equal(spread_loss(EMBEDDINGS, largest, reduction="none"), expected)


def test_narrowing_64_bit_labels_preserves_equality():
    expected = spread_loss(EMBEDDINGS, LABELS, reduction="none")
    far = LABELS.astype(np.int64) * 2**32 - 1  # all -1 if they wrapped
    np.testing.assert_array_equal(spread_loss(EMBEDDINGS, far, reduction="none"), expected)
    np.testing.assert_array_equal(jax.jit(lambda x: spread_loss(x, far, reduction="none"))(EMBEDDINGS), expected)
    with jax.enable_x64(True):
        got = jax.jit(lambda x, y: spread_loss(x, y, reduction="none"))(EMBEDDINGS, far)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_two_arrays_of_labels_are_numbered_together():
    @jaxloss.loss("(n),(n),(n)->(n)", labels=("first", "second"))
    def match_loss(scores, first, second, *, where=None, **options):
        return jnp.where(first == second, scores, 0)

    scores, first = np.arange(1, 4, dtype=np.float32), np.array([2**40, 5, 2**33])
    got = match_loss(scores, first, np.array([2**40, 5, 2**33 + 1]), reduction="none")
    np.testing.assert_array_equal(got, [1, 2, 0])
    np.testing.assert_array_equal(match_loss(scores, first, np.array([7, 5, 0], np.int32), reduction="none"), [0, 2, 0])
    with pytest.raises(TypeError, match="match_loss: first and second has 64-bit integers of NumPy beside a traced"):
        jax.jit(lambda second: match_loss(scores, first, second))(np.array([7, 5, 0], np.int32))


SCORES = np.array([[2.0, 1.0, 0.5, -1.0], [0.0, 3.0, 1.0, 2.0]], np.float32)
RELEVANCE = np.array([[1, 0, 2, 1], [0, 1, 1, 0]])
VALID = np.array([[True, True, True, False], [True, True, False, True]])


@pytest.mark.nans
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_list_entries_that_are_not_valid_have_no_effect(poison):
    poisoned = np.where(VALID, SCORES, poison)

    def run(scores):
        return jax.value_and_grad(lambda x: list_loss(x, RELEVANCE, valid=VALID, reduction="sum"))(scores)

    got = run(poisoned)
    chex.assert_trees_all_close(got, run(SCORES), rtol=1e-6)
    assert not np.any(np.asarray(got[1])[~VALID])
    short = [list_loss(x[m], y[m]) for x, y, m in zip(SCORES, RELEVANCE, VALID, strict=True)]
    np.testing.assert_allclose(got[0], sum(short), rtol=1e-6)
    one_for_all = list_loss(poisoned, RELEVANCE, valid=VALID[0], where=[True, False] @ np.eye(2, dtype=bool))
    np.testing.assert_allclose(one_for_all, short[0], rtol=1e-6)


def test_lists_have_masks_weights_options_and_axes():
    expected = list_loss(SCORES, RELEVANCE, valid=VALID, reduction="none")
    assert expected.shape == (2,)
    moved = list_loss(SCORES.T, RELEVANCE.T, valid=VALID.T, axis=0, reduction="none")
    np.testing.assert_allclose(moved, expected, rtol=1e-6)
    weighted = list_loss(SCORES, RELEVANCE, valid=VALID, weights=np.array([2.0, 0.0]), reduction="sum")
    np.testing.assert_allclose(weighted, 2 * expected[0], rtol=1e-6)
    twice = list_loss(SCORES, RELEVANCE, valid=VALID, item_weights=np.full((2, 4), 2.0), reduction="none")
    np.testing.assert_allclose(twice, 2 * expected, rtol=1e-6)
    for_all = list_loss(SCORES, RELEVANCE, item_weights=np.array([1.0, 0.0, 0.0, 0.0]), reduction="none")
    np.testing.assert_allclose(for_all, -RELEVANCE[:, 0] * np.asarray(jax.nn.log_softmax(SCORES))[:, 0], rtol=1e-6)
    warm = list_loss(SCORES, RELEVANCE, temperature=np.array([1.0, 2.0]), reduction="none")
    np.testing.assert_allclose(warm[1], list_loss(SCORES[1], RELEVANCE[1], temperature=2.0), rtol=1e-6)
    with pytest.raises(TypeError, match="list_loss: valid has dtype int32 but takes booleans"):
        list_loss(SCORES, RELEVANCE, valid=np.ones((2, 4), np.int32))
    with pytest.raises(ValueError, match=r"list_loss: axis k has length 3 in valid of shape \(2, 3\) but 4 in scores"):
        list_loss(SCORES, RELEVANCE, valid=VALID[:, :3])
    with pytest.raises(ValueError, match=r"list_loss: valid has shape \(\) but one sample of it alone has shape \(k\)"):
        list_loss(SCORES, RELEVANCE, valid=True)


@pytest.mark.nans
def test_an_index_of_a_class_that_is_not_valid_gives_nan_for_its_sample():
    logits, valid = np.arange(12, dtype=np.float32).reshape(4, 3), np.array([[True, True, False]])
    losses = lowest_score(logits, np.array([0, 2, 1, 2]), valid=valid, where=np.arange(4) < 3, reduction="none")
    np.testing.assert_array_equal(losses, [0, np.nan, 1, 0])


IMAGES = GENERATOR.uniform(size=(2, 3, 4, 5)).astype(np.float32)
MASKS = GENERATOR.integers(0, 2, size=(2, 3, 4, 5))


def test_several_axes_make_one_sample():
    expected = overlap_loss(IMAGES.reshape(2, 3, 20), MASKS.reshape(2, 3, 20), reduction="none")
    for axis in ((-2, -1), (2, 3), (3, 2)):
        np.testing.assert_allclose(overlap_loss(IMAGES, MASKS, axis=axis, reduction="none"), expected, rtol=1e-6)
    last = np.moveaxis(IMAGES, 1, -1), np.moveaxis(MASKS, 1, -1)
    np.testing.assert_allclose(overlap_loss(*last, axis=(1, 2), reduction="none"), expected, rtol=1e-6)
    micro = overlap_loss(IMAGES, MASKS, axis=(0, 2, 3), reduction="none")
    apart = [overlap_loss(IMAGES[:, c].ravel(), MASKS[:, c].ravel()) for c in range(3)]
    np.testing.assert_allclose(micro, apart, rtol=1e-6)
    shared = overlap_loss(IMAGES, MASKS[0, 0], axis=(-2, -1), reduction="none")
    np.testing.assert_allclose(shared[1, 2], overlap_loss(IMAGES[1, 2].ravel(), MASKS[0, 0].ravel()), rtol=1e-6)
    gradient = jax.grad(lambda x: overlap_loss(x, MASKS, axis=(3, 1), where=np.ones((2, 4), bool)))(IMAGES)
    assert gradient.shape == IMAGES.shape
    with pytest.raises(ValueError, match=r"overlap_loss: axis is \(1, 1\) but must name each axis of probabilities"):
        overlap_loss(IMAGES, MASKS, axis=(1, 1))
    with pytest.raises(TypeError, match="overlap_loss: axis is compiled into the program and takes int or tuple, got"):
        overlap_loss(IMAGES, MASKS, axis=[1, 2])


def test_the_losses_of_the_library_may_have_several_class_axes():
    logits = np.moveaxis(IMAGES, 0, 1)  # (3, 2, 4, 5)
    target = GENERATOR.integers(0, 8, size=(3, 5))
    flat = np.moveaxis(logits, 3, 1).reshape(3, 5, 8)
    for loss in (jaxloss.cross_entropy, jaxloss.nll_loss):
        got = loss(logits, target, axis=(1, 2), reduction="none")
        np.testing.assert_allclose(got, loss(flat, target, reduction="none"), rtol=1e-6)
    weights = np.arange(8, dtype=np.float32)
    got = jaxloss.cross_entropy(logits, target, axis=(1, 2), class_weights=weights)
    np.testing.assert_allclose(got, jaxloss.cross_entropy(flat, target, class_weights=weights), rtol=1e-6)
    soft = np.asarray(jax.nn.softmax(flat))
    got = jaxloss.cross_entropy(logits, np.moveaxis(soft.reshape(3, 5, 2, 4), 1, 3), axis=(1, 2))
    np.testing.assert_allclose(got, jaxloss.cross_entropy(flat, soft), rtol=1e-6)


def test_an_axis_of_known_length():
    boxes, target = np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.zeros(4, np.float32)
    np.testing.assert_array_equal(box_loss(boxes, target, reduction="none"), boxes.max(-1))
    with pytest.raises(ValueError, match=r"box_loss: boxes has shape \(2, 3, 5\) but one sample of it has length 4"):
        box_loss(np.zeros((2, 3, 5), np.float32), target)


LOGITS = GENERATOR.normal(size=(4, 6)).astype(np.float32)
TARGET = np.array([0, 3, 5, 3])
POSSIBLE = np.array([True, True, False, True, False, True])


@pytest.mark.nans
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("per_row", [False, True])
def test_cross_entropy_over_valid_classes(smoothing, per_row):
    valid = np.stack([POSSIBLE] * 4) if per_row else POSSIBLE
    place = np.cumsum(POSSIBLE) - 1
    poisoned = np.where(POSSIBLE, LOGITS, np.nan)

    def full(x, target, **options):
        return jaxloss.cross_entropy(x, target, valid=valid, label_smoothing=smoothing, **options)

    def reduced(x, target, **options):
        return jaxloss.cross_entropy(x, target, label_smoothing=smoothing, **options)

    for target in (TARGET, np.asarray(jax.nn.softmax(LOGITS))):
        small = place[target] if target.ndim == 1 else target[:, POSSIBLE]
        got = jax.value_and_grad(full)(poisoned, target)
        expected = jax.value_and_grad(reduced)(LOGITS[:, POSSIBLE], small)
        np.testing.assert_allclose(got[0], expected[0], rtol=1e-6)
        np.testing.assert_allclose(np.asarray(got[1])[:, POSSIBLE], expected[1], rtol=1e-5, atol=1e-7)
        assert not np.any(np.asarray(got[1])[:, ~POSSIBLE])
    weights = np.where(POSSIBLE, np.linspace(1, 2, 6), np.nan).astype(np.float32)
    got = full(poisoned, TARGET, class_weights=weights)
    np.testing.assert_allclose(got, reduced(LOGITS[:, POSSIBLE], place[TARGET], class_weights=weights[POSSIBLE]), 1e-6)
    losses = full(LOGITS, np.array([0, 2, 5, 9]), reduction="none")
    np.testing.assert_array_equal(np.isnan(losses), [False, True, False, True])


def test_cross_entropy_with_no_valid_class_is_finite():
    soft = np.full((4, 6), 1 / 6, np.float32)
    for smoothing in (0.0, 0.2):
        value, gradient = jax.value_and_grad(
            lambda x, s=smoothing: jaxloss.cross_entropy(x, soft, valid=np.zeros(6, bool), label_smoothing=s)
        )(LOGITS)
        assert value == 0
        assert not np.any(gradient)


def test_valid_classes_split_over_devices():
    mesh = jax.make_mesh((2,), ("classes",), axis_types=(AxisType.Auto,))
    columns = PartitionSpec(None, "classes")

    def local(logits, valid):
        return jaxloss.cross_entropy(logits, TARGET, valid=valid, label_smoothing=0.2, axis_name="classes")

    split = jax.shard_map(local, mesh=mesh, in_specs=(columns, columns), out_specs=PartitionSpec())
    got = jax.value_and_grad(split)(LOGITS, POSSIBLE[None])
    expected = jax.value_and_grad(lambda x: jaxloss.cross_entropy(x, TARGET, valid=POSSIBLE, label_smoothing=0.2))(
        LOGITS
    )
    chex.assert_trees_all_close(jax.device_get(got), jax.device_get(expected), rtol=1e-5, atol=1e-7)


@pytest.mark.nans
def test_an_ignored_index_may_be_beyond_32_bits():
    expected = jaxloss.cross_entropy(LOGITS, np.array([0, -100, 5, 3]), reduction="none")
    for ignored, dtype in ((2**32 - 1, np.uint32), (2**40, np.int64), (-(2**40), np.int64), (2**63, np.uint64)):
        target = np.array([0, ignored, 5, 3], dtype)
        got = jaxloss.cross_entropy(LOGITS, target, ignore_index=ignored, reduction="none")
        np.testing.assert_array_equal(got, expected)
        one_off = np.array([0, ignored, ignored - 1, 3], dtype)
        losses = jaxloss.cross_entropy(LOGITS, one_off, ignore_index=ignored, reduction="none")
        np.testing.assert_array_equal(np.isnan(losses), [False, False, True, False])
        assert jaxloss.cross_entropy(LOGITS, TARGET, ignore_index=ignored) == jaxloss.cross_entropy(LOGITS, TARGET)
    for ignored in (2**31 - 1, -(2**31), -(2**31) + 1):
        target = np.array([0, ignored, 2**40, -(2**40)])
        losses = jaxloss.cross_entropy(LOGITS, target, ignore_index=ignored, reduction="none")
        np.testing.assert_array_equal(np.isnan(losses), [False, False, True, True])


class Variable:
    """A wrapper around an array, like the variables of neural network libraries."""

    def __init__(self, value):
        self.value = value

    def __jax_array__(self):
        return jnp.asarray(self.value)


class Parameter(Variable):
    """A variable that is also a pytree, like `flax.nnx.Param`."""


jax.tree_util.register_pytree_node(Parameter, lambda p: ((p.value,), None), lambda _, children: Parameter(*children))


@pytest.mark.parametrize("kind", [Variable, Parameter])
def test_a_variable_of_a_neural_network_library_is_unwrapped(kind):
    expected = jaxloss.cross_entropy(LOGITS, TARGET, class_weights=np.arange(6.0, dtype=np.float32))
    got = jaxloss.cross_entropy(kind(LOGITS), kind(TARGET), class_weights=kind(np.arange(6.0, dtype=np.float32)))
    assert got == expected
    assert jaxloss.l1_loss(kind(LOGITS), 0.0, where=kind(LOGITS > 0)) == jaxloss.l1_loss(LOGITS, 0.0, where=LOGITS > 0)
    gradient = jax.grad(lambda x: jaxloss.cross_entropy(kind(x), TARGET))(LOGITS)
    np.testing.assert_array_equal(gradient, jax.grad(jaxloss.cross_entropy)(LOGITS, TARGET))
    if kind is Parameter:
        by_parameter = jax.grad(jaxloss.cross_entropy)(Parameter(LOGITS), TARGET)
        np.testing.assert_array_equal(by_parameter.value, gradient)
    with pytest.raises(TypeError, match="cross_entropy: logits has dtype int32 but takes floating numbers"):
        jaxloss.cross_entropy(kind(TARGET), TARGET)


def test_a_declaration_of_a_set_that_does_not_fit_raises():
    for message, notation, kernel in (
        ("declares where, which the decorator reads", "(c)->()", lambda logits, *, where=None, **options: logits),
        ("declares valid, but prediction has no core axis", "()->()", lambda prediction, *, valid=None: prediction),
    ):
        with pytest.raises(TypeError, match=f"loss: <lambda> {message}"):
            jaxloss.loss(notation)(kernel)
    with pytest.raises(TypeError, match="has notations whose losses differ in shape"):
        jaxloss.loss("(n),(n)->(n)", "(n),(n)->()")(lambda x, y: x)
    per_set = jaxloss.loss("(n,d)->(n)")(lambda embeddings, **options: jnp.sum(embeddings))
    with pytest.raises(
        TypeError, match=r"the kernel returned shape \(\) for one sample but takes a loss of shape \(5,\)"
    ):
        per_set(EMBEDDINGS)


def test_several_indices_per_sample_cannot_be_ignored():
    def segment(logits, target, *, ignore_index=-100, **options):
        return jnp.mean(logits)

    with pytest.raises(TypeError, match="segment has ignore_index, but a sample has several indices in target"):
        jaxloss.loss("(c,p),(p)->()", indices={"target": "[0, c)"})(segment)


@jaxloss.loss("(n),()->(n)", indices={"target": "[0, n)"})
def below_loss(scores, target, *, ignore_index=-100, where=None, **options: Unpack[jaxloss.SetOptions]):
    """How far each item is below the one that is right."""
    return scores[target] - scores


@pytest.mark.nans
def test_an_index_of_a_whole_set_masks_or_spoils_all_its_items():
    scores, target = EMBEDDINGS[..., 0], np.array([1, -100])
    losses = below_loss(scores, target, reduction="none")
    np.testing.assert_array_equal(losses[1], 0)
    np.testing.assert_allclose(below_loss(scores, target), losses[0].mean(), rtol=1e-6)
    pair = below_loss(scores, target, reduction=lambda losses, normalisers: (losses, normalisers))
    np.testing.assert_array_equal(pair[1], [[1] * 5, [0] * 5])
    assert np.isnan(below_loss(scores, np.array([1, 5]), reduction="none")).tolist() == [[False] * 5, [True] * 5]


@jaxloss.loss("(n,d),(c,d),(n)->(n)", indices={"target": "[0, c)"}, parameters={"proxies": "(c,d)"})
def proxy_loss(embeddings, proxies, target, *, where=None, **options: Unpack[jaxloss.SetOptions]):
    others = jnp.sum(jnp.where(where, embeddings @ embeddings.T, 0), axis=1)
    return others - jnp.sum(embeddings * proxies[target], axis=1)


@pytest.mark.nans
def test_an_item_with_an_index_out_of_range_is_nan_and_no_candidate():
    proxies, target = EMBEDDINGS[1, :3], np.array([0, 1, 2, 9, 0])
    losses = proxy_loss(EMBEDDINGS[0], proxies, target, reduction="none")
    without = proxy_loss(EMBEDDINGS[0], proxies, np.where(target == 9, 0, target), where=target != 9, reduction="none")
    np.testing.assert_array_equal(np.isnan(losses), target == 9)
    np.testing.assert_allclose(losses[target != 9], without[target != 9], rtol=1e-6)
    with jaxloss.data_checks(True):
        check = checkify.checkify(lambda where: proxy_loss(EMBEDDINGS[0], proxies, target, where=where))
        assert "proxy_loss: target is 9 but must lie in [0, 3)" in check(np.ones(5, bool))[0].get()
        assert check(target != 9)[0].get() is None


@jaxloss.loss("(n,d),(d)->(n)", domains={"centre": "[-9, 9]"})
def centre_loss(embeddings, centre, *, scale=1.0, where=None, **options: Unpack[jaxloss.SetOptions]):
    return scale * jnp.sum((embeddings - centre) ** 2, axis=1)


@pytest.mark.nans
def test_nan_beside_a_set_that_is_masked_completely_has_no_effect():
    centre, where = EMBEDDINGS[:, 0].copy(), np.array([[True] * 5, [False] * 5])
    centre[1] = np.nan
    scale = np.array([1.0, np.nan], np.float32)

    def loss(embeddings, centre, scale):
        return centre_loss(embeddings, centre, scale=scale, where=where)

    gradients = jax.grad(loss, (0, 1, 2))(EMBEDDINGS, centre, scale)
    expected = jax.grad(lambda x, c, s: centre_loss(x, c, scale=s), (0, 1, 2))(EMBEDDINGS[0], centre[0], scale[0])
    for gradient, other in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient[0], other, rtol=1e-6)
        np.testing.assert_array_equal(gradient[1], 0)


@pytest.mark.nans
def test_items_are_masked_along_each_axis_that_they_have():
    @jaxloss.loss("(n,n)->(n)")
    def row_loss(similarities, *, where=None, **options: Unpack[jaxloss.SetOptions]):
        return jnp.sum(similarities, axis=1)

    where, similarities = np.array([True, False, True]), np.arange(9, dtype=np.float32).reshape(3, 3)
    poisoned = similarities.copy()
    poisoned[1], poisoned[:, 1] = np.nan, np.nan
    losses = row_loss(poisoned, where=where, reduction="none")
    np.testing.assert_array_equal(losses, [2, 0, 14])
    gradient = jax.grad(lambda x: row_loss(x, where=where, reduction="sum"))(poisoned)
    np.testing.assert_array_equal(gradient, [[1, 0, 1], [0, 0, 0], [1, 0, 1]])


@pytest.mark.nans
def test_data_checks_spare_what_is_not_valid():
    @jaxloss.loss("(k),(k)->()", domains={"target": "{-1, 1}"})
    def signed_loss(scores, target, *, valid=None, **options):
        return jnp.sum(jnp.where(valid, target * scores, 0))

    signs = np.array([[1, -1, 1, 0], [1, 1, 0, 1]], np.float32)
    with jaxloss.data_checks(True):
        assert checkify.checkify(lambda: signed_loss(SCORES, signs, valid=VALID))()[0].get() is None
        error = checkify.checkify(lambda: signed_loss(SCORES, signs))()[0].get()
    assert "signed_loss: target is 0.0 but must lie in {-1, 1}" in error


def test_the_options_of_split_classes_are_static():
    @jaxloss.loss("(c),()->()", indices={"target": "[0, c)"}, split="c")
    def score(classes, logits, target, *, axis_name=None, n_classes=None, **options):
        assert classes.n_classes == (n_classes or 6)
        return classes.share(logits, target)

    assert score(LOGITS[0], 1, n_classes=4) == LOGITS[0, 1]
    with pytest.raises(ValueError, match="score: axis_name is 'x' but shard_map maps over no such axis here"):
        score(LOGITS[0], 1, axis_name="x")
    with pytest.raises(ValueError, match="score: n_classes is 0 but must lie in"):
        score(LOGITS[0], 1, n_classes=0)


def test_labels_of_two_dtypes_are_compared_in_one_that_holds_both():
    @jaxloss.loss("(n),(n),(n)->(n)", labels=("first", "second"))
    def match_loss(scores, first, second, *, where=None, **options):
        return jnp.where(first == second, scores, 0)

    scores, small = np.ones(2, np.float32), np.array([-1, 200], np.int32)
    got = match_loss(scores, np.array([255, 200], np.uint8), small, reduction="none")
    np.testing.assert_array_equal(got, [0, 1])
    with pytest.raises(TypeError, match="first has dtype uint32 and second has dtype int32 but labels take"):
        match_loss(scores, np.array([2**32 - 1, 200], np.uint32), small)
    wide = np.array([2**40, 200])
    for odd, message in (
        ([1, 2], "second is a list but"),
        (None, "second is of type NoneType but"),
        (scores, "float32"),
    ):
        with pytest.raises(TypeError, match=f"match_loss: .*{message}"):
            match_loss(scores, wide, odd)


def test_labels_are_those_of_sets_by_default():
    @jaxloss.loss("(c),(c)->()")
    def loss_by_optax(logits, labels, **options):
        return -jnp.sum(labels * logits)

    assert loss_by_optax(LOGITS, np.asarray(jax.nn.softmax(LOGITS))).shape == ()


@pytest.mark.nans
def test_64_bit_integers_of_numpy_do_not_wrap():
    np.testing.assert_allclose(jaxloss.mse_loss(jnp.zeros(1), np.array([2**32])), 2.0**64)
    np.testing.assert_allclose(jaxloss.mse_loss(jnp.ones(2), 0.0, weights=np.array([2**32, 0]), reduction="sum"), 2**32)
    assert jaxloss.mse_loss(jnp.ones(2), np.array([1, 3])) == 2
    target = np.array([0, 2**40, 5, 3])
    expected = jaxloss.cross_entropy(LOGITS, target, ignore_index=2**40)
    assert jaxloss.cross_entropy(LOGITS, target, ignore_index=np.int64(2**40)) == expected
    with pytest.raises(TypeError, match="cross_entropy: target is a MaskedArray but takes an array"):
        jaxloss.cross_entropy(LOGITS, np.ma.masked_array(TARGET, TARGET == 3))
    for index in (np.array([1, 2]), jnp.arange(2)):
        with pytest.raises(TypeError, match="cross_entropy: ignore_index is compiled into the program and takes int"):
            jaxloss.cross_entropy(LOGITS, target, ignore_index=index)


def test_an_axis_of_a_single_sample_has_to_exist():
    for axis in (1, -2, (0, 1)):
        with pytest.raises(ValueError, match="cross_entropy: "):
            jaxloss.cross_entropy(LOGITS[0], 1, axis=axis)
    shared = jaxloss.cross_entropy(IMAGES[0], np.full((4, 5), 0.05, np.float32), axis=(1, -1), reduction="none")
    each = jaxloss.cross_entropy(IMAGES[0].reshape(3, 20), np.full(20, 0.05, np.float32), reduction="none")
    np.testing.assert_allclose(shared, each, rtol=1e-6)


@pytest.mark.parametrize("returned", [None, "text", (1.0, 2.0, 3.0), (None, 1.0), 1j, [1.0]])
def test_a_kernel_returns_a_loss_or_a_pair(returned):
    odd_loss = jaxloss.loss("()->()")(lambda prediction, **options: returned)
    with pytest.raises(TypeError, match=r"<lambda>: the kernel returned .* but takes a loss of shape"):
        odd_loss(1.0)


def test_indices_and_labels_may_be_options():
    @jaxloss.loss("(t),(n)->(n)", indices={"length": "[0, t]"}, labels=("groups",), per_sample={"groups": "(n)"})
    def prefix_loss(frames, scores, *, length=None, groups=None, where=None, **options: Unpack[jaxloss.SetOptions]):
        return scores if length is None else scores * length.astype(scores.dtype)

    frames, scores = np.zeros(4, np.float32), np.ones(3, np.float32)
    assert prefix_loss(frames, scores, reduction="sum") == 3
    assert prefix_loss(frames, scores, length=np.array(2), groups=np.array([2**40, 1, 1]), reduction="sum") == 6


def test_annotations_that_only_type_checkers_import():
    script = """
from __future__ import annotations
import jaxloss
@jaxloss.loss("()->()", static=("power",))
def odd(prediction: NotThere, *, power: AlsoNotThere = 2, **options: NeitherIsThis):
    return prediction**power
assert odd(3.0) == 9
"""
    exec(script, {"__name__": "scratch"})


def test_a_callable_that_is_compiled_in_may_be_annotated():
    @jaxloss.loss("(k)->()", static=("pair_weights",))
    def pair_loss(
        scores, *, pair_weights: Callable[[Array], Array] | None = None, **options: Unpack[jaxloss.AxisOptions]
    ):
        return jnp.sum(scores if pair_weights is None else pair_weights(scores))

    assert pair_loss(np.ones(3, np.float32), pair_weights=jnp.square) == 3
    with pytest.raises(TypeError, match="pair_loss: pair_weights is compiled into the program and takes Callable"):
        pair_loss(np.ones(3, np.float32), pair_weights=3)
