"""For every row of the registry: masked samples have no effect, and a NaN stays in its own sample."""

import functools
import inspect
import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.drawing import (
    SHAPE,
    Floats,
    corrupt,
    draw,
    each_declaration,
    each_half,
    each_row,
    each_variant,
    full_only,
    is_floating,
    weights_and_mask,
    widened,
)

ZERO_OVER_ZERO = ("mean", "weighted_mean", "batchmean", "sum")


def differentiated(row, variant=0, compiler_options=()):
    """The mean of a batch and its gradients with respect to floating arrays, weights and array options."""
    return _differentiated(row, variant, compiler_options)


@functools.cache
def _differentiated(row, variant, compiler_options):
    def run(arrays, weights, where, extra):
        floats = Floats(arrays)

        def mean(values, weights, extra):
            options = {**row.options[variant], **extra}
            return row.loss(*floats.put(values), **options, weights=weights, where=where)

        return jax.value_and_grad(mean, (0, 1, 2))(floats.values, weights, extra)

    return jax.jit(run, compiler_options=dict(compiler_options))


def array_options(row, variant, shape=SHAPE):
    """The floating array options of a variant, and each numeric option as an array with one value per sample."""
    arrays = {name: value for name, value in row.options[variant].items() if isinstance(value, np.ndarray)}
    own = {name: value for name, value in arrays.items() if value.dtype.kind == "f"}
    return own | {name: np.full(shape, row.number(name, 0.11), np.float32) for name in row.numbers}


@pytest.mark.every_case
@pytest.mark.nans
@each_variant(1)
@pytest.mark.parametrize(
    "poison",
    [(math.nan, math.inf, -math.inf), *(pytest.param(p, marks=full_only) for p in (math.nan, math.inf, -math.inf))],
    ids=str,
)
def test_values_in_masked_samples_have_no_effect(row, variant, poison, if_full):
    arrays, extra, run = draw(row), array_options(row, variant), differentiated(row, variant, tuple(if_full.items()))
    weights, where = weights_and_mask()
    clean = run(arrays, weights, where, extra)
    bad_arrays = row.batched(lambda a: corrupt(a, ~where, poison), arrays)
    bad_extra = {name: corrupt(a, ~where, poison) if a.shape == SHAPE else a for name, a in extra.items()}
    poisoned = run(bad_arrays, corrupt(weights, ~where, poison), where, bad_extra)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(poisoned))
    chex.assert_trees_all_close(poisoned, clean, rtol=1e-6, atol=1e-7)


@each_declaration
@each_half
def test_half_precision_computes_in_float32(row, dtype):
    """Eagerly, so that JAX also looks for NaN in values that the forward pass saves for the backward pass."""
    arrays, extra, (weights, where) = draw(row, dtype=dtype), array_options(row, 0), weights_and_mask()
    value, gradient = jax.value_and_grad(row.loss)(*arrays, **extra, weights=weights, where=where)
    assert value.dtype == jnp.float32
    assert gradient.dtype == dtype
    wide = tuple(widened(a, np.float32) for a in arrays)
    expected, ((wide_gradient, *_), *_) = differentiated(row)(wide, weights, where, extra)
    wide_gradient, info = np.asarray(wide_gradient), jnp.finfo(dtype)
    eps = float(info.eps)
    # On a CPU, only the first of several products in a row is in half precision.
    rounds = not row.forward_mode and jax.default_backend() != "cpu"
    np.testing.assert_allclose(value, expected, rtol=eps if rounds else 1e-6)
    np.testing.assert_allclose(
        np.asarray(gradient).astype(np.float32),
        wide_gradient.astype(dtype).astype(np.float32),
        rtol=2 * eps,
        # If products are in half precision, each term of a sum is rounded.
        atol=float(info.smallest_subnormal) if row.forward_mode else eps * float(np.abs(wide_gradient).max()),
    )


@full_only
@each_variant(0)
def test_eager_float32_gradients_have_no_intermediate_nan(row, variant):
    arrays, (weights, where) = draw(row), weights_and_mask()
    with jax.debug_nans(True):
        jax.value_and_grad(row.loss)(*arrays, **row.options[variant], weights=weights, where=where)


@each_declaration
def test_a_batch_with_no_counted_sample_has_loss_0_and_gradient_0(row, full):
    arrays, extra, run = draw(row), array_options(row, 0), differentiated(row)
    weights, where = weights_and_mask()
    uncounted = [(arrays, np.zeros_like(where))]
    ignores = "ignore_index" in inspect.signature(row.function).parameters and row.has_indices
    if ignores:
        nan_first = np.full_like(arrays[0], np.nan), *arrays[1:-1], np.full_like(arrays[-1], -100)
        uncounted.append((nan_first, np.ones_like(where)))
    for given, mask in uncounted:
        assert not any(map(np.any, jax.tree.leaves(run(given, weights, mask, extra))))
    empty = {(0,): draw(row, (0,)), (2, 0): draw(row, (2, 0))}
    cases = [((0,), "mean", {}), ((2, 0), "weighted_mean", {})]
    if full:
        cases = [(shape, reduction, {}) for shape, reduction in itertools.product(empty, ZERO_OVER_ZERO)]
        empty["masked"] = arrays
        cases += [("masked", reduction, {"where": uncounted[0][1]}) for reduction in ZERO_OVER_ZERO]
        if ignores:
            empty["ignored"] = nan_first
            cases += [("ignored", reduction, {}) for reduction in ZERO_OVER_ZERO]

    @jax.jit
    def each():
        return [
            jax.value_and_grad(row.loss)(*empty[case], **options, reduction=reduction)
            for case, reduction, options in cases
        ]

    assert not any(map(np.any, jax.tree.leaves(each())))


@each_row
@pytest.mark.nans
def test_nan_stays_in_its_own_sample(row):
    arrays = draw(row)
    expected = np.array(row.loss(*arrays, reduction="none"))
    for i, array in enumerate(arrays):
        if is_floating(array) and i not in row.shared:
            poisoned = list(arrays)
            poisoned[i] = array.copy()
            poisoned[i][1, 2] = math.nan
            expected[1, 2] = math.nan
            np.testing.assert_array_equal(row.loss(*poisoned, reduction="none"), expected)


@each_row
@pytest.mark.nans
def test_a_label_out_of_range_gives_nan_for_its_sample_only(row, full):
    if not row.has_indices:
        return
    *arrays, target = draw(row)
    run, extra, ones = differentiated(row), array_options(row, 0), np.ones(SHAPE, np.float32)

    def gradient(target):
        return np.asarray(run((*arrays, target), ones, ones > 0, extra)[1][0][0])

    clean, clean_gradient = np.asarray(row.loss(*arrays, target, reduction="none")), gradient(target)
    others = np.ones(SHAPE, bool)
    others[1, 2] = False
    for bad in (*row.bad_data[row.names[-1]], 2**31 - 1, -(2**31)):
        labels = target.copy()
        labels[1, 2] = bad
        losses = np.asarray(row.loss(*arrays, labels, reduction="none"))
        assert np.isnan(losses[1, 2])
        np.testing.assert_array_equal(losses[others], clean[others])
        np.testing.assert_allclose(gradient(labels)[others], clean_gradient[others], rtol=1e-6)
    for dtype in (np.uint8, np.int64, *((np.int8, np.uint32) if full else ())):
        np.testing.assert_array_equal(row.loss(*arrays, target.astype(dtype), reduction="none"), clean)
