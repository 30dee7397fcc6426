"""Estimates of times on a device, from the results of the benchmark that compiles for it, beside the measured times."""

import functools
import pathlib
from collections.abc import Mapping

import jax

from benchmarks.results import Results

SAVED = pathlib.Path(__file__).parent.parent / "docs" / "results" / "compiled" / "results.json"


def estimated(label: str) -> Mapping[str, float]:
    """Milliseconds of a program with this label, by candidate, on the device on which JAX runs; empty if unknown."""
    kind = jax.devices()[0].device_kind.lower()
    found: dict[str, float] = {}
    results = saved()
    for section in results.rows if results else ():
        # A section is headed "one h100"; the device is called "NVIDIA H100 80GB HBM3".
        number, _, device = section.partition(" ")
        if number == "one" and device.lower() in kind:
            rows = [row for row in results.measured(section) if (row.label, row.unit) == (label, "ms")]
            found |= {name: ms for row in rows for name, ms in row.measured.items()}
    return found


@functools.cache
def saved() -> Results | None:
    return Results.load(SAVED) if SAVED.is_file() else None
