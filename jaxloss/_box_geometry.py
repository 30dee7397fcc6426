"""The geometry of two boxes, without overflow and without cancellation.

The areas of boxes that nearly coincide differ by less than their rounding errors. So an area outside the intersection
is a sum of products of lengths by which one box projects beyond the other, and not a difference of areas.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _numerics as numerics
from jaxloss import _scaling as scaling
from jaxloss import kinks
from jaxloss._arrays import Real

Coordinates = Sequence[Array]
"""x₁, y₁, x₂ and y₂ of a box, finite."""


@dataclasses.dataclass(frozen=True)
class Sides:
    """Two intervals along one axis. A reversed interval has length 0. It is where it begins.

    Args:
      lengths: the length of each interval.
      overlap: the length of the intersection; the negative length of the gap if the intervals are apart.
      beyond: the length from the end of the overlap, or from the far end of the gap, to the end of each interval.
      between_centres: the distance of the centres, with its sign.
    """

    lengths: tuple[Array, Array]
    overlap: Array
    beyond: tuple[Array, Array]
    between_centres: Array

    @staticmethod
    def of(low: Array, high: Array, other_low: Array, other_high: Array) -> Sides:
        high, other_high = kinks.maximum(high, low), kinks.maximum(other_high, other_low)
        begin, end = kinks.maximum(low, other_low), _minimum(high, other_high)
        return Sides(
            lengths=(high - low, other_high - other_low),
            overlap=end - begin,
            beyond=((begin - low) + (high - end), (begin - other_low) + (other_high - end)),
            between_centres=((low - other_low) + (high - other_high)) / 2,
        )

    @property
    def shared(self) -> Array:
        """The length of the intersection."""
        return kinks.positive_part(self.overlap)

    @property
    def gap(self) -> Array:
        return kinks.positive_part(-self.overlap)

    @property
    def outside(self) -> tuple[Array, Array]:
        """The length of each interval outside the intersection."""
        first, second = map(_minimum, self.beyond, self.lengths)
        return first, second

    @property
    def hull(self) -> Array:
        """The length of the smallest interval that contains both."""
        return self.overlap + self.beyond[0] + self.beyond[1]

    @property
    def unit(self) -> Array:
        """A power of two near the larger length."""
        return scaling.power_of_two_near(jnp.maximum(*self.lengths))

    def parts(self, factor: Real = 1) -> Parts:
        lengths, outside = ([length * factor for length in part] for part in (self.lengths, self.outside))
        return Parts(lengths, outside, self.shared * factor)


class Parts(NamedTuple):
    """The lengths of two intervals, those outside their intersection, and that of the intersection."""

    lengths: Sequence[Array]
    outside: Sequence[Array]
    shared: Array


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Two boxes, in units of their largest coordinate.

    Args:
      x, y: their sides.
      eps: what is added to the denominators of the losses, in square units.
    """

    x: Sides
    y: Sides
    eps: Array

    @staticmethod
    def of(box: Coordinates, other: Coordinates, eps: Real) -> Overlap:
        ends = [jnp.maximum(begin, end) for each in (box, other) for begin, end in zip(each[:2], each[2:], strict=True)]
        unit = scaling.power_of_two_near(functools.reduce(jnp.maximum, map(jnp.abs, (*box[:2], *other[:2], *ends))))
        # A reversed side may end at any distance below -2, and no side begins there.
        first, second = ([jnp.maximum(x * (1 / unit), -2) for x in each] for each in (box, other))
        x, y = (Sides.of(first[i], first[i + 2], second[i], second[i + 2]) for i in (0, 1))
        # The square of the unit may overflow, and XLA would divide by it. Finite, because inf / inf is NaN.
        return Overlap(x, y, numerics.finite(eps * (1 / unit) * (1 / unit)))

    @property
    def missed(self) -> Array:
        """One minus the intersection over the union."""
        # The areas of small boxes that are far apart would be 0 in units of their coordinates.
        x, y = 1 / self.x.unit, 1 / self.y.unit
        return _missed(self.x.parts(x), self.y.parts(y), numerics.finite(self.eps * x * y))

    @property
    def beside(self) -> Array:
        """The area of the smallest box that contains both, outside the union, over that area."""
        x, y = self.x, self.y
        corners = x.beyond[0] * y.beyond[1] + x.beyond[1] * y.beyond[0]
        # Not the difference of two areas, of which XLA may round one and not the other.
        beside = corners + (x.shared * y.gap + x.gap * y.shared - x.gap * y.gap)
        return numerics.ratio(beside, _areas(x.parts(), y.parts())[1] + beside + self.eps)

    @property
    def distance(self) -> Array:
        """The squared distance of the centres, in units of the squared diagonal of that box."""
        between = self.x.between_centres**2 + self.y.between_centres**2
        return numerics.ratio(between, self.x.hull**2 + self.y.hull**2 + self.eps)


def aspect(box: Coordinates) -> Array:
    """The angle between the diagonal of a box and its height. In the unit of the box, however small it is."""
    x_low, y_low, x_high, y_high = box
    width, height = kinks.positive_part(x_high - x_low, 0.0), kinks.positive_part(y_high - y_low, 0.0)
    return _angle(numerics.finite(width), numerics.finite(height))


def _areas(x: Parts, y: Parts) -> tuple[Array, Array]:
    """The area of the union of two boxes outside their intersection, and that of the union. An empty box has none."""
    first, second = (x.outside[i] * y.lengths[i] + x.shared * y.outside[i] for i in (0, 1))
    outside = first + second
    return outside, outside + x.shared * y.shared


@jax.custom_jvp
def _missed(x: Parts, y: Parts, eps: Array) -> Array:
    outside, union = _areas(x, y)
    return numerics.ratio(outside + eps, union + eps)


@_missed.defjvp
def _missed_jvp(primals, tangents):
    """Areas are products of lengths here, because their differences cancel in the value alone."""

    def of_areas(x: Parts, y: Parts, eps: Array) -> tuple[Array, Array]:
        both = x.lengths[0] * y.lengths[0] + x.lengths[1] * y.lengths[1]
        return both, x.shared * y.shared

    (both, shared), (d_both, d_shared) = jax.jvp(of_areas, primals, tangents)
    missed, eps, d_eps = _missed(*primals), primals[2], tangents[2]
    union = both - shared + eps
    change = (1 - missed) * (d_both + d_eps) - (2 - missed) * d_shared
    return missed, change / jnp.where(union == 0, 1, union)


def _minimum(x: Array, y: Array) -> Array:
    return -kinks.maximum(-x, -y)


@jax.custom_jvp
def _angle(width: Array, height: Array) -> Array:
    """atan(width / height), and 0 with gradient 0 for an empty box."""
    return jnp.arctan2(width, height)


@_angle.defjvp
def _angle_jvp(primals, tangents):
    width, height = primals
    larger = jnp.maximum(width, height)
    size = jnp.where(larger == 0, 1, larger)
    w, h = width / size, height / size  # the squares of small lengths would underflow
    squares = jnp.where(larger == 0, 1, w * w + h * h)
    change = (h * tangents[0] - w * tangents[1]) / squares / size
    return _angle(width, height), change
