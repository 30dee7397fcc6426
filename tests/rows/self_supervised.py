"""Losses of two views of the same items."""

import jaxloss
from tests.references import self_supervised
from tests.row import Row

ROWS = (
    Row(
        jaxloss.barlow_twins_loss,
        draw=self_supervised.draw_views,
        reference=self_supervised.barlow_twins,
        options=({}, {"off_diagonal": 0.5}),
        numbers=("off_diagonal",),
        extremes=self_supervised.extreme_views,
        convex=False,
        in_torch=False,
    ),
    Row(
        jaxloss.vicreg_loss,
        draw=self_supervised.draw_views,
        reference=self_supervised.vicreg,
        options=({}, {"similarity": 1.0, "variance": 2.0, "covariance": 4.0, "eps": 0.0}),
        numbers=("similarity", "variance", "covariance"),
        extremes=self_supervised.extreme_views,
        convex=False,
        in_torch=False,
    ),
)
