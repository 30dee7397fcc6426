"""Arrays as callers give them, and the dtypes of the computation: float32 or wider, whatever the inputs."""

import contextlib
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
    """float64 if any array has it and x64 is on, else float32. JAX's default float if all values are Python scalars."""
    strong = [value.dtype for value in values if not value.weak_type]
    if not strong:
        return jnp.result_type(float)
    return jnp.float64 if jnp.float64 in strong and _has_x64() else jnp.float32


def product_dtype(arrays: Sequence[Array]) -> Any:
    """The dtype in which factors are multiplied: their own if they share it, even half precision. Sums are wider."""
    dtypes = {array.dtype for array in arrays}
    return dtypes.pop() if len(dtypes) == 1 and jnp.float64 not in dtypes else compute_dtype(arrays)


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
    return abs(number) < (2**63 if _has_x64() else 2**31)


def _has_x64() -> bool:
    return bool(jax.config.read("jax_enable_x64"))


_NUMPY = (np.ndarray, np.generic)
_INT32 = np.iinfo(np.int32)


def is_wide(value: Any) -> bool:
    """Whether these are NumPy's 64-bit integers, which JAX would wrap to 32 bits."""
    return isinstance(value, _NUMPY) and value.dtype.kind in "iu" and value.dtype.itemsize == 8 and not _has_x64()


def any_misread(values: Iterable[Any]) -> bool:
    """Whether a compiled function might read one of these values as another one.

    JAX wraps wide integers. It rejects masked arrays and numbers in the byte order of other machines, but not where it
    has compiled a program for native numbers: there, it ignores the mask and the byte order (jax 0.10 and 0.11).
    """
    # A loop with the type first, which takes 0.1 µs where the types are JAX's. With `any`, it takes twice as long.
    for value in values:
        if isinstance(value, _NUMPY) and (
            is_wide(value) or isinstance(value, np.ma.MaskedArray) or not value.dtype.isnative
        ):
            return True
    return False


def _is_int32(value: Any) -> bool:
    """Whether 32 bits hold each of these integers."""
    value = np.asarray(value)  # not a matrix, whose minimum has no initial value
    return bool(_INT32.min <= np.min(value, initial=0) and np.max(value, initial=0) <= _INT32.max)


def narrow_number(value: Any) -> Any:
    """Integers as 32-bit ones or, if some are beyond 32 bits, as floats."""
    return value.astype(np.int32 if _is_int32(value) else np.float32) if is_wide(value) else value


def narrow_index(index: Any, ignore_index: int | None = None) -> tuple[Any, int | None]:
    """Class indices as 32-bit integers, and the index to ignore among them.

    An index beyond 32 bits stays beyond every class. If it is to be ignored, another number stands for it.
    """
    if not is_wide(index):
        return index, ignore_index
    inside = (index > _INT32.min) & (index <= _INT32.max)
    # 32 bits first: NumPy 2.5 puts no negative number into unsigned integers.
    narrow = np.where(inside, index, _INT32.max).astype(np.int32)
    if ignore_index is None:
        return narrow, None
    ignored = ignore_index if _INT32.min <= ignore_index <= _INT32.max else _INT32.min
    beyond = _INT32.max - (ignored == _INT32.max)
    return np.where(index == ignore_index, ignored, np.where(inside, narrow, beyond)).astype(np.int32), ignored


def narrow_labels(labels: Sequence[Any]) -> list[Any]:
    """Arrays of labels as 32-bit integers that are equal wherever the labels were. Labels that fit stay unchanged.

    Raises:
      jax.errors.TracerArrayConversionError: some labels are beyond 32 bits and others are traced.
    """
    if all(not is_wide(each) or _is_int32(each) for each in labels):
        return [narrow_number(each) for each in labels]
    arrays = [np.asarray(each) for each in labels]
    dtype = object if len({array.dtype for array in arrays}) > 1 else arrays[0].dtype
    _, ranks = np.unique(np.concatenate([array.astype(dtype).ravel() for array in arrays]), return_inverse=True)
    parts = np.split(ranks.ravel().astype(np.int32), np.cumsum([array.size for array in arrays])[:-1])
    return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]


def as_index(index: Array) -> Array:
    """Integers of any width as signed integers. One beyond their width stays large; it does not wrap to a class."""
    signed = jnp.int64 if index.dtype.itemsize == 8 and _has_x64() else jnp.int32
    own, info = jnp.iinfo(index.dtype), jnp.iinfo(signed)
    with _in_full_width(index):
        if own.max > info.max:
            index = jnp.minimum(index, jnp.asarray(info.max, index.dtype))
        if own.min < info.min:
            index = jnp.maximum(index, jnp.asarray(info.min, index.dtype))
        return index.astype(signed)


def is_within(length: Array, size: int) -> Array:
    """Which entries of an axis of this size come before the length."""
    return jnp.arange(size, dtype=length.dtype) < length


def differs(index: Array, number: int) -> Array | None:
    """Which of the integers differ from this number; None if all do, because the number is beyond their dtype."""
    info = jnp.iinfo(index.dtype)
    with _in_full_width(index):
        return index != jnp.asarray(number, index.dtype) if info.min <= number <= info.max else None


def _in_full_width(index: Array) -> contextlib.AbstractContextManager[Any]:
    """A context in which JAX computes with all 64 bits of an array that was made where those are enabled."""
    return jax.enable_x64(True) if index.dtype.itemsize == 8 else contextlib.nullcontext()
