"""The class axis of one call, which may be split over devices."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import Array, lax

from jaxloss._arrays import Vector
from jaxloss._errors import require_number
from jaxloss._lookup import at_class, spread, sum_of_others
from jaxloss._sharding import AxisName, require_split


@dataclasses.dataclass(frozen=True)
class ClassAxis:
    """The number of classes, and which of their columns are on this device.

    Args:
      length: the number of columns on this device, the same on every device.
      axis_name: the mesh axes over which the classes are split, inside `shard_map`; None if they are not split.
      n_classes: the number of classes. If there are more columns, the last ones over all devices are padding.
      valid: which columns of this device are possible classes of this sample; None if all are.
    """

    length: int
    axis_name: AxisName | None
    n_classes: int
    valid: Array | None = None

    @staticmethod
    def of(function: str, length: int, axis_name: AxisName | None = None, n_classes: int | None = None) -> ClassAxis:
        """Raises a ValueError if the mesh axis does not exist or there are fewer columns than classes."""
        columns = length
        if axis_name is not None:
            require_split(function, axis_name, "the class axis is")
            columns = length * lax.axis_size(axis_name)
        if n_classes is None:
            return ClassAxis(length, axis_name, columns)
        require_number(function, "the number of columns beside n_classes", columns)
        if n_classes > columns:
            raise ValueError(f"{function}: n_classes is {n_classes} but there are {columns} columns on all devices")
        return ClassAxis(length, axis_name, n_classes)

    def exists(self) -> Array | None:
        """Which columns are possible classes; None if all are."""
        columns = self.length if self.axis_name is None else self.length * lax.axis_size(self.axis_name)
        if self.n_classes == columns:
            return self.valid
        is_class = jnp.arange(self.length, dtype=jnp.int32) < self.n_classes - self._first()
        return is_class if self.valid is None else is_class & self.valid

    def possible(self, logits: Array) -> Array:
        """The logits, -inf for columns that are no class."""
        exists = self.exists()
        return logits if exists is None else jnp.where(exists, logits, -jnp.inf)

    def share(self, values: Vector, index: Vector | int) -> Array:
        """What the columns of this device add to `values[index]`, for a class index that counts over all devices."""
        index, here = self._column(index)
        if here is None:
            return at_class(values, index)
        return jnp.where(here, at_class(values, jnp.clip(index, 0, self.length - 1)), 0)

    def share_of_others(self, values: Vector, index: Vector | int) -> Array:
        """What the columns of this device add to the sum of the other classes, see `sum_of_others`."""
        index, here = self._column(index)
        return sum_of_others(values, index if here is None else jnp.where(here, index, -1))

    def spread(self, numbers: Array, index: Array) -> Array:
        """The sum of the numbers at each column of this device, for one class index per number."""
        return spread(numbers, self._column(index)[0], self.length)

    def others(self, index: Vector | int) -> Array:
        """Which columns of this device are possible classes other than this one."""
        index, _ = self._column(index)
        is_other = jnp.arange(self.length, dtype=index.dtype) != index
        exists = self.exists()
        return is_other if exists is None else is_other & exists

    def maximum(self, x: Array) -> Array:
        return x if self.axis_name is None else lax.pmax(x, self.axis_name)

    def sums(self, *terms: Array) -> tuple[Array, ...]:
        """The sum of each term over the devices, in a single message."""
        return terms if self.axis_name is None else tuple(lax.psum(jnp.stack(terms), self.axis_name))

    def _column(self, index: Vector | int) -> tuple[Array, Array | None]:
        """The column of a class, and whether it is on this device; None if all are."""
        index = jnp.asarray(index)
        if self.axis_name is None:
            return index, None
        index = index - jnp.asarray(self._first(), index.dtype)
        return index, (index >= 0) & (index < self.length)

    def _first(self) -> Array | int:
        """The class of the first column on this device."""
        return 0 if self.axis_name is None else lax.axis_index(self.axis_name) * self.length
