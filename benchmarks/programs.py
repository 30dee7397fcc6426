"""What a compiled program does: its kernels, its loops, and the bytes that it moves and sends.

Every instruction of a computation that is not inside of a fusion is a kernel, unless it only renames or groups values.
Loops, conditionals and calls name the computations that they run.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Sequence

from benchmarks.hlo import ARRAY, Computation, Instruction, Stored, arrays, computations

# These rename, group or wait for values.
NO_KERNELS = re.compile(
    r"parameter|constant|tuple|get-tuple-element|bitcast|after-all|opt-barrier|partition-id|replica-id|.*-(?:done|update)"
)
# These calls tell something to the passes of XLA:TPU.
MARKERS = re.compile(r'custom_call_target="(?:AllocateBuffer|AssumeGatherIndicesInBound|ConcatBitcast)"')
SLICES = ("dynamic-slice", "slice", "slice-start", "gather")
VIEWS = ("bitcast", "reshape", "copy")
COLLECTIVE = re.compile(r"(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast)")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel, and how often the program runs it.

    Args:
      name: the name of its instruction.
      opcode: what it does.
      runs: how often it runs.
      flops: floating-point operations of its matrix products, in one run.
      half: whether all factors of the products have at most 16 bits.
      moved: bytes that it reads from and writes to the memory of the device, in one run.
      sent: bytes that it exchanges with other devices, in one run: the larger of what a collective takes and returns.
    """

    name: str
    opcode: str
    runs: int
    flops: float
    half: bool
    moved: int
    sent: int


@dataclasses.dataclass(frozen=True)
class Loop:
    """A loop, and how often the program runs it.

    Args:
      name: the name of its instruction.
      runs: how often the whole loop runs.
      steps: the number of steps of one run; None if it is not in the program.
    """

    name: str
    runs: int
    steps: int | None


Part = Kernel | Loop
Choice = Callable[[Sequence[Sequence[Part]]], Sequence[Part]]
"""Chooses, of the parts of each branch of a conditional, those that run."""


@dataclasses.dataclass(frozen=True)
class Program:
    """The computations of a program by name, and the name of the one that runs."""

    computations: dict[str, Computation]
    entry: str

    @staticmethod
    def parse(text: str) -> "Program":
        return Program(*computations(text))

    def parts(self, choose: Choice) -> list[Part]:
        """The kernels and loops that run."""
        return list(self._parts(self.entry, 1, choose))

    def _parts(self, name: str, runs: int, choose: Choice) -> Iterator[Part]:
        computation = self.computations[name]
        for instruction in computation.values():
            opcode, inner = instruction.opcode, instruction.called("to_apply|calls")
            if opcode == "while":
                steps = self._steps(instruction)
                yield Loop(instruction.name, runs, steps)
                # A loop of unknown length counts as one step.
                yield from self._parts(instruction.called("body"), runs * (1 if steps is None else steps), choose)
            elif opcode == "conditional":
                yield from choose([list(self._parts(branch, runs, choose)) for branch in instruction.branches])
            elif opcode in ("call", "async-start") and inner in self.computations:
                yield from self._parts(inner, runs, choose)
            elif not NO_KERNELS.fullmatch(opcode) and not MARKERS.search(instruction.attributes):
                flops, half = self._products(instruction, computation)
                moved, sent = self._moved(instruction, computation), _sent(instruction, computation)
                yield Kernel(instruction.name, opcode, runs, flops, half, moved, sent)

    def _steps(self, loop: Instruction) -> int | None:
        stated = re.search(r'known_trip_count"?:\{"n":"(\d+)"', loop.attributes)
        if stated:
            return int(stated[1])
        # XLA:TPU does not state the number. Its loops count from 0 to a constant in the condition.
        return max(self._integers(loop.called("condition")), default=None)

    def _integers(self, name: str) -> Iterator[int]:
        """The integer constants of a computation and of those that it calls."""
        for instruction in self.computations[name].values():
            if instruction.opcode == "constant" and instruction.type_.startswith("s32[]"):
                yield int(instruction.inside)
            elif instruction.opcode in ("fusion", "call"):
                yield from self._integers(instruction.called("calls|to_apply"))

    def _products(self, instruction: Instruction, computation: Computation) -> tuple[float, bool]:
        """Operations of the matrix products in an instruction, and whether all factors have at most 16 bits."""
        if instruction.opcode == "fusion":
            inner = self.computations[instruction.called("calls")]
            found = [self._products(each, inner) for each in inner.values()]
            return sum(flops for flops, _ in found), all(half for flops, half in found if flops)
        length = _contracted(instruction, computation)
        if not length:
            return 0.0, True
        (left, *_), (right, *_) = (arrays(computation[operand].type_) for operand in instruction.operands[:2])
        return 2.0 * length * math.prod(instruction.results[0].lengths), max(left.bits, right.bits) <= 16

    def _moved(self, instruction: Instruction, computation: Computation) -> int:
        """Bytes that an instruction reads from and writes to memory."""
        places: dict[str, list[int]] = {}
        for place, name in enumerate(instruction.operands):
            places.setdefault(name, []).append(place)
        read = 0
        for name, each in places.items():
            whole = in_memory(arrays(computation[name].type_))
            # A value that is given twice is read once.
            read += min(whole, sum(self._taken(instruction, place, whole) for place in each))
        return read + self._written(computation, instruction, instruction.results)

    def _taken(self, user: Instruction, place: int, whole: int) -> int:
        """Bytes that an instruction reads of one operand: of a slice, or of an update in place, only that part."""
        if user.opcode in SLICES and place == 0:
            return sum(array.size for array in user.results)
        if user.opcode == "dynamic-update-slice" and place == 0:
            return 0
        if user.opcode == "fusion":
            inner = self.computations[user.called("calls")]
            return self._read(inner, inner.parameter(place))
        return whole

    def _read(self, computation: Computation, value: Instruction) -> int:
        """Bytes that a fused computation reads of one of its values."""
        whole, read = sum(array.size for array in arrays(value.type_)), 0
        if value.is_root:
            return whole
        for user in computation.values():
            for place in (i for i, operand in enumerate(user.operands) if operand == value.name):
                is_view = user.opcode in VIEWS
                read += self._read(computation, user) if is_view else self._taken(user, place, whole)
        return min(read, whole)

    def _written(self, computation: Computation, instruction: Instruction, results: Sequence[Stored]) -> int:
        """Bytes that an instruction writes, if its results are stored in this way."""
        if not in_memory(results):
            return 0
        operands = [computation[name] for name in instruction.operands if name in computation]
        if instruction.opcode == "dynamic-update-slice":
            return sum(array.size for array in arrays(operands[1].type_))
        if instruction.opcode == "fusion":
            inner = self.computations[instruction.called("calls")]
            return self._written_by(inner, inner.root, results)
        return in_memory(results)

    def _written_by(self, computation: Computation, root: Instruction, results: Sequence[Stored]) -> int:
        """The same for a value of a fused computation."""
        operands = [computation[name] for name in root.operands]
        if root.opcode == "tuple":
            sizes = [len(ARRAY.findall(each.type_)) for each in operands]
            ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
            slices = [results[end - size : end] for size, end in zip(sizes, ends, strict=True)]
            return sum(map(self._written_by, [computation] * len(operands), operands, slices))
        if root.opcode in VIEWS and in_memory(results):
            return self._written_by(computation, operands[0], results)
        return self._written(computation, root, results)


def in_memory(stored: Sequence[Stored]) -> int:
    """Bytes of the arrays that are in the memory of the device, and not on the chip."""
    return sum(array.size for array in stored if not array.on_chip)


def _contracted(instruction: Instruction, computation: Computation) -> int:
    """The length of the axes over which a matrix product sums; 0 for an instruction that is not a product."""
    attributes = instruction.attributes
    if instruction.opcode == "dot" or (instruction.opcode == "custom-call" and re.search("gemm|matmul", attributes)):
        left, *_ = arrays(computation[instruction.operands[0]].type_)
        # An instruction `dot` lists the axes in braces, a call of cuBLAS in JSON.
        axes = re.search(r'lhs_contracting_dim(?:s=\{|ension[^[]*\[)([\d,"]+)', attributes)
        return math.prod(left.lengths[int(axis)] for axis in re.findall(r"\d+", axes[1])) if axes else 0
    if instruction.opcode == "convolution":
        right, *_ = arrays(computation[instruction.operands[1]].type_)
        labels = re.search(r"dim_labels=\w+_(\w+)->", attributes)
        # XLA:TPU writes a batch of products as a dilated convolution over the batch, of which one position is not 0.
        summed = "i" if "lhs_dilate" in attributes else "i0123"
        lengths = zip(labels[1] if labels else "", right.lengths, strict=True)
        return math.prod(length for label, length in lengths if label in summed)
    return 0


def _sent(instruction: Instruction, computation: Computation) -> int:
    if not COLLECTIVE.match(instruction.opcode):
        return 0
    taken = [array for operand in instruction.operands for array in arrays(computation[operand].type_)]
    return max(sum(array.size for array in each) for each in (taken, instruction.results))
