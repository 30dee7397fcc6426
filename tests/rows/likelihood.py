"""Likelihoods and divergences."""

import jaxloss
from tests.references import likelihood
from tests.row import Row

ROWS = (
    Row(
        jaxloss.poisson_nll_loss,
        draw=likelihood.draw_count,
        reference=likelihood.poisson_nll,
        options=({}, {"full": True}),
    ),
    Row(
        jaxloss.poisson_nll_loss,
        draw=likelihood.draw_rate,
        reference=likelihood.poisson_nll,
        options=({"log_input": False}, {"log_input": False, "full": True, "eps": 0.01}),
        numbers=("eps",),
        domains={"prediction": "[0, inf)"},
    ),
    Row(
        jaxloss.gaussian_nll_loss,
        draw=likelihood.draw_normal,
        reference=likelihood.gaussian_nll,
        options=({}, {"full": True, "eps": 0.5}),
        numbers=("eps",),
    ),
    Row(
        jaxloss.kl_div,
        draw=likelihood.draw_log_and_probability,
        reference=likelihood.kl_div,
        domains={"target": "[0, 1]"},
    ),
    Row(
        jaxloss.kl_div,
        draw=likelihood.draw_log_and_log,
        reference=likelihood.kl_div,
        options=({"log_target": True},),
        domains={"target": "[-inf, 0]"},
    ),
)
