"""The bytes that a compiled program sends between devices, read from its HLO."""

import collections
import itertools

from benchmarks.programs import COLLECTIVE, Loop, Program


def sent(compiled) -> dict[str, int]:
    """The bytes of each kind of collective on one device, over all iterations of all loops and in all branches."""
    parts = Program.parse(compiled.as_text()).parts(lambda branches: list(itertools.chain(*branches)))
    total = collections.Counter()
    for part in parts:
        if isinstance(part, Loop):
            assert part.steps is not None, f"a loop of unknown length: {part.name}"
        elif part.sent:
            total[COLLECTIVE.match(part.opcode)[1]] += part.runs * part.sent
    return dict(total)
