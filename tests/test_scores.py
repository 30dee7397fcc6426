"""Tests of scores that the registry does not cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.references import scores


def gradient(x, y, **options):
    return np.asarray(jax.grad(lambda x: jaxloss.ensemble_crps(x, y, **options))(x))


@pytest.mark.parametrize("fair", [False, True])
def test_tied_members_share_the_derivative(fair):
    x, y = jnp.float32([2, 1, 2, 5, 2, 1]), jnp.float32(2)
    total = 6 * (6 - fair)
    sign = np.sign(np.asarray(x)[:, None] - np.asarray(x)).sum(1)
    np.testing.assert_allclose(gradient(x, y, fair=fair), np.sign(x - y) / 6 - sign / total, rtol=1e-6)
    step = jnp.float32([1, 0, 1, 0, 1, 0])
    _, forward = jax.jvp(lambda x: jaxloss.ensemble_crps(x, y, fair=fair), (x,), (step,))
    np.testing.assert_allclose(forward, gradient(x, y, fair=fair) @ step, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("fair", [False, True])
def test_a_single_member_has_its_distance(fair):
    assert jaxloss.ensemble_crps(jnp.float32([3]), jnp.float32(1), fair=fair) == 2
    np.testing.assert_array_equal(gradient(jnp.float32([3]), jnp.float32(1), fair=fair), [1])
    member, target = jnp.float32([[3, 4]]), jnp.zeros(2)
    assert jaxloss.energy_score(member, target, fair=fair) == 5


def test_vectors_of_one_entry_have_the_score_of_an_ensemble():
    x, y = scores.draw_ensemble(np.random.default_rng(0), (7,))
    with jax.enable_x64(True):
        for fair in (False, True):
            one = jaxloss.ensemble_crps(x, y, fair=fair)
            np.testing.assert_allclose(jaxloss.energy_score(x[..., None], y[..., None], fair=fair), one, rtol=1e-13)


def test_a_large_ensemble_of_normal_numbers_has_the_score_of_their_distribution():
    x = np.random.default_rng(0).normal(size=(1, 1 << 16)).astype(np.float32)
    for target in (0.0, 0.5, 3.0):
        got = jaxloss.ensemble_crps(x, jnp.float32([target]))
        expected = jaxloss.gaussian_crps(jnp.float32(0), jnp.float32(target), jnp.float32(1))
        np.testing.assert_allclose(got, expected, atol=5e-3)


def test_a_normal_distribution_without_spread_has_the_absolute_error():
    x, y, scale = jnp.float32([0, 1, -2, 1e30]), jnp.float32([0, 3, 5, -1e30]), jnp.float32([0, 0, 1e-30, 1e-30])
    losses = jaxloss.gaussian_crps(x, y, scale, reduction="none")
    np.testing.assert_allclose(losses, np.abs(np.asarray(x) - np.asarray(y)), rtol=1e-6)
    by_scale = jax.grad(lambda s: jaxloss.gaussian_crps(x, y, s, reduction="sum"))(scale)
    np.testing.assert_allclose(by_scale[1:], -1 / np.sqrt(np.pi), rtol=1e-6)


@pytest.mark.nans
def test_a_negative_scale_gives_nan():
    assert np.isnan(jaxloss.gaussian_crps(jnp.float32(0), jnp.float32(1), jnp.float32(-1)))


def test_the_value_inside_a_second_derivative_has_the_right_derivative():
    x, y = scores.draw_ensemble(np.random.default_rng(0), ())
    with jax.enable_x64(True):
        for fair in (False, True):
            slope = jax.grad(lambda x: jaxloss.ensemble_crps(x, y, fair=fair))  # noqa: B023
            both = jax.jacfwd(jax.value_and_grad(lambda x: jaxloss.ensemble_crps(x, y, fair=fair)))(x)  # noqa: B023
            np.testing.assert_allclose(both[0], slope(x), rtol=1e-12, atol=1e-14)
            np.testing.assert_array_equal(both[1], 0)
