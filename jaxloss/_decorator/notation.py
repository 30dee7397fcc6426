"""The shape of one sample in NumPy's gufunc notation, and how the arrays of a call are matched against it.

`"(c),()->()"` says: the first array has one core axis, called c, the second none, and a sample's loss is a number.
What is left of a shape without its core axes are its batch axes.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

_GROUP = r"\(\s*(?:[a-z]\w*(?:\s*,\s*[a-z]\w*)*)?\s*\)"
_NOTATION = re.compile(rf"\s*{_GROUP}(?:\s*,\s*{_GROUP})*\s*->\s*\(\s*\)\s*")


@dataclasses.dataclass(frozen=True)
class Pattern:
    """One sample's shapes: for each array the names of its core axes, all of which come last but for `axis=`."""

    notation: str
    cores: tuple[tuple[str, ...], ...]

    @staticmethod
    def parse(notation: str) -> "Pattern":
        if not _NOTATION.fullmatch(notation):
            raise ValueError(f"loss: takes a notation such as '(c),()->()', one group an array, got {notation!r}")
        groups = re.findall(_GROUP, notation.partition("->")[0])
        return Pattern(notation, tuple(tuple(re.findall(r"\w+", group)) for group in groups))

    @property
    def has_axis(self) -> bool:
        """Whether some array has one core axis, which `axis=` can then place."""
        return any(len(core) == 1 for core in self.cores)


@dataclasses.dataclass(frozen=True)
class Operand:
    """One array of a call.

    Args:
      name: of the argument.
      shape: of the array.
      core: names of its core axes.
      is_parameter: it has no batch axes, being shared by all samples.
      unit: what one sample of it is called in errors.
      hint: what errors about it add.
    """

    name: str
    shape: tuple[int, ...]
    core: tuple[str, ...] = ()
    is_parameter: bool = False
    unit: str = "value"
    hint: str = ""

    @property
    def batch_rank(self) -> int:
        return len(self.shape) - len(self.core)

    def core_position(self, axis: int) -> int:
        """Where the core axes begin, counted in this array's own axes."""
        return axis % len(self.shape) if len(self.core) == 1 and self.batch_rank else self.batch_rank

    def split(self, axis: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shape as (batch axes, core axes)."""
        at = self.core_position(axis)
        end = at + len(self.core)
        return self.shape[:at] + self.shape[end:], self.shape[at:end]


@dataclasses.dataclass(frozen=True)
class Match:
    """What matching found: the shape of the batch and the length of every core axis."""

    batch_shape: tuple[int, ...]
    core_sizes: Mapping[str, int]


def match(function: str, operands: Sequence[Operand], axis: int) -> Match:
    """Fits the operands together; raises a ValueError that names the two that don't."""
    for operand in operands:
        _check_rank(function, operand, axis)
    core_sizes = _core_sizes(function, operands, axis)
    batched = [operand for operand in operands if operand.batch_rank]
    if not batched:
        return Match((), core_sizes)
    first = batched[0]
    for operand in batched[1:]:
        if operand.batch_rank != first.batch_rank:
            raise ValueError(_rank_misfit(function, first, operand, axis))
    batch_shape = []
    for i in range(first.batch_rank):
        lengths = {operand.split(axis)[0][i]: operand for operand in reversed(batched)}
        stretched = [length for length in lengths if length != 1]
        if len(stretched) > 1:
            one, other = (lengths[length] for length in stretched[:2])
            one, other = sorted((one, other), key=operands.index)
            raise ValueError(
                f"{function}: {other.name} has shape {other.shape} beside {one.name} of shape {one.shape}: their batch "
                f"axes {other.split(axis)[0]} and {one.split(axis)[0]} do not broadcast{_axis_hint(one, other)}"
            )
        batch_shape.append(stretched[0] if stretched else 1)
    return Match(tuple(batch_shape), core_sizes)


def _check_rank(function: str, operand: Operand, axis: int) -> None:
    core, rank = operand.core, len(operand.shape)
    written = f"({', '.join(core)})"
    if operand.is_parameter and rank != len(core):
        raise ValueError(f"{function}: {operand.name} has shape {operand.shape} but takes shape {written} exactly")
    if rank < len(core):
        raise ValueError(
            f"{function}: {operand.name} has shape {operand.shape} but one sample of it alone has shape {written}"
        )
    if len(core) == 1 and operand.batch_rank and not -rank <= axis < rank:
        raise ValueError(f"{function}: axis is {axis} but {operand.name} of shape {operand.shape} has {rank} axes")


def _core_sizes(function: str, operands: Sequence[Operand], axis: int) -> dict[str, int]:
    sizes: dict[str, int] = {}
    owners: dict[str, Operand] = {}
    for operand in operands:
        for name, length in zip(operand.core, operand.split(axis)[1], strict=True):
            owner = owners.setdefault(name, operand)
            if sizes.setdefault(name, length) != length:
                turned = len(operand.core) == 2 and operand.shape[::-1][operand.core.index(name)] == sizes[name]
                raise ValueError(
                    f"{function}: axis {name} has length {length} in {operand.name} of shape {operand.shape} "
                    f"but {sizes[name]} in {owner.name} of shape {owner.shape}"
                    f"{f'; use {operand.name}.T' if turned else operand.hint}"
                )
            if length == 0:
                raise ValueError(f"{function}: axis {name} of {operand.name} of shape {operand.shape} is empty")
    return sizes


def _rank_misfit(function: str, first: Operand, other: Operand, axis: int) -> str:
    """Blames the operand that a caller is likelier to have shaped wrongly, and says what it should have been."""
    if not other.core and first.core:
        taken, _ = first.split(axis)
        what = f"one {other.unit} per row of {first.name} {first.shape} has shape {taken}"
    elif first.core == other.core:
        what = f"{first.name} has shape {first.shape}"
    else:
        what = f"{first.name} has shape {first.shape}, and both take the same number of batch axes"
    return f"{function}: {other.name} has shape {other.shape} but {what}{_squeeze_hint(first, other, axis)}{other.hint}"


def _axis_hint(first: Operand, other: Operand) -> str:
    """Along which axis of the first the classes may lie, if the class indices would fit the others."""
    if len(first.core) == 1 and other.unit == "class index":
        for i in range(len(first.shape)):
            if first.shape[:i] + first.shape[i + 1 :] == other.shape:
                return f"; use axis={i} if the classes lie there"
    return ""


def _squeeze_hint(first: Operand, other: Operand, axis: int) -> str:
    longer, shorter = (other, first) if other.batch_rank > first.batch_rank else (first, other)
    if longer is first and not other.core and other.shape == first.split(axis)[0][1:] and set(other.shape) != {1}:
        return f"; for one value a column use {other.name}[None]"
    if longer.batch_rank != shorter.batch_rank + 1 or longer.core:
        return "; broadcasting these against each other is never done silently"
    wanted, _ = shorter.split(axis)
    for i in reversed(range(len(longer.shape))):
        squeezed = longer.shape[:i] + longer.shape[i + 1 :]
        fits = all(a == b or 1 in (a, b) for a, b in zip(squeezed, wanted, strict=True))
        if longer.shape[i] == 1 and fits:
            index = ", ".join([":"] * i + ["0"])
            return f"; use {longer.name}[{index}]"
    return "; broadcasting these against each other is never done silently"
