"""Tests of likelihoods that the registry does not cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

import jaxloss


def test_poisson_is_infinite_with_a_finite_gradient_where_the_rate_overflows():
    log_rate, count = jnp.array([89.0, 1e3]), jnp.array([1e30, 2.0])
    assert np.isinf(jaxloss.poisson_nll_loss(log_rate, count, reduction="none")).all()
    gradients = jax.grad(jaxloss.poisson_nll_loss, (0, 1))(log_rate, count, reduction="sum")
    assert np.isfinite(gradients).all()


def test_the_derivatives_of_tweedie_are_numbers_where_a_power_of_the_mean_overflows():
    log_mean, count = jnp.array([250.0, -250.0, 1e30, -1e30, 0.0, 250.0]), jnp.array([2.0, 2.0, 2.0, 2.0, 3e38, 0.0])
    power = jnp.array([1.5, 1.5, 1.01, 1.99, 1.001, 1.5])
    slopes = jax.grad(jaxloss.tweedie_nll_loss, (0, 1))(log_mean, count, power=power, reduction="sum")
    by_power = jax.grad(lambda power: jaxloss.tweedie_nll_loss(log_mean, count, power=power, reduction="sum"))(power)
    assert not np.isnan([*slopes, by_power]).any()


def test_the_derivative_of_tweedie_with_respect_to_the_power():
    x, y, p, h = np.array([0.5, -2.0, 3.0]), np.array([2.0, 0.0, 7.0]), np.array([1.1, 1.5, 1.9]), 1e-6

    def formula(p):
        return np.exp((2 - p) * x) / (2 - p) - y * np.exp((1 - p) * x) / (1 - p)

    got = jax.grad(lambda p: jaxloss.tweedie_nll_loss(jnp.asarray(x), y, power=p, reduction="sum"))(jnp.asarray(p))
    np.testing.assert_allclose(got, (formula(p + h) - formula(p - h)) / (2 * h), rtol=1e-4)


@pytest.mark.parametrize("log_input", [False, True])
def test_poisson_is_accurate_at_rates_near_large_counts(log_input):
    count = np.array([2.0, 40.0, 2572564.0, 1e7], np.float32)
    rate = np.array([2.25, 41.0, 2572567.25, 1e7 + 2000], np.float32)
    x, y = (np.log(rate) if log_input else rate), count.astype(np.float64)
    true = np.exp(x.astype(np.float64)) if log_input else x.astype(np.float64)
    exact = true - y * np.log(true) + y * np.log(y) - y + np.log(2 * np.pi * y) / 2
    loss = jax.jit(lambda x, y: jaxloss.poisson_nll_loss(x, y, log_input=log_input, full=True, reduction="none"))
    # One unit in the last place of the rate 1e7 changes the last loss by 2e-4, and one of its logarithm by 2e-3.
    np.testing.assert_allclose(loss(x, count), exact, rtol=2e-6, atol=2e-3 if log_input else 2e-4)
    slope = jax.grad(lambda x: loss(x, count).sum())(x)
    np.testing.assert_allclose(slope, true - y if log_input else 1 - y / true, rtol=1e-6, atol=2 if log_input else 1e-9)


@pytest.mark.parametrize("log_input", [False, True])
def test_the_derivative_of_poisson_with_respect_to_the_count(log_input):
    rate, count = np.array([2.25, 30.0, 0.5, 3.0], np.float32), np.array([2.0, 41.0, 1e4, 0.5], np.float32)
    x = np.log(rate) if log_input else rate
    slope = jax.grad(lambda y: jaxloss.poisson_nll_loss(x, y, log_input=log_input, full=True, reduction="sum"))(count)
    stirling = np.where(count > 1, np.log(count) + 1 / (2 * count), 0)
    np.testing.assert_allclose(slope, stirling - np.log(rate), rtol=1e-5)


def test_the_derivative_of_gaussian_with_respect_to_eps():
    def loss(variance, eps):
        return jaxloss.gaussian_nll_loss(jnp.array([0.5, 2.0]), jnp.zeros(2), variance, eps=eps, reduction="sum")

    variance, eps = jnp.array([0.01, 3.0]), jnp.array([0.25, 0.25])
    by_eps = jax.grad(loss, 1)(variance, eps)
    by_variance = jax.grad(loss)(jnp.array([0.25, 3.0]), eps)
    np.testing.assert_allclose(by_eps, [by_variance[0], 0], rtol=1e-6)


def test_classes_impossible_in_both_distributions_contribute_0():
    log_probabilities, target = jnp.array([-jnp.inf, 0.0]), jnp.array([0.0, 1.0])
    for given, log_target in ((target, False), (jnp.log(target), True)):
        loss = jax.value_and_grad(jaxloss.kl_div, (0, 1))
        value, gradients = loss(log_probabilities, given, log_target=log_target, reduction="sum")
        assert value == 0
        assert np.isfinite(gradients).all()


def test_an_impossible_prediction_of_a_possible_class_is_reported():
    checked = checkify.checkify(jax.jit(jaxloss.kl_div))
    with jaxloss.data_checks(True):
        error, value = checked(jnp.array([-jnp.inf, 0.0]), jnp.array([0.25, 0.75]))
    assert "kl_div: log_probabilities is -inf where the target's probability is 0.25" in error.get()
    assert value == jnp.inf
    with jaxloss.data_checks(True):
        error, _ = checked(jnp.array([-jnp.inf, 0.0]), jnp.array([0.0, 1.0]))
    assert error.get() is None


@pytest.mark.parametrize("probability", [0.75, 0.25])
def test_probabilities_that_do_not_sum_to_1_are_reported(probability):
    checked = checkify.checkify(jax.jit(jaxloss.cross_entropy))
    with jaxloss.data_checks(True):
        error, _ = checked(jnp.zeros((2, 2)), jnp.array([[0.5, 0.5], [probability, probability]]))
        fine, _ = checked(jnp.zeros((2, 2), jnp.bfloat16), jnp.array([[0.5, 0.5], [0.3, 0.7]], jnp.bfloat16))
    said = f"cross_entropy: target sums to {2 * probability} over the classes but takes probabilities that sum to 1"
    assert said in error.get()
    assert fine.get() is None


@pytest.mark.nans
def test_a_gaussian_passes_the_gradient_through_its_clamp():
    def loss(variance):
        return jaxloss.gaussian_nll_loss(1.0, 0.0, variance, eps=0.5)

    assert loss(jnp.float32(0.1)) == loss(jnp.float32(0.5))
    assert jax.grad(loss)(jnp.float32(0.1)) == (1 / 0.5 - 1 / 0.5**2) / 2
    assert np.isnan(loss(jnp.float32(-0.1)))


def test_a_target_of_0_counts_the_predicted_number():
    log_q, p = jnp.float32([-1e4, -1, 0, 3, 1e4]), jnp.zeros(5)
    predicted = np.array([0, np.exp(-1), 1, np.exp(3), np.inf])
    losses, pull = jax.vjp(lambda *x: jaxloss.generalized_kl_div(*x, reduction="none"), log_q, p)
    np.testing.assert_allclose(losses, predicted, rtol=1e-6)
    by_log_q, by_target = pull(jnp.ones(5))
    np.testing.assert_allclose(by_log_q[:4], losses[:4], rtol=1e-6)
    assert np.isfinite(by_log_q).all()
    assert np.isfinite(by_target).all()
    mixed = jax.jacfwd(jax.grad(jaxloss.generalized_kl_div), (0, 1))(jnp.float32(1), jnp.float32(0))
    np.testing.assert_allclose(mixed, (np.e, -1), rtol=1e-6)


@pytest.mark.parametrize("full", [False, True])
def test_a_negative_binomial_becomes_a_poisson_distribution(full):
    log_mean, y = jnp.float32([-2, 0, 1, 4, 7]), jnp.float32([0, 1, 4, 50, 1100])
    concentration = jnp.full(5, 1e30, jnp.float32)

    def loss(log_mean, concentration):
        return jaxloss.negative_binomial_nll_loss(log_mean, y, concentration, full=full, reduction="none")

    # The last count is so large that Stirling's approximation, which `poisson_nll_loss` takes, has all digits.
    limit = jaxloss.poisson_nll_loss(log_mean, y, full=full, reduction="none")
    which = slice(4, None) if full else slice(None)
    np.testing.assert_allclose(loss(log_mean, concentration)[which], limit[which], rtol=1e-4 if full else 2e-6)
    by_log_mean, by_concentration = jax.grad(lambda *x: loss(*x).sum(), (0, 1))(log_mean, concentration)
    np.testing.assert_allclose(by_log_mean, np.exp(log_mean) - y, rtol=1e-6, atol=1e-6)
    assert np.abs(by_concentration).max() < 1e-30


def test_the_derivative_with_respect_to_a_large_concentration_keeps_its_digits():
    """It is about ((y - mean)^2 - y) / (2 r^2)."""
    y, r = jnp.float32([3, 8, 100]), jnp.float32([1e5, 1e6, 1e9])
    slope = jax.grad(lambda r: jaxloss.negative_binomial_nll_loss(jnp.log(5.0) * jnp.ones(3), y, r, reduction="sum"))(r)
    expected = ((np.float64(y) - 5) ** 2 - np.float64(y)) / (2 * np.float64(r) ** 2)
    np.testing.assert_allclose(slope, expected, rtol=1e-3)


@pytest.mark.parametrize("x", [-1e4, -1.0, 0.0, 3.0, 1e4])
def test_a_count_of_0_under_a_negative_binomial_distribution(x):
    value, slope = jax.value_and_grad(jaxloss.negative_binomial_nll_loss)(jnp.float32(x), 0, jnp.float32(2), full=True)
    np.testing.assert_allclose(value, 2 * np.logaddexp(0, x - np.log(2)), rtol=1e-6)
    np.testing.assert_allclose(slope, 2 / (1 + 2 * np.exp(-min(max(x, -80), 80))), rtol=1e-6, atol=1e-30)


@pytest.mark.nans
def test_a_negative_concentration_or_mean_gives_nan():
    for mean, concentration in ((-1, 2), (1, -2)):
        loss = jaxloss.negative_binomial_nll_loss(*map(jnp.float32, (mean, 3, concentration)), log_input=False)
        assert np.isnan(loss)
