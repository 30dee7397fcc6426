"""Losses of boxes."""

import functools

import jaxloss
from tests.references import boxes
from tests.row import Row

of_boxes = functools.partial(
    Row,
    draw=boxes.draw_boxes,
    options=({}, {"eps": 0.5}),
    numbers=("eps",),
    extremes=boxes.extreme_boxes,
    # The other sides of a box are 0 in units of an infinite one.
    infinities={"boxes": (), "target": ()},
    convex=False,
    in_torch=False,
)

ROWS = (
    of_boxes(jaxloss.box_iou_loss, reference=boxes.box_iou),
    of_boxes(jaxloss.generalized_box_iou_loss, reference=boxes.generalized),
    of_boxes(jaxloss.distance_box_iou_loss, reference=boxes.distance),
    of_boxes(jaxloss.complete_box_iou_loss, reference=boxes.complete, detached=boxes.aspect_share),
)
