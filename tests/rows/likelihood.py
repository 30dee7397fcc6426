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
    Row(
        jaxloss.generalized_kl_div,
        draw=likelihood.draw_log_and_number,
        reference=likelihood.generalized_kl_div,
        domains={"target": "[0, inf)"},
        in_torch=False,
    ),
    Row(
        jaxloss.generalized_kl_div,
        draw=likelihood.draw_two_logs,
        reference=likelihood.generalized_kl_div,
        options=({"log_target": True},),
        in_torch=False,
    ),
    Row(
        jaxloss.gamma_nll_loss,
        draw=likelihood.draw_positive,
        reference=likelihood.gamma_nll,
        in_torch=False,
    ),
    Row(
        jaxloss.gamma_nll_loss,
        draw=likelihood.draw_two_positive,
        reference=likelihood.gamma_nll,
        options=({"log_input": False},),
        domains={"prediction": "(0, inf)"},
        convex=False,
        in_torch=False,
    ),
    Row(
        jaxloss.tweedie_nll_loss,
        draw=likelihood.draw_count,
        reference=likelihood.tweedie_nll,
        options=({}, {"power": 1.125}),  # a number of float32: near 1, its rounding errors count
        numbers=("power",),
        in_torch=False,
    ),
    Row(
        jaxloss.tweedie_nll_loss,
        draw=likelihood.draw_rate,
        reference=likelihood.tweedie_nll,
        options=({"log_input": False}, {"log_input": False, "power": 1.9}),
        numbers=("power",),
        domains={"prediction": "(0, inf)"},
        convex=False,
        in_torch=False,
    ),
    Row(
        jaxloss.negative_binomial_nll_loss,
        draw=likelihood.draw_counts,
        reference=likelihood.negative_binomial_nll,
        options=({}, {"full": True}),
        in_torch=False,
    ),
    Row(
        jaxloss.negative_binomial_nll_loss,
        draw=likelihood.draw_counts_of_means,
        reference=likelihood.negative_binomial_nll,
        options=({"log_input": False, "full": True}, {"log_input": False}),
        domains={"prediction": "(0, inf)"},
        convex=False,
        in_torch=False,
    ),
)
