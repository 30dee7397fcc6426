"""Samples that are sets, lists, images, boxes or labels, tested with small losses defined here."""

from typing import Unpack

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
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
