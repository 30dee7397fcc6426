"""The geometry of two boxes, without overflow and without cancellation.

The areas of boxes that nearly coincide differ by less than their rounding errors. So an area outside the intersection
is a sum of products of lengths by which one box projects beyond the other, and not a difference of areas.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss import _scaling as scaling
from jaxloss import kinks
from jaxloss._arrays import Real, Vector


@dataclasses.dataclass(frozen=True)
class Sides:
    """Two intervals along one axis. A reversed interval has length 0.

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
    def outside(self) -> tuple[Array, Array]:
        """The length of each interval outside the intersection."""
        first, second = map(_minimum, self.beyond, self.lengths)
        return first, second

    @property
    def hull(self) -> Array:
        """The length of the smallest interval that contains both."""
        return self.overlap + self.beyond[0] + self.beyond[1]


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Two boxes, in units of their largest coordinate. Areas are 0 where a box is empty.

    Args:
      x, y: their sides.
      eps: what is added to the denominators of the losses, in square units.
    """

    x: Sides
    y: Sides
    eps: Array

    @staticmethod
    def of(boxes: Vector, target: Vector, eps: Real) -> Overlap:
        # Infinite coordinates count as the largest finite ones, because their differences would be NaN.
        coordinates = numerics.finite(jnp.concatenate([boxes, target]))
        both, unit = scaling.scale_by_largest(coordinates, power_of_two=True)
        x_low, y_low, x_high, y_high, *others = _entries(both)
        x = Sides.of(x_low, x_high, others[0], others[2])
        y = Sides.of(y_low, y_high, others[1], others[3])
        # Divided twice, because the square of the unit may overflow; and finite, because inf / inf is NaN.
        return Overlap(x, y, numerics.finite(eps / unit[0] / unit[0]))

    @property
    def outside(self) -> Array:
        """The area of the union outside the intersection."""
        x, y = self.x, self.y
        first, second = (x.outside[i] * y.lengths[i] + x.shared * y.outside[i] for i in (0, 1))
        return first + second

    @property
    def union(self) -> Array:
        return self.outside + self.x.shared * self.y.shared

    @property
    def beside(self) -> Array:
        """The area of the smallest box that contains both, outside the union."""
        x, y = self.x, self.y
        corners = x.beyond[0] * y.beyond[1] + x.beyond[1] * y.beyond[0]
        return corners + (x.shared * y.shared - x.overlap * y.overlap)

    @property
    def distance(self) -> Array:
        """The squared distance of the centres, in units of the squared diagonal of that box."""
        between = self.x.between_centres**2 + self.y.between_centres**2
        return numerics.ratio(between, self.x.hull**2 + self.y.hull**2 + self.eps)

    @property
    def missed(self) -> Array:
        """One minus the intersection over the union."""
        return numerics.ratio(self.outside + self.eps, self.union + self.eps)


def aspect(box: Vector) -> Array:
    """The angle between the diagonal of a box and its height. In the unit of the box, however small it is."""
    x_low, y_low, x_high, y_high = _entries(numerics.finite(jnp.asarray(box)))
    width, height = kinks.positive_part(x_high - x_low, 0.0), kinks.positive_part(y_high - y_low, 0.0)
    return _angle(numerics.finite(width), numerics.finite(height))


def _entries(x: Vector) -> list[Array]:
    """The entries of a vector. The gradient concatenates theirs, where that of an index adds up a vector for each."""
    return [part[0] for part in lax.split(x, (1,) * x.size)]


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
