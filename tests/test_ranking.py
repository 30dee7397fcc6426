"""Losses of lists with padding, and lists without a relevant item."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

LOSSES = (jaxloss.ranking_softmax_loss, jaxloss.listmle_loss)
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
SCORES = np.array([[0.5, -1.0, 2.0, 0.0], [1.0, 3.0, -2.0, 0.5]], np.float32)
TARGET = np.array([[0, 2, 1, 1], [1, 0, 0, 3]])
VALID = np.array([[True, True, False, True], [True, False, True, True]])


@pytest.mark.nans
@each_loss
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 0.0])
def test_a_padded_list_is_the_list_without_its_padding(loss, poison):
    padded = np.where(VALID, SCORES, poison)
    losses, pull = jax.vjp(lambda scores: loss(scores, TARGET, valid=VALID, reduction="none"), jnp.asarray(padded))
    (gradient,) = pull(jnp.ones(2))
    for i, there in enumerate(VALID):
        alone = jax.value_and_grad(loss)(SCORES[i, there], TARGET[i, there])
        np.testing.assert_allclose(losses[i], alone[0], rtol=1e-6)
        np.testing.assert_allclose(gradient[i, there], alone[1], rtol=1e-6, atol=1e-7)
    assert not np.asarray(gradient)[~VALID].any()


@each_loss
def test_a_list_without_a_relevant_item_does_not_count(loss):
    target = np.where(np.array([[True], [False]]), TARGET, 0)
    np.testing.assert_allclose(loss(SCORES, target), loss(SCORES[0], TARGET[0]), rtol=1e-6)
    # Where the relevant items are padding, and where all items are.
    for valid in (TARGET[1] == 0, np.zeros(4, bool)):
        value, gradient = jax.value_and_grad(lambda scores, valid=valid: loss(scores, TARGET[1], valid=valid))(
            SCORES[1]
        )
        assert value == 0
        assert not np.any(gradient)


def test_item_weights_weigh_each_item():
    weights = np.array([1.0, 0.5, 2.0, 0.0])
    weighted = jaxloss.ranking_softmax_loss(SCORES, TARGET, item_weights=weights, reduction="none")
    np.testing.assert_allclose(
        weighted, jaxloss.ranking_softmax_loss(SCORES, weights * TARGET, reduction="none"), rtol=1e-6
    )


def test_equal_grades_stay_in_the_order_given():
    scores = jnp.array([3.0, 1.0, 2.0])
    in_order = jaxloss.listmle_loss(scores, np.array([1, 1, 1]))
    np.testing.assert_allclose(in_order, np.log1p(np.exp([-2.0, -1.0]).sum()) + np.log1p(np.exp(1.0)), rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4, 1e30])
def test_listmle_of_scores_far_apart(scale):
    scores = np.linspace(-1, 1, 300, dtype=np.float32) * np.float32(scale)
    value, gradient = jax.value_and_grad(jaxloss.listmle_loss)(scores, np.arange(300) + 1)
    wide = scores.astype(np.float64)[::-1]
    rest = np.logaddexp.accumulate(wide[::-1])[::-1]
    np.testing.assert_allclose(value, np.logaddexp(0, rest[1:] - wide[:-1]).sum(), rtol=1e-5)
    shares = [np.exp(wide[i] - rest[: i + 1]).sum() - 1 for i in range(300)]
    np.testing.assert_allclose(gradient[::-1], shares, rtol=1e-5, atol=2e-5)
