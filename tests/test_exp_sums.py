"""Sums of exponentials relative to the largest, in one pass and in two."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import _exp_sums as exp_sums

GENERATOR = np.random.default_rng(0)
LARGEST = float(np.finfo(np.float32).max)
ROWS = {
    "ordinary": GENERATOR.normal(0, 10, 1000),
    "rising": np.linspace(-300, 300, 1000),
    "falling": np.linspace(300, -300, 1000),
    "far apart": np.asarray([0, 1e4, -1e4, 1e4 + 0.5, -LARGEST, 3e3]),
    "the largest": np.asarray([LARGEST, -LARGEST, 0, LARGEST]),
    "the lowest": np.full(5, -LARGEST),
    "one": np.asarray([3.0]),
}
each_row = pytest.mark.parametrize("row", ROWS)
each_pass = pytest.mark.parametrize("passes", [exp_sums._in_one_pass, exp_sums._in_two_passes])


def reference(x, among):
    """The largest entry and the sum, in float64; the entries are float32 numbers."""
    x = np.float64(x)[among]
    return x.max(), np.exp(x - x.max()).sum()


@each_pass
@each_row
@pytest.mark.parametrize("masked", [False, True])
def test_the_largest_and_the_sum(passes, row, masked):
    x = np.float32(ROWS[row])
    among = np.arange(x.size) % 3 != 1 if masked else None
    largest, total = jax.jit(passes)(x, among, None)
    np.testing.assert_allclose((largest, total), reference(x, slice(None) if among is None else among), rtol=2e-6)


@each_row
@pytest.mark.parametrize("index", [0, -1])
def test_one_pass_leaves_out_an_entry_but_not_as_the_largest(row, index):
    x = np.float32(ROWS[row])
    index = index % x.size
    largest, rest = exp_sums._in_one_pass(jnp.asarray(x), None, jnp.asarray(index))
    others = np.delete(np.float64(x), index)
    np.testing.assert_allclose((largest, rest), (x.max(), np.exp(others - x.max()).sum()), rtol=2e-6)


@each_pass
def test_without_entries_the_sum_is_0(passes):
    largest, total = passes(jnp.arange(3.0), jnp.zeros(3, bool), None)
    assert jnp.isfinite(largest)
    assert total == 0


@pytest.mark.nans
@each_pass
def test_nan_is_passed_on(passes):
    assert jnp.isnan(passes(jnp.asarray([0, jnp.nan, 1]), None, None)[1])


@each_pass
@each_row
@pytest.mark.parametrize("steepness", [0.5, 50.0])
def test_a_steep_sum(passes, row, steepness):
    x = np.float32(ROWS[row])
    among = np.arange(x.size) % 3 != 1
    largest, total = jax.jit(passes)(x, among, None, jnp.float32(steepness))
    wide = np.float64(x)[among]
    expected = wide.max(), np.exp(steepness * (wide - wide.max())).sum()
    np.testing.assert_allclose((largest, total), expected, rtol=2e-6)


def test_one_pass_is_lifted_over_rows():
    x = jnp.asarray(GENERATOR.normal(size=(2, 3, 50)), jnp.float32)
    many = jax.vmap(jax.vmap(lambda row: exp_sums._in_one_pass(row, row > 0, None)))(x)
    one = [[exp_sums._in_one_pass(row, row > 0, None) for row in rows] for rows in x]
    for each, expected in zip(many, np.moveaxis(np.asarray(one), -1, 0), strict=True):
        np.testing.assert_allclose(each, expected, rtol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_first_and_second_derivatives_of_the_log(masked):
    where = np.arange(20) % 4 != 2 if masked else np.ones(20, bool)

    def plain(x):
        return jax.nn.logsumexp(x, where=where)

    with jax.enable_x64(True):
        x = jnp.asarray(GENERATOR.normal(0, 3, 20))
        found = functools.partial(exp_sums.log_sum_exp, where=where)
        np.testing.assert_allclose(jax.grad(found)(x), jax.grad(plain)(x), atol=1e-14)
        np.testing.assert_allclose(jax.hessian(found)(x), jax.hessian(plain)(x), atol=1e-14)
