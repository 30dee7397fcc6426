"""Moments of the features of a set of items, which may be split over devices: correlations and covariances.

Features are shifted by their smallest number and divided by a power of two near their range before anything is summed.
A feature without variance then has exactly 0 in every item, and no sum overflows or underflows. Sums over devices are
sums of these numbers: first the bounds, then the counts and means, then the second moments about the mean. A variance
that is the difference of two large numbers would lose its digits.

The gradients are stated, and not left to automatic differentiation, for two reasons. They are finite where a covariance
has overflowed, because units are taken out before terms of both signs are added. And they need only what each device
knows after the value, so that a backward pass sends nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss._scaling import power_of_two_near
from jaxloss._sharding import AxisName, equally_varying


class Centred(NamedTuple):
    """Features `(n, d)` minus their means, in units `(d,)` that are powers of two; 0 in items that do not exist."""

    values: Array
    unit: Array


class Correlated(NamedTuple):
    """Two views of features `(n, d)` and their correlations C.

    Args:
      units: the features about their means, divided by their lengths; 0 for a feature without variance.
      per_length: one over each length, `(d,)`, and 0 for a feature without variance.
      missing: 1 - C_ii, `(d,)`.
      others: C with 0 on the diagonal, `(d, d)`.
    """

    units: tuple[Array, Array]
    per_length: tuple[Array, Array]
    missing: Array
    others: Array


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def correlations(first: Array, second: Array, valid: Array, axis_name: AxisName | None) -> tuple[Array, Array, Array]:
    """Returns (sum of (1 - C_ii)^2, sum of C_ij^2 for i != j, number of items) for the correlations C of two views."""
    found, count = _correlated(first, second, valid, axis_name)
    return jnp.sum(found.missing**2), jnp.sum(found.others**2), count


@correlations.defjvp
def _correlations_jvp(axis_name, primals, tangents):
    found, count = _correlated(*primals, axis_name=axis_name)
    (u, v), missing, others = found.units, found.missing[None], found.others
    squares = others * others
    # The part of each gradient that is perpendicular to the feature; with u v = 1 - missing, it keeps its digits.
    of_diagonal = (u - v - missing * u) * missing, (v - u - missing * v) * missing
    of_others = v @ others.T - u * jnp.sum(squares, axis=1)[None], u @ others - v * jnp.sum(squares, axis=0)[None]

    def change(parts: tuple[Array, Array]) -> Array:
        gradients = (numerics.finite(2 * part * each[None]) for part, each in zip(parts, found.per_length, strict=True))
        return _dot(gradients, tangents)

    by_diagonal, by_others = _over_devices(lax.psum, axis_name, change(of_diagonal), change(of_others))
    values = jnp.sum(found.missing**2), jnp.sum(squares), count
    return values, (by_diagonal, by_others, jnp.zeros_like(count))


def _correlated(first: Array, second: Array, valid: Array, axis_name: AxisName | None) -> tuple[Correlated, Array]:
    (x, y), count = _centred((first, second), valid, axis_name)
    totals = _over_devices(lax.psum, axis_name, *(jnp.sum(each.values**2, axis=0) for each in (x, y)))
    lengths = [jnp.sqrt(jnp.where(total == 0, 1, total)) for total in totals]
    # Divided by an array, and not multiplied by the reciprocals: the compiler would fuse the products with the
    # difference below, and features that are the same in both views would differ by the rounding of a product.
    u, v = (
        each.values / jnp.maximum(length[None], lax.stop_gradient(jnp.abs(each.values)) / 2)
        for each, length in zip((x, y), lengths, strict=True)
    )
    # Not 1 - C_ii, which is a rounding error for features that agree.
    missing, products = _over_devices(lax.psum, axis_name, jnp.sum((u - v) ** 2, axis=0) / 2, u.T @ v)
    missing = jnp.where((totals[0] == 0) | (totals[1] == 0), 1, missing)
    u_per, v_per = (
        jnp.where(total == 0, 0, 1 / length) / each.unit
        for each, total, length in zip((x, y), totals, lengths, strict=True)
    )
    return Correlated((u, v), (u_per, v_per), missing, _off_diagonal(products)), count


class Spread(NamedTuple):
    """For both views, the standard deviations `(d,)` and the sum of squared covariances; and the number of items."""

    deviations: tuple[Array, Array]
    covariances: tuple[Array, Array]
    items: Array


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def spread(first: Array, second: Array, valid: Array, eps: Array, axis_name: AxisName | None) -> Spread:
    """The square roots of the variances + eps, the sums of Cov_ij^2 / d for i != j, and the number of items.

    Variances and covariances are divided by the number of items minus 1; those of a single item are 0.
    """
    return _spread(first, second, valid, eps, axis_name)[0]


@spread.defjvp
def _spread_jvp(axis_name, primals, tangents):
    value, views, products, divisor = _spread(*primals, axis_name=axis_name)
    changes = []
    for x, product, deviation, tangent in zip(views, products, value.deviations, tangents, strict=False):
        slope = jnp.where(deviation == 0, 0, x.unit / jnp.where(deviation == 0, 1, deviation)) / divisor
        changes.append(jnp.sum(x.values * slope[None] * tangent, axis=0))
        # In smaller units, a sum of four factors does not overflow. Its own feature's unit comes last.
        largest = 2.0 ** (jnp.finfo(x.unit.dtype).maxexp // 4 - 2)
        larger = jnp.maximum(1, jnp.max(x.unit, initial=1) / largest)
        unit = x.unit / larger
        by_features = (x.values * unit[None]) @ (product * unit[:, None]) * (4 / divisor / _n_features(x.unit))
        gradient = by_features * x.unit[None] * larger * larger
        changes.append(_dot([numerics.finite(gradient)], [tangent]))
    one, of_one, other, of_other = _over_devices(lax.psum, axis_name, *changes)
    return value, Spread((one, other), (of_one, of_other), jnp.zeros_like(value.items))


def _spread(
    first: Array, second: Array, valid: Array, eps: Array, axis_name: AxisName | None
) -> tuple[Spread, tuple[Centred, ...], list[Array], Array]:
    views, count = _centred((first, second), valid, axis_name)
    divisor = jnp.maximum(count - 1, 1)
    squares = (jnp.sum(each.values**2, axis=0) for each in views)
    sums = _over_devices(lax.psum, axis_name, *squares, *(each.values.T @ each.values for each in views))
    (x_variance, y_variance), products = (each / divisor for each in sums[:2]), [each / divisor for each in sums[2:]]
    products = [_off_diagonal(each) for each in products]

    def deviation(variance: Array, unit: Array) -> Array:
        # In the unit of the larger term, neither overflows and the sum does not underflow.
        root = lax.stop_gradient(jnp.sqrt(eps))
        common = jnp.maximum(unit, jnp.where(root == 0, 0, power_of_two_near(root)))
        inside = variance * (unit / common) ** 2 + (root / common) ** 2
        return jnp.where(inside == 0, 0, common * jnp.sqrt(jnp.where(inside == 0, 1, inside)))

    def covariances(product: Array, unit: Array) -> Array:
        each = unit[:, None] * product * unit[None]
        return jnp.sum(each * (each / _n_features(unit)))

    x, y = views
    deviations = deviation(x_variance, x.unit), deviation(y_variance, y.unit)
    squared = covariances(products[0], x.unit), covariances(products[1], y.unit)
    return Spread(deviations, squared, count), views, products, divisor


def _centred(views: tuple[Array, ...], valid: Array, axis_name: AxisName | None) -> tuple[tuple[Centred, ...], Array]:
    """The features of each view about their means, and the number of items."""
    views, valid = equally_varying((views, valid))
    there = valid[:, None]

    def largest(x: Array) -> Array:
        return jnp.max(jnp.where(there, lax.stop_gradient(x), -jnp.inf), axis=0, initial=-jnp.inf)

    bounds = _over_devices(lax.pmax, axis_name, *(largest(x) for x in views), *(largest(-x) for x in views))
    shifted, units = [], []
    for x, highest, lowest in zip(views, bounds[: len(views)], bounds[len(views) :], strict=True):
        lowest = jnp.where(highest < -lowest, 0, -lowest)  # without items, from infinity
        # In units of the largest number first, so that the range does not overflow.
        size = power_of_two_near(jnp.maximum(jnp.abs(highest), jnp.abs(lowest)))
        highest, lowest = highest / size, lowest / size
        unit = size * jnp.minimum(power_of_two_near(highest - lowest), 1)
        unit = jnp.where(highest == lowest, 1, jnp.maximum(unit, jnp.finfo(unit.dtype).tiny))
        shifted.append(jnp.where(there, (x / size[None] - lowest[None]) * (size / unit)[None], 0))
        units.append(unit)
    count, *sums = _over_devices(
        lax.psum, axis_name, jnp.sum(valid, dtype=views[0].dtype), *(jnp.sum(x, axis=0) for x in shifted)
    )
    means = (total / jnp.maximum(count, 1) for total in sums)
    centred = (jnp.where(there, x - mean[None], 0) for x, mean in zip(shifted, means, strict=True))
    return tuple(map(Centred, centred, units)), count


def _over_devices(reduce: Callable[..., Any], axis_name: AxisName | None, *terms: Array) -> tuple[Array, ...]:
    """Each term over all devices, in one message."""
    return terms if axis_name is None else reduce(terms, axis_name)


def _dot(xs: Any, ys: Any) -> Array:
    (x, *others), (y, *more) = xs, ys
    return sum((jnp.sum(x * y) for x, y in zip(others, more, strict=False)), jnp.sum(x * y))


def _off_diagonal(matrix: Array) -> Array:
    """The matrix with 0 on its diagonal. A sum over it does not cancel, as a difference of two sums would."""
    index = jnp.arange(matrix.shape[0])
    return jnp.where(index[:, None] == index[None], 0, matrix)


def _n_features(unit: Array) -> Any:
    return jnp.asarray(unit.shape[0], unit.dtype)
