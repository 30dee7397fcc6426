"""Losses of real-valued predictions."""

import math

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
    Row(jaxloss.log_cosh, draw=regression.draw_regression, reference=regression.log_cosh, in_torch=False),
    Row(
        jaxloss.quantile_loss,
        draw=regression.draw_regression,
        reference=regression.quantile,
        options=({}, {"quantile": 0.9, "kink_width": 0.0}, {"quantile": 0}),
        numbers=("quantile", "kink_width"),
        in_torch=False,
    ),
    Row(
        jaxloss.expectile_loss,
        draw=regression.draw_regression,
        reference=regression.expectile,
        options=({}, {"expectile": 0.9}, {"expectile": 0}),
        numbers=("expectile",),
        in_torch=False,
    ),
    Row(
        jaxloss.absolute_percentage_error,
        draw=regression.draw_relative,
        reference=regression.absolute_percentage,
        options=({}, {"eps": 1.5, "kink_width": 0.0}),
        numbers=("eps", "kink_width"),
        in_torch=False,
    ),
    Row(
        jaxloss.squared_logarithmic_error,
        draw=regression.draw_above_minus_one,
        reference=regression.squared_logarithmic,
        convex=False,
        in_torch=False,
    ),
    Row(
        jaxloss.general_robust_loss,
        draw=regression.draw_regression,
        reference=regression.general_robust,
        options=({}, {"alpha": -2.0, "scale": 0.5}, {"alpha": 2}, {"alpha": 0}, {"alpha": -math.inf}, {"alpha": 1.5}),
        numbers=("alpha", "scale"),
        in_torch=False,
    ),
    Row(
        jaxloss.general_robust_loss,
        draw=regression.draw_regression,
        reference=regression.general_robust,
        options=({"alpha": 0.5}, {"alpha": 3.0}),
        numbers=("alpha", "scale"),
        convex=False,
        in_torch=False,
    ),
    Row(
        jaxloss.general_robust_loss,
        draw=regression.draw_regression,
        reference=regression.general_robust,
        options=({"alpha": -math.inf},),
        numbers=("scale",),
        convex=False,
        in_torch=False,
    ),
)
