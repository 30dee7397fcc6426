"""Loops over blocks of an axis, of a size that need not divide it."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax


class Span(NamedTuple):
    """Rows that lie beside each other, known when the program runs."""

    first: Array
    length: Array


def over_rows(
    step: Callable[..., Any],
    carry: Any,
    per_row: Any,
    rows: Any,
    batch_shape: tuple[int, ...],
    chunk_size: int,
    span: Span | None,
) -> tuple[Any, Any]:
    """`carry, parts = step(carry, chunk, inside)` for chunks of rows, the parts being added to the arrays `per_row`.

    Each axis of rows is cut into groups of rows that lie beside each other, and a chunk has as many rows of each group:
    `(groups, ..., rows)`. Where an axis is split over no more devices than it has groups, no row leaves its device.
    """
    groups, rank = (1,) if span else _groups(batch_shape, chunk_size), len(batch_shape)
    lengths = tuple(n // k for n, k in zip(batch_shape, groups, strict=True))
    order = (*range(0, 2 * rank, 2), *range(1, 2 * rank, 2))

    def grouped(array: Array) -> Array:
        core = array.shape[rank:]
        cut = array.reshape(*itertools.chain(*zip(groups, lengths, strict=True)), *core)
        cut = cut.transpose(*order, *range(2 * rank, cut.ndim))
        return cut.reshape(*groups, math.prod(lengths), *core)

    def joined(array: Array) -> Array:
        core = array.shape[rank + 1 :]
        cut = array.reshape(*groups, *lengths, *core)
        cut = cut.transpose(*(order.index(i) for i in range(2 * rank)), *range(2 * rank, cut.ndim))
        return cut.reshape(*batch_shape, *core)

    def chunk_step(both: tuple[Any, Any], start: Array, chunk: Any, inside: Array) -> tuple[Any, Any]:
        carry, per_row = both
        carry, parts = step(carry, chunk, inside)
        return carry, jax.tree.map(lambda whole, part: add_at(whole, start, part, rank), per_row, parts)

    both, rows = (carry, jax.tree.map(grouped, per_row)), jax.tree.map(grouped, rows)
    carry, per_row = over_blocks(chunk_step, both, rows, chunk_size // math.prod(groups), rank, span)
    return carry, jax.tree.map(joined, per_row)


def _groups(batch_shape: tuple[int, ...], chunk_size: int) -> tuple[int, ...]:
    """How many groups to cut each axis into: powers of two, as large as one row of each group in a chunk allows.

    They are doubled in turns, as which of the axes are split over devices is not known.
    """
    groups = [1] * len(batch_shape)
    for i in itertools.cycle(range(len(groups))) if groups else ():
        doubles = [n % (2 * k) == 0 for n, k in zip(batch_shape, groups, strict=True)]
        if not any(doubles) or 2 * math.prod(groups) > chunk_size:
            break
        groups[i] *= 1 + doubles[i]
    return tuple(groups)


def over_blocks(
    step: Callable[..., Any], carry: Any, arrays: Any, size: int, axis: int, span: Span | None = None
) -> Any:
    """`carry = step(carry, start, block, inside)` for blocks of an axis that begin at `start`: which of it counts.

    All blocks have one size. Where that does not divide the length of the axis, the last overlaps the one before.
    """
    first_array = jax.tree.leaves(arrays)[0]
    n = first_array.shape[axis]
    if not first_array.size:
        return carry
    blocks = -(-n // size)
    size = -(-n // blocks) if span is None else min(size, n)
    first, end = (0, n) if span is None else (span.first, span.first + span.length)

    def body(carry: Any, i: Array) -> tuple[Any, None]:
        begin = first + i * size
        start = jnp.minimum(begin, n - size)
        index = start + jnp.arange(size, dtype=start.dtype)
        inside = (index >= begin) & (index < end)
        block = jax.tree.map(lambda array: lax.dynamic_slice_in_dim(array, start, size, axis), arrays)

        def worked(carry: Any) -> Any:
            return step(carry, start, block, inside)

        return (worked(carry) if span is None else lax.cond(begin < end, worked, lambda carry: carry, carry)), None

    carry, _ = lax.scan(body, carry, jnp.arange(blocks, dtype=jnp.int32))
    return carry


def add_at(whole: Array, start: Array, part: Array, axis: int) -> Array:
    """The array with a block added to it from `start` on."""
    there = lax.dynamic_slice_in_dim(whole, start, part.shape[axis], axis)
    return lax.dynamic_update_slice_in_dim(whole, there + part, start, axis)
