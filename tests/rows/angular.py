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
            # The default, 64, multiplies the rounding errors of cosines; `tests/test_angular.py` has it.
            {"scale": 8.0},
            {"chunk_size": 5, "class_weights": CLASS_WEIGHTS, "margin": 0.25},
            {"chunk_size": 4, "ignore_index": 1, "scale": 4.0},
        ),
        numbers=("margin", "scale"),
        extremes=extremes.layer,
        convex=False,
        forward_mode=False,
        in_torch=False,
        scale=8.0,
    )
    for loss, reference in ((jaxloss.arcface_loss, angular.arcface), (jaxloss.cosface_loss, angular.cosface))
)
