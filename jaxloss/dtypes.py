"""The dtype of a computation: float32 or wider, whatever the inputs."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array


def compute_dtype(values: Iterable[Array]) -> Any:
    """float64 where an array has it, else float32; JAX's default float where all are Python scalars."""
    strong = [value.dtype for value in values if not value.weak_type]
    if not strong:
        return jnp.result_type(float)
    return jnp.float64 if jnp.float64 in strong else jnp.float32


def promote(values: Mapping[str, Array], keep: set[str]) -> dict[str, Array]:
    """Every array as the dtype of the computation; class indices, in `keep`, as integers that no index can overflow."""
    dtype = compute_dtype(value for name, value in values.items() if name not in keep)
    return {
        name: value.astype(dtype) if name not in keep else value if value.dtype == bool else _as_index(value)
        for name, value in values.items()
    }


def _as_index(index: Array) -> Array:
    """Integers of any width as signed ones: a large unsigned one stays large, and does not wrap into a class."""
    signed = jnp.int64 if index.dtype.itemsize == 8 else jnp.int32
    if jnp.issubdtype(index.dtype, jnp.unsignedinteger) and index.dtype.itemsize >= 4:
        index = jnp.minimum(index, jnp.asarray(jnp.iinfo(signed).max, index.dtype))
    return index.astype(signed)
