"""`python -m benchmarks`: time, memory and accuracy of jaxloss and its peers; ratios to jaxloss are in parentheses."""

import argparse
import pathlib

from rich.console import Console
from rich.progress import Progress

from benchmarks import plots
from benchmarks.accuracy import accuracy
from benchmarks.compiling import compile_times, importing, kernels, memory
from benchmarks.language_model import language_model
from benchmarks.large_output import adaptive_softmax, chunk_sizes, large_output
from benchmarks.measuring import PEERS
from benchmarks.results import Results, environment, moved
from benchmarks.speed import cross_entropy, dispatch, elementwise, roofline

BENCHMARKS = {
    benchmark.__name__: benchmark
    for benchmark in (
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
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds: a few minutes in total")
    parser.add_argument("--plot", action="store_true", help="also save plots")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmark-results"), metavar="FOLDER")
    parser.add_argument("--add", action="store_true", help="keep the results of other benchmarks that FOLDER has")
    parser.add_argument("--compare", type=pathlib.Path, metavar="OLD.json", help="report changes beyond the noise")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; it takes {', '.join(BENCHMARKS)}")
    if options.compare is not None and not options.compare.is_file():
        parser.error(f"--compare takes the saved results of an earlier run, but there is no file {options.compare}")
    before = None if options.compare is None else Results.load(options.compare)
    results = Results(environment())
    if options.add and (options.out / "results.json").is_file():
        earlier = Results.load(options.out / "results.json")
        results = Results(environment(), earlier.headings, earlier.rows)
    # Do not wrap lines that are longer than the terminal when the output is a file.
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(", ".join(f"{name} {value}" for name, value in results.environment.items()))
    absent = [package for package in PEERS.values() if results.environment[package] == "not installed"]
    if absent:
        console.print(f"not installed, skipped: {', '.join(absent)}")
    names = options.names or list(BENCHMARKS)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(names))
        for name in names:
            progress.update(task, description=name)
            results.headings[name] = BENCHMARKS[name].__doc__ or ""
            results.rows[name] = []
            console.print(f"\n{name}: {results.headings[name]}")
            for row in BENCHMARKS[name](options.quick):
                results.rows[name].append(row)
                console.print("| " + " | ".join(row.cells()) + " |")
                results.save(options.out)  # so that results are kept if a later one fails
            progress.advance(task)
    pictures = list(plots.draw(results, options.out)) if options.plot else []
    for picture in pictures:
        console.print(f"\nsaved {picture}")
    results.save(options.out, pictures)
    console.print(f"\nsaved {options.out / 'results.json'} and {options.out / 'results.md'}")
    if before is not None:
        lines = list(moved(before, results))
        console.print("\n".join(lines) if lines else "nothing moved by more than the noise")


if __name__ == "__main__":
    main()
