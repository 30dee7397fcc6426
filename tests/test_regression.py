"""Tests of regression losses that the registry does not cover."""

import jax
import jax.numpy as jnp

import jaxloss


def test_an_overflowing_difference_keeps_its_slope_in_forward_mode():
    """The derivative with respect to delta is infinite there, and is multiplied by a zero tangent."""

    def loss(prediction):
        return jaxloss.huber_loss(prediction, jnp.float32(-3e38), delta=0.5)

    assert jax.jvp(loss, (jnp.float32(3e38),), (jnp.float32(1),))[1] == 0.5
