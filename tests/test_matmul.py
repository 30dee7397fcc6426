"""Units in which intermediate products cannot overflow."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss._large_output import matmul as products


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 3, 1000])
def test_a_unit_is_the_largest_power_of_two_that_leaves_room_for_a_sum(dtype, n):
    largest = int(jnp.finfo(dtype).maxexp)
    exponents = (-largest // 2, -5, 0, largest // 3, largest // 2 - 1, largest - 12)
    with jax.enable_x64(dtype == "float64"):
        for i in exponents:
            for j in exponents:
                unit = float(products._unit(jnp.asarray(2.0**i, dtype), jnp.asarray(2.0**j, dtype), n))
                exponent = math.log2(unit)
                of_sums = i + j + math.log2(n)
                assert exponent.is_integer()
                assert exponent + of_sums < largest
                assert exponent == 0 if of_sums < largest - 3 else exponent + of_sums > largest - 4


def test_gradients_of_huge_cotangents_are_finite():
    x, y, cotangent = jnp.ones((1, 1, 1)), jnp.array([[1e5, -1e5]]), jnp.full((1, 1, 2), 3e38)
    chain = products.Chain.of(x, (y,))
    factors = chain.factors(x, chain.row_units)
    by_x, sums = chain.pulled_back(chain.narrowed(cotangent, None), factors[:-1], (jnp.zeros((1, 1, 2)),), None)
    assert by_x == 0  # not infinity minus infinity
    assert jnp.isfinite(chain.gradients(sums)[0]).all()


@pytest.mark.parametrize("columns", [None, 3])
def test_float16_keeps_rows_of_very_different_sizes(columns):
    generator = np.random.default_rng(0)
    x, y = (jnp.asarray(generator.normal(size=shape), jnp.float16) for shape in ((1, 4, 3), (3, 8)))
    cotangent = generator.normal(size=(1, 4, 8)) * np.array([1e-12, 1e-6, 1.0, 1e12])[:, None]
    chain = products.Chain.of(x, (y,))
    narrowed = chain.narrowed(jnp.asarray(cotangent, jnp.float32), columns)
    by_x, sums = chain.pulled_back(narrowed, [x], (jnp.zeros((1, 3, 8)),), columns)
    wide_x, wide_y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    expected = cotangent @ wide_y.T
    errors = np.abs(by_x - expected).max(-1) / np.abs(expected).max(-1)
    np.testing.assert_array_less(errors, 2e-3)  # of each row by itself
    expected = wide_x[0].T @ cotangent[0]
    np.testing.assert_allclose(chain.gradients(sums)[0], expected, atol=2e-3 * np.abs(expected).max())
