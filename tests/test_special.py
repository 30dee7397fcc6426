"""Special functions on their own, in float32 against float64 where the naive formula would lose digits or overflow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

from jaxloss import _special as special

NEAR, MIDDLE, FAR = (1e-12, 1e-6, 1e-3, 0.1), (0.5, 0.99, 1.0, 1.01, 2.0), (8.0, 20.0, 100.0, 1e20, 3e38)


def derivatives(function, *arguments):
    """The value, the slope and the curvature along the first argument, in float32."""
    slope = jax.grad(function)
    numbers = [jnp.float32(each) for each in arguments]
    return [float(each(*numbers)) for each in (function, slope, jax.grad(slope))]


@pytest.mark.parametrize("x", [*NEAR, *MIDDLE, *FAR])
def test_log_cosh_and_its_derivatives_keep_their_digits(x):
    wide = np.float64(np.float32(x))
    value = np.log1p(2 * np.sinh(wide / 2) ** 2) if x < 1 else wide + np.log1p(np.exp(-2 * wide)) - np.log(2)
    smaller = np.exp(-2 * wide)
    expected = value, np.tanh(wide), 4 * smaller / (1 + smaller) ** 2
    for sign in (1, -1):
        got = derivatives(special.log_cosh, sign * x)
        np.testing.assert_allclose(got, np.multiply(expected, (1, sign, 1)), rtol=1e-6, atol=1e-38)


@pytest.mark.parametrize(
    ("x", "y"),
    [(0.0, 0.0), (1e30, 1.0000001e30), (3e38, -0.9999999), (1e-6, 2e-6), (-0.5, -0.5000001), (-0.25, 7.0), (5.0, 0.0)],
)
def test_differences_of_logarithms_keep_their_digits(x, y):
    for first, second in ((x, y), (y, x)):
        a, b = np.float64(np.float32(first)), np.float64(np.float32(second))
        difference = np.log1p((a - b) / (1 + b)) if a >= b else -np.log1p((b - a) / (1 + a))
        expected = difference**2, 2 * difference / (1 + a), 2 * (1 - difference) / (1 + a) ** 2
        got = derivatives(special.squared_log1p_difference, first, second)
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-38)


@pytest.mark.nans
@pytest.mark.parametrize("pair", [(-2.0, 1.0), (-2.0, -3.0), (-2.0, -2.0), (-1.5, -0.5)])
def test_a_number_below_minus_one_has_no_logarithm(pair):
    assert np.isnan(special.squared_log1p_difference(*map(jnp.float32, pair)))
    assert np.isnan(special.squared_log1p_difference(*map(jnp.float32, pair[::-1])))


@pytest.mark.parametrize("x", [*NEAR, 0.5, 0.99, 1.0, 1.01, 20.0, -1e-6, -0.5, -0.99, -1.0, -1.01, -50.0])
def test_the_excess_of_an_exponential_keeps_its_digits(x):
    wide = np.float64(np.float32(x))
    expected = wide**2 / 2 * (1 + wide / 3 + wide**2 / 12) if abs(x) < 1e-2 else np.expm1(wide) - wide
    np.testing.assert_allclose(special.exp_excess(jnp.float32(x)), expected, rtol=5e-7)


def stirling_error(z):
    return mp.loggamma(z) - ((z - mp.mpf(1) / 2) * mp.log(z) - z + mp.log(2 * mp.pi) / 2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("z", [1e-30, 1e-4, 0.3, 0.999, 1.0, 1.99, 2.0, 5.0, 7.99, 8.0, 1e3, 1e8])
@pytest.mark.parametrize("y", [1e-8, 1e-3, 1.0, 7.5, 1e5])
def test_differences_of_stirlings_error_keep_their_digits(dtype, z, y):
    with jax.enable_x64(dtype == jnp.float64), mp.workdps(150):
        numbers = [jnp.asarray(each, dtype) for each in (z, y)]
        got = jax.jit(jax.value_and_grad(special.stirling_difference, (0, 1)))(*numbers)
        z, y = (mp.mpf(float(each)) for each in numbers)
        step = mp.mpf(10) ** -40

        def difference(z, y):
            return stirling_error(z) - stirling_error(z + y)

        value = difference(z, y)
        by_z = (difference(z + step * z, y) - difference(z - step * z, y)) / (2 * step * z)
        by_y = (difference(z, y + step * y) - difference(z, y - step * y)) / (2 * step * y)
        scale = 64 * float(jnp.finfo(dtype).eps)
        # A term of a likelihood, whose other terms are of the order of y or 1.
        near = scale / 4 * min(1, float(y))
        np.testing.assert_allclose(float(got[0]), float(value), rtol=scale, atol=near)
        np.testing.assert_allclose(float(got[1][0]), float(by_z), rtol=scale, atol=near)
        np.testing.assert_allclose(float(got[1][1]), float(by_y), rtol=scale, atol=scale / 4)


@pytest.mark.parametrize("x", [*NEAR, 0.49, 0.5, 0.51, 5.0, -1e-6, -0.3, -0.5, -0.51, -0.9])
def test_the_excess_of_a_logarithm_keeps_its_digits(x):
    with mp.workdps(40):
        wide = mp.mpf(float(np.float32(x)))
        np.testing.assert_allclose(special.excess_of_log1p(jnp.float32(x)), float(wide - mp.log1p(wide)), rtol=1e-6)


def test_a_ratio_of_logarithms_neither_overflows_nor_loses_digits():
    x, y = jnp.float32([1e30, 1e-30, 3e30, 2.0]), jnp.float32([1e-30, 1e30, 1e30, 2.0000002])
    expected = np.log(np.float64(x)) - np.log(np.float64(y))
    np.testing.assert_allclose(special.log_ratio(x, y, (x - y) / y), expected, rtol=1e-6)
