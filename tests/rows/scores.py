"""Scores of probabilistic forecasts."""

import jaxloss
from tests.references import scores
from tests.row import Row

ROWS = (
    Row(jaxloss.gaussian_crps, draw=scores.draw_normal, reference=scores.gaussian_crps, in_torch=False),
    Row(
        jaxloss.ensemble_crps,
        draw=scores.draw_ensemble,
        reference=scores.ensemble_crps,
        options=({}, {"fair": True}),
        convex=False,
        in_torch=False,
    ),
    Row(
        jaxloss.energy_score,
        draw=scores.draw_vectors,
        reference=scores.energy_score,
        options=({}, {"fair": True}),
        extremes=scores.extreme_vectors,
        convex=False,
        in_torch=False,
    ),
)
