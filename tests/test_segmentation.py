"""Losses of the pixels of an image: known values, and what a sample is."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

GENERATOR = np.random.default_rng(0)
PROBABILITIES = GENERATOR.uniform(size=(2, 3, 4, 5)).astype(np.float32)  # images, classes, height, width
TARGET = GENERATOR.integers(0, 2, size=(2, 3, 4, 5))
VALID = GENERATOR.uniform(size=(2, 3, 4, 5)) < 0.7
OVERLAPS = (jaxloss.dice_loss, jaxloss.jaccard_loss, jaxloss.tversky_loss)
LOSSES = (*OVERLAPS, jaxloss.lovasz_hinge_loss, jaxloss.lovasz_softmax_loss)
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


@each_loss
@pytest.mark.parametrize("axis", [(-2, -1), (-3, -2, -1), (0, -2, -1)], ids=["macro", "micro", "batch"])
def test_the_axes_of_a_sample_decide_what_is_averaged(loss, axis):
    got = loss(PROBABILITIES, TARGET, axis=axis, reduction="none")
    rest = [i for i in range(4) if i not in {each % 4 for each in axis}]
    flat = [
        np.moveaxis(x, rest, range(len(rest))).reshape(*(x.shape[i] for i in rest), -1) for x in (PROBABILITIES, TARGET)
    ]
    np.testing.assert_allclose(got, loss(*flat, reduction="none"), rtol=1e-6)


@each_loss
@pytest.mark.nans
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_pixels_that_are_not_valid_have_no_effect(loss, poison):
    def run(probabilities, target, valid):
        return jax.value_and_grad(lambda p: loss(p, target, valid=valid, reduction="sum"))(probabilities)

    poisoned = np.where(VALID, PROBABILITIES, poison).reshape(6, 20)
    target, valid = TARGET.reshape(6, 20), VALID.reshape(6, 20)
    value, gradient = run(poisoned, target, valid)
    rest = [run(p[v], t[v], v[v]) for p, t, v in zip(poisoned, target, valid, strict=True)]
    np.testing.assert_allclose(value, sum(each for each, _ in rest), rtol=1e-6)
    np.testing.assert_array_equal(gradient[~valid], 0)
    np.testing.assert_allclose(gradient[valid], np.concatenate([each for _, each in rest]), rtol=1e-5, atol=1e-7)


@each_loss
def test_an_image_without_valid_pixels_has_loss_0(loss):
    images, valid = (PROBABILITIES[0], TARGET[0]), np.zeros((4, 5), bool)
    value, slope = jax.value_and_grad(lambda p: loss(p, images[1], valid=valid, axis=(-2, -1)))(images[0])
    assert value == 0
    np.testing.assert_array_equal(slope, 0)


def test_tversky_contains_dice_and_jaccard():
    images = PROBABILITIES, TARGET
    for loss, weight in ((jaxloss.dice_loss, 0.5), (jaxloss.jaccard_loss, 1.0)):
        got = jaxloss.tversky_loss(*images, alpha=weight, beta=weight, axis=(-2, -1))
        np.testing.assert_allclose(got, loss(*images, axis=(-2, -1)), rtol=1e-6)


def test_alpha_weighs_false_positives_and_beta_false_negatives():
    added, missed = jnp.array([1.0, 1.0, 0.0]), jnp.array([1.0, 0.0, 0.0])
    of = lambda p, t: float(jaxloss.tversky_loss(p, t, alpha=0.25, beta=1.0, smooth=0.0))  # noqa: E731
    assert of(added, missed) == pytest.approx(0.25 / 1.25)
    assert of(missed, added) == pytest.approx(1 / 2)


@pytest.mark.parametrize("loss", OVERLAPS, ids=lambda loss: loss.__name__)
def test_a_small_loss_has_all_its_digits(loss):
    p, t = jnp.array([1 - 2.0**-20, 1.0, 0.0]), jnp.array([1, 1, 0])
    with jax.enable_x64(True):
        exact = loss(np.asarray(p, np.float64), t)
    np.testing.assert_allclose(loss(p, t), exact, rtol=4e-7)


@pytest.mark.parametrize("loss", OVERLAPS, ids=lambda loss: loss.__name__)
def test_an_empty_prediction_of_an_empty_region_is_right(loss):
    empty, full = jnp.zeros(4), jnp.ones(4)
    value, slope = jax.value_and_grad(lambda p: loss(p, jnp.zeros(4), smooth=0.0))(empty)
    assert value == 0
    assert np.isfinite(slope).all()
    assert loss(full, empty, smooth=0.0) == 1


def test_lovasz_is_the_jaccard_loss_at_every_corner():
    """The extension of a set function equals it wherever each error is 0 or 1."""
    for wrong, target in itertools.product(itertools.product((0, 1), repeat=4), repeat=2):
        wrong, target = np.array(wrong), np.array(target)
        probabilities = np.where(wrong, 1 - target, target).astype(np.float32)
        predicted = probabilities == 1
        union = (predicted | (target == 1)).sum()
        expected = 1 - (predicted & (target == 1)).sum() / max(union, 1) if union else 0
        if target.any():
            got, count = jaxloss.lovasz_softmax_loss(probabilities, target, reduction=lambda *pair: pair)
            assert (got, count) == (pytest.approx(expected, abs=1e-7), 1)
        hinge = jaxloss.lovasz_hinge_loss(np.where(predicted, 1.0, -1.0), target)  # errors of 0 or 2
        assert hinge == pytest.approx(2 * expected, abs=1e-6)


def test_a_class_that_is_not_in_the_image_is_not_counted():
    p, t = jnp.array([[0.9, 0.1], [0.5, 0.5]]), jnp.array([[1, 0], [0, 0]])
    total = jaxloss.lovasz_softmax_loss(p, t, reduction="total")
    assert (total.normaliser, total.loss) == (1, jaxloss.lovasz_softmax_loss(p[:1], t[:1]))
    np.testing.assert_array_equal(jax.grad(jaxloss.lovasz_softmax_loss)(p, t)[1], 0)


@pytest.mark.nans
@pytest.mark.parametrize("loss", [jaxloss.lovasz_hinge_loss, jaxloss.lovasz_softmax_loss])
def test_lovasz_of_another_target_is_not_a_number(loss):
    probabilities = np.float32([[0.9, 0.2, 0.6, 0.1]])
    assert np.isnan(loss(probabilities, np.array([[255, 0, 255, 0]])))
    assert np.isnan(loss(probabilities, np.array([[1, 0, 2, 0]])))
    got = loss(probabilities, np.array([[1, 0, 255, 0]]), valid=np.array([True, True, False, True]))
    np.testing.assert_array_equal(got, loss(probabilities[:, [0, 1, 3]], np.array([[1, 0, 0]])))
