"""Helpers of the generic tests: rows with their options, and arrays drawn for them."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references import N_CLASSES
from tests.registry import OF_EACH_KIND, REGISTRY

SHAPE = (4, 6)  # can be split over 4 x 2 devices
HALF = (jnp.bfloat16, jnp.float16)
full_only = pytest.mark.full
like_another = pytest.mark.like_another
each_row = pytest.mark.parametrize("row", REGISTRY, ids=lambda row: row.label)
each_half = pytest.mark.parametrize("dtype", [HALF[0], pytest.param(HALF[1], marks=full_only)], ids=["bf16", "f16"])


def each_of(rows):
    """Each of these rows, for a test of the machinery: see `tests.registry.traits`."""
    params = [pytest.param(row, marks=[] if row in OF_EACH_KIND else [like_another]) for row in rows]
    return pytest.mark.parametrize("row", params, ids=lambda row: row.label)


each_declaration = each_of(REGISTRY)


def each_variant(n: int, *, of_kinds: bool = False):
    """Each row with the index of each of its sets of options. Those after the first n run only in the full matrix.

    With `of_kinds`, only rows of `OF_EACH_KIND`, in the full matrix too.
    """
    return pytest.mark.parametrize(
        ("row", "variant"),
        [
            pytest.param(
                row,
                i,
                id=f"{row.label}-{'-'.join(options) or 'defaults'}",
                marks=[full_only] if i >= n else [],
            )
            for row in (OF_EACH_KIND if of_kinds else REGISTRY)
            for i, options in enumerate(row.options)
        ],
    )


def draw(row, shape=SHAPE, dtype=np.float32, seed=0):
    """Valid arrays; floating ones have this dtype."""
    arrays = row.draw(np.random.default_rng(seed), shape)
    return tuple(a.astype(dtype) if a.dtype.kind == "f" else a.astype(np.int32) for a in arrays)


def weights_and_mask(shape=SHAPE, seed=1):
    generator = np.random.default_rng(seed)
    where = generator.uniform(size=shape) < 0.6
    where.flat[0], where.flat[-1] = True, False
    return generator.uniform(0.5, 2, size=shape).astype(np.float32), where


def corrupt(array, mask, value):
    """The array with the values, in turn, in the masked samples. Indices are set out of range instead."""
    array = np.array(array)
    if is_floating(array):
        values = np.resize(np.asarray(value, array.dtype), mask.sum())
        array[mask] = values.reshape(-1, *[1] * (array.ndim - mask.ndim))
    else:
        array[mask] = N_CLASSES + 3
    return array


def is_floating(array):
    return jnp.issubdtype(array.dtype, jnp.floating)


def widened(array, dtype=np.float64):
    """The array in a wider dtype, if it is floating."""
    return array.astype(dtype) if is_floating(array) else array


class Floats:
    """The floating arrays of a call, with respect to which the loss is differentiated.

    Args:
      arrays: all arrays of the call.
    """

    def __init__(self, arrays):
        self._arrays = tuple(arrays)
        self._positions = [i for i, a in enumerate(arrays) if is_floating(a)]
        self.values = tuple(arrays[i] for i in self._positions)

    def put(self, values):
        """All arrays, with the floating ones replaced by these values."""
        everything = list(self._arrays)
        for i, value in zip(self._positions, values, strict=True):
            everything[i] = value
        return everything


def reduced(losses, normalisers, weights, where, reduction):
    """The README's table of reductions, in NumPy."""
    losses, normalisers = np.where(where, losses * weights, 0), np.where(where, normalisers, 0)
    return {
        "none": losses,
        "sum": losses.sum(),
        "mean": losses.sum() / normalisers.sum(),
        "weighted_mean": losses.sum() / (weights * normalisers).sum(),
        "batchmean": losses.sum() / losses.shape[0],
        "total": (losses.sum(), normalisers.sum()),
    }[reduction]


def dot(xs, ys):
    return sum((x * y).sum() for x, y in zip(xs, ys, strict=True))


def derivatives(function, x, direction):
    """The value of a function of one array, its gradient, and its derivatives along a direction in all mixed modes."""
    gradient = jax.grad(function)

    def slope(x):
        return jax.jvp(function, (x,), (direction,))[1]

    return (
        function(x),
        gradient(x),
        slope(x),
        jax.jvp(gradient, (x,), (direction,))[1],
        jax.grad(lambda x: jnp.vdot(gradient(x), direction))(x),
        jax.grad(slope)(x),
        jax.jvp(slope, (x,), (direction,))[1],
    )


@contextlib.contextmanager
def traces():
    """A list that gets an entry for each program traced inside the context."""
    seen = []

    def listen(event, duration, **_):
        if "jaxpr_trace" in event:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


# A first argument with one of these names, or with several core axes, has the full size on every batch axis, as
# `jaxloss.loss` documents.
PREDICTIONS = ("prediction", "logits", "log_probabilities", "hidden", "features", "scores", "probabilities", "boxes")


def is_prediction(row):
    """Whether the first array is a prediction, which has the full size on every batch axis."""
    return row.inputs[0] in PREDICTIONS or row.cores[0] > 1


class Variable:
    """A wrapper around an array, like the variables of neural network libraries."""

    def __init__(self, value):
        self.value = value

    def __jax_array__(self):
        return jnp.asarray(self.value)


def require_slope_of_temperature(slope, expected, least=0.0):
    """At tiny temperatures, the slope in float32 is that of the reference in float64, or large where that overflows.

    Below the least temperature, it is only a number.
    """
    for temperature in np.float32([1e-6, 1e-12, 1e-17, 1e-18, 1e-19, 1e-25, 1e-37]):
        got, at, step = slope(temperature), float(temperature), 1e-6
        assert not np.isnan(got), f"{temperature}: {got}"
        if at < least:
            continue
        up, down = (expected(at * (1 + sign * step)) for sign in (1, -1))
        right = (up - down) / (2 * step) / at
        if abs(right) < 1e37:
            np.testing.assert_allclose(got, right, rtol=1e-4, err_msg=f"{temperature}")
        else:
            assert got / np.sign(right) > 1e36, f"{temperature}: {got} is not as large as {right}"
