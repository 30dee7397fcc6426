"""Tests of focal and related losses that the registry does not cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

LOGITS = jnp.array([[2.0, -1.0, 0.5, -30.0], [0.0, 0.0, 1e4, -1e4]])
TARGET = jnp.array([0, 1])
SOFT = jnp.array([[0.5, 0.25, 0.25, 0.0], [0.0, 1.0, 0.0, 0.0]])


@pytest.mark.parametrize("target", [TARGET, SOFT], ids=["index", "soft"])
def test_at_0_each_option_gives_cross_entropy(target):
    expected = jaxloss.cross_entropy(LOGITS, target, reduction="none")
    for loss in (
        lambda: jaxloss.softmax_focal_loss(LOGITS, target, gamma=0.0, reduction="none"),
        lambda: jaxloss.poly_loss_cross_entropy(LOGITS, target, epsilon=0.0, reduction="none"),
    ):
        np.testing.assert_allclose(loss(), expected, rtol=1e-6)
    if target is TARGET:
        generalized = jaxloss.generalized_cross_entropy(LOGITS, target, q=0.0, reduction="none")
        np.testing.assert_allclose(generalized, expected, rtol=1e-6)


def test_generalized_cross_entropy_is_smooth_through_q_0():
    def loss(q):
        return jaxloss.generalized_cross_entropy(LOGITS[:1], TARGET[1:], q=q)

    surprise = float(loss(0.0))
    slope = jax.grad(loss)
    for q in (0.0, 1e-12, 1e-7, 1e-5):
        np.testing.assert_allclose(loss(jnp.float32(q)), surprise, rtol=3e-5)
        np.testing.assert_allclose(slope(jnp.float32(q)), -(surprise**2) / 2, rtol=1e-4)
        np.testing.assert_allclose(jax.grad(slope)(jnp.float32(q)), surprise**3 / 3, rtol=1e-4)
    np.testing.assert_allclose(loss(1.0), 1 - jax.nn.softmax(LOGITS[0])[1], rtol=1e-6)


SATURATED = [-1e30, -1e4, -104.0, -95.0, -87.0, -50.0, 0.0, 50.0, 87.0, 95.0, 104.0, 1e4, 1e30]


def sigmoid_focal(x, gamma, target):
    return jaxloss.sigmoid_focal_loss(x, target, gamma=gamma, alpha=0.25)


def softmax_focal(x, gamma, target):
    return jaxloss.softmax_focal_loss(jnp.stack([x / 4, -x / 4, 0 * x]), target, gamma=gamma)


def asymmetric(x, gamma, target):
    return jaxloss.asymmetric_loss(x, target, gamma_negative=gamma, gamma_positive=gamma, clip=0.0)


@pytest.mark.nans  # in branches that are not selected
@pytest.mark.parametrize("loss", [sigmoid_focal, softmax_focal, asymmetric])
def test_derivatives_are_finite_at_saturated_logits(loss):
    """The second ones as well, by the logit and by the exponent, in both modes."""

    def derivatives(x, gamma, target):
        slope = jax.grad(loss, (0, 1))
        forward = jax.jacfwd(jax.jacfwd(loss, (0, 1)), (0, 1))
        return slope(x, gamma, target), jax.jacfwd(slope, (0, 1))(x, gamma, target), forward(x, gamma, target)

    x, gamma = map(jnp.ravel, jnp.meshgrid(jnp.float32(SATURATED), jnp.float32([0, 0.3, 1, 1.5, 2, 7])))
    for target in (0, 1):
        found = jax.jit(jax.vmap(lambda x, gamma, t=target: derivatives(x, gamma, t)))(x, gamma)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_an_impossible_class_costs_nothing_where_it_is_not_the_target():
    impossible = LOGITS[:1].at[0, 3].set(-jnp.inf)
    for loss in (jaxloss.softmax_focal_loss, jaxloss.poly_loss_cross_entropy):
        for target, left in ((TARGET[:1], TARGET[:1]), (SOFT[:1], SOFT[:1, :3])):
            value, slope = jax.value_and_grad(loss)(impossible, target)
            np.testing.assert_allclose(value, loss(LOGITS[:1, :3], left), rtol=1e-6)
            assert np.isfinite(slope).all()


@pytest.mark.nans
def test_an_impossible_target():
    logits = LOGITS[:1].at[0, 0].set(-jnp.inf)
    for loss in (jaxloss.softmax_focal_loss, jaxloss.poly_loss_cross_entropy):
        assert loss(logits, TARGET[:1]) == np.inf
    assert jaxloss.generalized_cross_entropy(logits, TARGET[:1], q=0.5) == 2
    assert jaxloss.generalized_cross_entropy(logits, TARGET[:1], q=0.0) == np.inf


def test_the_weights_of_the_classes_are_in_the_mean():
    weights = jnp.array([1.0, 3.0, 0.0, 0.0])
    for loss in (jaxloss.softmax_focal_loss, jaxloss.poly_loss_cross_entropy, jaxloss.generalized_cross_entropy):
        each = loss(LOGITS, TARGET, reduction="none")
        np.testing.assert_allclose(loss(LOGITS, TARGET, class_weights=weights), (each[0] + 3 * each[1]) / 4, rtol=1e-6)


def test_an_easy_negative_label_is_dropped_and_a_hard_one_is_not():
    logits = jnp.array([-4.0, -2.95, -2.9, 0.0])
    losses, slopes = jax.vmap(jax.value_and_grad(lambda x: jaxloss.asymmetric_loss(x, 0)))(logits)
    np.testing.assert_array_equal(losses > 0, [False, False, True, True])
    np.testing.assert_array_equal(slopes > 0, [False, False, True, True])
    assert jaxloss.asymmetric_loss(50.0, 0, clip=1.0) == 0
    plain = jaxloss.asymmetric_loss(logits, 0.0, gamma_negative=0.0, clip=0.0)
    np.testing.assert_allclose(plain, jaxloss.binary_cross_entropy_with_logits(logits, 0.0), rtol=1e-6)


@pytest.mark.every_platform
@pytest.mark.parametrize("loss", [jaxloss.sigmoid_focal_loss, jaxloss.asymmetric_loss, jaxloss.softmax_focal_loss])
def test_only_accelerators_compute_the_gradient_apart_from_the_value(loss):
    traced = jax.jit(jax.value_and_grad(loss)).trace(LOGITS, SOFT.round())
    barriers = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text().count("optimization_barrier")
        for platform in ("cpu", "cuda", "tpu")
    }
    # One each for the logits, or the logarithms of the probabilities, and for the target.
    assert barriers["cuda"] == barriers["tpu"] == barriers["cpu"] + 2
