"""What the registry cannot see of losses of real numbers."""

import jax
import jax.numpy as jnp

import jaxloss


def test_an_overflowing_difference_keeps_its_slope_in_forward_mode():
    """The slope by delta, which is infinite there, meets the zero tangent of a delta that stays as it is."""

    def loss(prediction):
        return jaxloss.huber_loss(prediction, jnp.float32(-3e38), delta=0.5)

    assert jax.jvp(loss, (jnp.float32(3e38),), (jnp.float32(1),))[1] == 0.5
