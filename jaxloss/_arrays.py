"""The dtype of a computation: float32 or wider, whatever the inputs."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def compute_dtype(values: Iterable[Array]) -> Any:
    """float64 where an array has it, else float32; JAX's default float where all are Python scalars."""
    strong = [value.dtype for value in values if not value.weak_type]
    if not strong:
        return jnp.result_type(float)
    return jnp.float64 if jnp.float64 in strong else jnp.float32


def product_dtype(arrays: Sequence[Array]) -> Any:
    """The dtype in which they are multiplied (sums are in float32 or wider): their own, half too, if they share one."""
    dtypes = {array.dtype for array in arrays}
    return dtypes.pop() if len(dtypes) == 1 else compute_dtype(arrays)


def promote(values: Mapping[str, Array], indices: Set[str], unchanged: Set[str]) -> dict[str, Array]:
    """Every array as the dtype of the computation; class indices as integers that no index can overflow."""
    numbers = [value for name, value in values.items() if name not in indices and value.dtype != bool]
    dtype = compute_dtype(jax.tree.leaves(numbers))

    def promoted(name: str, value: Array) -> Array:
        if name in indices:
            return as_index(value)
        return value if name in unchanged else jax.tree.map(lambda leaf: leaf.astype(dtype), value)

    return {name: promoted(name, value) for name, value in values.items()}


def is_known(dtype: np.dtype[Any]) -> bool:
    """Whether JAX has this dtype of NumPy's."""
    return (
        dtype.isnative
        and (dtype.kind in "biufc" or jnp.issubdtype(dtype, jnp.floating))
        and dtype.itemsize <= 16
        and dtype != np.longdouble
    )


def is_key(dtype: Any) -> bool:
    """Whether it is that of the keys of `jax.random.key`."""
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


def holds(number: int) -> bool:
    """Whether JAX's widest integers, which are 32-bit ones unless 64-bit ones were asked for, hold this one."""
    return abs(number) < (2**63 if jax.config.read("jax_enable_x64") else 2**31)


def narrow_index(index: Any) -> Any:
    """64-bit integers of NumPy as 32-bit ones without wrapping, where JAX would make them 32-bit ones by wrapping."""
    is_wide = isinstance(index, np.ndarray) and index.dtype.kind in "iu" and index.dtype.itemsize == 8
    if not is_wide or jax.config.read("jax_enable_x64"):
        return index
    bounds = np.iinfo(np.int32)
    return np.clip(index, max(bounds.min, np.iinfo(index.dtype).min), bounds.max).astype(np.int32)


def as_index(index: Array) -> Array:
    """Integers of any width as signed ones: a large unsigned one stays large, and does not wrap into a class."""
    signed = jnp.int64 if index.dtype.itemsize == 8 else jnp.int32
    if jnp.issubdtype(index.dtype, jnp.unsignedinteger) and index.dtype.itemsize >= 4:
        index = jnp.minimum(index, jnp.asarray(jnp.iinfo(signed).max, index.dtype))
    return index.astype(signed)
