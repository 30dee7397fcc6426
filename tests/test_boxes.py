"""Losses of boxes: known values, and boxes that are far, tiny, empty or the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

LOSSES = (
    jaxloss.box_iou_loss,
    jaxloss.generalized_box_iou_loss,
    jaxloss.distance_box_iou_loss,
    jaxloss.complete_box_iou_loss,
)
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
BOXES = jnp.array([[0, 0, 2, 2], [0, 0, 1, 1], [1, 1, 2, 4], [0, 0, 4, 4]], jnp.float32)
OTHERS = jnp.array([[1, 0, 3, 2], [3, 0, 4, 2], [1, 1, 2, 4], [1, 1, 2, 3]], jnp.float32)
# Of torchvision 0.28, in float64, rounded to nine digits; the intersection over the union is that of its other losses.
RECORDED = {
    "box_iou_loss": (0.666666672, 1, 3.33333322e-08, 0.875000001),
    "generalized_box_iou_loss": (0.666666672, 1.62499999, 3.33333322e-08, 0.875000001),
    "distance_box_iou_loss": (0.743589749, 1.4625, 3.33333322e-08, 0.882812501),
    "complete_box_iou_loss": (0.743589749, 1.46418946, 3.33333322e-08, 0.88473227),
}


@each_loss
def test_recorded_values(loss):
    np.testing.assert_allclose(loss(BOXES, OTHERS, reduction="none"), RECORDED[loss.__name__], rtol=1e-6, atol=1e-7)


@each_loss
@pytest.mark.parametrize("unit", [2.0**-60, 2.0**60, 2.0**100])
def test_without_eps_the_unit_of_the_boxes_does_not_matter(loss, unit):
    def run(boxes, others):
        return jax.value_and_grad(lambda *pair: loss(*pair, eps=0.0), (0, 1))(boxes, others)

    (value, slopes), (scaled, scaled_slopes) = run(BOXES, OTHERS), run(BOXES * unit, OTHERS * unit)
    np.testing.assert_allclose(scaled, value, rtol=1e-6)
    for one, other in zip(slopes, scaled_slopes, strict=True):
        np.testing.assert_allclose(other * unit, one, rtol=1e-5, atol=1e-6)


@each_loss
@pytest.mark.parametrize("eps", [0.0, 1e-7])
def test_empty_and_reversed_boxes_have_no_area_and_no_nan(loss, eps):
    boxes = jnp.array([[1, 1, 1, 1], [2, 2, 1, 1], [1, 1, 2, 1], [0, 0, 0, 0], [5, 0, 1, 3]], jnp.float32)
    pairs = jnp.repeat(boxes, len(boxes), 0), jnp.tile(boxes, (len(boxes), 1))
    value, slopes = jax.value_and_grad(lambda *pair: loss(*pair, eps=eps, reduction="sum"), (0, 1))(*pairs)
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert jaxloss.box_iou_loss(boxes[4], jnp.array([1.0, 0.0, 5.0, 3.0])) == 1


@each_loss
def test_boxes_that_nearly_coincide_keep_their_digits(loss):
    boxes = jnp.array([[100.0, 200.0, 300.0, 500.0]])
    others = boxes * (1 + jnp.array([[2.0, -1.0, 3.0, 1.0]]) * 2**-22)
    with jax.enable_x64(True):
        exact = loss(np.asarray(boxes, np.float64), np.asarray(others, np.float64), eps=0.0)
    np.testing.assert_allclose(loss(boxes, others, eps=0.0), exact, rtol=1e-5)
    assert loss(boxes, boxes, eps=0.0) == 0


@pytest.mark.parametrize("loss", LOSSES[1:], ids=lambda loss: loss.__name__)
def test_gradient_descent_moves_boxes_together_that_do_not_overlap(loss):
    box, target = jnp.array([0.0, 0.0, 1.0, 1.0]), jnp.array([3.0, 2.0, 5.0, 3.0])
    step = jax.jit(lambda box: box - 0.05 * jax.grad(loss)(box, target))
    assert jaxloss.box_iou_loss(box, target) == 1
    for _ in range(4000):
        box = step(box)
    assert jaxloss.box_iou_loss(box, target) < 0.2


@each_loss
@pytest.mark.parametrize("far", [1e15, 1e20, 3e38])
@pytest.mark.parametrize("eps", [0.0, 1e-7])
def test_a_small_box_and_one_without_area_far_away_do_not_overlap(loss, far, eps):
    box = jnp.array([0.0, 0.0, 1.0, 2.0])
    for other in ([far, far, 0, 0], [far, far, -far, -far], [far, 0, -far, 2], [far, far, far, far]):
        value = loss(box, jnp.array(other, jnp.float32), eps=eps)
        assert np.isfinite(value)
        assert value >= 1 - 1e-6
        assert loss != jaxloss.box_iou_loss or value == 1
