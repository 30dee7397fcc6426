"""The results of benchmarks: printing, saving, and comparing with saved results."""

import collections
import dataclasses
import datetime
import importlib.metadata
import inspect
import json
import math
import os
import pathlib
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

import jaxloss

PEERS = ("optax", "torch", "keras", "jax-cce", "ejkernel", "tokamax", "levanter")
VERSIONS_OF = ("jax", "jaxlib", "numpy", *PEERS)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
      label: what was measured.
      measured: maps each candidate to its number, where less is better; `jaxloss` comes first.
      unit: unit of the numbers.
      spread: maps each candidate to half of the interquartile range of its rounds, in the same unit.
      share: maps each candidate to the fraction of the roofline that it reaches.
      estimated: maps candidates to the estimates of their numbers from the compiled program.
      series: series of a growth plot to which the row belongs.
      size: x coordinate in that plot.
    """

    label: str
    measured: Mapping[str, float]
    unit: str
    spread: Mapping[str, float] = dataclasses.field(default_factory=dict)
    share: Mapping[str, float] = dataclasses.field(default_factory=dict)
    series: str = ""
    size: float = 0.0
    estimated: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def numbers(self) -> dict[str, str]:
        """For each candidate its number, the ratio of jaxloss to it in parentheses, and its share of the roofline."""
        (first, *_) = self.measured.values()
        texts = {}
        for i, (name, number) in enumerate(self.measured.items()):
            text = f"{number:.4g}"
            text += f" ± {self.spread[name]:.2g}" if name in self.spread else ""
            is_peer = "jaxloss" in self.measured and i > 0
            text += f" ({first / number:.2f})" if is_peer and number > 0 and math.isfinite(first / number) else ""
            text += f", {self.share[name]:.0%} of the roofline" if name in self.share else ""
            texts[name] = text + (f", estimated {self.estimated[name]:.4g}" if name in self.estimated else "")
        return texts

    def cells(self) -> list[str]:
        """The label, followed by each candidate with its number."""
        return [f"{self.label}, {self.unit}", *(f"{name} {text}" for name, text in self.numbers().items())]


@dataclasses.dataclass(frozen=True)
class Note:
    """A line of text between rows."""

    text: str

    def cells(self) -> list[str]:
        return [self.text]


Rows = Iterator[Row | Note]


class Benchmark(NamedTuple):
    """What a benchmark measures, and a function of `quick` that does it."""

    heading: str
    rows: Callable[[bool], Rows]


def environment() -> dict[str, str]:
    """The hardware, the versions and the date."""
    device = jax.devices()[0]
    return {
        "date": datetime.date.today().isoformat(),
        "device": f"{device.platform}: {device.device_kind} x {jax.device_count()}",
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "Python": f"{platform.python_version()} on {platform.system()}",
        "jaxloss": jaxloss.__version__,  # installed or not
        **{package: version(package) for package in VERSIONS_OF},
    }


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def processor() -> str:
    information = pathlib.Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


MEASURED = "Medians over rounds ± half of the interquartile range. Parentheses: jaxloss divided by the peer."


@dataclasses.dataclass
class Results:
    """All rows of a run, grouped by benchmark.

    Args:
      environment: the hardware, the versions and the date.
      headings: what each benchmark measures.
      rows: the rows of each benchmark.
      title: the title of the page; by default the names of the benchmarks if they are few.
      preface: how to read the numbers.
    """

    environment: Mapping[str, str]
    headings: dict[str, str] = dataclasses.field(default_factory=dict)
    rows: dict[str, list[Row | Note]] = dataclasses.field(default_factory=dict)
    title: str = ""
    preface: str = MEASURED

    def measured(self, benchmark: str) -> list[Row]:
        return [row for row in self.rows.get(benchmark, []) if isinstance(row, Row)]

    def save(self, folder: pathlib.Path, pictures: Iterable[pathlib.Path] = ()) -> None:
        """Writes `results.json` and, with these plots, `results.md`."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = {name: [dataclasses.asdict(row) for row in rows] for name, rows in self.rows.items()}
        page = {"title": self.title, "preface": self.preface}
        document = {"environment": dict(self.environment), "headings": self.headings, "rows": kept, **page}
        text = json.dumps(without_infinities(document), indent=1, allow_nan=False)
        (folder / "results.json").write_text(text + "\n")
        (folder / "results.md").write_text(self.markdown(pictures))

    @classmethod
    def load(cls, path: pathlib.Path) -> "Results":
        document = json.loads(path.read_text())

        def row(fields: dict[str, Any]) -> Row | Note:
            if "text" in fields:
                return Note(**fields)
            measured = {candidate: float(number) for candidate, number in fields["measured"].items()}
            return Row(**fields | {"measured": measured})

        rows = {name: [row(fields) for fields in kept] for name, kept in document["rows"].items()}
        page = {name: document[name] for name in ("title", "preface") if name in document}
        return cls(document["environment"], document["headings"], rows, **page)

    @classmethod
    def earlier(cls, folder: pathlib.Path, title: str = "") -> "Results":
        """The results in a folder; empty if it has none, or those of a page with another title."""
        path = folder / "results.json"
        found = cls.load(path) if path.is_file() else cls({})
        return found if found.title == title else cls({})

    def markdown(self, pictures: Iterable[pathlib.Path] = ()) -> str:
        names = " and ".join(self.rows).replace("_", " ").capitalize() if 0 < len(self.rows) <= 2 else "Benchmarks"
        lines = [f"# {self.title or names}", "", *(f"- {name}: {value}" for name, value in self.environment.items())]
        if self.rows.keys() - {"accuracy"}:
            lines += ["", inspect.cleandoc(self.preface)]
        lines += [f"\n![{path.stem}]({path.name})" for path in pictures]
        for name, rows in self.rows.items():
            lines += ["", f"## {name}", "", inspect.cleandoc(self.headings[name]), ""]
            measured = self.measured(name)
            if measured:
                lines += [*layout(name, measured), ""]
            lines += [row.text + "\n" for row in rows if isinstance(row, Note)]
        return "\n".join(lines).rstrip() + "\n"


def without_infinities(document: Any) -> Any:
    """Replaces NaN and infinities, which JSON lacks, by strings that `float` can read."""
    if isinstance(document, Mapping):
        return {key: without_infinities(value) for key, value in document.items()}
    if isinstance(document, list):
        return [without_infinities(value) for value in document]
    return document if not isinstance(document, float) or math.isfinite(document) else str(document)


def layout(name: str, rows: list[Row]) -> list[str]:
    """The table of a benchmark."""
    if name == "accuracy":
        return pivoted(rows)
    return by_unit(rows) if max(collections.Counter(row.label for row in rows).values()) > 2 else listed(rows)


def listed(rows: list[Row]) -> list[str]:
    """A table with one line per row and one column per candidate."""
    candidates = list(dict.fromkeys(name for row in rows for name in row.measured))
    lines = ([f"{row.label}, {row.unit}", *(row.numbers().get(name, "") for name in candidates)] for row in rows)
    return table(["what", *candidates], lines)


def pivoted(rows: list[Row]) -> list[str]:
    """A table with one line per case and one column per quantity, which is the last part of a label; jaxloss first."""
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        what, _, quantity = row.label.rpartition(", ")
        numbers = [f"{'' if name == 'jaxloss' else name} {number:.2g}".strip() for name, number in row.measured.items()]
        found.setdefault(what, {})[quantity] = ", ".join(numbers)
    quantities = list(dict.fromkeys(quantity for cells in found.values() for quantity in cells))
    lines = ([what, *(cells.get(quantity, "") for quantity in quantities)] for what, cells in found.items())
    return table(["what", *quantities], lines)


def by_unit(rows: list[Row]) -> list[str]:
    """A table with one line per label and candidate and one column per unit, for many numbers of the same case."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        for candidate, text in row.numbers().items():
            found.setdefault(row.label, {}).setdefault(candidate, {})[row.unit] = text
    units = list(dict.fromkeys(row.unit for row in rows))
    lines = (
        ["" if i else label, candidate, *(texts.get(unit, "") for unit in units)]
        for label, candidates in found.items()
        for i, (candidate, texts) in enumerate(candidates.items())
    )
    return table(["what", "", *units], lines)


def table(head: list[str], lines: Iterable[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines)]


def moved(before: Results, after: Results) -> Iterator[str]:
    """A line for each number that changed by more than 10 % and by more than three times the sum of both spreads.

    A change to or from NaN or infinity counts too.
    """
    for name in sorted((before.environment.keys() | after.environment.keys()) - {"date"}):
        was, now = (each.environment.get(name, "unknown") for each in (before, after))
        if was != now:
            yield f"{name} was {was} and is {now}"
    for name, rows in after.rows.items():
        old = {(row.label, row.unit): row for row in before.measured(name)}
        for row in (row for row in rows if isinstance(row, Row) and (row.label, row.unit) in old):
            earlier = old[row.label, row.unit]
            for candidate in (each for each in row.measured if each in earlier.measured):
                was, now = earlier.measured[candidate], row.measured[candidate]
                noise = earlier.spread.get(candidate, 0.0) + row.spread.get(candidate, 0.0)
                usual = max(3 * noise, 0.1 * abs(was)) if math.isfinite(was) else 0
                if str(was) != str(now) and not abs(now - was) <= usual:
                    yield f"{name}: {row.label}: {candidate} was {was:.4g} and is {now:.4g} {row.unit}"
