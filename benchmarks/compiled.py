"""Losses compiled for devices that are not there: kernels, loops, bytes, and an estimate of the time."""

import datetime
import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxloss
from benchmarks import by_hand, compiled_cases
from benchmarks.compiled_cases import Programs, realistic
from benchmarks.devices import Device, Estimate, compiled_for, estimates, mesh_of
from benchmarks.measuring import PEERS
from benchmarks.results import Benchmark, Note, Results, Row, Rows, version

TITLE = "Compiled, not run"
PREFACE = """
Nothing on this page was run. XLA compiled each program for a device that was not there. Kernels, loop steps, bytes and
temporaries are those of the compiled program. The times are an estimate, a roofline over its kernels: each takes the
longer of its arithmetic and its memory traffic, and a launch. The estimate knows no caches and no overlap, so trust its
ratios more than its times. The calibration compares it with times that others have measured. Where measured results of
a device exist, they are in a folder of its own beside this one.

Each program is the value and gradient of a mean, and each number is the total of one call. The loop steps are those of
the longest loop. A conditional counts with its longer branch, and if that makes a difference, a line "shorter
branches" has the numbers of the other. Parentheses: jaxloss divided by the peer.
"""

MiB = 2**20
COLUMNS: Mapping[str, Callable[[Estimate], float]] = {
    "ms": lambda estimate: estimate.seconds * 1e3,
    "MiB moved": lambda estimate: estimate.moved / MiB,
    "MiB of temporaries": lambda estimate: estimate.temporaries / MiB,
    "kernels": lambda estimate: estimate.kernels,
    "loop steps": lambda estimate: estimate.steps,
}
SENT = {"MiB sent": lambda estimate: estimate.sent / MiB}

PUBLISHED = {
    "h100": (((4096, 4096, 128_256), 25.4), ((32_768, 4096, 128_256), 211.5), ((32_768, 2560, 262_144), 284.0)),
    "tpu-v6e": (((32_768, 4096, 128_256), 237.0),),
}
"""Milliseconds of value and gradients of full logits in bfloat16, from the tuning data of tokamax."""


def sections(devices: Iterable[Device]) -> dict[str, Benchmark]:
    """The parts of the benchmark `compiled`, by heading."""
    found: dict[str, Benchmark] = {}
    for device in devices:
        by = f"compiled by {compiler(device)}"
        found[f"one {device.name}"] = Benchmark(
            f"Every loss for one device, {by}.", lambda quick, device=device: losses(device, quick)
        )
        if device.mesh:
            found[f"mesh of eight {device.name}"] = Benchmark(
                f"Output layers on a mesh of 4 x 2 devices, {by}. The numbers are those of one device. What is sent is "
                "the larger of what each collective takes and returns; its time on the links is not estimated.",
                lambda quick, device=device: on_mesh(device, quick),
            )
        if device.name in PUBLISHED:
            found[f"calibration of {device.name}"] = Benchmark(
                f"Full logits by hand, {by}, beside the times in the tuning data of tokamax.",
                lambda quick, device=device: calibration(device, quick),
            )
    return found


def compiler(device: Device) -> str:
    """The packages that compile for a device and the peers, with their versions."""
    own = ("jax", "libtpu" if device.extra == "compiled-tpu" else "jax-cuda12-plugin")
    installed = {package: version(package) for package in (*own, *PEERS.values())}
    return ", ".join(f"{package} {found}" for package, found in installed.items() if found != "not installed")


def saved(folder: pathlib.Path) -> Results:
    """The results in a folder, to which those for more devices are added."""
    kept = Results.earlier(folder, TITLE)
    environment = {"date": datetime.date.today().isoformat(), "jaxloss": jaxloss.__version__}
    return Results(environment, kept.headings, kept.rows, TITLE, PREFACE)


def losses(device: Device, quick: bool) -> Rows:
    seen = set()
    sizes = functools.partial(realistic, larger=device.name == "h100")
    for case in compiled_cases.cases(sizes):
        if quick and case.loss in seen:
            continue
        seen.add(case.loss)
        yield from rows(device, case.label, case.programs, COLUMNS)


def on_mesh(device: Device, quick: bool) -> Rows:
    mesh = mesh_of(device, (4, 2), ("data", "model"))
    n, d, c = (2048, 256, 16_384) if quick else (16_384, 2048, 128_256)
    for label, programs in split_layers(mesh, n, d, c):
        yield from rows(device, f"{(n, d, c)} bfloat16, {label}", programs, COLUMNS | SENT, mesh)


def split_layers(mesh: Mesh, n: int, d: int, c: int) -> Iterator[tuple[str, Programs]]:
    """An output layer whose rows, or rows and classes, are split over the devices of a mesh."""

    def layer(rows: Any, classes: Any) -> tuple[Any, ...]:
        specs = (PartitionSpec(rows), PartitionSpec(None, classes), PartitionSpec(rows))
        plain = compiled_cases.layer({"batch": n, "d": d, "c": c}, "bfloat16")
        return tuple(
            jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=NamedSharding(mesh, spec))
            for array, spec in zip(plain, specs, strict=True)
        )

    def by_axis_name(hidden: Any, kernel: Any, target: Any) -> Any:
        def local(hidden: Any, kernel: Any, target: Any) -> Any:
            total = jaxloss.linear_cross_entropy(hidden, kernel, target, axis_name="model", reduction="total")
            return total.psum("data").mean()

        rows, classes = PartitionSpec("data"), PartitionSpec(None, "model")
        split = jax.shard_map(local, mesh=mesh, in_specs=(rows, classes, rows), out_specs=PartitionSpec())
        return split(hidden, kernel, target)

    plain = by_hand.mean(by_hand.SELECTING["linear_cross_entropy"])
    for label, ours, arrays in (
        ("rows split", jaxloss.linear_cross_entropy, layer(("data", "model"), None)),
        ("rows and classes split", jaxloss.linear_cross_entropy, layer("data", "model")),
        ("rows and classes split, axis_name", by_axis_name, layer("data", "model")),
    ):
        functions = {"jaxloss": ours, "by hand": plain}
        yield label, {name: (jax.value_and_grad(f, (0, 1)), arrays) for name, f in functions.items()}


def calibration(device: Device, quick: bool) -> Rows:
    function = jax.value_and_grad(by_hand.mean(by_hand.LINES["linear_cross_entropy"]), (0, 1))
    for (n, d, c), milliseconds in PUBLISHED[device.name][: 1 if quick else None]:
        arguments = compiled_cases.layer({"batch": n, "d": d, "c": c}, "bfloat16")
        estimate, _ = estimates(device, compiled_for(device, function, arguments))
        measured = {"published": milliseconds, "estimated": estimate.seconds * 1e3}
        yield Row(f"{(n, d, c)} bfloat16", measured, "ms")
        yield Note(f"{(n, d, c)}: the estimate is {measured['estimated'] / milliseconds:.0%} of the published time.")


def rows(
    device: Device,
    label: str,
    programs: Programs,
    columns: Mapping[str, Callable[[Estimate], float]],
    mesh: Mesh | None = None,
) -> Rows:
    """A row for each column; a note for each program that does not compile, or whose loops have no known length."""
    found: dict[str, Estimate] = {}
    for candidate, (function, arguments) in programs.items():
        try:
            longer, shorter = estimates(device, compiled_for(device, function, arguments, mesh))
        except jax.errors.JaxRuntimeError as error:  # the program does not fit into the memory of the device
            yield Note(f"{label}: {candidate} does not compile: {str(error).splitlines()[0][:200]}")
            continue
        found[candidate] = longer
        if shorter != longer:
            found[f"{candidate}, shorter branches"] = shorter
        if longer.unknown:
            yield Note(f"{label}: {candidate} has {longer.unknown} loops of unknown length, counted as one step.")
    jax.clear_caches()
    for unit, number in columns.items():
        if found:
            yield Row(label, {candidate: float(number(estimate)) for candidate, estimate in found.items()}, unit)
