"""Hinge losses and perceptrons."""

import jaxloss
from tests.references import classification, hinge
from tests.references.margin import draw_decision
from tests.row import Row

ROWS = tuple(
    Row(
        function,
        draw=draw,
        reference=reference,
        options=({}, {"kink_width": 0.0}),
        numbers=("kink_width",),
        in_torch=False,
    )
    for function, draw, reference in (
        (jaxloss.hinge_loss, draw_decision, hinge.hinge),
        (jaxloss.squared_hinge_loss, draw_decision, hinge.squared_hinge),
        (jaxloss.perceptron_loss, draw_decision, hinge.perceptron),
        (jaxloss.multiclass_hinge_loss, classification.draw_indexed, hinge.multiclass_hinge),
        (jaxloss.multiclass_perceptron_loss, classification.draw_indexed, hinge.multiclass_perceptron),
    )
)
