"""Samples that are lists, images and boxes, by small losses of the tests' own, and classes that are not all valid."""

import re
from typing import Unpack

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify
from jax.sharding import AxisType, PartitionSpec

import jaxloss


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
    with pytest.raises(ValueError, match=r"where has shape .*; to leave out entries of a sample, use valid="):
        list_loss(SCORES, RELEVANCE, where=VALID)
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
    for axis in ((-2, -1), (2, 3), (-1, 0)):
        with pytest.raises(ValueError, match="overlap_loss: "):
            overlap_loss(IMAGES, MASKS[..., None], axis=axis)
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


@pytest.mark.cpu
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
def test_data_checks_spare_what_is_not_valid():
    @jaxloss.loss("(k),(k)->()", domains={"target": "{-1, 1}"})
    def signed_loss(scores, target, *, valid=None, **options):
        return jnp.sum(jnp.where(valid, target * scores, 0))

    signs = np.array([[1, -1, 1, 0], [1, 1, 0, 1]], np.float32)
    with jaxloss.data_checks(True):
        assert checkify.checkify(lambda: signed_loss(SCORES, signs, valid=VALID))()[0].get() is None
        error = checkify.checkify(lambda: signed_loss(SCORES, signs))()[0].get()
    assert "signed_loss: target is 0.0 but must lie in {-1, 1}" in error


def test_an_axis_of_a_single_sample_has_to_exist():
    for axis in (1, -2, (0, 1)):
        with pytest.raises(ValueError, match="cross_entropy: "):
            jaxloss.cross_entropy(LOGITS[0], 1, axis=axis)
    shared = jaxloss.cross_entropy(IMAGES[0], np.full((4, 5), 0.05, np.float32), axis=(1, -1), reduction="none")
    each = jaxloss.cross_entropy(IMAGES[0].reshape(3, 20), np.full(20, 0.05, np.float32), reduction="none")
    np.testing.assert_allclose(shared, each, rtol=1e-6)


@jaxloss.loss("(t,c),(s+1),(s)->()", indices={"target": "[0, c)"}, lengths={"frames": "t", "labels": "s"})
def sequence_loss(
    scores, borders, target, *, frames=None, labels=None, valid=None, **options: Unpack[jaxloss.ReductionOptions]
):
    """Sums of what exists, of which each has another magnitude, and the number of frames as the normaliser."""
    count = scores.shape[0] if frames is None else frames
    rows = jnp.sum(scores, where=valid[:, None])
    return rows + 100 * jnp.sum(borders) + 10_000 * jnp.sum(target).astype(rows.dtype), count


@pytest.mark.nans
def test_entries_beyond_a_length_are_0_and_have_no_gradient():
    scores, borders, target = np.ones((2, 3, 4), np.float32), np.ones((2, 3), np.float32), np.array([[1, 2], [3, 1]])
    np.testing.assert_array_equal(sequence_loss(scores, borders, target, reduction="none"), [30312, 40312])
    frames, labels = np.array([2, 0], np.uint8), np.array([1, 0])
    beyond = np.arange(3) >= frames[:, None], np.arange(3) > labels[:, None], np.arange(2) >= labels[:, None]
    poisoned = (
        np.where(beyond[0][..., None], np.nan, scores),
        np.where(beyond[1], np.inf, borders),
        np.where(beyond[2], -7, target),
    )
    given = {"frames": frames, "labels": labels}
    np.testing.assert_array_equal(sequence_loss(*poisoned, **given, reduction="none"), [10208, 100])
    assert sequence_loss(*poisoned, **given, reduction="total").normaliser == 2
    gradient = jax.grad(lambda x: sequence_loss(x, *poisoned[1:], **given, reduction="sum"))(poisoned[0])
    np.testing.assert_array_equal(gradient, np.where(beyond[0][..., None], 0.0, np.ones_like(scores)))
    np.testing.assert_array_equal(sequence_loss(*poisoned, frames=2, labels=0, reduction="none")[0], 108)
    both = sequence_loss(scores, borders, target, frames=2, valid=np.array([False, True, True]), reduction="none")
    np.testing.assert_array_equal(both, [30304, 40304])


def test_an_axis_with_a_length_may_be_empty():
    empty = np.ones((2, 0, 4), np.float32), np.ones((2, 1), np.float32), np.ones((2, 0), np.int32)
    np.testing.assert_array_equal(sequence_loss(*empty, reduction="none"), [100, 100])


@pytest.mark.nans
def test_a_length_out_of_range_is_nan_for_its_sample():
    scores, borders, target = np.ones((3, 3, 4), np.float32), np.ones((3, 3), np.float32), np.ones((3, 2), np.int32)
    losses = sequence_loss(scores, borders, target, frames=np.array([4, 3, -1]), reduction="none")
    np.testing.assert_array_equal(np.isnan(losses), [True, False, True])


SIZE = {"lengths": {"size": "t"}}


@pytest.mark.parametrize(
    ("message", "notation", "declared"),
    [
        ("has the length scores, which must be an option", "(t)->()", {"lengths": {"scores": "t"}}),
        ("has size as the length of 'k', but no axis that may be shorter", "(t)->()", {"lengths": {"size": "k"}}),
        ("has the length other, which must be an option", "(t)->()", {"lengths": {"other": "t"}}),
        ("'(t+1)->()' has an axis t+1 but no axis t", "(t+1)->()", {}),
        ("has size as the length of 't+1', but no axis", "(t+1),(t)->()", {"lengths": {"size": "t+1"}}),
        ("has the length size, which must not be declared otherwise", "(t)->()", {**SIZE, "static": ["size"]}),
        ("has the length size, which must not be", "(t)->()", {**SIZE, "indices": {"size": "[0, t]"}}),
        ("has size as the length of the items of a set", "(t)->(t)", SIZE),
        ("has size as the length of an axis of classes", "(t),()->()", {**SIZE, "indices": {"target": "[0, t)"}}),
        ("lengths is 'size' but takes a dict of texts such as {'target_lengths': 's'}", "(t)->()", {"lengths": "size"}),
        ("lengths is ['size'] but takes a dict of texts", "(t)->()", {"lengths": ["size"]}),
    ],
)
def test_a_declaration_of_lengths_that_does_not_fit_raises(message, notation, declared):
    def of_one(scores, *, size=None, **options: Unpack[jaxloss.ReductionOptions]):
        return jnp.sum(scores)

    def of_two(scores, target, *, size=None, **options: Unpack[jaxloss.ReductionOptions]):
        return jnp.sum(scores)

    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        jaxloss.loss(notation, **declared)(of_two if "," in notation else of_one)


def test_a_length_has_no_other_default():
    with pytest.raises(TypeError, match="has the length size, which must be an option with the default None"):

        @jaxloss.loss("(t)->()", **SIZE)
        def bad_loss(scores, *, size=3, **options: Unpack[jaxloss.ReductionOptions]):
            return jnp.sum(scores)


def test_an_index_to_ignore_is_not_a_length():
    @jaxloss.loss("(t,c),()->()", indices={"target": "[0, c)"}, lengths={"frames": "t"})
    def ignoring_loss(logits, target, *, frames=None, ignore_index=-100, **options: Unpack[jaxloss.ReductionOptions]):
        return jnp.sum(logits)

    losses = ignoring_loss(np.ones((2, 3, 2), np.float32), np.array([1, 0]), frames=2, ignore_index=0, reduction="none")
    np.testing.assert_array_equal(losses, [4, 0])
    losses = ignoring_loss(
        np.ones((2, 3, 2), np.float32), np.array([1, 1]), frames=np.array([0, 2]), ignore_index=0, reduction="none"
    )
    np.testing.assert_array_equal(losses, [0, 4])
