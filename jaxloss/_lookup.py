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
from jaxloss._sharding import equally_varying, vary_over, varying_axes


def at_class(values: Vector, index: Vector | int) -> Array:
    """`values[index]`, for class indices in range, of any shape."""

    def compared(values: Array, index: Array) -> Array:
        return jnp.sum(jnp.where(_is_class(index, values.shape[0]), values, 0), axis=-1, dtype=values.dtype)

    return _by_platform(lambda values, index: values[index], compared, values, index)


@jax.custom_jvp
def sum_of_others(values: Array, index: Array) -> Array:
    """The sum of the values of all classes but one; on a CPU, of all. An index out of range leaves out none.

    The derivative is that of the sum of all, for `_numerics.surprise`. With a derivative of its own for the class, the
    gradient of a cross-entropy reads one number more per row: on a TPU v5e, the value and gradient of bfloat16 logits
    (262144, 10) would take an estimated 1.2 times as long (jax 0.10.2). As it is, they take no longer.
    """

    def compared(values: Array, index: Array) -> Array:
        return jnp.sum(jnp.where(_is_class(index, values.shape[0]), 0, values))

    return _by_platform(lambda values, index: jnp.sum(values), compared, values, index)


@sum_of_others.defjvp
def _sum_of_others_jvp(primals, tangents):
    return sum_of_others(*primals), jnp.sum(tangents[0])


def spread(numbers: Array, index: Array, n_classes: int) -> Array:
    """The sum of the numbers at each class, for one class index per number. An index out of range adds nothing."""

    def scattered(numbers: Array, index: Array) -> Array:
        zeros = vary_over(jnp.zeros(n_classes, numbers.dtype), varying_axes(numbers))
        return zeros.at[jnp.where(index < 0, n_classes, index)].add(numbers, mode="drop")

    def compared(numbers: Array, index: Array) -> Array:
        return jnp.sum(jnp.where(_is_class(index, n_classes), numbers[:, None], 0), axis=0)

    return _by_platform(scattered, compared, numbers, index)


def leaves_out() -> Array:
    """Whether `sum_of_others` leaves out the class: not in a program for a CPU."""
    return lax.platform_dependent(cpu=lambda: jnp.asarray(False), default=lambda: jnp.asarray(True))


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
