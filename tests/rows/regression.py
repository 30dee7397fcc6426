"""Losses of real-valued predictions."""

import jaxloss
from tests.references import regression
from tests.row import Row

ROWS = (
    Row(jaxloss.mse_loss, draw=regression.draw_regression, reference=regression.mse),
    Row(
        jaxloss.l1_loss,
        draw=regression.draw_regression,
        reference=regression.l1,
        options=({}, {"kink_width": 0.0}),
        numbers=("kink_width",),
    ),
    Row(
        jaxloss.smooth_l1_loss,
        draw=regression.draw_regression,
        reference=regression.smooth_l1,
        options=({}, {"beta": 0}, {"beta": 2.5}),
        numbers=("beta", "kink_width"),
        kinked={"beta": 0},
    ),
    Row(
        jaxloss.huber_loss,
        draw=regression.draw_regression,
        reference=regression.huber,
        options=({}, {"delta": 0.3}),
        numbers=("delta",),
    ),
)
