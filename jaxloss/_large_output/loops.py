"""Loops over blocks of an axis. The size of a block need not divide the length of the axis."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import min_dim

from jaxloss._sharding import vary_over, varying_axes
from jaxloss._sizes import is_symbolic


class Span(NamedTuple):
    """A contiguous range of rows, known when the program runs."""

    first: Array
    length: Array


@dataclasses.dataclass(frozen=True)
class Groups:
    """The division of each batch axis into contiguous groups of rows, so that no row leaves its device in a loop.

    A chunk takes the same number of rows of each group. If an axis is split over a number of devices that divides its
    number of groups, each device processes the rows that it has.

    Args:
      shape: the batch axes.
      groups: the number of groups of each axis.
      sums: the number of partial sums over rows, for each axis: a divisor of its number of groups. With one per
        device, sums stay on their device until the loop is done.
    """

    shape: tuple[int, ...]
    groups: tuple[int, ...]
    sums: tuple[int, ...]

    @staticmethod
    def of(shape: tuple[int, ...], chunk_size: int, devices: int) -> Groups:
        """The groups of chunks with at most this many rows.

        It is not known over which of the axes the rows are split, nor over how many of the devices. If there are too
        many groups, the first axes are the last to lose them.
        """
        groups = [1 if is_symbolic(n) else math.gcd(n, devices) for n in shape]
        while math.prod(groups) > max(chunk_size, 1):
            last = max(range(len(groups)), key=lambda i: (groups[i], i))
            groups[last] //= next(p for p in itertools.count(2) if groups[last] % p == 0)
        sums, left = [], devices
        for k in groups:
            sums.append(math.gcd(k, left))
            left //= sums[-1]
        return Groups(shape, tuple(groups), tuple(sums))

    @property
    def count(self) -> int:
        return math.prod(self.groups)

    @property
    def n_sums(self) -> int:
        return math.prod(self.sums)

    def divide(self, array: Array) -> Array:
        """`(*shape, ...)` as `(*groups, rows of a group, ...)`."""
        return _regrouped(array, len(self.shape), self.groups, self._lengths)

    def join(self, array: Array) -> Array:
        """The inverse of `divide`."""
        return _joined(array, self.groups, self._lengths)

    def by_sum(self, chunk: Array) -> Array:
        """A chunk `(*groups, rows, ...)` as `(partial sums, rows, ...)`."""
        rank = len(self.shape)
        rows, *core = chunk.shape[rank:]
        merged = _regrouped(chunk, rank, self.sums, self._groups_per_sum)
        return merged.reshape(self.n_sums, self.count // self.n_sums * rows, *core)

    def by_group(self, part: Array, rows: int) -> Array:
        """The inverse of `by_sum`, for this number of rows per group."""
        core = part.shape[2:]
        lengths = self._groups_per_sum
        return _joined(part.reshape(*self.sums, math.prod(lengths), rows, *core), self.sums, lengths)

    @property
    def _lengths(self) -> tuple[int, ...]:
        return tuple(n // k for n, k in zip(self.shape, self.groups, strict=True))

    @property
    def _groups_per_sum(self) -> tuple[int, ...]:
        return tuple(k // s for k, s in zip(self.groups, self.sums, strict=True))


def _regrouped(array: Array, rank: int, outer: tuple[int, ...], inner: tuple[int, ...]) -> Array:
    """Splits each of the first axes into (outer, inner), and merges all inner ones behind the outer ones."""
    core = array.shape[rank:]
    cut = array.reshape(*itertools.chain(*zip(outer, inner, strict=True)), *core)
    cut = cut.transpose(*range(0, 2 * rank, 2), *range(1, 2 * rank, 2), *range(2 * rank, cut.ndim))
    return cut.reshape(*outer, math.prod(inner), *core)


def _joined(array: Array, outer: tuple[int, ...], inner: tuple[int, ...]) -> Array:
    """The inverse of `_regrouped`."""
    rank = len(outer)
    core = array.shape[rank + 1 :]
    cut = array.reshape(*outer, *inner, *core)
    cut = cut.transpose(
        *itertools.chain(*zip(range(rank), range(rank, 2 * rank), strict=True)), *range(2 * rank, cut.ndim)
    )
    return cut.reshape(*(o * i for o, i in zip(outer, inner, strict=True)), *core)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The division of an axis into blocks of one size. If they overlap, the last begins before the end of another."""

    length: int
    size: int
    count: int

    @staticmethod
    def of(length: int, size: int, parts: int = 1) -> Blocks:
        """As few blocks of at most this size as possible, each divisible into this many parts if there is room."""
        if is_symbolic(length, size):
            size = size // parts * parts or size
            return Blocks(length, min_dim(length, size), -(-length // size))
        if not length:
            return Blocks(0, 0, 0)
        parts = parts if parts <= min(size, length) else 1
        count = -(-length // (size // parts * parts))
        while True:
            size = -(-length // count)
            size = -(-size // parts) * parts
            if size <= length:
                return Blocks(length, size, count)
            count += 1

    @property
    def overlap(self) -> bool:
        return self.length != self.size * self.count


def over_rows(
    step: Callable[..., Any],
    carry: Any,
    per_row: Any,
    rows: Any,
    groups: Groups,
    blocks: Blocks,
    span: Span | None,
    **options: bool,
) -> tuple[Any, Any]:
    """Computes `carry, parts = step(carry, chunk, inside)` for chunks of rows, and puts the parts into `per_row`.

    A chunk has the shape (partial sums, rows, ...), with a block of rows of each group. `inside` says which of its rows
    count; None if all do. For the options, see `over_blocks`.
    """
    rank = len(groups.shape)

    def chunk_step(both: tuple[Any, Any], start: Array | int, chunk: Any, inside: Array | None) -> tuple[Any, Any]:
        carry, per_row = both
        if inside is not None:
            inside = jnp.broadcast_to(inside, (groups.count // groups.n_sums, blocks.size)).reshape(-1)
        carry, parts = step(carry, jax.tree.map(groups.by_sum, chunk), inside)

        def put(whole: Array, part: Array) -> Array:
            put = put_at if inside is None else add_at
            return put(whole, start, groups.by_group(part, blocks.size), rank)

        return carry, jax.tree.map(put, per_row, parts)

    both, rows = (carry, jax.tree.map(groups.divide, per_row)), jax.tree.map(groups.divide, rows)
    carry, per_row = over_blocks(chunk_step, both, rows, blocks, rank, span, **options)
    return carry, jax.tree.map(groups.join, per_row)


def over_blocks(
    step: Callable[..., Any],
    carry: Any,
    arrays: Any,
    blocks: Blocks,
    axis: int,
    span: Span | None = None,
    *,
    peeled: bool = False,
    scanned: bool = False,
) -> Any:
    """Computes `carry = step(carry, start, block, inside)` for blocks of an axis.

    A block begins at `start`, and `inside` says which of its entries count; None if all do.

    Args:
      peeled: compiles the first step on its own, outside the loop, where a sum in the carry is still 0 and need not be
        read. This takes longer to compile, and is not done for two blocks.
      scanned: makes steps without effect of the blocks outside the span, so that JAX can transpose the loop. Otherwise,
        the loop ends with the span.
    """
    if blocks.count == 1 and span is None:
        return step(carry, 0, arrays, None)
    size, first, end = blocks.size, 0, blocks.length
    if span is not None:
        first, end = span.first, span.first + span.length

    def body(carry: Any, i: Array) -> tuple[Any, None]:
        begin = first + i * size
        start = jnp.minimum(begin, blocks.length - size)
        index = start + jnp.arange(size, dtype=start.dtype)
        inside = None if span is None and not blocks.overlap else (index >= begin) & (index < end)
        block = jax.tree.map(lambda array: lax.dynamic_slice_in_dim(array, start, size, axis), arrays)
        return step(carry, start, block, inside), None

    if span is not None and scanned:

        def step_inside(carry: Any, i: Array) -> tuple[Any, None]:
            return lax.cond(first + i * size < end, lambda: body(carry, i)[0], lambda: carry), None

        return lax.scan(step_inside, carry, jnp.arange(blocks.count, dtype=jnp.int32))[0]
    if span is not None:
        # Not a condition in each step, whose branches would copy the carry.
        needed = -(-span.length // size)

        def is_needed(state: tuple[Array, Any]) -> Array:
            return (state[0] < needed) & (state[0] < blocks.count)

        def next_step(state: tuple[Array, Any]) -> tuple[Array, Any]:
            return state[0] + 1, body(state[1], state[0])[0]

        zero = vary_over(jnp.zeros((), jnp.int32), varying_axes(span))
        return lax.while_loop(is_needed, next_step, (zero, carry))[1]
    steps = jnp.arange(blocks.count, dtype=jnp.int32)
    if not peeled or is_symbolic(blocks.count) or blocks.count <= 2:
        return lax.scan(body, carry, steps)[0]
    body = jax.jit(body)  # traced once
    carry, _ = body(carry, steps[0])
    return lax.scan(body, carry, steps[1:])[0]


def in_parts(step: Callable[..., Any], carry: Any, arrays: Any, parts: int) -> tuple[Any, Any]:
    """`carry, results = step(carry, start, part)` for equal parts of the second axis, the results joined along it."""
    if parts == 1:
        return step(carry, 0, arrays)
    rows = jax.tree.leaves(arrays)[0].shape[1] // parts

    def body(carry: Any, start: Array) -> tuple[Any, Any]:
        part = jax.tree.map(lambda array: lax.dynamic_slice_in_dim(array, start, rows, 1), arrays)
        return step(carry, start, part)

    carry, results = lax.scan(body, carry, jnp.arange(parts, dtype=jnp.int32) * rows)

    def joined(each: Array) -> Array:
        _, sums, rows, *core = each.shape
        return jnp.moveaxis(each, 0, 1).reshape(sums, parts * rows, *core)

    return carry, jax.tree.map(joined, results)


def put_at(whole: Array, start: Array | int, part: Array, axis: int) -> Array:
    """Replaces a block of an array, beginning at `start`."""
    return lax.dynamic_update_slice_in_dim(whole, part, start, axis)


def add_at(whole: Array, start: Array | int, part: Array, axis: int) -> Array:
    """Adds a block to an array, beginning at `start`."""
    old = lax.dynamic_slice_in_dim(whole, start, part.shape[axis], axis)
    return put_at(whole, start, old + part, axis)
