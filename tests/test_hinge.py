"""Tests of hinge losses and perceptrons that the registry does not cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

MULTICLASS = (jaxloss.multiclass_hinge_loss, jaxloss.multiclass_perceptron_loss)


@pytest.mark.parametrize("loss", MULTICLASS, ids=lambda loss: loss.__name__)
def test_a_single_class_is_always_right(loss):
    value, slope = jax.value_and_grad(loss)(jnp.array([[3.0], [-2.0]]), jnp.array([0, 0]))
    assert value == 0
    np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize("loss", MULTICLASS, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("size", [0.0, 1e-3, 1e6])
def test_the_margin_is_not_lost_beside_large_scores(loss, size):
    tied = jnp.full((1, 3), size)
    margin = 1 if loss is jaxloss.multiclass_hinge_loss else 0
    value, slope = jax.value_and_grad(loss)(tied, jnp.array([1]))
    assert value == margin
    np.testing.assert_allclose(slope[0], [0.5, -1, 0.5] if margin else np.array([1, -2, 1]) / 3, rtol=1e-6)


def test_the_kink_width_affects_only_the_second_derivative_of_a_squared_hinge():
    def derivatives(x, width):
        slope = jax.grad(lambda x: jaxloss.squared_hinge_loss(x, 1.0, kink_width=width))
        return float(slope(x)), float(jax.grad(slope)(x))

    for x in (0.0, 0.75, 1.0, 1.25, 2.0):
        expected = -2 * max(0, 1 - x)
        assert derivatives(x, 0.0)[0] == derivatives(x, 0.5)[0] == expected
        assert derivatives(x, 0.0)[1] == 1 + np.sign(1 - x)
    assert derivatives(0.75, 0.5)[1] == 1 + 0.6875
