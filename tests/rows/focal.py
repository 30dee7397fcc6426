"""Cross-entropies that weigh a sample by a probability."""

import jaxloss
from tests.references import classification, focal
from tests.row import Row
from tests.rows import CLASS_WEIGHTS

WEIGHTED = {"class_weights": CLASS_WEIGHTS}
ROWS = (
    Row(
        jaxloss.sigmoid_focal_loss,
        draw=classification.draw_binary,
        reference=focal.sigmoid_focal,
        options=({}, {"alpha": 0.25, "gamma": 0.5}),
        numbers=("alpha", "gamma"),
        convex=False,
        in_torch=False,
    ),
    *(
        Row(
            jaxloss.softmax_focal_loss,
            draw=draw,
            reference=focal.softmax_focal,
            options=({}, {"gamma": 0.5, **WEIGHTED}, *more),
            numbers=("gamma",),
            convex=False,
            in_torch=False,
        )
        for draw, *more in ((classification.draw_indexed, {"ignore_index": 1}), (classification.draw_soft,))
    ),
    *(
        Row(
            jaxloss.poly_loss_cross_entropy,
            draw=draw,
            reference=focal.poly,
            options=({}, {"epsilon": -1.0, **WEIGHTED}, *more),
            numbers=("epsilon",),
            convex=False,
            in_torch=False,
        )
        for draw, *more in ((classification.draw_indexed, {"ignore_index": 1}), (classification.draw_soft,))
    ),
    Row(
        jaxloss.generalized_cross_entropy,
        draw=classification.draw_indexed,
        reference=focal.generalized,
        options=({}, {"q": 0.0, **WEIGHTED}, {"q": 1.0, "ignore_index": 1}),
        numbers=("q",),
        convex=False,
        in_torch=False,
    ),
    Row(
        jaxloss.asymmetric_loss,
        draw=focal.draw_binary_label,
        reference=focal.asymmetric,
        options=({}, {"gamma_negative": 0.5, "gamma_positive": 0.0, "clip": 0.0}),
        numbers=("gamma_negative", "gamma_positive", "clip"),
        convex=False,
        in_torch=False,
    ),
)
