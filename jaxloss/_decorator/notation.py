"""The shape of one sample in NumPy's gufunc notation, and how the arrays of a call are matched against it.

In `"(c),()->()"`, the first array has one core axis, called c. The second array has none, and the loss of a sample is a
scalar. All other axes of an array are its batch axes.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jax import Array

from jaxloss._sizes import is_symbolic, may_be_zero

_AXIS = r"(?:[a-z]\w*(?:\+1)?|[1-9]\d*)"
_GROUP = rf"\(\s*(?:{_AXIS}(?:\s*,\s*{_AXIS})*)?\s*\)"
_NOTATION = re.compile(rf"\s*{_GROUP}(?:\s*,\s*{_GROUP})*\s*->\s*{_GROUP}\s*")

Core = tuple[str, ...]
"""Names of core axes. One of known length has its length as its name, such as "4". "s+1" is longer by 1 than "s"."""

Axis = int | tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Pattern:
    """The shapes of one sample.

    Args:
      notation: the notation as written.
      cores: the names of the core axes of each array. They are its last axes, unless `axis=` says otherwise.
      output: the core axes of the loss: none if a sample has one loss, (n) if each of n items has its own.
    """

    notation: str
    cores: tuple[Core, ...]
    output: Core

    @staticmethod
    def parse(notation: str) -> Pattern:
        if not _NOTATION.fullmatch(notation):
            raise ValueError(f"loss: takes a notation such as '(c),()->()', one group per array, got {notation!r}")
        *cores, output = (tuple(re.findall(_AXIS, group)) for group in re.findall(_GROUP, notation))
        axes = {axis for core in cores for axis in core}
        missing = sorted(axis for axis in axes if axis.endswith("+1") and axis[:-2] not in axes)
        if missing:
            raise ValueError(f"loss: {notation!r} has an axis {missing[0]} but no axis {missing[0][:-2]}")
        if len(output) > 1 or not axes.issuperset(output):
            takes = "a notation such as '(n,d)->(n)', whose loss has no axis or one of those of its arrays"
            raise ValueError(f"loss: takes {takes}, got {notation!r}")
        return Pattern(notation, tuple(cores), output)

    @property
    def has_axis(self) -> bool:
        """Whether `axis=` can place the core axis: each array has at most one, all of one length, and some has one."""
        is_longer = any(axis.endswith("+1") for core in self.cores for axis in core)
        return not self.output and not is_longer and {0} < {0, *map(len, self.cores)} <= {0, 1}


@dataclasses.dataclass(frozen=True)
class Operand:
    """The shape of an array of a call, separated into core axes and batch axes.

    Args:
      name: the name of the argument.
      shape: the shape of the array.
      core: the names of its core axes.
      core_axes: the positions of its core axes. If there are several for one core axis, they are flattened in this
        order.
      core_shape: the lengths of its core axes.
      batch_axes: the positions of its batch axes.
      batch_shape: the lengths of its batch axes.
      role: "prediction" if it has the full size on every batch axis; "index" if it has exactly the batch axes of the
        prediction, or none; "parameter" if it has no batch axes and is shared by all samples.
      unit: what errors call one sample of it.
      hint: what errors about its shape add.
    """

    name: str
    shape: tuple[int, ...]
    core: Core
    core_axes: tuple[int, ...]
    core_shape: tuple[int, ...]
    batch_axes: tuple[int, ...]
    batch_shape: tuple[int, ...]
    role: str
    unit: str
    hint: str

    @staticmethod
    def of(
        function: str,
        name: str,
        shape: tuple[int, ...],
        core: Core = (),
        axis: Axis = -1,
        full_rank: int = 0,
        role: str = "",
        unit: str = "value",
        hint: str = "",
    ) -> Operand:
        """Raises a ValueError if the array has too few axes or the axis does not exist."""
        rank, written = len(shape), f"({', '.join(core)})"
        if role == "parameter" and rank != len(core):
            raise ValueError(f"{function}: {name} has shape {shape} but takes shape {written} exactly")
        is_placed = len(core) == 1 and role != "parameter"
        n_core = len(axis) if is_placed and isinstance(axis, tuple) else len(core)
        if rank < n_core:
            takes = f"shape {written}" if n_core == len(core) else f"the {n_core} axes of axis={axis}"
            raise ValueError(f"{function}: {name} has shape {shape} but one sample of it alone has {takes}")
        is_last = not is_placed or axis == -1
        core_axes = tuple(range(rank - n_core, rank)) if is_last else _placed(function, name, shape, axis, full_rank)
        batch_axes = tuple([i for i in range(rank) if i not in core_axes])
        core_shape = tuple([shape[i] for i in core_axes])
        core_shape = (math.prod(core_shape),) if n_core > len(core) else core_shape
        batch_shape = tuple([shape[i] for i in batch_axes])
        return Operand(name, shape, core, core_axes, core_shape, batch_axes, batch_shape, role, unit, hint)

    def flatten(self, value: Array) -> tuple[Operand, Array]:
        """The operand and its value with the core axes moved last and flattened into one."""
        shape, rank = (*self.batch_shape, *self.core_shape), len(self.batch_shape)
        flat = dataclasses.replace(self, shape=shape, core_axes=(rank,), batch_axes=tuple(range(rank)))
        return flat, jnp.transpose(value, (*self.batch_axes, *self.core_axes)).reshape(shape)


def _placed(function: str, name: str, shape: tuple[int, ...], axis: Axis, full_rank: int) -> tuple[int, ...]:
    """The position of `axis` in an array with one core axis."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    rank = len(shape) if len(shape) > len(axes) else max(len(shape), full_rank)
    if not axes or any(type(each) is not int for each in axes):
        raise TypeError(f"{function}: axis is {axis!r} but takes an integer or a tuple of integers")
    for each in axes:
        if not -rank <= each < rank:
            raise ValueError(f"{function}: axis is {axis} but {name} of shape {shape} has {rank} axes")
    placed = tuple(each % rank for each in axes)
    if len(set(placed)) < len(placed):
        raise ValueError(f"{function}: axis is {axis} but must name each axis of {name} of shape {shape} once")
    # An array of one sample has no other axes than these, in the order that they have elsewhere.
    return placed if len(shape) > len(axes) else tuple(sorted(placed).index(each) for each in placed)


@dataclasses.dataclass(frozen=True)
class Match:
    """The result of matching: the shape of the batch and the length of every core axis."""

    batch_shape: tuple[int, ...]
    core_sizes: Mapping[str, int]


def match(function: str, operands: Sequence[Operand], may_be_empty: Core = ()) -> Match:
    """Matches the operands to each other; raises a ValueError that names the two that do not fit."""
    core_sizes = _core_sizes(function, operands, may_be_empty)
    first, *others = sorted((o for o in operands if o.role != "parameter"), key=lambda o: o.role != "prediction")
    batched = [operand for operand in (first, *others) if operand.batch_axes]
    if not batched:
        return Match((), core_sizes)
    if first.role != "prediction":
        first = batched[0]
    elif not first.batch_axes:
        raise ValueError(_never_repeated(function, first, batched[0], batched[0].batch_shape))
    for operand in batched:
        if len(operand.batch_axes) != len(first.batch_axes):
            raise ValueError(_rank_misfit(function, first, operand))
    batch_shape: list[int] = []
    for lengths in zip(*(operand.batch_shape for operand in batched), strict=True):
        stretched = sorted({length for length in lengths if length != 1}, key=lengths.index)
        if len(stretched) > 1:
            one, other = sorted((batched[lengths.index(length)] for length in stretched[:2]), key=operands.index)
            raise ValueError(
                f"{function}: {other.name} has shape {other.shape} beside {one.name} of shape {one.shape}: their batch "
                f"axes {other.batch_shape} and {one.batch_shape} do not broadcast{_axis_hint(one, other)}"
            )
        batch_shape.append(stretched[0] if stretched else 1)
    full = tuple(batch_shape)
    for operand in batched:
        if operand.role == "prediction" and operand.batch_shape != full:
            larger = next(o for o in batched if o.batch_shape != operand.batch_shape)
            raise ValueError(_never_repeated(function, operand, larger, full))
        if operand.role == "index" and operand.batch_shape != full:
            what = f"one {operand.unit} per row of {first.name} {first.shape} has shape {full}"
            raise ValueError(f"{function}: {operand.name} has shape {operand.shape} but {what}")
    return Match(full, core_sizes)


def _core_sizes(function: str, operands: Sequence[Operand], may_be_empty: Core) -> dict[str, int]:
    sizes: dict[str, int] = {}
    owners: dict[str, Operand] = {}
    for operand in operands:
        for axis, length in zip(operand.core, operand.core_shape, strict=True):
            if axis.isdecimal() and length != int(axis):
                raise ValueError(
                    f"{function}: {operand.name} has shape {operand.shape} but one sample of it has length {axis} "
                    f"where this has {length}"
                )
            owner = owners.setdefault(axis, operand)
            if sizes.setdefault(axis, length) != length:
                is_turned = len(operand.core) == 2 and operand.shape[::-1][operand.core.index(axis)] == sizes[axis]
                raise ValueError(
                    f"{function}: axis {axis} has length {length} in {operand.name} of shape {operand.shape} "
                    f"but {sizes[axis]} in {owner.name} of shape {owner.shape}"
                    f"{f'; use {operand.name}.T' if is_turned else operand.hint}"
                )
            if may_be_zero(length) and axis not in may_be_empty:
                is_empty = "may be empty" if is_symbolic(length) else "is empty"
                raise ValueError(f"{function}: axis {axis} of {operand.name} of shape {operand.shape} {is_empty}")
    for axis, owner in owners.items():
        shorter = axis[:-2]
        if axis.endswith("+1") and sizes[axis] != sizes[shorter] + 1:
            other = owners[shorter]
            raise ValueError(
                f"{function}: axis {axis} has length {sizes[axis]} in {owner.name} of shape {owner.shape} but takes "
                f"{sizes[shorter] + 1}, as {shorter} has length {sizes[shorter]} in {other.name} of shape {other.shape}"
            )
    return sizes


def _rank_misfit(function: str, first: Operand, other: Operand) -> str:
    """Names the operand that is more likely to have the wrong shape, and the shape it should have."""
    if not other.core and first.core:
        what = f"one {other.unit} per row of {first.name} {first.shape} has shape {first.batch_shape}"
    elif first.core == other.core:
        what = f"{first.name} has shape {first.shape}"
    else:
        what = f"{first.name} has shape {first.shape}, and both take the same number of batch axes"
    never = "; broadcasting these against each other is never done silently"
    hint = _squeeze_hint(first, other) or other.hint or never
    return f"{function}: {other.name} has shape {other.shape} but {what}{hint}"


def _never_repeated(function: str, prediction: Operand, larger: Operand, batch_shape: tuple[int, ...]) -> str:
    name, full = prediction.name, (*batch_shape, *prediction.core_shape)
    hint = f"; use jnp.broadcast_to({name}, {full})"
    if larger.role == "option":  # which is more likely wrong
        hint = larger.hint or f"; {larger.name} takes one value per sample, or one for all"
    return (
        f"{function}: {name} has shape {prediction.shape} but {larger.name} has shape {larger.shape}, and {name} is "
        f"never repeated{hint}"
    )


def _axis_hint(first: Operand, other: Operand) -> str:
    """Suggests an axis of the first operand for the classes, if the class indices fit the other axes."""
    if len(first.core) == 1 and other.unit == "class index":
        axis = _missing_axis(first.shape, other.shape)
        return "" if axis is None else f"; use axis={axis} if the classes lie there"
    return ""


def one_hot_hint(name: str, shape: tuple[int, ...], full: tuple[int, ...]) -> str:
    """How to encode class indices of this shape as numbers of the full shape; empty if that would not help."""
    axis = _missing_axis(full, shape)
    return "" if axis is None else f"; for class indices use jax.nn.one_hot({name}, {full[axis]}, axis={axis})"


def _missing_axis(longer: tuple[int, ...], shorter: tuple[int, ...]) -> int | None:
    """The axis that only the longer shape has; axis 1, where images have their classes, if it can be several."""
    found = [i for i in range(len(longer)) if longer[:i] + longer[i + 1 :] == shorter]
    return 1 if 1 in found else next(iter(found), None)


def _squeeze_hint(first: Operand, other: Operand) -> str:
    """How to add the missing axis or remove the extra one; empty if that would not help."""
    longer, shorter = (other, first) if len(other.batch_axes) > len(first.batch_axes) else (first, other)
    if longer is first and not other.core and other.shape == first.batch_shape[1:] and set(other.shape) != {1}:
        return f"; for one value per column use {other.name}[None]"
    if len(longer.batch_axes) == len(shorter.batch_axes) + 1 and not longer.core:
        for i in reversed(range(len(longer.shape))):
            squeezed = longer.shape[:i] + longer.shape[i + 1 :]
            fits = all(a == b or 1 in (a, b) for a, b in zip(squeezed, shorter.batch_shape, strict=True))
            if longer.shape[i] == 1 and fits:
                index = ", ".join([":"] * i + ["0"])
                return f"; use {longer.name}[{index}]"
    if other.role == "option" and not other.core and other.shape == first.batch_shape[:-1]:
        return f"; for one value per row use {other.name}[..., None]"
    return ""
