"""For every row of the registry: gradients in half precision, values beside gradients, and float64 beside float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.drawing import Floats, draw, each_declaration, each_half, each_variant, weights_and_mask, widened

COTANGENTS = (1e-8, 1e-5, 1.0, 2.0**17)


@each_declaration
@each_half
def test_half_precision_gradients_for_cotangents_of_any_size(row, dtype):
    """As a mean over many samples makes them small, and the scale of a loss large."""
    info = jnp.finfo(dtype)
    floats = Floats(draw(row, (6,), dtype))

    def total(values, cotangent):
        return (cotangent * row.loss(*floats.put(values), reduction="none")).sum()

    def weighted(values, cotangent):
        return row.loss(*floats.put(values), weights=cotangent, reduction="sum")

    of_total = jax.jit(jax.grad(total))
    of_both = jax.jit(lambda *arguments: (jax.grad(total)(*arguments), jax.grad(weighted)(*arguments)))

    for cotangent in COTANGENTS:
        with jax.enable_x64(True):
            wide = tuple(np.asarray(value, np.float64) for value in floats.values)
            expected = [np.asarray(each) for each in of_total(wide, np.float64(cotangent))]
        for got in of_both(floats.values, np.float32(cotangent)):
            for one, other in zip(got, expected, strict=True):
                # Entries are sums, over the classes or over the samples, of products whose factors are rounded.
                error = 4 * float(info.eps) * np.abs(other).max() + 2 * float(info.smallest_subnormal)
                inside = np.abs(other) < float(info.max) * 0.99
                assert one.dtype == dtype
                np.testing.assert_array_less(np.abs(np.asarray(one, np.float64) - other)[inside], error)
                np.testing.assert_array_equal(np.isinf(one) & inside, False)


@each_variant(1)
@pytest.mark.parametrize("extreme", [False, True], ids=["ordinary", "extreme"])
@pytest.mark.nans
def test_the_value_beside_a_gradient_is_the_value_alone(row, variant, extreme):
    options = row.options[variant]
    pairs = np.array([[0.5, 3e38], [3e38, -3e38], [1e20, -1e-30], [-50, 90]], np.float32)
    arrays = row.extreme_arrays(*pairs.T, options) if extreme else draw(row, pairs.shape[:1])
    floats = Floats(tuple(widened(a, np.float32) for a in arrays))

    for i in range(len(pairs) if extreme else 1):
        # One sample at a time: a sum of infinities of both signs would be NaN.
        where = np.arange(len(pairs)) == i if extreme else np.ones(len(pairs), bool)

        def total(values, where=where):
            return row.loss(*floats.put(values), **options, where=where, reduction="sum")

        alone = total(floats.values)
        beside, _ = jax.value_and_grad(total)(floats.values)
        np.testing.assert_allclose(beside, alone, rtol=1e-6)


@each_variant(1, of_kinds=True)
def test_float64_beside_float32_computes_in_float64(row, variant):
    options = row.options[variant]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        arrays, weights = draw(row), weights_and_mask()[0].astype(np.float64)

        def run(arrays, weights):
            floats = Floats(arrays)

            def mean(values):
                return row.loss(*floats.put(values), **options, weights=weights, reduction="weighted_mean")

            return jax.value_and_grad(mean)(floats.values)

        value, gradients = run(arrays, weights)
        expected, wide_gradients = run(tuple(map(widened, arrays)), weights)
        assert value.dtype == np.float64
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        for got, wanted in zip(gradients, wide_gradients, strict=True):
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)
