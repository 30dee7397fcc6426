"""Losses of boxes, for object detection. The formulas are torchvision's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Unpack

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss._arrays import Real, Vector
from jaxloss._box_geometry import Coordinates, Overlap, aspect
from jaxloss._decorator.lift import loss
from jaxloss._kept_gradient import keep_gradient
from jaxloss.options import ReductionOptions

_DOMAINS = {"eps": "[0, inf)"}


@loss("(4),(4)->()", domains=_DOMAINS)
def box_iou_loss(boxes: Vector, target: Vector, *, eps: Real = 1e-7, **options: Unpack[ReductionOptions]) -> Array:
    r"""One minus the intersection of two boxes over their union.

    $$l = 1 - \frac{|A \cap B|}{|A \cup B| + \epsilon}$$

    All digits are right, also for boxes that nearly coincide. Boxes that do not overlap have loss 1, and no gradient to
    move them together: the other losses of boxes have one.

    Args:
      boxes: floating `(..., 4)`: $A$, as x₁, y₁, x₂, y₂ with x₁ ≤ x₂ and y₁ ≤ y₂, in any unit. A box that is empty or
        reversed has no area.
      target: real, the same shape: $B$.
      eps: at least 0: $\epsilon$, for boxes without area. With 0, two empty boxes have loss 0.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per box.

    Raises:
      ValueError: shapes do not fit, or `eps` is negative.
      TypeError: `boxes` is not floating.

    Reference:
      Yu et al., UnitBox: an advanced object detection network, ACM MM 2016, without its logarithm.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.box_iou_loss(jnp.array([[0.0, 0.0, 2.0, 2.0]]), jnp.array([[1.0, 0.0, 3.0, 2.0]])).round(4))
      0.6667
    """

    def formula(box: Coordinates, other: Coordinates, eps: Real) -> Array:
        return Overlap.of(box, other, eps).missed

    return _of_coordinates(formula, boxes, target, eps)


@loss("(4),(4)->()", domains=_DOMAINS)
def generalized_box_iou_loss(
    boxes: Vector, target: Vector, *, eps: Real = 1e-7, **options: Unpack[ReductionOptions]
) -> Array:
    r"""`box_iou_loss`, plus the share of the smallest box around both that neither covers.

    $$l = 1 - \frac{|A \cap B|}{|A \cup B| + \epsilon} + \frac{|C| - |A \cup B|}{|C| + \epsilon}$$

    where $C$ is the smallest box that contains both. It moves boxes together that do not overlap.

    Args:
      boxes: as in `box_iou_loss`: $A$.
      target: as in `box_iou_loss`: $B$.
      eps: at least 0: $\epsilon$, for boxes without area.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per box, in [0, 2].

    Raises:
      ValueError: shapes do not fit, or `eps` is negative.
      TypeError: `boxes` is not floating.

    Reference:
      Rezatofighi et al., Generalized intersection over union, CVPR 2019, algorithm 1.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> boxes, target = jnp.array([[0.0, 0.0, 1.0, 1.0]]), jnp.array([[3.0, 0.0, 4.0, 1.0]])
      >>> print(jaxloss.generalized_box_iou_loss(boxes, target).round(4))
      1.5
    """

    def formula(box: Coordinates, other: Coordinates, eps: Real) -> Array:
        overlap = Overlap.of(box, other, eps)
        return overlap.missed + overlap.beside

    return _of_coordinates(formula, boxes, target, eps)


@loss("(4),(4)->()", domains=_DOMAINS)
def distance_box_iou_loss(
    boxes: Vector, target: Vector, *, eps: Real = 1e-7, **options: Unpack[ReductionOptions]
) -> Array:
    r"""`box_iou_loss`, plus the squared distance of the centres.

    $$l = 1 - \frac{|A \cap B|}{|A \cup B| + \epsilon} + \frac{\rho^2}{c^2 + \epsilon}$$

    where $\rho$ is the distance of the centres, and $c$ the diagonal of the smallest box that contains both.

    Args:
      boxes: as in `box_iou_loss`: $A$.
      target: as in `box_iou_loss`: $B$.
      eps: at least 0: $\epsilon$, for boxes without area.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per box, in [0, 2].

    Raises:
      ValueError: shapes do not fit, or `eps` is negative.
      TypeError: `boxes` is not floating.

    Reference:
      Zheng et al., Distance-IoU loss, AAAI 2020, equation 7.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> boxes, target = jnp.array([[0.0, 0.0, 1.0, 2.0]]), jnp.array([[3.0, 0.0, 4.0, 2.0]])
      >>> print(f"{jaxloss.distance_box_iou_loss(boxes, target):.4f}")
      1.4500
    """

    def formula(box: Coordinates, other: Coordinates, eps: Real) -> Array:
        overlap = Overlap.of(box, other, eps)
        return overlap.missed + overlap.distance

    return _of_coordinates(formula, boxes, target, eps)


@loss("(4),(4)->()", domains=_DOMAINS)
def complete_box_iou_loss(
    boxes: Vector, target: Vector, *, eps: Real = 1e-7, **options: Unpack[ReductionOptions]
) -> Array:
    r"""`distance_box_iou_loss`, plus the difference of the aspect ratios.

    $$l = 1 - \frac{|A \cap B|}{|A \cup B| + \epsilon} + \frac{\rho^2}{c^2 + \epsilon} + \alpha v, \qquad
    v = \frac{4}{\pi^2} \Bigl( \arctan \frac{w_B}{h_B} - \arctan \frac{w_A}{h_A} \Bigr)^2, \qquad
    \alpha = \frac{v}{1 - \operatorname{IoU} + v + \epsilon}$$

    with widths $w$ and heights $h$. No gradient passes through $\alpha$.

    Args:
      boxes: as in `box_iou_loss`: $A$.
      target: as in `box_iou_loss`: $B$.
      eps: at least 0: $\epsilon$, for boxes without area.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per box.

    Raises:
      ValueError: shapes do not fit, or `eps` is negative.
      TypeError: `boxes` is not floating.

    Reference:
      Zheng et al., Distance-IoU loss, AAAI 2020, equations 8 to 11; torchvision documentation,
      `torchvision.ops.complete_box_iou_loss`, which ignores its `eps` in the distance.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> boxes, target = jnp.array([[0.0, 0.0, 1.0, 1.0]]), jnp.array([[0.0, 0.0, 2.0, 1.0]])
      >>> print(jaxloss.complete_box_iou_loss(boxes, target).round(4))
      0.5532
    """

    def formula(box: Coordinates, other: Coordinates, eps: Real) -> Array:
        overlap = Overlap.of(box, other, eps)
        difference = (aspect(other) - aspect(box)) * (2 / math.pi)
        v = difference * difference
        # `eps` is in the unit of the boxes elsewhere, and here without one.
        alpha = lax.stop_gradient(numerics.ratio(v, overlap.missed + v + eps))
        return overlap.missed + overlap.distance + alpha * v

    return _of_coordinates(formula, boxes, target, eps)


def _of_coordinates(formula: Callable[..., Array], boxes: Vector, target: Vector, eps: Real) -> Array:
    """A formula of the finite coordinates of two boxes and `eps`."""

    def joined(eps: Real, *coordinates: Array) -> Array:
        return formula(coordinates[:4], coordinates[4:], eps)

    # Infinite coordinates count as the largest finite ones, because their differences would be NaN.
    entries = [box[i] for box in map(numerics.finite, map(jnp.asarray, (boxes, target))) for i in range(4)]
    return keep_gradient(joined, eps, *entries, at_once=True)
