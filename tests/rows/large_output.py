"""Losses of large output layers."""

import jaxloss
from tests.references import extremes, large_output
from tests.row import Row
from tests.rows import CLASS_WEIGHTS, SMOOTHED

ROWS = (
    Row(
        jaxloss.linear_cross_entropy,
        draw=large_output.draw_layer,
        reference=large_output.linear_cross_entropy,
        options=(
            {},
            {"chunk_size": 5, "bias": CLASS_WEIGHTS, **SMOOTHED},
            {"chunk_size": 4, "ignore_index": 1, "z_loss": 0.1, "logit_softcap": 2.0},
        ),
        numbers=("label_smoothing", "z_loss", "logit_softcap"),
        extremes=extremes.layer,
        forward_mode=False,
    ),
    Row(
        jaxloss.linear_cross_entropy,
        draw=large_output.draw_soft_layer,
        reference=large_output.linear_cross_entropy,
        options=({}, {"chunk_size": 7, **SMOOTHED, "z_loss": 0.1}),
        numbers=("label_smoothing", "z_loss", "logit_softcap"),
        extremes=extremes.soft_layer,
        forward_mode=False,
    ),
    Row(
        jaxloss.adaptive_log_softmax_with_loss,
        draw=large_output.draw_adaptive,
        reference=large_output.adaptive_softmax,
        options=({}, {"ignore_index": 1}),
        extremes=extremes.adaptive_layer,
        pack=large_output.pack_adaptive,
        forward_mode=False,
    ),
)
