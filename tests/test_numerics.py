"""Numeric primitives on their own: values and slopes at ordinary arguments, and at those that each primitive is for."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss import _positive as positive
from tests import compiling

INF, LARGEST = math.inf, float(jnp.finfo(jnp.float32).max)
LOG2, TINY, SMALLEST = math.log(2), math.exp(-50), float(jnp.finfo(jnp.float32).tiny)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


CASES = (
    # function, arguments, value, slopes
    (numerics.finite, (2,), 2, (1,)),
    (numerics.finite, (INF,), LARGEST, (1,)),
    (numerics.finite, (-INF,), -LARGEST, (1,)),
    (numerics.difference, (3, 1), 2, (1, -1)),
    (numerics.difference, (INF, INF), 0, (1, -1)),
    (numerics.difference, (-INF, INF), -INF, (1, -1)),
    (numerics.square, (3,), 9, (6,)),
    (numerics.square, (-INF,), INF, (-LARGEST,)),
    (numerics.weighted_squares, (2, 3, -4), 32, (16, 0, -16)),
    (numerics.weighted_squares, (2, 3, 4), 48, (0, 16, 24)),
    (numerics.weighted_squares, (0, 1, -1e30), 0, (LARGEST, 0, 0)),
    (numerics.weighted_squares, (1, 0, 1e30), 0, (0, LARGEST, 0)),
    (numerics.product, (2, 3), 6, (3, 2)),
    (numerics.product, (-1, INF), -INF, (LARGEST, -1)),
    (numerics.exp_minus_product, (1, 2), math.e - 2, (math.e - 2, -1)),
    (numerics.exp_minus_product, (-50, 2), 100, (TINY - 2, 50)),
    (numerics.exp_minus_product, (100, 2), INF, (LARGEST * (1 - 7.57e-6), -100)),
    (numerics.exp_minus_product, (88, 3e36), math.exp(88) - 2.64e38, (math.exp(88) - 3e36, -88)),
    (numerics.exp_minus_product, (10, 3e37), -3e38, (-3e37, -10)),
    (numerics.exp_minus_product, (100, 1e36), INF, (LARGEST * (1 - 7.57e-6) - 1e36, -100)),
    (numerics.exp_minus_product, (80, 2e36), math.exp(80) - 1.6e38, (math.exp(80) - 2e36, -80)),
    (numerics.exp_minus_product, (-INF, 0), SMALLEST, (0, LARGEST)),
    (numerics.exp_minus_product, (-INF, 0.25), INF, (-0.25, LARGEST)),
    (numerics.exp_minus_product, (INF, 0), INF, (LARGEST * (1 - 7.57e-6), -LARGEST)),
    (numerics.exp_minus_product, (-2, -3), math.exp(-2) - 6, (math.exp(-2) + 3, 2)),
    (positive.scaled_exp, (2, 1), 2 * math.e, (math.e, 2 * math.e)),
    (
        positive.scaled_exp,
        (1e-30, 100),
        math.exp(100 - 30 * math.log(10)),
        (LARGEST, math.exp(100 - 30 * math.log(10))),
    ),
    (positive.scaled_exp, (0, 1e4), 0, (LARGEST, 0)),
    (positive.scaled_exp, (1e30, -100), math.exp(30 * math.log(10) - 100), (0, math.exp(30 * math.log(10) - 100))),
    (numerics.xlogx, (0,), 0, (0,)),
    (numerics.xlogx, (2,), 2 * LOG2, (LOG2 + 1,)),
    (numerics.xlogx, (1,), 0, (1,)),
    (logistic.softplus, (0,), LOG2, (0.5,)),
    (logistic.softplus, (1,), math.log1p(math.e), (sigmoid(1),)),
    (logistic.softplus, (-50,), TINY, (TINY,)),
    (logistic.softplus, (1e4,), 1e4, (1,)),
    (logistic.logistic_cross_entropy, (0, 0.25), LOG2, (0.25, 0)),
    (logistic.logistic_cross_entropy, (3, 0.25), math.log1p(math.exp(3)) - 0.75, (sigmoid(3) - 0.25, -3)),
    (logistic.logistic_cross_entropy, (50, 1), TINY, (-TINY, -50)),
    (logistic.logistic_cross_entropy, (-50, 0), TINY, (TINY, 50)),
    (logistic.logistic_cross_entropy, (INF, 1), 0, (0, -LARGEST)),
    (logistic.logistic_cross_entropy, (INF, 0), INF, (1, -LARGEST)),
    (logistic.logistic_cross_entropy, (INF, 1 - 2**-20), INF, (2**-20, -LARGEST)),
    (logistic.logistic_cross_entropy, (-INF, 0), 0, (0, LARGEST)),
    (logistic.logistic_cross_entropy, (-INF, 1e-30), INF, (-1e-30, LARGEST)),
    (logistic.logistic_cross_entropy, (1e37, 0), 1e37, (1, -1e37)),
    (logistic.logistic_cross_entropy, (3, 2), math.log1p(math.exp(3)) - 6, (sigmoid(3) - 2, -3)),
    (logistic.weighted_logistic_cross_entropy, (0, 0.25, 2), 1.25 * LOG2, (0.125, LOG2, LOG2 / 4)),
    (logistic.weighted_logistic_cross_entropy, (50, 1, 2), 2 * TINY, (-2 * TINY, -50, TINY)),
    (logistic.weighted_logistic_cross_entropy, (INF, 1, 2), 0, (0, -LARGEST, 0)),
    (logistic.weighted_logistic_cross_entropy, (INF, 0.5, 2), INF, (0.5, -LARGEST, 0)),
    (logistic.weighted_logistic_cross_entropy, (-INF, 1, 0), 0, (0, 0, LARGEST)),
    (logistic.weighted_logistic_cross_entropy, (1e37, 0, 2), 1e37, (1, -1e37, 0)),
    (numerics.weighted, (2, 3), 6, (3, 2)),
    (numerics.weighted, (0, 3), 0, (3, 0)),
    (numerics.weighted, (0, INF), 0, (LARGEST, 0)),
    (numerics.weighted, (1, INF), INF, (LARGEST, 1)),
    (numerics.weighted, (2, -INF), -INF, (-LARGEST, 2)),
    (numerics.twice_weighted, (2, 3, 4), 24, (12, 8, 6)),
    (numerics.twice_weighted, (0, 2, -INF), 0, (-LARGEST, 0, 0)),
    (numerics.twice_weighted, (0.5, 0.25, INF), INF, (LARGEST / 4, LARGEST / 2, 0.125)),
    (numerics.ratio, (6, 4), 1.5, (0.25, -0.375)),
    (numerics.ratio, (0, 0), 0, (1, 0)),
    (numerics.ratio, (0, 2), 0, (0.5, 0)),
    (numerics.ratio, (3, 0), INF, (1, -LARGEST)),
    (numerics.ratio, (INF, 2), INF, (0.5, -LARGEST / 2)),
    (numerics.ratio, (INF, INF), INF, (0, 0)),
    (numerics.ratio, (2e-30, 1e-30), 2, (1e30, -2e30)),
)


@functools.cache
def program(function, n):
    """The value, the slopes, and the sum of the slopes from forward mode."""

    @jax.jit
    def run(*arguments):
        value, slopes = jax.value_and_grad(function, tuple(range(n)))(*arguments)
        return value, slopes, jax.jvp(function, arguments, (jnp.float32(1),) * n)[1]

    return run


@pytest.mark.parametrize(("function", "arguments", "value", "slopes"), CASES)
def test_values_and_slopes(function, arguments, value, slopes):
    got, gradient, forward = program(function, len(arguments))(*map(jnp.float32, arguments))
    np.testing.assert_allclose(got, value, rtol=2e-6)
    np.testing.assert_allclose(gradient, slopes, rtol=2e-6)
    np.testing.assert_allclose(forward, np.sum(np.float32(slopes)), rtol=2e-6)


@pytest.mark.nans
def test_nan_propagates():
    for function, arguments, _, _ in CASES:
        assert np.isnan(function(*(jnp.float32(math.nan) for _ in arguments)))


@pytest.mark.parametrize("x", [-80, -2, 0, 2, 80])
def test_the_second_derivatives_of_a_logistic_cross_entropy(x):
    by_logits, by_target = jax.hessian(logistic.logistic_cross_entropy, (0, 1))(jnp.float32(x), jnp.float32(0.25))
    np.testing.assert_allclose(by_logits, (sigmoid(x) * sigmoid(-x), -1), rtol=2e-6)
    np.testing.assert_array_equal(by_target, (-1, 0))


def test_weighted_has_the_right_mixed_derivative_at_weight_0():
    def by_loss(weight):
        return jax.grad(numerics.weighted, 1)(weight, jnp.float32(3))

    assert jax.grad(by_loss)(jnp.float32(0)) == 1


def test_an_overflow_times_0_is_0():
    _, pull = jax.vjp(numerics.square, jnp.float32(INF))
    assert pull(jnp.float32(0)) == (0,)
    for tangent in (1, INF):
        weight_and_loss, by_loss = (jnp.float32(0), jnp.float32(INF)), (jnp.float32(0), jnp.float32(tangent))
        with jax.debug_nans(False):  # in the branch that is not selected
            assert jax.jvp(numerics.weighted, weight_and_loss, by_loss)[1] == 0

    def scaled(factor):
        return jaxloss.mse_loss(factor * jnp.float32([1e30, 1]), jnp.ones(2), weights=jnp.float32([0, 1]))

    with jax.debug_nans(False):
        assert jax.jacfwd(scaled)(jnp.float32(1)) == jax.grad(scaled)(jnp.float32(1)) == 0


def test_a_cotangent_that_overflows_times_0_is_0():
    """In the derivative of an exponential that is 0, by reverse mode and by forward mode."""
    value, pull = jax.vjp(numerics.exp_apart, jnp.float32([-200, 0]))
    np.testing.assert_array_equal(value, [0, 1])
    np.testing.assert_array_equal(pull(jnp.float32([np.inf, 3]))[0], [0, 3])
    _, change = jax.jvp(numerics.exp_apart, (jnp.float32([-200, 0]),), (jnp.float32([2, 3]),))
    np.testing.assert_array_equal(change, [0, 3])


def test_the_second_derivative_of_xlogx_is_finite_at_0_and_right_elsewhere():
    curvature = jax.grad(jax.grad(numerics.xlogx))
    assert curvature(jnp.float32(0)) == 0
    assert curvature(jnp.float32(4)) == 0.25


def test_a_scaled_exponential_overflows_only_if_its_value_does():
    value, slopes = jax.value_and_grad(positive.scaled_exp, (0, 1))(jnp.float32(1), jnp.float32(1e4))
    assert (value, *slopes) == (INF, jnp.float32(LARGEST), jnp.float32(LARGEST))


def test_exp_minus_product_is_not_nan_if_both_terms_overflow():
    x, y = (v.ravel() for v in jnp.meshgrid(jnp.float32([80, 89, 100, 1e30, 4e37]), jnp.float32([1, 1e34, 1e36, 4e37])))
    with jax.disable_jit():  # because fusion may hide an infinity
        values = numerics.exp_minus_product(x, y)
    assert not np.isnan(values).any()
    np.testing.assert_array_equal(values == np.inf, x > 88.8)
    np.testing.assert_array_equal(jax.jit(numerics.exp_minus_product)(x, y), values)


@pytest.mark.nans
def test_raised_applies_the_floor_except_to_negative_numbers():
    for floor in (1e-30, 1, 1e3):
        x = np.float32([-INF, -3, -2e-38, 0, 2e-38, floor / 2, floor, 2 * floor, INF, math.nan])
        expected = [*x[:3], *4 * [np.float32(floor)], *x[-3:]]
        np.testing.assert_array_equal(numerics.raised(jnp.asarray(x), floor), expected)


def test_is_nonzero():
    x = jnp.float32([-INF, -3, -2e-38, 0, -0.0, 2e-38, 0.5, INF])
    np.testing.assert_array_equal(numerics.is_nonzero(x), [1, 1, 1, 0, 0, 1, 1, 1])


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("loss", "arrays", "kept"),
    [
        (jaxloss.margin_ranking_loss, 3, 0),
        (jaxloss.poisson_nll_loss, 2, 0),
        # The one array kept is the difference.
        (jaxloss.gaussian_nll_loss, 3, 1),
        (jaxloss.binary_cross_entropy, 2, 0),
        (jaxloss.binary_cross_entropy_with_logits, 2, 0),
        (lambda x, y, w: jaxloss.mse_loss(x, y, weights=w), 3, 1),
    ],
)
def test_constants_shared_by_value_and_gradient_are_not_materialised(loss, arrays, kept):
    n = 2**20
    shapes = [jax.ShapeDtypeStruct((n,), jnp.float32)] * arrays
    assert compiling.temporaries(jax.value_and_grad(loss), *shapes) < (kept + 0.1) * 4 * n


@pytest.mark.parametrize(("dtype", "units"), [("float32", 2), ("float64", 3)])
def test_log_complement_is_accurate_everywhere(dtype, units):
    generator = np.random.default_rng(0)
    x = np.concatenate([10.0 ** generator.uniform(-30, 0, 2000), generator.uniform(0, 1, 20000)]).astype(dtype)
    with jax.enable_x64(dtype == "float64"):
        got = np.asarray(numerics.log_complement(jnp.asarray(x)), np.float64)
        slopes = [float(jax.grad(numerics.log_complement)(jnp.asarray(p, dtype))) for p in (0.0, 0.3, 0.75)]
    true = np.log1p(-x.astype(np.float64))
    assert np.max(np.abs(got - true) / np.spacing(np.abs(true).astype(dtype))) <= units
    np.testing.assert_allclose(slopes, [-1, -1 / 0.7, -4], rtol=1e-6)


def test_log_complement_at_and_above_1():
    with jax.enable_x64(True), jax.debug_nans(False):
        np.testing.assert_array_equal(numerics.log_complement(jnp.array([1.0, 1.5])), [-INF, np.nan])
        assert float(jax.grad(numerics.log_complement)(jnp.array(1.0))) == -INF


@pytest.mark.nans
def test_xlogx_of_a_negative_number_is_nan():
    assert np.isnan(numerics.xlogx(jnp.float32(-0.5)))


@pytest.mark.parametrize("weight", [None, 1e-3])
def test_the_logistic_cross_entropy_of_every_finite_logit(weight):
    """Up to just below the largest number, beyond which a logit counts as infinite."""
    below = np.nextafter(np.nextafter(np.finfo(np.float32).max, 0), 0)
    logits, target = np.float32([1e37, 1e38, 3.4e38, below])[:, None], np.float32([0, 0.25, 0.5, 1])
    for x in (logits, -logits):
        given = () if weight is None else (jnp.float32(weight),)
        loss = logistic.logistic_cross_entropy if weight is None else logistic.weighted_logistic_cross_entropy
        wide = np.float64(x)
        exact = np.where(x > 0, (1 - target) * wide, -target * wide * (1 if weight is None else np.float32(weight)))
        np.testing.assert_allclose(loss(*jnp.broadcast_arrays(x, target), *given), exact, rtol=1e-6)
