"""`python -m benchmarks`: time, memory and accuracy of jaxloss and its peers; ratios to jaxloss are in parentheses."""

import argparse
import pathlib
from collections.abc import Mapping, Sequence

import jax
from rich.console import Console
from rich.progress import Progress

from benchmarks import compiled, plots
from benchmarks.accuracy import accuracy
from benchmarks.choosing import choosing
from benchmarks.compiling import compile_times, importing, kernels, memory
from benchmarks.devices import DEVICES, with_compiler
from benchmarks.language_model import language_model
from benchmarks.large_output import adaptive_softmax, chunk_sizes, large_output
from benchmarks.measuring import PEERS
from benchmarks.results import Benchmark, Results, environment, moved, version
from benchmarks.speed import cross_entropy, dispatch, elementwise, roofline

BENCHMARKS = {
    function.__name__: Benchmark(function.__doc__ or "", function)
    for function in (
        roofline,
        dispatch,
        elementwise,
        cross_entropy,
        large_output,
        chunk_sizes,
        adaptive_softmax,
        language_model,
        compile_times,
        memory,
        importing,
        kernels,
        accuracy,
        choosing,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = f"any of {', '.join(BENCHMARKS)}; default: all. Or compiled, which runs nothing"
    parser.add_argument("names", nargs="*", metavar="name", help=names)
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds: a few minutes in total")
    parser.add_argument("--plot", action="store_true", help="also save plots")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmark-results"), metavar="FOLDER")
    parser.add_argument("--add", action="store_true", help="keep the results of other benchmarks that FOLDER has")
    parser.add_argument("--compare", type=pathlib.Path, metavar="OLD.json", help="report changes beyond the noise")
    parser.add_argument(
        "--for",
        dest="devices",
        action="append",
        choices=list(DEVICES),
        help="a device that compiled compiles for; may be repeated; default: all whose compiler is installed",
    )
    options = parser.parse_args()
    if options.compare is not None and not options.compare.is_file():
        parser.error(f"--compare takes the saved results of an earlier run, but there is no file {options.compare}")
    try:
        benchmarks, results = chosen(options.names, options.devices or (), options.out, options.add)
    except ValueError as error:
        parser.error(str(error))
    before = None if options.compare is None else Results.load(options.compare)
    # Do not wrap lines that are longer than the terminal when the output is a file.
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(", ".join(f"{name} {value}" for name, value in results.environment.items()))
    absent = [package for package in PEERS.values() if version(package) == "not installed"]
    if absent:
        console.print(f"not installed, skipped: {', '.join(absent)}")
    run(benchmarks, results, options, console)
    pictures = list(plots.draw(results, options.out)) if options.plot else []
    for picture in pictures:
        console.print(f"\nsaved {picture}")
    results.save(options.out, pictures)
    console.print(f"\nsaved {options.out / 'results.json'} and {options.out / 'results.md'}")
    if before is not None:
        lines = list(moved(before, results))
        console.print("\n".join(lines) if lines else "nothing moved by more than the noise")


def chosen(
    names: Sequence[str], devices: Sequence[str], folder: pathlib.Path, add: bool
) -> tuple[Mapping[str, Benchmark], Results]:
    """The benchmarks to run, and the results to which they add; raises a ValueError if the names do not fit."""
    unknown = sorted({*names} - {*BENCHMARKS, "compiled"})
    if unknown:
        raise ValueError(f"there is no {', '.join(unknown)}; it takes {', '.join(BENCHMARKS)}, compiled")
    if "compiled" not in names:
        if devices:
            raise ValueError("--for names the devices that `compiled` compiles for, which is not among the benchmarks")
        earlier = Results.earlier(folder) if add else Results({})
        results = Results(environment(), earlier.headings, earlier.rows)
        return {name: BENCHMARKS[name] for name in names or BENCHMARKS}, results
    if len(names) > 1:
        raise ValueError("`compiled` keeps JAX on the CPU; run the other benchmarks without it")
    benchmarks = compiled.sections(with_compiler(devices))
    jax.config.update("jax_platforms", "cpu")
    return benchmarks, compiled.saved(folder)


def run(benchmarks: Mapping[str, Benchmark], results: Results, options: argparse.Namespace, console: Console) -> None:
    """Adds the rows of the benchmarks to the results, prints them and saves them."""
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(benchmarks))
        for name, benchmark in benchmarks.items():
            progress.update(task, description=name)
            results.headings[name] = benchmark.heading
            results.rows[name] = []
            console.print(f"\n{name}: {benchmark.heading}")
            for row in benchmark.rows(options.quick):
                results.rows[name].append(row)
                console.print("| " + " | ".join(row.cells()) + " |")
                results.save(options.out)  # so that results are kept if a later one fails
            progress.advance(task)


if __name__ == "__main__":
    main()
