"""Looking up class indices, in the form that is fast on the platform for which a program is compiled.

On a CPU, a lookup is a gather: XLA:CPU takes 10 times as long to compare each class with the index in the forward pass
of a cross-entropy (jax 0.10). On other platforms, each class is compared with the index, and the comparison, the sum
and its gradient are part of the kernels that read the logits anyway. There, a gather is a loop over the rows on a TPU.
On a GPU, its gradient is a scatter, for which half-precision logits are first copied to float32. Compiled for a TPU
v5e, the value and gradient of `cross_entropy` of bfloat16 logits (262144, 10) take 3700 times as long with a gather;
for an H100, those of logits (8192, 32000) take 3 times as long (jax 0.10.2).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss._arrays import Vector
from jaxloss._sharding import equally_varying


def at_class(values: Vector, index: Vector | int) -> Array:
    """`values[index]`, for class indices in range, of any shape."""

    def compared(values: Array, index: Array) -> Array:
        return jnp.sum(jnp.where(_is_class(index, values.shape[0]), values, 0), axis=-1, dtype=values.dtype)

    return _by_platform(lambda values, index: values[index], compared, values, index)


def listed_classes(indices: Vector, exists: Array, n_classes: int) -> Array:
    """Which classes are in a list of class indices, of which only some exist. The others may be any number."""

    def scattered(indices: Array, exists: Array) -> Array:
        return jnp.zeros(n_classes, bool).at[jnp.where(exists, indices, n_classes)].set(True, mode="drop")

    def compared(indices: Array, exists: Array) -> Array:
        return jnp.any(_is_class(indices, n_classes) & exists[:, None], axis=0)

    return _by_platform(scattered, compared, indices, exists)


def _is_class(index: Array, n_classes: int) -> Array:
    """Which class each index is, along a new last axis."""
    classes = jnp.arange(n_classes, dtype=index.dtype)
    return jnp.expand_dims(classes, range(index.ndim)) == index[..., None]


def _by_platform(on_cpu: Callable[..., Array], elsewhere: Callable[..., Array], *arrays: Vector | int) -> Array:
    """The function for the platform of the program, applied to the arrays."""
    function = functools.partial(lax.platform_dependent, cpu=on_cpu, default=elsewhere)
    # The gradient compares again. Otherwise, a gradient outside of jit would store the comparison with each class, on
    # every platform, because JAX stores what the gradients of all platforms need.
    return jax.checkpoint(function, prevent_cse=False)(*equally_varying(tuple(map(jnp.asarray, arrays))))
