"""Loops over blocks of an axis. The size of a block need not divide the length of the axis."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax


class Span(NamedTuple):
    """A contiguous range of rows, known when the program runs."""

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
    """Computes `carry, parts = step(carry, chunk, inside)` for chunks of rows, and adds the parts to `per_row`.

    Each axis of rows is divided into contiguous groups, and a chunk `(groups, ..., rows)` has the same number of rows
    of each group. If an axis is split over at most as many devices as it has groups, no row leaves its device.
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
    """The number of groups of each axis: powers of two, as large as possible with one row of each group in a chunk.

    The axes are doubled in turn, because it is not known which of them are split over devices.
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
    """Computes `carry = step(carry, start, block, inside)` for blocks of an axis.

    A block begins at `start`, and `inside` says which of its entries count. All blocks have the same size. If it does
    not divide the length of the axis, the last block overlaps the one before.
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

        def active(carry: Any) -> Any:
            return step(carry, start, block, inside)

        return (active(carry) if span is None else lax.cond(begin < end, active, lambda carry: carry, carry)), None

    carry, _ = lax.scan(body, carry, jnp.arange(blocks, dtype=jnp.int32))
    return carry


def add_at(whole: Array, start: Array, part: Array, axis: int) -> Array:
    """Adds a block to an array, beginning at `start`."""
    old = lax.dynamic_slice_in_dim(whole, start, part.shape[axis], axis)
    return lax.dynamic_update_slice_in_dim(whole, old + part, start, axis)
