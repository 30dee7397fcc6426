"""Sums that keep what they round off, so that they hold over any number of terms.

A sum in float32 no longer grows when a term is below its last place: counting by 1 stops at 2^24. A compensated sum is
a pair of numbers, the sum and what it rounded off, with twice the digits: it counts up to 2^47.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxloss._arrays import compute_dtype
from jaxloss._sizes import is_symbolic, product


class Compensated(NamedTuple):
    """A number as the sum of two. The first is the number rounded to its dtype, the second what that rounded off."""

    rounded: Array
    rest: Array

    @staticmethod
    def of(number: Array) -> Compensated:
        return Compensated(number, jnp.zeros_like(number))

    @staticmethod
    def of_size(shape: tuple[int, ...], dtype: Any) -> Compensated:
        """The number of entries of an array of this shape."""
        if is_symbolic(*shape):
            return Compensated.of_wrapped(product(shape, jnp.uint32), product(shape, dtype))
        size = math.prod(shape)
        rounded = int(np.asarray(size, dtype))
        return Compensated(jnp.asarray(rounded, dtype), jnp.asarray(size - rounded, dtype))

    @staticmethod
    def of_integer(integer: Array, dtype: Any) -> Compensated:
        """All digits of an integer in a floating dtype, up to 36 bits in float32."""
        low = integer & 0xFFF
        return Compensated(*_added((integer - low).astype(dtype), low.astype(dtype)))

    @staticmethod
    def of_wrapped(wrapped: Array, nearly: Array) -> Compensated:
        """An integer of any size, from what unsigned 32 bits hold of it and from a float with an error below 2^31."""
        low = Compensated.of_integer(wrapped, nearly.dtype)
        return Compensated.of(_multiple(nearly - low.rounded, 2.0**32)).plus(low)

    def plus(self, other: Compensated) -> Compensated:
        dtype = jnp.result_type(self.rounded, other.rounded)
        (x, x_rest), (y, y_rest) = self._wide(), other._wide()
        total, error = _added(x, y)
        return Compensated(*_added(total, error + x_rest + y_rest))._rounded_to(dtype)

    def psum(self, axis_name: Any) -> Compensated:
        """The sum over the devices along mesh axes.

        A number is sent as a multiple of 2^20, a multiple of 2^10 and a rest. For integers, the sums of each are exact:
        up to 2^44 in float32, on up to 2^14 devices.
        """
        rounded, rest = self._wide()
        finite = jnp.where(jnp.isfinite(rounded), rounded, 0)
        high = _multiple(finite, 2.0**20)
        low = finite - high + rest
        high += rounded - finite
        middle = _multiple(low, 2.0**10)
        high, middle, low = map(Compensated.of, lax.psum((high, middle, low - middle), axis_name))
        return high.plus(middle).plus(low)._rounded_to(self.rounded.dtype)

    def value(self) -> Array:
        return self.rounded + self.rest

    def _wide(self) -> tuple[Array, Array]:
        dtype = compute_dtype([self.rounded])
        return self.rounded.astype(dtype), self.rest.astype(dtype)

    def _rounded_to(self, dtype: Any) -> Compensated:
        if self.rounded.dtype == dtype:
            return self
        info = jnp.finfo(dtype)
        # Not a cast to half precision and back, which XLA may leave out.
        rounded = lax.reduce_precision(self.rounded, info.nexp, info.nmant)
        rest = lax.stop_gradient(self.rounded - rounded) + self.rest
        return Compensated(rounded.astype(dtype), rest.astype(dtype))


def _added(x: Array, y: Array) -> tuple[Array, Array]:
    """x + y, and what it rounded off: Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B."""
    total = x + y
    x, y = (jnp.where(jnp.isfinite(total), each, 0) for each in (x, y))  # infinity minus infinity is NaN
    rounded = x + y
    added = rounded - x
    return total, lax.stop_gradient((x - (rounded - added)) + (y - added))


def _multiple(x: Array, unit: float) -> Array:
    """The nearest multiple of a power of two."""
    return lax.round(x / unit) * unit
