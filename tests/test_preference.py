"""Losses of preferences: the formulas of TRL, written again in NumPy, and probabilities near 0 and 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

import jaxloss

GENERATOR = np.random.default_rng(0)
CHOSEN, REJECTED, REFERENCE_CHOSEN, REFERENCE_REJECTED = -GENERATOR.exponential(30, size=(4, 64))
LIKELY = -GENERATOR.exponential(1, size=(2, 64))


def log_sigmoid(x):
    return -np.log1p(np.exp(-abs(x))) + np.minimum(x, 0)


def sigmoid(x):
    return np.exp(log_sigmoid(x))


def logits():
    """The log-ratio of the policy minus that of the reference model. TRL pairs the terms so; the paper does not."""
    return (CHOSEN - REJECTED) - (REFERENCE_CHOSEN - REFERENCE_REJECTED)


def trl_dpo(beta=0.1, smoothing=0.0):
    return -log_sigmoid(beta * logits()) * (1 - smoothing) - log_sigmoid(-beta * logits()) * smoothing


def trl_simpo(chosen, rejected, beta=2.0, gamma=0.5):
    """That of the trainer for CPO, which divides the margin by beta first."""
    return -log_sigmoid(beta * (chosen - rejected - gamma / beta))


def trl_orpo(chosen, rejected, beta=0.1):
    log_odds = (chosen - rejected) - (np.log1p(-np.exp(chosen)) - np.log1p(-np.exp(rejected)))
    return -chosen - beta * np.log(sigmoid(log_odds))


def trl_kto(log_ratio, is_desirable, baseline, beta=0.1, desirable=1.0, undesirable=1.0):
    of_desirable = desirable * (1 - sigmoid(beta * (log_ratio - baseline)))
    return np.where(is_desirable, of_desirable, undesirable * (1 - sigmoid(beta * (baseline - log_ratio))))


ALL = (CHOSEN, REJECTED, REFERENCE_CHOSEN, REFERENCE_REJECTED)
IS_DESIRABLE = GENERATOR.integers(0, 2, size=64) == 1
LABELLED = (CHOSEN - REFERENCE_CHOSEN, 2 * IS_DESIRABLE - 1, np.float64(0.75))
WEIGHTS = {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.25}
CASES = {
    "dpo": (jaxloss.dpo_loss, ALL, {}, trl_dpo()),
    "dpo, beta": (jaxloss.dpo_loss, ALL, {"beta": 0.5}, trl_dpo(0.5)),
    "dpo, conservative": (jaxloss.dpo_loss, ALL, {"label_smoothing": 0.2}, trl_dpo(0.1, 0.2)),
    "ipo": (jaxloss.ipo_loss, ALL, {}, (logits() - 5) ** 2),
    "ipo, beta": (jaxloss.ipo_loss, ALL, {"beta": 0.25}, (logits() - 2) ** 2),
    "simpo": (jaxloss.simpo_loss, LIKELY, {}, trl_simpo(*LIKELY)),
    "simpo, beta": (jaxloss.simpo_loss, LIKELY, {"beta": 2.5, "gamma": 1.4}, trl_simpo(*LIKELY, 2.5, 1.4)),
    "orpo": (jaxloss.orpo_loss, LIKELY, {}, trl_orpo(*LIKELY)),
    "orpo, beta": (jaxloss.orpo_loss, LIKELY, {"beta": 0.7}, trl_orpo(*LIKELY, 0.7)),
    "kto": (jaxloss.kto_loss, LABELLED, {}, trl_kto(LABELLED[0], IS_DESIRABLE, 0.75)),
    "kto, weights": (jaxloss.kto_loss, LABELLED, WEIGHTS, trl_kto(LABELLED[0], IS_DESIRABLE, 0.75, 0.3, 1.5, 0.25)),
    "bradley_terry": (jaxloss.bradley_terry_loss, LIKELY, {}, -log_sigmoid(LIKELY[0] - LIKELY[1])),
    "bradley_terry, margin": (
        jaxloss.bradley_terry_loss,
        LIKELY,
        {"margin": 1.25},
        -log_sigmoid(LIKELY[0] - LIKELY[1] - 1.25),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_losses_are_those_of_trl(case):
    loss, arrays, options, expected = CASES[case]
    with jax.enable_x64(True):
        np.testing.assert_allclose(loss(*arrays, **options, reduction="none"), expected, rtol=1e-11, atol=1e-13)


def exact_orpo(chosen, rejected):
    """The loss with beta 1, and its derivatives, from float32 numbers."""

    def loss(c, r):
        c, r = mp.mpf(c), mp.mpf(r)
        return -c + mp.log(1 + mp.exp(r - c) * mp.expm1(c) / mp.expm1(r))

    with mp.workdps(200):
        at = float(chosen), float(rejected)
        # The step is so small that the error of the difference is that of its digits.
        steps = [mp.mpf(x) * mp.mpf(10) ** -25 for x in at]
        by_chosen = (loss(at[0] + steps[0], at[1]) - loss(at[0] - steps[0], at[1])) / (2 * steps[0])
        by_rejected = (loss(at[0], at[1] + steps[1]) - loss(at[0], at[1] - steps[1])) / (2 * steps[1])
        return float(loss(*at)), float(by_chosen), float(by_rejected)


LOG_PROBABILITIES = [-1e-37, -1e-20, -1.1e-20, -1e-7, -1e-3, -0.3, -0.6931472, -5.0, -16.0, -17.0, -90.0, -2e4]


@pytest.mark.parametrize("chosen", LOG_PROBABILITIES)
def test_odds_of_probabilities_near_0_and_1(chosen):
    derivatives = jax.jit(jax.value_and_grad(lambda c, r: jaxloss.orpo_loss(c, r, beta=1.0), (0, 1)))
    for rejected in LOG_PROBABILITIES:
        at = np.float32(chosen), np.float32(rejected)
        value, slopes = derivatives(*at)
        np.testing.assert_allclose([value, *slopes], exact_orpo(*at), rtol=1e-6, atol=1e-37)


def test_infinite_odds():
    def losses(chosen, rejected):
        return jaxloss.orpo_loss(chosen, rejected, beta=0.5, reduction="none")

    chosen, rejected = jnp.array([0.0, 0.0, -1.0]), jnp.array([-1.0, 0.0, 0.0])
    np.testing.assert_allclose(losses(chosen, rejected), [0, 0.5 * np.log(2), np.inf], rtol=1e-6)
    _, pull = jax.vjp(losses, chosen, rejected)
    by_chosen, by_rejected = pull(jnp.ones(3))
    assert np.isfinite(by_chosen).all()
    assert np.isfinite(by_rejected).all()
    odds = np.exp(-1) / (1 - np.exp(-1))
    np.testing.assert_allclose(by_chosen[0], -1 - 0.5 * odds, rtol=1e-6)
    assert by_rejected[0] == 0
    assert by_chosen[1] < -1e37 < 1e37 < by_rejected[1]
    # A sample that does not count has no gradient, although its loss is infinite.
    gradient = jax.grad(lambda rejected: jaxloss.orpo_loss(chosen, rejected, weights=jnp.array([1.0, 0.0, 0.0])))
    np.testing.assert_array_equal(gradient(rejected), 0)


@pytest.mark.nans
def test_a_log_probability_above_0_has_no_odds():
    chosen, rejected = jnp.array([-1.0, 0.1, -1.0, 0.1]), jnp.array([-1.0, -1.0, 200.0, 0.1])
    losses = jaxloss.orpo_loss(chosen, rejected, reduction="none")
    np.testing.assert_array_equal(np.isnan(losses), [False, True, True, True])


@pytest.mark.nans
def test_another_target_of_kto_is_not_a_number():
    losses = jaxloss.kto_loss(jnp.zeros(3), jnp.array([1, 0, -1]), 0.0, reduction="none")
    np.testing.assert_array_equal(losses, [0.5, np.nan, 0.5])


def test_no_gradient_goes_through_the_baseline_of_kto():
    x, y = jnp.array([1.0, -2.0]), jnp.array([1, -1])
    by_x, by_baseline = jax.grad(jaxloss.kto_loss, (0, 2))(x, y, jnp.array([0.5, 0.25]))
    assert by_baseline.shape == (2,)
    assert not by_baseline.any()
    assert by_x[0] < 0 < by_x[1]


@pytest.mark.parametrize("loss", [jaxloss.dpo_loss, jaxloss.ipo_loss], ids=lambda loss: loss.__name__)
def test_an_impossible_rejected_answer(loss):
    value, slopes = jax.value_and_grad(loss, (0, 1, 2, 3))(-1.0, -jnp.inf, -2.0, -3.0)
    assert value == (0 if loss is jaxloss.dpo_loss else jnp.inf)
    assert not np.isnan(slopes).any()


@pytest.mark.parametrize("beta", [1e38, 2e-38])
def test_dpo_at_extreme_factors(beta):
    log_probabilities = np.float32([[0, -1, -3e38, 0], [0, -1, 0, -3e38]])
    zero = np.zeros(4, np.float32)
    losses = jaxloss.dpo_loss(*log_probabilities, zero, zero, beta=beta, reduction="none")
    lead = beta * (log_probabilities[0].astype(float) - log_probabilities[1])
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(losses, np.float32(np.logaddexp(0, -lead)), rtol=1e-6)
