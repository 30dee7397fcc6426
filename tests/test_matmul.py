"""Units in which intermediate products cannot overflow."""

import math

import jax
import jax.numpy as jnp
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
    x, y, cotangent = jnp.ones((1, 1)), jnp.array([[1e5, -1e5]]), jnp.full((1, 2), 3e38)
    bounds = products.bounds((y,))
    by_x, (by_y,) = products.pulled_back(cotangent, products.chain(x, (y,), bounds), (y,), bounds, (jnp.zeros((1, 2)),))
    assert by_x == 0  # not infinity minus infinity
    assert jnp.isfinite(by_y).all()
