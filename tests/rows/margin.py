"""Losses with a margin."""

import jaxloss
from tests.references import classification
from tests.references import margin as margins
from tests.row import Row
from tests.rows import CLASS_WEIGHTS

ROWS = (
    Row(
        jaxloss.hinge_embedding_loss,
        draw=margins.draw_decision,
        reference=margins.hinge_embedding,
        options=({}, {"margin": -0.5, "kink_width": 0.0}),
        numbers=("margin", "kink_width"),
    ),
    Row(
        jaxloss.margin_ranking_loss,
        draw=margins.draw_ranking,
        reference=margins.margin_ranking,
        options=({}, {"margin": 0.7, "kink_width": 0.0}),
        numbers=("margin", "kink_width"),
    ),
    Row(jaxloss.soft_margin_loss, draw=margins.draw_decision, reference=margins.soft_margin),
    Row(
        jaxloss.multi_margin_loss,
        draw=classification.draw_indexed,
        reference=margins.multi_margin,
        options=({}, {"p": 2, "class_weights": CLASS_WEIGHTS, "margin": 0.5}, {"kink_width": 0.0}),
        numbers=("margin", "kink_width"),
    ),
    Row(
        jaxloss.multilabel_margin_loss,
        draw=margins.draw_list,
        reference=margins.multilabel_margin,
        options=({}, {"kink_width": 0.0}),
        numbers=("kink_width",),
    ),
    Row(
        jaxloss.multilabel_soft_margin_loss,
        draw=margins.draw_labels,
        reference=margins.multilabel_soft_margin,
        options=({}, {"class_weights": CLASS_WEIGHTS}),
    ),
)
