"""Totals and reductions on their own."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec
from jax.test_util import check_grads

import jaxloss
from jaxloss import _numerics as numerics
from jaxloss import reductions
from jaxloss._compensated import Compensated
from jaxloss._decorator.masks import Mask
from jaxloss.reductions import Samples, Total

numbers = st.floats(-1e3, 1e3, width=32)
totals = st.builds(lambda loss, n: Total(jnp.float32(loss), jnp.float32(n)), numbers, st.integers(0, 1000))


def close(a, b):
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(a.normaliser, b.normaliser)


@given(totals, totals, totals)
def test_totals_are_a_commutative_monoid(a, b, c):
    close((a + b) + c, a + (b + c))
    close(a + b, b + a)
    close(a + Total.zero(), a)
    close(sum([a, b, c]), a + b + c)


def test_only_a_total_can_be_added_to_a_total():
    with pytest.raises(TypeError):
        Total.zero() + 1.0
    with pytest.raises(TypeError):
        1 + Total.zero()


def test_an_empty_total_has_mean_0_and_a_finite_gradient():
    assert Total.zero().mean() == 0
    gradient = jax.grad(lambda total: total.mean())(Total.zero())
    assert np.isfinite([gradient.loss, gradient.normaliser]).all()


def test_totals_are_strongly_typed_scan_carries():
    total = jaxloss.mse_loss(1.0, 2.0, reduction="total")
    assert not total.loss.weak_type
    assert not total.normaliser.weak_type
    carried, _ = jax.lax.scan(lambda t, x: (t + jaxloss.l1_loss(x, 0.0, reduction="total"), None), total, jnp.ones(3))
    assert (carried.loss, carried.normaliser) == (4, 4)


@pytest.mark.cpu
def test_psum_gives_the_mean_over_all_devices():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    x, where = jnp.arange(6.0), jnp.arange(6) != 2

    def mean(x, where):
        return jaxloss.l1_loss(x, 0.0, where=where, reduction="total").psum("data").mean()

    spec = PartitionSpec("data")
    sharded = jax.jit(jax.shard_map(mean, mesh=mesh, in_specs=(spec, spec), out_specs=PartitionSpec()))
    np.testing.assert_allclose(sharded(x, where), mean_of_rest())
    by_vmap = jax.vmap(mean, axis_name="data")(x.reshape(3, 2), where.reshape(3, 2))
    np.testing.assert_allclose(by_vmap, jnp.full(3, mean_of_rest()))


@pytest.mark.cpu
def test_psum_is_exact():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    counts = 2**30 + jnp.arange(8, dtype=jnp.int32)

    def total(count):
        return Total(count[0].astype(jnp.float32) / 2**15, count[0]).psum("data")

    sharded = jax.jit(jax.shard_map(total, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec()))
    np.testing.assert_array_equal(digits(sharded(counts)), (2**18, 2**33 + 28))
    large = jax.vmap(lambda x: Total(x, x).psum("data"), axis_name="data")(jnp.array([3e38, 1.0, -jnp.inf]))
    np.testing.assert_array_equal(large.mean(), jnp.full(3, -jnp.inf))


def test_gradients_of_totals_reach_every_summand():
    def mean(losses, normalisers):
        each = [Total(loss, normaliser) for loss, normaliser in zip(losses, normalisers, strict=True)]
        return sum(each).mean()

    losses, normalisers = jnp.array([1e8, 1.0, 3.0]), jnp.array([1e8, 2.0, 1.0])
    expected = jax.grad(lambda x, n: x.sum() / n.sum(), (0, 1))(losses, normalisers)
    for got, want in zip(jax.grad(mean, (0, 1))(losses, normalisers), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-15)
    check_grads(mean, (losses / 1e8, normalisers / 1e8), 2)


def mean_of_rest():
    return (0 + 1 + 3 + 4 + 5) / 5


def test_micro_batches_of_unequal_length_give_the_gradient_of_the_whole_batch():
    x = jnp.arange(1.0, 13.0).reshape(4, 3)
    where = jnp.arange(3)[None] < jnp.array([3, 1, 2, 0])[:, None]

    def accumulated(x):
        def step(total, batch):
            return total + jaxloss.mse_loss(batch[0], 0.0, where=batch[1], reduction="total"), None

        return jax.lax.scan(step, Total.zero(), (x, where))[0].mean()

    whole = jax.value_and_grad(lambda x: jaxloss.mse_loss(x, 0.0, where=where))(x)
    for got, expected in zip(jax.value_and_grad(accumulated)(x), whole, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def digits(total):
    """The sums of a total, with all their digits, as float64."""
    loss, normaliser = (np.float64(part) for part in (total.loss, total.normaliser))
    return loss + np.float64(total.rounded_off[0]), normaliser + np.float64(total.rounded_off[1])


@pytest.mark.parametrize("normalisers", [None, True], ids=["all", "masked"])
def test_counts_are_exact_where_adding_1_to_a_float32_has_no_effect(normalisers):
    n = 2**24 + 3
    counted = Samples(jnp.zeros(n, jnp.float32), None if normalisers is None else jnp.ones(n, bool))
    total = reductions.reduce(counted, "total")
    assert digits(total)[1] == n
    assert digits(total + total + Total(jnp.float32(0), 1))[1] == 2 * n + 1


@pytest.mark.parametrize("n", [1, 1000])
def test_a_running_total_does_not_get_stuck(n):
    """A sum in float32 stops growing: 2^25 losses of 0.1 have the mean 0.125, and 10^7 batches of 1000, 0.108."""
    steps = 2**21
    one = jaxloss.l1_loss(jnp.full(n, 0.1), 0.0, reduction="total")
    before = Total(jnp.float32(0.1) * 2**24, jnp.float32(2**24)) if n == 1 else Total.zero()

    @jax.jit
    def run(before, one):
        return jax.lax.scan(lambda total, _: (total + one, None), before, length=steps)[0]

    total = run(before, one)
    count = float(before.normaliser) + n * steps
    assert digits(total)[1] == count
    exact = np.float64(before.loss) + steps * np.float64(one.loss)
    np.testing.assert_allclose(digits(total)[0], exact, rtol=1e-12)
    np.testing.assert_allclose(total.mean(), 0.1, rtol=1e-6)


@pytest.mark.parametrize("count", [5, 2**31 - 1, 2**31 + 8, 2**32 - 3, 2**32, 7 * 2**32 + 2**31 + 12345])
@pytest.mark.parametrize("error", [-(2.0**-24), 0, 2.0**-24])
def test_a_count_beyond_32_bits_is_put_together_from_its_low_bits_and_a_float(count, error):
    nearly = jnp.float32(count * (1 + error))
    whole = Compensated.of_wrapped(jnp.uint32(count % 2**32), nearly)
    assert np.float64(whole.rounded) + np.float64(whole.rest) == count


def test_counts_are_exact_far_beyond_31_bits():
    total = Total(jnp.float32(0), jnp.float32(2**45))
    for normaliser in (jnp.float32(1), jnp.int32(2**31 - 1), np.uint32(2**32 - 1), 3):
        total += Total(jnp.float32(0), normaliser)
    assert digits(total)[1] == 2**45 + 1 + 2**31 - 1 + 2**32 - 1 + 3


@given(st.lists(numbers, min_size=1, max_size=40))
def test_totals_are_summed_to_twice_the_digits(losses):
    exact = math.fsum(map(np.float64, losses))
    each = [Total(jnp.float32(loss), jnp.float32(1)) for loss in losses]
    for total in (sum(each), functools.reduce(lambda one, other: other + one, each)):
        assert abs(digits(total)[0] - exact) <= 2**-44 * sum(map(abs, losses))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_totals_in_half_precision_keep_their_dtype_and_do_not_get_stuck(dtype):
    n = 2 ** (jnp.finfo(dtype).nmant + 3)
    one = Total(jnp.asarray(0.5, dtype), jnp.asarray(1, dtype))
    total, _ = jax.lax.scan(lambda total, _: (total + one, None), Total.zero(dtype), length=n)
    assert (total.loss, total.normaliser, total.mean()) == (n / 2, n, 0.5)
    assert total.mean().dtype == total.loss.dtype == dtype


def test_an_overflow_of_a_total_is_infinite_and_not_nan():
    large = Total(jnp.float32(3e38), jnp.float32(1))
    assert (large + large).loss == (large + large + large).mean() == np.inf
    assert (large + Total(jnp.float32(-np.inf), jnp.float32(1))).mean() == -np.inf


def test_a_total_of_anything_has_its_structure():
    """Totals of shardings and of axes of `vmap` say where the parts of a total are."""
    spec = Total(PartitionSpec("data"), PartitionSpec())
    assert jax.tree.structure(spec) == jax.tree.structure(Total.zero())
    assert spec.rounded_off == (PartitionSpec("data"), PartitionSpec())
    stacked = jax.vmap(lambda x: jaxloss.l1_loss(x, 0.0, reduction="total"))(jnp.ones((2, 3)))
    assert jax.vmap(lambda total: total.mean(), in_axes=(Total(0, 0),))(stacked).shape == (2,)


@pytest.mark.parametrize("rounded_off", [5, (5,), (1, 2, 3)])
def test_what_a_total_rounded_off_is_a_pair(rounded_off):
    with pytest.raises(TypeError, match=r"Total.mean: rounded_off is .* but takes a pair of numbers"):
        Total(1.0, 2.0, rounded_off).mean()


def test_the_repr_of_a_total_even_if_traced_or_batched():
    assert repr(Total(jnp.float32(3), jnp.float32(2))) == "Total(loss=3, normaliser=2, mean=1.5)"
    assert repr(Total.zero()) == "Total(loss=0, normaliser=0, mean=0)"
    assert "mean" not in repr(Total(jnp.ones(2), jnp.ones(2)))
    shown = []
    jax.eval_shape(lambda total: shown.append(repr(total)), Total.zero())
    assert "Trace" in shown[0]


@pytest.mark.parametrize(("n", "as_integers"), [(2**31 - 1, True), (2**31, False)])
def test_samples_are_counted_as_integers_if_int32_can_hold_the_count(n, as_integers):
    losses, counted = jax.ShapeDtypeStruct((n,), jnp.float32), jax.ShapeDtypeStruct((n,), bool)
    program = jax.make_jaxpr(lambda *pair: reductions.reduce(Samples(*pair), "total").normaliser)(losses, counted)
    assert ("i32[] = reduce_sum" in str(program)) == as_integers


def test_a_callable_reduction_gets_normalisers_of_1_by_default():
    np.testing.assert_array_equal(jaxloss.l1_loss(jnp.zeros(3), 0.0, reduction=lambda _, n: n), jnp.ones(3))


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean", "sum", "batchmean"])
def test_a_weight_of_0_times_an_overflow_is_0(reduction):
    losses = jnp.array([jnp.inf, 2.0])
    weigh = jax.vmap(lambda loss, weight: Mask(None, None).weigh(loss, None, weight))

    def value(losses, weights):
        return reductions.reduce(weigh(losses, weights), reduction)

    weights = jnp.array([0.0, 1.0])
    assert value(losses, weights) == {"mean": 1, "weighted_mean": 2, "sum": 2, "batchmean": 1}[reduction]
    assert not np.isnan(jax.grad(value, argnums=(0, 1))(losses, weights)).any()
    assert not np.isnan(jax.jvp(value, (losses, weights), (weights, weights))[1])


def test_ratio_keeps_its_derivative_where_the_square_of_the_normaliser_underflows():
    slope = jax.grad(numerics.ratio, argnums=1)(jnp.float32(0), jnp.float32(1e-30))
    assert slope == 0


@pytest.mark.parametrize("dtype", [jnp.float32, "float16", jnp.bfloat16, np.dtype("float32")])
def test_total_zero_has_the_requested_dtype(dtype):
    total = Total.zero(dtype) + Total.zero(dtype)
    assert total.loss.dtype == total.normaliser.dtype == jnp.dtype(dtype)


@pytest.mark.parametrize("dtype", [int, bool, complex, "nonsense", np.dtype("datetime64[s]"), jnp.ones(3), object()])
def test_total_zero_requires_a_floating_dtype(dtype):
    with pytest.raises(TypeError, match=r"Total\.zero: dtype is .* but takes a floating dtype"):
        Total.zero(dtype)


@pytest.mark.parametrize("part", ["loss", "normaliser"])
def test_parts_of_a_total_are_real_numbers_of_16_bits_or_more_and_broadcast(part):
    def total(value):
        return Total(**{"loss": jnp.ones(()), "normaliser": jnp.ones(())} | {part: value})

    assert getattr(total(jnp.float16(1)) + total(jnp.float16(1)), part) == 2
    for wrong in (jnp.int8(1), jnp.ones((), jnp.float8_e4m3fn), jnp.bool_(True), jnp.complex64(1)):
        with pytest.raises(
            TypeError, match=rf"Total\.\+: {part} has dtype .* but takes real numbers of 16 bits or more"
        ):
            total(wrong) + Total.zero()
    with pytest.raises(ValueError, match=r"Total\.\+: .*\(2,\).*\(3,\)"):
        Total(jnp.ones(2), jnp.ones(3)) + Total.zero()


def test_totals_are_compared_and_hashed_by_identity():
    total = Total.zero()
    assert total == total
    assert total != Total.zero()
    assert hash(total) == hash(total)


def test_batchmean_divides_by_the_length_of_the_leading_axis():
    for shape, divisor in (((), 1), ((1,), 1), ((1, 3), 1), ((4, 3), 4), ((0,), 1)):
        ones = jnp.ones(shape)
        assert jaxloss.mse_loss(2 * ones, ones, reduction="batchmean") * divisor == ones.size
