"""Kinks on their own: exact values, and derivatives that are C1, monotone and integrate to the change of the value."""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from jaxloss import kinks

FUNCTIONS = {
    "abs": (kinks.abs, np.abs, (-1, 0, 1)),
    "positive_part": (kinks.positive_part, lambda x: np.maximum(x, 0), (0, 0.5, 1)),
    "maximum": (lambda x, w=None: kinks.maximum(x, jnp.zeros_like(x), w), lambda x: np.maximum(x, 0), (0, 0.5, 1)),
}
each_function = pytest.mark.parametrize(("function", "exact", "slopes"), FUNCTIONS.values(), ids=FUNCTIONS)
each_width = pytest.mark.parametrize("width", [None, 0, 0.0, 1e-30, 1e-3, 0.5, 10])


def slope(function, x, width):
    return jax.vmap(jax.grad(lambda x: function(x, width)))(x)


@each_function
@each_width
def test_the_value_is_exact_and_so_is_the_derivative_outside_the_ramp(function, exact, slopes, width):
    x = jnp.asarray([-np.inf, -3e38, -20, -1e-6, -1.2e-38, 0.0, 1.2e-38, 1e-6, 20, 3e38, np.inf], jnp.float32)
    np.testing.assert_array_equal(function(x, width), exact(np.asarray(x)))
    got = slope(function, x, width)
    np.testing.assert_array_equal(got[:3], jnp.full(3, slopes[0]))
    np.testing.assert_array_equal(got[-3:], jnp.full(3, slopes[2]))
    assert got[5] == slopes[1]
    assert np.all(np.diff(got) >= 0)


@each_function
def test_the_derivative_is_c1_and_monotone_and_integrates_to_the_change(function, exact, slopes):
    with jax.enable_x64(True):
        x = jnp.linspace(-1, 1, 4001)
        got = slope(function, x, 0.5)
        assert np.all(np.diff(got) >= 0)
        curvature = jax.vmap(jax.grad(jax.grad(lambda x: function(x, 0.5))))(x)
        assert np.abs(np.diff(curvature)).max() < 0.02  # no jump: the derivative is C1
        np.testing.assert_allclose(np.trapezoid(got, x), exact(1.0) - exact(-1.0), atol=1e-9)
        np.testing.assert_allclose(np.gradient(got, x)[1:-1], curvature[1:-1], atol=1e-2)


@each_function
@each_width
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_second_derivatives_are_finite_and_forward_mode_agrees_with_reverse_mode(function, exact, slopes, width, dtype):
    del exact, slopes
    if width == 1e-30 and dtype == jnp.float16:
        width = 1e-7
    for x in (0.0, -0.0, 1e-7, -1e-3, 0.5):
        x = jnp.asarray(x, dtype)
        first, second = lambda x: function(x, width), jax.grad(lambda x: function(x, width))
        assert jax.jvp(first, (x,), (jnp.ones_like(x),))[1] == second(x)
        if dtype == jnp.float32:
            assert np.isfinite(jax.grad(second)(x))


def test_max_of_two_entries_has_the_derivatives_of_maximum():
    for gap in (-0.4, -0.1, 0.0, 0.3, 0.6):
        x, y = jnp.float32(1.0 + gap), jnp.float32(1.0)
        pair = jax.grad(lambda x, y: kinks.max(jnp.stack([x, y]), 0.5), (0, 1))(x, y)
        np.testing.assert_allclose(pair, jax.grad(kinks.maximum, (0, 1))(x, y, 0.5), rtol=1e-6)
    shares = jax.grad(kinks.max)(jnp.array([2.0, 2.0, 2.0, 1.0]))
    np.testing.assert_allclose(shares, [1 / 3, 1 / 3, 1 / 3, 0], rtol=1e-6)
    rows = jax.grad(lambda x: kinks.max(x).sum())(jnp.array([[2.0, 2.0, 1.0], [0.0, 1.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.5, 0.5, 0], [0, 1, 0]], rtol=1e-6)


@pytest.mark.parametrize(("direction", "error"), [((0, 1), 1e-8), ((0, 0.1, 1), 0.01), ((0, 0.9, 1), 0.01)])
def test_the_derivative_of_max_integrates_to_its_change(direction, error):
    """Exactly for two entries; to 1 % of the width if three entries are within it, as documented."""
    with jax.enable_x64(True):
        t, direction = np.linspace(-9, 9, 36001), np.array(direction, float)
        slopes = jax.vmap(jax.grad(lambda t: kinks.max(t * direction, 0.5)))(t)
        np.testing.assert_allclose(np.trapezoid(slopes, t), 9 * direction.max(), atol=error * 0.5)


def test_the_width_may_be_traced_and_has_gradient_0():
    by_width = jax.jit(jax.grad(lambda w: kinks.abs(jnp.float32(0.1), w)))
    assert by_width(0.5) == 0
    schedule = jax.jit(lambda w: jax.grad(kinks.abs)(jnp.float32(0.1), w))
    assert schedule(0.0) == 1
    np.testing.assert_allclose(schedule(0.2), 0.6875)


def test_value_and_grad_returns_the_exact_value():
    assert jax.value_and_grad(kinks.maximum)(2.0, 1.0) == (2, 1)
    assert jax.value_and_grad(kinks.positive_part)(2.0) == (2, 1)
    assert jax.value_and_grad(kinks.abs)(-2.0) == (2, -1)
    assert jax.value_and_grad(kinks.max)(jnp.array([2.0, 1.0]))[0] == 2


def test_the_derivative_has_gradient_0_in_its_width_and_at_a_kink_of_width_0():
    assert jax.grad(lambda width: jax.grad(kinks.abs)(0.25, width))(0.5) == 0
    assert jax.grad(jax.grad(kinks.abs))(0.0, 0.0) == 0


@pytest.mark.nans
def test_nan_propagates():
    assert np.isnan(kinks.abs(jnp.nan))
    assert np.isnan(jax.grad(kinks.positive_part)(jnp.nan))


def test_errors():
    with pytest.raises(ValueError, match=r"kinks\.abs: kink_width is -1 but must lie in \[0, inf\)"):
        kinks.abs(1.0, -1)
    with pytest.raises(TypeError, match=r"kinks\.maximum: y has dtype int32 but takes floating numbers"):
        kinks.maximum(jnp.array(1.0), jnp.array(1))


def test_the_width_of_a_maximum_broadcasts_as_those_of_other_kinks():
    x, width = np.arange(3, dtype=np.float32), np.linspace(0.1, 4, 4, dtype=np.float32)[:, None]
    assert kinks.abs(x, width).shape == (4, 3)
    values, slopes = kinks.max(x, width), jax.vmap(jax.grad(kinks.max), (None, 0))(x, width)
    np.testing.assert_array_equal(values, [2] * 4)
    np.testing.assert_allclose(jax.jacobian(kinks.max)(x, width), slopes, rtol=1e-6)
