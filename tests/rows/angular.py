"""Softmax losses of angles with a margin."""

import jaxloss
from tests.references import angular, extremes, large_output
from tests.row import Row
from tests.rows import CLASS_WEIGHTS

ROWS = tuple(
    Row(
        loss,
        draw=large_output.draw_layer,
        reference=reference,
        options=(
            {},
            {"chunk_size": 5, "class_weights": CLASS_WEIGHTS, "margin": 0.25},
            {"chunk_size": 4, "ignore_index": 1, "scale": 8.0},
        ),
        numbers=("margin", "scale"),
        extremes=extremes.layer,
        convex=False,
        forward_mode=False,
        in_torch=False,
        scale=64.0,
    )
    for loss, reference in ((jaxloss.arcface_loss, angular.arcface), (jaxloss.cosface_loss, angular.cosface))
)
