"""Losses of class indices and class probabilities."""

import jaxloss
from tests.references import classification
from tests.row import Row
from tests.rows import CLASS_WEIGHTS, SMOOTHED

# An infinite logit minus the largest logit is NaN; with a bound, cross_entropy takes up to 1.5 times as long.
INFINITIES = {"logits": (-1,)}

ROWS = (
    Row(
        jaxloss.binary_cross_entropy,
        draw=classification.draw_probability,
        reference=classification.binary_cross_entropy,
    ),
    Row(
        jaxloss.binary_cross_entropy_with_logits,
        draw=classification.draw_binary,
        reference=classification.bce_with_logits,
        options=({}, {"pos_weight": 3.0}),
        numbers=("pos_weight",),
    ),
    Row(
        jaxloss.nll_loss,
        draw=classification.draw_log_probabilities,
        reference=classification.nll,
        options=({}, {"class_weights": CLASS_WEIGHTS}, {"ignore_index": 2}),
    ),
    Row(
        jaxloss.cross_entropy,
        draw=classification.draw_indexed,
        reference=classification.cross_entropy,
        options=(
            {},
            {"z_loss": 0.1, "logit_softcap": 2.0},
            SMOOTHED,
            {"ignore_index": 1, "label_smoothing": 1.0},
        ),
        numbers=("label_smoothing", "z_loss", "logit_softcap"),
        infinities=INFINITIES,
    ),
    Row(
        jaxloss.cross_entropy,
        draw=classification.draw_soft,
        reference=classification.cross_entropy,
        options=({}, {**SMOOTHED, "z_loss": 0.1, "logit_softcap": 2.0}),
        numbers=("label_smoothing", "z_loss", "logit_softcap"),
        infinities=INFINITIES,
    ),
)
