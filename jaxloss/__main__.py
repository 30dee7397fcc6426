"""`python -m jaxloss`: trains a small network on scikit-learn's digits with several losses and compares them."""

import argparse
import importlib.util
import inspect
import os
import pathlib
import sys
from collections.abc import Callable
from typing import NoReturn

import jaxloss
from jaxloss._demo import EXPERIMENTS, Result, load_digits, train

INTERRUPTED = 130
EXTRAS = ("matplotlib", "optax", "rich", "sklearn")


def train_all(names: list[str], epochs: int, seed: int) -> list[Result]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console()
    data = {imbalanced: load_digits(seed, imbalanced) for imbalanced in (False, True)}
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=len(names) * epochs)
        results: list[Result] = []
        for name in names:
            bar.update(task, description=f"{name:22}")
            digits = data[EXPERIMENTS[name].imbalanced]
            results.append(train(name, digits, epochs, seed, lambda: bar.advance(task)))
    return results


def print_table(results: list[Result]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = 100  # for a pipe, rich assumes 80 columns and would truncate the table
    table = Table(title="Digits, test set")
    table.add_column("loss", no_wrap=True)
    table.add_column("training data")
    for heading in ("accuracy", "balanced accuracy", "µs per step", "compile s"):
        table.add_column(heading, justify="right")
    for result in results:
        data = "imbalanced" if result.imbalanced else "balanced"
        numbers = (result.accuracies[-1], result.balanced_accuracy)
        costs = (f"{result.step_microseconds:.0f}", f"{result.compile_seconds:.2f}")
        table.add_row(result.name, data, *(f"{100 * number:.1f} %" for number in numbers), *costs)
    console.print(table)


def save_plot(results: list[Result], path: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    styles = ("-", "--", "-.", ":")
    for side, imbalanced in zip(axes, (False, True), strict=True):
        shown = [result for result in results if result.imbalanced == imbalanced]
        for i, result in enumerate(shown):
            epochs = range(1, len(result.accuracies) + 1)
            errors = [100 * (1 - accuracy) for accuracy in result.accuracies]
            side.plot(epochs, errors, styles[i % 4], marker="os^vDxP*"[i % 8], markevery=0.15, ms=4, label=result.name)
        side.set(title=f"{'imbalanced' if imbalanced else 'balanced'} training data", xlabel="epoch", yscale="log")
        side.set_yticks([1, 2, 5, 10, 20, 50, 100], minor=False)
        side.yaxis.set_major_formatter("{x:g}")
        side.yaxis.set_minor_formatter("")
        side.grid(alpha=0.3, which="both")
        if shown:
            side.legend(fontsize=8)
    axes[0].set_ylabel("test error (%)")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def catalogue(word: str = "") -> str:
    """Every loss whose name or documentation has the word, with the first line of its docstring, by family."""
    functions = {name: value for name, value in vars(jaxloss).items() if inspect.isfunction(value)}
    families: dict[str, dict[str, str]] = {}
    for name, function in sorted(functions.items()):
        text = inspect.getdoc(function) or ""
        if "reduction" in inspect.signature(function).parameters and word.lower() in f"{name} {text}".lower():
            family = (inspect.getdoc(inspect.getmodule(function)) or "").partition(".")[0].partition(":")[0]
            families.setdefault(family, {})[name] = text.splitlines()[0]
    width = max((len(name) for losses in families.values() for name in losses), default=0)
    lines = {family: [f"  {name:{width}}  {text}" for name, text in each.items()] for family, each in families.items()}
    return "\n\n".join("\n".join([family, *lines[family]]) for family in sorted(lines))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    def whole(least: int) -> Callable[[str], int]:
        def number(text: str) -> int:
            if not text.isdecimal() or not least <= int(text) < 2**31:
                raise argparse.ArgumentTypeError(f"takes a whole number from {least} to {2**31 - 1}, got {text!r}")
            return int(text)

        return number

    parser = _Parser(prog="python -m jaxloss", description=__doc__)
    described = "list all losses by family, or those whose name or documentation has the word, and exit"
    parser.add_argument("--list", nargs="?", const="", metavar="WORD", help=described)
    parser.add_argument("--losses", default=",".join(EXPERIMENTS), metavar="NAME,...", help="default: %(default)s")
    parser.add_argument("--epochs", type=whole(1), default=40, help="default: %(default)s")
    parser.add_argument("--seed", type=whole(0), default=0, help="default: %(default)s")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("jaxloss-demo"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    options.losses = list(dict.fromkeys(options.losses.split(",")))
    for name in options.losses:
        if name not in EXPERIMENTS:
            parser.error(f"argument --losses: there is no {name!r}; it takes {', '.join(EXPERIMENTS)}")
    if options.list is None:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"argument --out: {error}")
    return options


def _is_missing(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except ValueError:  # raised if the module is None in sys.modules
        return True


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    if options.list is not None:
        found = catalogue(options.list)
        if not found:
            print(f"python -m jaxloss: no loss mentions {options.list!r}; --list alone shows all", file=sys.stderr)
            return 1
        print(found)
        return 0
    missing = [name for name in EXTRAS if _is_missing(name)]
    if missing:
        print(f"python -m jaxloss: needs {', '.join(missing)}; pip install 'jaxloss[demo]'", file=sys.stderr)
        return 1
    try:
        results = train_all(options.losses, options.epochs, options.seed)
        print_table(results)
        path = options.out / "learning_curves.png"
        save_plot(results, path)
    except KeyboardInterrupt:
        print("python -m jaxloss: interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        print(f"python -m jaxloss: {error}", file=sys.stderr)
        return 1
    print(f"learning curves: {path}")
    return 0


if __name__ == "__main__":
    status = main()
    if status == INTERRUPTED:
        sys.stderr.flush()
        # XLA's threads may still be running, and shutting down the interpreter under them can crash it.
        os._exit(status)
    sys.exit(status)
