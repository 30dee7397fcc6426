"""Sums over lists of class indices, a block of the list at a time.

A list has C entries, as many as there are classes, and is ended by -1 if it is shorter. One expression for a sum over
entries and classes has C² terms per sample, which XLA:CPU materialises. In a loop that ends with the longest list of a
batch, the time grows with the length of that list, and the memory with the length of a block. On other platforms, the
terms are never in memory, but each step launches kernels, so blocks are longer.

Value and gradient of `multilabel_margin_loss`, for lists of n labels, on 2 cores of an AMD EPYC (jax 0.10.2).
Temporaries are a multiple of the inputs:

    entries of a block         one expression     1     4     8    16
    (16, 4000), n = 5, ms                1580   0.9   1.0   1.0   1.1
    (16, 4000), n = 1000, ms             1800    84    40    32    28
    (65536, 20), n = 3, ms                132    27    52    64   108
    (16, 4000), temporaries              8000     3     3     5     9
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss._arrays import Vector
from jaxloss._sharding import equally_varying, vary_over, varying_axes
from jaxloss._sizes import is_symbolic

_ON_CPU, _ELSEWHERE = 4, 32  # entries of a block

Term = Callable[..., Array]
"""Maps (values, labels of a block, constants) to a number. A label of -1 adds nothing to it."""

Addend = Callable[[Array], Any]
"""Maps the labels of a block to what they add to a sum, a tree of arrays."""


def labels_of(entries: Vector) -> Array:
    """The list with -1 in all entries after the first -1."""
    return jnp.where(jnp.cumsum(entries == -1) == 0, entries, -1)


def listed_classes(labels: Array, n_classes: int) -> Array:
    """Which classes are in a list of labels."""

    def scattered(labels: Array) -> Array:
        return jnp.zeros(n_classes, bool).at[jnp.where(labels < 0, n_classes, labels)].set(True, mode="drop")

    def compared(labels: Array) -> Array:
        classes = jnp.arange(n_classes, dtype=labels.dtype)[None]

        def counts(block: Array) -> Array:
            return jnp.sum(block[:, None] == classes, axis=0, dtype=jnp.int32)

        return _sum_over_blocks(counts, _ELSEWHERE, labels) > 0

    return lax.platform_dependent(labels, cpu=scattered, default=compared)


def sum_over_labels(term: Term, labels: Array, values: Vector, *constants: Array) -> Array:
    """The sum of `term(values, block, *constants)` over the blocks of a list of labels.

    It can be differentiated with respect to the values, any number of times and in either mode. The constants have no
    derivative. The term must be the same function object in each call.
    """
    return _sum(term, *equally_varying((labels, values, *constants)))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sum(term: Term, labels: Array, values: Array, *constants: Array) -> Array:
    return _by_platform(lambda block: term(values, block, *constants), labels)


@_sum.defjvp
def _sum_jvp(term: Term, primals: Any, tangents: Any) -> tuple[Array, Array]:
    total, gradient = _sum_and_gradient(term, *primals)
    return total, jnp.sum(gradient * tangents[1])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sum_and_gradient(term: Term, labels: Array, values: Array, *constants: Array) -> tuple[Array, Array]:
    return _by_platform(lambda block: jax.value_and_grad(term)(values, block, *constants), labels)


@_sum_and_gradient.defjvp
def _sum_and_gradient_jvp(term: Term, primals: Any, tangents: Any) -> Any:
    labels, values, *constants = primals

    def scanned(values: Array) -> Any:
        # JAX cannot transpose a loop of unknown length.
        return _by_platform(lambda block: jax.value_and_grad(term)(values, block, *constants), labels, scanned=True)

    return jax.jvp(scanned, (values,), (tangents[1],))


def _by_platform(addend: Addend, labels: Array, *, scanned: bool = False) -> Any:
    """The sum of `addend(block)` over the blocks of the list, in blocks of the size that suits the platform."""

    def blocks_of(size: int) -> Callable[[Array], Any]:
        return functools.partial(_sum_over_blocks, addend, size, scanned=scanned)

    return lax.platform_dependent(labels, cpu=blocks_of(_ON_CPU), default=blocks_of(_ELSEWHERE))


def _sum_over_blocks(addend: Addend, size: int, labels: Array, *, scanned: bool = False) -> Any:
    """The sum of `addend(block)`, a tree of arrays. `scanned` makes a step of each block, even after the last label."""
    n_classes = labels.size
    if not is_symbolic(n_classes) and n_classes <= size:
        return addend(labels)
    count: Any = -(-n_classes // size)  # an integer, or symbolic
    blocks = jnp.pad(labels, (0, count * size - n_classes), constant_values=-1).reshape(count, size)

    def zero(shape: Any) -> Array:
        return vary_over(jnp.zeros(shape.shape, shape.dtype), varying_axes(labels))

    def add(total: Any, block: Array) -> Any:
        return jax.tree.map(jnp.add, total, addend(block))

    zeros = jax.tree.map(zero, jax.eval_shape(addend, blocks[0]))
    if scanned:
        addend = jax.checkpoint(addend)
        return lax.scan(lambda total, block: (add(total, block), None), zeros, blocks)[0]
    needed = _largest_of_batch(jnp.sum(blocks[:, 0] >= 0, dtype=jnp.int32))

    def is_needed(state: tuple[Array, Any]) -> Array:
        # The second condition only bounds the steps, for those who read the compiled program.
        return (state[0] < needed) & (state[0] < count)

    def next_step(state: tuple[Array, Any]) -> tuple[Array, Any]:
        step, total = state
        return step + 1, add(total, lax.dynamic_index_in_dim(blocks, step, keepdims=False))

    first = vary_over(jnp.zeros((), jnp.int32), varying_axes(labels))
    return lax.while_loop(is_needed, next_step, (first, zeros))[1]


@jax.custom_batching.custom_vmap
def _largest_of_batch(number: Array) -> Array:
    """The number; under `vmap`, the largest of the batch.

    A loop with its own number of steps for each sample would select, in each step, the samples that take it, and a
    block at a position of its own would be a gather. `checkify` supports no such loops.
    """
    return number


@_largest_of_batch.def_vmap
def _largest_of_batch_vmap(axis_size: int, in_batched: Any, number: Array) -> tuple[Array, bool]:
    del axis_size, in_batched
    return _largest_of_batch(jnp.max(number, axis=0, initial=0)), False
