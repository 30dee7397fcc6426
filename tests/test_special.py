"""Special functions on their own, in float32 against float64 where the naive formula would lose digits or overflow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

import jaxloss
from jaxloss import _special as special
from jaxloss import _stirling as stirling

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


STIRLING_DIFFERENCE = jax.jit(jax.value_and_grad(stirling.difference, (0, 1)))


def stirling_error(z):
    return mp.loggamma(z) - ((z - mp.mpf(1) / 2) * mp.log(z) - z + mp.log(2 * mp.pi) / 2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("z", [1e-30, 1e-4, 0.3, 0.999, 1.0, 1.99, 2.0, 5.0, 7.99, 8.0, 1e3, 1e8])
@pytest.mark.parametrize("y", [1e-8, 1e-3, 1.0, 7.5, 1e5])
def test_differences_of_stirlings_error_keep_their_digits(dtype, z, y):
    with jax.enable_x64(dtype == jnp.float64), mp.workdps(150):
        numbers = [jnp.asarray(each, dtype) for each in (z, y)]
        got = STIRLING_DIFFERENCE(*numbers)
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


def all_derivatives(function, *arguments):
    """The value, the gradient and the Hessian, in float32."""
    numbers = tuple(map(jnp.float32, arguments))
    places = tuple(range(len(numbers)))
    gradient = jax.grad(function, places)
    return [np.asarray(each(*numbers)) for each in (function, gradient, jax.jacfwd(gradient, places))]


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.5, 2.0, 5.0])
@pytest.mark.parametrize("base", [1e-10, 0.25, 1.0])
def test_powers_and_their_derivatives(base, exponent):
    wide = np.float64(np.float32(base))
    of = lambda n: wide ** (exponent - n)  # noqa: E731
    log = np.log(wide)
    value, gradient, hessian = all_derivatives(special.power, base, exponent)
    np.testing.assert_allclose(value, of(0), rtol=2e-5, atol=1e-38)
    np.testing.assert_allclose(gradient, (exponent * of(1), of(0) * log), rtol=2e-5, atol=1e-38)
    mixed = of(1) * (1 + exponent * log)
    expected = [[exponent * (exponent - 1) * of(2), mixed], [mixed, of(0) * log**2]]
    np.testing.assert_allclose(hessian, expected, rtol=3e-5, atol=1e-37)


@pytest.mark.parametrize(("exponent", "value", "slope"), [(0.0, 1, 0), (0.5, 0, 0), (1.0, 0, 1), (2.5, 0, 0)])
def test_powers_of_0(exponent, value, slope):
    got, gradient, hessian = all_derivatives(special.power, 0.0, exponent)
    assert (got, gradient[0]) == (value, slope)
    assert np.isfinite([*gradient, *hessian.ravel()]).all()
    for tiny in (1e-30, 1e-40):
        assert np.isfinite(all_derivatives(special.power, tiny, exponent)[2]).all()


def test_a_power_with_a_whole_python_number_is_a_product():
    assert "pow" not in str(jax.make_jaxpr(lambda x: special.power(x, 2.0))(0.5)).replace("integer_pow", "")
    for exponent in (0, 1, 2.0, 3.0, 2.5):
        np.testing.assert_allclose(special.power(jnp.float32(0.5), exponent), 0.5**exponent, rtol=1e-6)


@pytest.mark.parametrize("x", [-3e38, -100.0, -20.0, -1.5, 0.0, 1.5, 20.0, 100.0, 3e38])
def test_the_logistic_function_and_an_overflowed_cotangent_of_it(x):
    with np.errstate(over="ignore"):
        up, down = 1 / (1 + np.exp(-np.float64(x))), 1 / (1 + np.exp(np.float64(x)))
    expected = up, up * down, up * down * (down - up)
    np.testing.assert_allclose(derivatives(special.logistic, x), expected, rtol=1e-6, atol=1e-38)
    if abs(x) > 200:
        assert jax.vjp(special.logistic, jnp.float32(x))[1](jnp.float32(np.inf))[0] == 0


@pytest.mark.parametrize("log_p", [-1e-6, -0.5, -3.0, -90.0, -3e38, -np.inf])
def test_a_complement_and_an_overflowed_cotangent_of_it(log_p):
    wide = np.float64(np.float32(log_p))
    value, pull = jax.vjp(special.complement, jnp.float32(log_p))
    np.testing.assert_allclose(value, -np.expm1(wide), rtol=1e-6)
    np.testing.assert_allclose(pull(jnp.float32(1))[0], -np.exp(wide), rtol=1e-6, atol=1e-38)
    if log_p < -200:
        assert pull(jnp.float32(np.inf))[0] == 0


@pytest.mark.parametrize("log_x", [-3e38, -80.0, -1.0, 0.0])
@pytest.mark.parametrize("y", [0.0, 1e-20, 0.05, 1.0])
def test_the_logarithm_of_a_sum(log_x, y):
    total = np.exp(log_x) + np.float64(np.float32(y))
    value, gradient, hessian = all_derivatives(special.log_sum, log_x, y)
    expected = np.log(total) if total > 0 else log_x
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-7)
    if total > 1e-18:
        share = np.exp(log_x) / total
        np.testing.assert_allclose(gradient, (share, 1 / total), rtol=1e-5)
        np.testing.assert_allclose(
            hessian, [[share * (1 - share), -share / total], [-share / total, -(total**-2)]], rtol=1e-5, atol=1e-7
        )
    assert np.isfinite(gradient).all()


MISSING = special.missing_power


@pytest.mark.parametrize("log_p", [-1e-6, -0.1, -0.999, -1.001, -3.0, -1000.0, -3e38])
@pytest.mark.parametrize("q", [0.0, 1e-6, 1e-3, 0.1, 0.5, 1.0])
def test_a_missing_power_and_its_derivatives(log_p, q):
    value, gradient = (each(*map(jnp.float32, (log_p, q))) for each in (MISSING, jax.grad(MISSING, (0, 1))))
    with mp.workprec(4000):
        x, r = (mp.mpf(float(np.float32(each))) for each in (log_p, q))
        p, largest = mp.exp(r * x), mp.mpf(float(jnp.finfo(jnp.float32).max))
        expected = (1 - p) / r if q else -x
        by_q = (p * (1 - r * x) - 1) / r**2 if q else -(x**2) / 2
        twice = (2 - p * (2 - 2 * r * x + (r * x) ** 2)) / r**3 if q else -(x**3) / 3
        hessian = [[float(-r * p), float(-x * p)], [float(-x * p), float(twice)]]
        slopes = float(-p), float(max(by_q, -largest))
    np.testing.assert_allclose(value, float(expected), rtol=1e-6)
    np.testing.assert_allclose(gradient, slopes, rtol=3e-6, atol=1e-38)
    if abs(log_p) < 1e9:
        np.testing.assert_allclose(all_derivatives(MISSING, log_p, q)[2], hessian, rtol=2e-5, atol=1e-30)


@pytest.mark.nans
def test_a_missing_power_of_probability_0():
    impossible = jnp.float32(-np.inf)
    assert special.missing_power(impossible, jnp.float32(0.5)) == 2
    assert special.missing_power(impossible, jnp.float32(0)) == np.inf
    np.testing.assert_array_equal(jax.grad(special.missing_power, (0, 1))(impossible, jnp.float32(0.5)), (0, -4))


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e30])
def test_the_nearest_point_of_the_simplex(size, scale):
    generator = np.random.default_rng(size)
    x = (generator.normal(size=size) * scale).astype(np.float32)
    point, threshold = special.nearest_in_simplex(jnp.asarray(x))
    scores = x.astype(np.float64) - x.max()
    falling = np.sort(scores)[::-1]
    thresholds = (np.cumsum(falling) - 1) / np.arange(1, size + 1)
    expected = thresholds[np.flatnonzero(falling > thresholds)[-1]]
    np.testing.assert_allclose(threshold, expected, rtol=1e-6)
    np.testing.assert_allclose(point, np.maximum(scores - expected, 0), atol=2e-7)
    np.testing.assert_allclose(point.sum(), 1, rtol=1e-6)
    support = np.asarray(point) > 0
    expected = np.where(np.outer(support, support), np.eye(size) - 1 / support.sum(), 0)
    np.testing.assert_allclose(
        jax.jacobian(lambda x: special.nearest_in_simplex(x)[0])(jnp.asarray(x)), expected, atol=1e-6
    )


@pytest.mark.parametrize("cap", [1e-37, 1e-30, 1e-3, 1.0, 30.0, 1e10, 1e19, 1e30])
def test_a_soft_cap_and_its_derivatives(cap):
    x = jnp.array([0.0, 1e-3, -0.5, 20.0, -1e10, 1e19, 1e30])
    value, by_x, by_cap = jax.vmap(
        lambda x: (special.soft_cap(x, jnp.float32(cap)), *jax.grad(special.soft_cap, (0, 1))(x, jnp.float32(cap)))
    )(x)
    u = np.clip(np.asarray(x, np.float64) / np.float64(np.float32(cap)), -300, 300)
    np.testing.assert_allclose(value, np.float32(cap) * np.tanh(u), rtol=1e-6)
    np.testing.assert_allclose(by_x, 1 / np.cosh(u) ** 2, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(by_cap, np.tanh(u) - u / np.cosh(u) ** 2, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("largest", [1e3, 1e9, 1e12, 1e30])
def test_a_capped_logit_is_at_most_the_largest(largest):
    """A compiler that computes the largest logit with and without rounding makes the loss infinite."""
    logits = jnp.array([[0.0, 0.5 * largest, largest], [0.0, -jnp.inf, largest]])
    for target in (jnp.array([0, 2]), jnp.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])):
        loss = functools.partial(jaxloss.cross_entropy, target=target, reduction="sum")
        value, slopes = jax.value_and_grad(lambda x, cap: loss(x, logit_softcap=cap), (0, 1))(logits, largest)  # noqa: B023
        np.testing.assert_allclose(value, largest * np.tanh(1), rtol=1e-6)
        assert all(np.isfinite(each).all() for each in slopes)
