"""For every row of the registry: a loss of an infinite number is the limit of the loss, and no derivative is NaN.

The limit is that of the float64 reference at large finite numbers. One entry of a sample is infinite at a time, because
the difference of two infinities has no limit.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from tests.drawing import Floats, each_variant, widened

FINITE = (0.0, 1.0, 0.5, -2.0, 3.0)
LARGE = (1e7, 1e9, 1e38)
STEEP = 1e3  # the slope of a loss that grows without limit
SIGNS = {"": (1, -1), "[-inf, 0]": (-1,)}
"""By the domain of an array, the signs of its infinities. Those of other domains are finite."""


def signs(row, i):
    """The signs of the infinities of an array of which the loss is the limit."""
    if row.indexed[i] or i in row.shared:
        return ()
    if row.declaration.sees_batch:
        return ()  # the product of an infinite input with a kernel that has a zero is NaN
    if any("d" in core for pattern in row.declaration.patterns for core in pattern.cores):
        return ()  # an infinite vector divided by its length is NaN; with a bound, losses take up to 1.2 times as long
    return row.infinities.get(row.names[i], SIGNS.get(row.domain(row.names[i]), ()))


def samples(row, i, options, entry, dtype):
    """Arrays of which the array i has the entry at one place in each sample, and other entries take turns."""
    pairs = [pair for x in FINITE for pair in ((entry, x), (x, entry))]
    both = np.array([(*pair, *others) for pair in pairs for others in itertools.product(FINITE, FINITE)], dtype)
    with_entry, without = (row.extreme_arrays(*both[:, k : k + 2].T, options) for k in (0, 2))
    return [widened(with_entry[j] if j == i else array, dtype) for j, array in enumerate(without)]


def limits(row, i, options, sign):
    """The limit of each loss, that of its slope outwards, and where this is finite; NaN where there is none."""

    def reference(size):
        return row.expected(*map(widened, samples(row, i, options, sign * size, np.float32)), **options)[0]

    def slope(size):
        return (reference(size + 1) - reference(size - 1)) / 2

    with np.errstate(over="ignore", invalid="ignore"):
        near, far, farthest = map(reference, LARGE)
        steps = np.diff(np.abs([near, far, farthest]), axis=0)
        grows = ((np.abs(far) > 10 * np.abs(near)) & (np.abs(far) > STEEP)) | np.isinf(near)
        grows |= np.all(steps > 1, axis=0)  # like a logarithm
        tolerance = 1e-6 * np.maximum(1, np.abs(near))
        # Not if a term with a tiny factor only counts for far larger numbers.
        converges = (np.abs(far - near) <= tolerance) & ~(np.abs(farthest - near) > tolerance)
        first, second = slope(1e5), slope(4e6)
        is_flat = np.abs(first) < STEEP
    limit = np.where(converges, far, np.where(grows, np.copysign(np.inf, far), np.nan))
    # The slope of a loss that grows like a root falls for long.
    return limit, np.where(is_flat & (np.abs(first - second) < 1e-5), first, np.nan), is_flat


@each_variant(1)
def test_the_loss_of_an_infinite_number_is_the_limit(row, variant):
    for i, sign in [(place, sign) for place in range(len(row.names)) for sign in signs(row, place)]:
        options = row.options[variant]
        arrays, (limit, slope, is_flat) = (
            samples(row, i, options, sign * np.inf, np.float32),
            limits(row, i, options, sign),
        )
        infinite = np.isinf(arrays[i])
        counted = ~np.isnan(limit) & infinite.reshape(len(limit), -1).any(-1)
        assert counted.any()
        floats, outwards = Floats(arrays), np.where(infinite, sign, 0).astype(np.float32)
        direction = tuple(outwards if values is arrays[i] else np.zeros_like(values) for values in floats.values)

        def losses(values, row=row, floats=floats, options=options):
            return row.loss(*floats.put(values), **options, reduction="none")

        @jax.jit
        def run(values, losses=losses, counted=counted, direction=direction):
            gradient = jax.grad(lambda values: jnp.sum(jnp.where(counted, losses(values), 0)))
            forward, curvatures = (jax.jvp(each, (values,), (direction,))[1] for each in (losses, gradient))
            return losses(values), forward, gradient(values), curvatures

        with jax.debug_nans(False):  # of samples without a limit
            found, forward, gradients, curvatures = jax.tree.map(np.asarray, run(floats.values))
        np.testing.assert_allclose(found[counted], limit[counted], rtol=1e-5, atol=1e-6)
        flat, straight = counted & is_flat, counted & ~np.isnan(slope)
        assert not any(np.isnan(each[counted]).any() for each in (forward, *gradients))
        assert not any(np.isnan(each[flat]).any() for each in curvatures)
        np.testing.assert_allclose(forward[straight], slope[straight], rtol=1e-4, atol=1e-5)


ONE, INFINITE = np.ones(1, np.float32), np.full(1, np.inf, np.float32)


@pytest.mark.nans
@pytest.mark.parametrize(
    "loss",
    [
        lambda x: jaxloss.dpo_loss(-x, -x, ONE, ONE),
        lambda x: jaxloss.ipo_loss(-x, -x, ONE, ONE),
        lambda x: jaxloss.generalized_kl_div(x, x),
        lambda x: jaxloss.generalized_kl_div(x, x, log_target=True),
        lambda x: jaxloss.absolute_percentage_error(x, x),
    ],
)
def test_the_difference_of_two_infinities_is_nan(loss):
    assert np.isfinite(loss(ONE))
    assert np.isnan(loss(INFINITE))
