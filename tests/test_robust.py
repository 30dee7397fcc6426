"""The general robust loss across its special shapes, against mpmath: values and derivatives in float32 and float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

from jaxloss import _general_robust as robust

ALPHAS = [
    *(-math.inf, -1e30, -1e4, -20.0, -2.0, -0.1, -1e-3, -1e-7, 0.0, 1e-7, 1e-3, 0.1, 0.9, 1.0, 1.1, 1.5),
    *(1.89, 1.91, 1.999, 1.9999999, 2.0, 2.0000002, 2.001, 2.2, 3.5, 8.0),
]
ERRORS = [1e-15, 1e-6, 1e-3, 0.1, 0.7, 1.0, 2.0, 5.0, 12.0]


@jax.jit
def by_error(u, alpha):
    """The values, slopes and curvatures of many errors."""
    slope = jax.grad(robust.general_robust)
    return [jax.vmap(f, (0, None))(u, alpha) for f in (robust.general_robust, slope, jax.grad(slope))]


@jax.jit
def by_shape(u, alpha):
    """The derivatives with respect to alpha, and theirs with respect to the error and to alpha."""
    slope = jax.grad(robust.general_robust, 1)
    return [jax.vmap(f, (0, None))(u, alpha) for f in (slope, jax.grad(slope, 0), jax.grad(slope, 1))]


def exact(u, alpha):
    """The loss in mpmath, from the formula alone."""
    z = u**2
    if mp.isinf(alpha):
        return -mp.expm1(-z / 2)
    if alpha in (0, 2):
        return mp.log1p(z / 2) if alpha == 0 else z / 2
    b = abs(alpha - 2)
    return b / alpha * ((1 + z / b) ** (alpha / 2) - 1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_values_and_derivatives_by_the_error(dtype, alpha):
    with jax.enable_x64(dtype == jnp.float64), mp.workdps(120):
        u, shape = jnp.asarray(ERRORS, dtype), jnp.asarray(alpha, dtype)
        got = by_error(u, shape)
        points, wide = [mp.mpf(float(each)) for each in u], mp.mpf(float(shape))
        for order, found in enumerate(got):
            expected = [
                mp.diff(lambda x: exact(x, wide), point, order, h=point * mp.mpf(10) ** -25) for point in points
            ]
            # The second derivative crosses 0.
            scale = 1 if order < 2 else max(1, max(map(abs, expected)))
            for one, other, point in zip(found, expected, points, strict=True):
                eps = float(jnp.finfo(dtype).eps) * (8 + 4 * float(point) ** 2)
                if abs(other) < float(jnp.finfo(dtype).max):
                    np.testing.assert_allclose(
                        float(one), float(other), rtol=eps, atol=eps * float(scale) * (order == 2)
                    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("alpha", [alpha for alpha in ALPHAS if alpha not in (-math.inf, -1e30, 2.0)])
def test_derivatives_by_the_shape(dtype, alpha):
    with jax.enable_x64(dtype == jnp.float64), mp.workdps(160):
        u, shape = jnp.asarray(ERRORS, dtype), jnp.asarray(alpha, dtype)
        got = by_shape(u, shape)
        points, wide = [mp.mpf(float(each)) for each in u], mp.mpf(float(shape))
        step = mp.mpf(10) ** -30 * min(1, abs(wide - 2), *([abs(wide)] if wide else []))
        for i, point in enumerate(points):
            far, near, same = (exact(point, wide + s * step) for s in (1, -1, 0))
            mixed = mp.diff(
                lambda x: (exact(x, wide + step) - exact(x, wide - step)) / (2 * step),
                point,
                h=point * mp.mpf(10) ** -30,
            )
            expected = (far - near) / (2 * step), mixed, (far - 2 * same + near) / step**2
            tolerance = float(jnp.finfo(dtype).eps) * (200 + 4 * float(point) ** 2)
            for k, (found, other) in enumerate(zip(got, expected, strict=True)):
                size = float(abs(other)) + float(abs(expected[0]))
                if size < float(jnp.finfo(dtype).max) / 1e3:
                    assert abs(float(found[i]) - float(other)) <= tolerance * 50**k * size + 1e-37, (k, float(point))


@pytest.mark.parametrize("alpha", [-math.inf, math.inf, 2.0, 0.0, -1e38, 1e38])
def test_derivatives_are_finite_at_the_special_shapes(alpha):
    u = jnp.float32([0, 1e-30, 1e-3, 1, 5, 1e10, 1e20, 3e38])
    for argument in (0, 1):
        slopes = jax.jit(jax.vmap(jax.grad(robust.general_robust, argument), (0, None)))(u, jnp.float32(alpha))
        assert np.isfinite(slopes).all()
    by_alpha = slopes
    if np.isinf(alpha) and alpha < 0:
        np.testing.assert_array_equal(by_alpha, 0)
    if alpha == 0:  # z^3 / 96 near 0
        np.testing.assert_allclose(by_alpha[2], 1e-18 / 96, rtol=1e-4)


def test_the_default_is_that_of_shape_1():
    with jax.enable_x64(True):
        u = jnp.linspace(-3, 3, 11)
        for order in range(3):
            one, other = robust.pseudo_huber, lambda u: robust.general_robust(u, jnp.float64(1))
            for _ in range(order):
                one, other = jax.grad(one), jax.grad(other)
            np.testing.assert_allclose(jax.vmap(one)(u), jax.vmap(other)(u), rtol=1e-13, atol=1e-14)
