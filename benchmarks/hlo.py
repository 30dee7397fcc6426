"""XLA's text of a compiled program, read into instructions.

The text of an optimised program lists computations, and a computation lists instructions:

    %fusion.3 = f32[1024]{0:T(1024)} fusion(%logits, %target), kind=kLoop, calls=%fused_computation.3
"""

import dataclasses
import math
import re

ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
"""An array in a type: dtype, lengths, and layout such as `1,0:T(8,128)S(1)`: minor axis first, tile, memory space."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array as a program stores it.

    Args:
      bits: the size of a number.
      lengths: the lengths of its axes.
      size: its bytes, with tiles filled up.
      on_chip: whether it is in a memory on the chip.
    """

    bits: int
    lengths: tuple[int, ...]
    size: int
    on_chip: bool

    @staticmethod
    def parse(dtype: str, lengths: str, layout: str) -> "Stored":
        width = re.search(r"\d+", dtype)
        bits = int(width[0]) if width else 8 if dtype == "pred" else 0
        shape = tuple(int(length) for length in lengths.split(",") if length)
        order, _, storage = layout.partition(":")
        tile = re.match(r"T\(([\d,]+)\)", storage)
        places = list(shape)
        if tile and shape:
            # XLA:TPU fills the minor axes up to whole tiles of 8 x 128, so an axis of 10 may take the space of 128.
            places = [shape[int(axis)] for axis in order.split(",")]
            for i, length in enumerate(reversed(tile[1].split(",")[-len(places) :])):
                places[i] = math.ceil(places[i] / int(length)) * int(length)
        # Of the memory spaces of a TPU, only 0 and 5 (the host) are outside of the chip. A GPU has none on the chip.
        on_chip = tile is not None and re.search(r"S\([^05]\)", storage) is not None
        return Stored(bits, shape, math.prod(places) * bits // 8, on_chip)


def arrays(type_: str) -> list[Stored]:
    """The arrays of a type such as `(f32[2,3]{1,0}, s32[])`."""
    return [Stored.parse(*found) for found in ARRAY.findall(type_)]


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Args:
      name: the name of its result.
      type_: the type of its result.
      opcode: what it does.
      operands: the names of its operands.
      inside: the text in parentheses: the operands, the value of a constant, or the position of a parameter.
      attributes: the text behind the parentheses.
      is_root: whether its result is that of the computation.
    """

    name: str
    type_: str
    opcode: str
    operands: tuple[str, ...]
    inside: str
    attributes: str
    is_root: bool

    @staticmethod
    def parse(line: str) -> "Instruction | None":
        found = re.match(r"\s+(ROOT )?%?([\w.\-]+) = (.*)$", line)
        if found is None:
            return None
        type_, call = _split(found[3], " ")
        opcode, _, rest = call.partition("(")
        inside, attributes = _split(rest, ")")
        operands = tuple(re.findall(r"%([\w.\-]+)", inside))
        return Instruction(found[2], type_, opcode, operands, inside, attributes, found[1] is not None)

    def called(self, keys: str) -> str:
        """The computation that an attribute with one of these keys, separated by |, names; "" if there is none."""
        found = re.search(rf"\b(?:{keys})=%?([\w.\-]+)", self.attributes)
        return found[1] if found else ""

    @property
    def branches(self) -> list[str]:
        """The computations of a conditional, that of 0 or false first."""
        listed = re.search(r"branch_computations=\{([^}]*)\}", self.attributes)
        if listed:
            return re.findall(r"[\w.\-]+", listed[1])
        return [self.called("false_computation"), self.called("true_computation")]

    @property
    def results(self) -> list[Stored]:
        """The arrays that it computes."""
        found = arrays(self.type_)
        if self.opcode == "copy-start":  # its type also lists the operand and a semaphore
            return found[:1]
        if self.opcode.endswith("-start") and self.type_.startswith("(("):
            return [array for array in found[len(self.operands) :] if array.lengths]
        return found


def _split(text: str, end: str) -> tuple[str, str]:
    """The text before and after the first `end` that is outside of brackets."""
    depth = 0
    for i, letter in enumerate(text):
        if letter == end and depth == 0:
            return text[:i], text[i + 1 :]
        depth += (letter in "([{") - (letter in ")]}")
    return text, ""


class Computation(dict[str, Instruction]):
    """Instructions by name."""

    @property
    def root(self) -> Instruction:
        (found,) = (each for each in self.values() if each.is_root)
        return found

    def parameter(self, position: int) -> Instruction:
        (found,) = (each for each in self.values() if each.opcode == "parameter" and each.inside == str(position))
        return found


def computations(text: str) -> tuple[dict[str, Computation], str]:
    """The computations of a program by name, and the name of the one that runs."""
    found: dict[str, Computation] = {}
    entry, name = "", ""
    for line in text.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$", line)
        if head:
            name = head[2]
            found[name] = Computation()
            entry = name if head[1] else entry
        elif name and (instruction := Instruction.parse(line)):
            found[name][instruction.name] = instruction
    return found, entry
