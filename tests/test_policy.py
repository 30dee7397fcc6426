"""The clipped surrogate of PPO and GRPO: the formula of TRL, its kinks, and ratios that overflow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

GENERATOR = np.random.default_rng(0)
OLD = -GENERATOR.exponential(2, size=200)
X, ADVANTAGE = OLD + GENERATOR.normal(size=200), GENERATOR.normal(size=200)


def trl_grpo(low=0.2, high=0.2, delta=None):
    """With a bound on both sides, `delta`, which is the dual clip if it is above 1 + `high`."""
    ratio = np.exp(X - OLD)
    bounded = ratio if delta is None else np.minimum(ratio, delta)
    return -np.minimum(bounded * ADVANTAGE, np.clip(ratio, 1 - low, 1 + high) * ADVANTAGE)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, trl_grpo()),
        ({"clip_low": 0.1, "clip_high": 0.28}, trl_grpo(0.1, 0.28)),
        ({"dual_clip": 2.0}, trl_grpo(delta=2.0)),
        ({"clip_low": 1.0, "clip_high": 1e9}, -np.exp(X - OLD) * ADVANTAGE),
    ],
    ids=str,
)
def test_the_losses_are_those_of_trl(options, expected):
    with jax.enable_x64(True):
        losses = jaxloss.clipped_policy_loss(X, OLD, ADVANTAGE, **options, reduction="none")
        np.testing.assert_allclose(losses, expected, rtol=1e-11, atol=1e-13)


def slopes(x, advantage, **options):
    return jax.grad(lambda x: jaxloss.clipped_policy_loss(x, 0.0, advantage, **options))(x)


def test_the_derivative_beside_and_at_the_kinks():
    low, high, highest = np.log(0.75), np.log(1.5), np.log(3.0)
    options = {"clip_low": 0.25, "clip_high": 0.5, "dual_clip": 3.0}
    with jax.enable_x64(True):
        for advantage, edges in ((2.0, (-np.inf, high)), (-2.0, (low, highest))):
            for x in np.linspace(-2, 2, 21):
                expected = -advantage * np.exp(x) if edges[0] < x < edges[1] else 0
                np.testing.assert_allclose(slopes(x, advantage, **options), expected, rtol=1e-14)
            for edge in filter(np.isfinite, edges):
                mean = -advantage * np.exp(edge) / 2
                np.testing.assert_allclose(slopes(edge, advantage, **options), mean, rtol=1e-6)
        assert slopes(0.3, 0.0, **options) == 0


@pytest.mark.parametrize("x", [-1.0, 0.1, 0.5, 2.0])
def test_the_derivative_with_respect_to_the_advantage(x):
    def by_advantage(advantage):
        return jax.grad(lambda a: jaxloss.clipped_policy_loss(x, 0.0, a))(advantage)

    ratio = np.exp(x)
    above, below = -min(ratio, 1.2), -max(ratio, 0.8)
    np.testing.assert_allclose(by_advantage(1.0), above, rtol=1e-6)
    np.testing.assert_allclose(by_advantage(-1.0), below, rtol=1e-6)
    np.testing.assert_allclose(by_advantage(0.0), (above + below) / 2, rtol=1e-6)


@pytest.mark.parametrize("option", ["clip_low", "clip_high", "dual_clip"])
def test_a_bound_has_a_derivative_only_where_it_holds(option):
    at = {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 3.0}
    x, advantage = jnp.array([-1.0, 1.0, -1.0, 2.0, 0.1, -0.1]), jnp.array([-1.0, 2.0, 1.0, -3.0, 1.0, -1.0])

    def losses(bound):
        return jaxloss.clipped_policy_loss(x, jnp.zeros(6), advantage, **at | {option: bound}, reduction="none")

    expected = {"clip_low": (0, -1.0), "clip_high": (1, -2.0), "dual_clip": (3, 3.0)}[option]
    by_bound = jax.jacfwd(losses)(at[option])
    np.testing.assert_array_equal(by_bound, [expected[1] if i == expected[0] else 0 for i in range(6)])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_ratios_that_overflow(dtype):
    x = jnp.array([0.0, 0.0, 0.0, -2e4], dtype)
    old = jnp.array([-2e4, -2e4, -2e4, 0.0], dtype)
    advantage = jnp.array([1.0, -1.0, 0.0, -1.0], dtype)
    losses, pull = jax.vjp(lambda *xs: jaxloss.clipped_policy_loss(*xs, reduction="none"), x, old, advantage)
    np.testing.assert_allclose(losses, [-1.2, np.inf, 0, 0.8], rtol=1e-6)
    for weights in (np.ones(4), np.array([1.0, 0.0, 1.0, 1.0])):
        by_x, by_old, by_advantage = (np.asarray(each, np.float32) for each in pull(jnp.asarray(weights, jnp.float32)))
        np.testing.assert_array_equal(by_x[[0, 2, 3]], 0)
        np.testing.assert_array_equal(by_x, -by_old)
        assert not np.isnan(by_advantage).any()
        assert (by_x[1] > 0) == (weights[1] > 0)
    bounded = jaxloss.clipped_policy_loss(x, old, advantage, dual_clip=3.0, reduction="none")
    np.testing.assert_allclose(bounded, [-1.2, 3, 0, 0.8], rtol=1e-6)


def test_an_advantage_so_small_that_the_product_does_not_overflow():
    value, slope = jax.value_and_grad(jaxloss.clipped_policy_loss)(jnp.float32(0), -100.0, -1e-30)
    np.testing.assert_allclose([value, slope], np.exp(100) * 1e-30, rtol=2e-5)


def test_without_an_update_the_gradient_is_that_of_the_policy_gradient():
    x = jnp.array([-1.0, -2.0, -0.5])
    gradient = jax.grad(jaxloss.clipped_policy_loss)(x, x, jnp.array([1.0, -2.0, 0.0]), reduction="sum")
    np.testing.assert_array_equal(gradient, [-1, 2, 0])


def test_a_sequence_mean_with_an_answer_that_has_no_tokens():
    lengths = jnp.array([3, 0, 5])
    mask = jnp.arange(5)[None] < lengths[:, None]
    x, old, advantage = (jnp.asarray(each[:15].reshape(3, 5), jnp.float32) for each in (X, OLD, ADVANTAGE))

    def sequence_mean(x):
        options = {"where": mask, "weights": 1 / lengths[:, None], "reduction": "batchmean"}
        return jaxloss.clipped_policy_loss(x, old, advantage, **options)

    value, gradient = jax.value_and_grad(sequence_mean)(x)
    losses = trl_grpo()[:15].reshape(3, 5)
    np.testing.assert_allclose(value, (losses[0, :3].mean() + losses[2].mean()) / 3, rtol=1e-5)
    assert np.isfinite(gradient).all()
    assert not gradient[~mask].any()
