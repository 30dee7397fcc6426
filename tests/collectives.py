"""The bytes that a compiled program sends between devices, read from its HLO."""

import collections
import math
import re

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


def sent(compiled) -> dict[str, int]:
    """The bytes of the results of each kind of collective on one device, over all iterations of all loops."""
    bodies, entry = _computations(compiled.as_text())
    total = collections.Counter()

    def visit(name, times):
        for line in bodies[name]:
            kind = re.search(rf" ({'|'.join(KINDS)})(?:-start)?\(", line)
            if kind:
                total[kind[1]] += times * _bytes(line.partition(" = ")[2][: line.index(kind[0]) - line.index(" = ")])
            trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
            # A loop of unknown length must send nothing.
            turns = times * (int(trips[1]) if trips else math.inf if " while(" in line else 1)
            branches = re.search(r"branch_computations=\{([^}]*)\}", line)
            called = re.findall(r"(?:body|calls|true_computation|false_computation)=%([\w.-]+)", line)
            # Count every branch, as if all were taken.
            for name_of_called in called + re.findall(r"%([\w.-]+)", branches[1] if branches else ""):
                visit(name_of_called, turns)
            if " call(" in line:
                visit(re.search(r"to_apply=%([\w.-]+)", line)[1], times)

    visit(entry, 1)
    return dict(total)


def _computations(text):
    bodies, entry, name = {}, None, None
    for line in text.splitlines():
        header = re.match(r"(ENTRY )?%([\w.-]+) \(.*\{$", line)
        if header:
            name = header[2]
            bodies[name] = []
            entry = name if header[1] else entry
        elif name and line.startswith("  "):
            bodies[name].append(line)
    return bodies, entry


def _bytes(shapes):
    """The bytes of all arrays in a type such as "(f32[2,3]{1,0}, s32[])"."""
    total = 0
    for dtype, lengths in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", shapes):
        size = BYTES[dtype]
        for length in lengths.split(",") if lengths else ():
            size *= int(length)
        total += size
    return total
