"""Arrays as callers give them, and the dtypes of the computation: float32 or wider, whatever the inputs."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Real = Array | np.ndarray | np.floating | float
"""The types that a caller may pass as an array of numbers, or as a number."""

Vector = Array | np.ndarray
"""The types that a caller may pass as an array with a class or feature axis."""

Boolean = Array | np.ndarray | np.bool_ | bool
"""The types that a caller may pass as a mask."""

ARRAY_TYPES = (Array, np.ndarray, np.generic, bool, int, float, complex)
"""The types that `jax.numpy` accepts as an array. Lists are not among them."""


def unwrapped(value: Any) -> Any:
    """The array inside a variable of a neural network library, such as `flax.nnx.Param`; anything else unchanged."""
    return value if isinstance(value, ARRAY_TYPES) or not is_variable(value) else value.__jax_array__()


def is_variable(value: Any) -> bool:
    """Whether `jax.numpy` would convert the object to an array by its method `__jax_array__`."""
    return hasattr(value, "__jax_array__") and not isinstance(value, type)


def compute_dtype(values: Iterable[Array]) -> Any:
    """float64 if any array has it, else float32. JAX's default float if all values are Python scalars."""
    strong = [value.dtype for value in values if not value.weak_type]
    if not strong:
        return jnp.result_type(float)
    return jnp.float64 if jnp.float64 in strong else jnp.float32


def product_dtype(arrays: Sequence[Array]) -> Any:
    """The dtype in which factors are multiplied: their own if they share it, even half precision. Sums are wider."""
    dtypes = {array.dtype for array in arrays}
    return dtypes.pop() if len(dtypes) == 1 else compute_dtype(arrays)


def is_known(dtype: np.dtype[Any]) -> bool:
    """Whether JAX supports this NumPy dtype."""
    return (
        dtype.isnative
        and (dtype.kind in "biufc" or jnp.issubdtype(dtype, jnp.floating))
        and dtype.itemsize <= 16
        and dtype != np.longdouble
    )


def is_key(dtype: Any) -> bool:
    """Whether this is the dtype of a `jax.random.key`."""
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def holds(number: int) -> bool:
    """Whether the number fits JAX's widest integers: 64 bits if those are enabled, else 32."""
    return abs(number) < (2**63 if _has_int64() else 2**31)


def _has_int64() -> bool:
    return bool(jax.config.read("jax_enable_x64"))


_INT32 = np.iinfo(np.int32)
IGNORED = _INT32.min
"""Replaces an `ignore_index` beyond 32 bits in a narrowed array of class indices."""


def is_wide(value: Any) -> bool:
    """Whether these are NumPy's 64-bit integers, which JAX would wrap to 32 bits."""
    is_integer = isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "iu"
    return is_integer and value.dtype.itemsize == 8 and not _has_int64()


def is_int32(number: int) -> bool:
    return _INT32.min <= number <= _INT32.max


def narrow_index(index: Any, ignore_index: Any = None) -> Any:
    """Class indices as 32-bit integers, without wrapping: an index beyond 32 bits stays out of range of every class.

    An `ignore_index` beyond 32 bits becomes `IGNORED`.
    """
    if not is_wide(index):
        return index
    is_wide_ignored = isinstance(ignore_index, int) and not is_int32(ignore_index)
    beyond = _INT32.max - (ignore_index == _INT32.max)
    inside = (index >= _INT32.min + is_wide_ignored) & (index <= _INT32.max)
    narrow = np.where(inside, index, beyond)
    return (
        np.where(index == ignore_index, IGNORED, narrow).astype(np.int32)
        if is_wide_ignored
        else narrow.astype(np.int32)
    )


def narrow_labels(labels: Sequence[Any]) -> list[Any]:
    """Arrays of labels as 32-bit integers that are equal wherever the labels were. Labels that fit stay unchanged.

    Raises:
      jax.errors.TracerArrayConversionError: some labels are beyond 32 bits and others are traced.
    """
    wide = [label for label in labels if is_wide(label)]
    if all(is_int32(np.min(each, initial=0)) and is_int32(np.max(each, initial=0)) for each in wide):
        return [np.asarray(each, np.int32) if is_wide(each) else each for each in labels]
    arrays = [np.asarray(each) for each in labels]
    dtype = object if len({array.dtype for array in arrays}) > 1 else arrays[0].dtype
    _, ranks = np.unique(np.concatenate([array.astype(dtype).ravel() for array in arrays]), return_inverse=True)
    parts = np.split(ranks.ravel().astype(np.int32), np.cumsum([array.size for array in arrays])[:-1])
    return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]


def as_index(index: Array) -> Array:
    """Integers of any width as signed integers. A large unsigned integer stays large; it does not wrap to a class."""
    signed = jnp.int64 if index.dtype.itemsize == 8 else jnp.int32
    if jnp.issubdtype(index.dtype, jnp.unsignedinteger) and index.dtype.itemsize >= 4:
        index = jnp.minimum(index, jnp.asarray(jnp.iinfo(signed).max, index.dtype))
    return index.astype(signed)


def differs(index: Array, number: int) -> Array | None:
    """Which of the integers differ from this number; None if all do, because the number is beyond their dtype."""
    info = jnp.iinfo(index.dtype)
    return index != jnp.asarray(number, index.dtype) if info.min <= number <= info.max else None
