"""`python -m benchmarks`: our times, memory and errors beside those of peers, ours in units of theirs in brackets."""

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
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds: some minutes in all")
    parser.add_argument("--plot", action="store_true", help="also draw pictures")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmark-results"), metavar="FOLDER")
    parser.add_argument("--compare", type=pathlib.Path, metavar="OLD.json", help="say what moved beyond the noise")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; it takes {', '.join(BENCHMARKS)}")
    if options.compare is not None and not options.compare.is_file():
        parser.error(f"--compare takes results that an earlier run kept, and there is no file {options.compare}")
    before = None if options.compare is None else Results.load(options.compare)
    results = Results(environment())
    # Lines longer than the terminal stay whole where the output is a file.
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(", ".join(f"{name} {value}" for name, value in results.environment.items()))
    absent = [package for package in PEERS.values() if results.environment[package] == "not installed"]
    if absent:
        console.print(f"not installed and left out: {', '.join(absent)}")
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
            results.save(options.out)  # what was measured is kept if the next fails
            progress.advance(task)
    pictures = list(plots.draw(results, options.out)) if options.plot else []
    for picture in pictures:
        console.print(f"\ndrawn in {picture}")
    results.save(options.out, pictures)
    console.print(f"\nkept in {options.out / 'results.json'} and {options.out / 'results.md'}")
    if before is not None:
        lines = list(moved(before, results))
        console.print("\n".join(lines) if lines else "nothing moved by more than the noise")


if __name__ == "__main__":
    main()
