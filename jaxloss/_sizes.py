"""Sizes of arrays, which are symbols while `jax.export` traces a program for arrays of any size.

Arithmetic with a symbol gives a symbol or, with an array, an array. A Python comparison with a symbol raises an error
where the answer is unknown, and `==` is False there.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


def is_symbolic(*sizes: int) -> bool:
    """Whether one of the sizes is a symbol."""
    return any(map(jax.export.is_symbolic_dim, sizes))


def may_be_zero(size: int) -> bool:
    """Whether the size is 0, or a symbol such as b - 1 that may stand for 0. A variable b stands for 1 or more."""
    try:
        return not size >= 1
    except jax.errors.InconclusiveDimensionOperation:
        return True


def n_entries(shape: tuple[int, ...], dtype: DTypeLike, least: float = 0.0) -> float | Array:
    """The number of entries of an array of this shape, but at least the given number, as a float."""
    if not is_symbolic(*shape):
        return max(float(math.prod(shape)), least)
    return jnp.maximum(product(shape, dtype), least)


def product(sizes: tuple[int, ...], dtype: DTypeLike) -> Array:
    """The product of symbolic sizes in this dtype, because a product of symbols may exceed 32 bits."""
    return math.prod((jnp.asarray(size, dtype) for size in sizes), start=jnp.ones((), dtype))
