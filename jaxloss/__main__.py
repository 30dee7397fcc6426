"""`python -m jaxloss`: trains small networks on data that packages carry, with several losses, and compares them."""

import argparse
import importlib.util
import inspect
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

import jaxloss
from jaxloss._demo import TASKS, report
from jaxloss._demo.training import Result, train

INTERRUPTED = 130
DEFAULT = "classification,imbalance"
EXTRAS = ("matplotlib", "optax", "rich", "sklearn")


def train_all(names: Mapping[str, list[str]], epochs: int | None, seed: int) -> dict[str, list[Result]]:
    """Trains with each loss of each task."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console()
    rounds = {task: epochs or TASKS[task].epochs for task in names}
    with Progress(console=console, disable=not console.is_terminal) as bar:
        shown = bar.add_task("training", total=sum(len(names[task]) * rounds[task] for task in names))
        results: dict[str, list[Result]] = {task: [] for task in names}
        for task, losses in names.items():
            problem = TASKS[task].load(seed)
            for name in losses:
                bar.update(shown, description=f"{name:32}")
                trained = train(name, TASKS[task], problem, rounds[task], seed, lambda: bar.advance(shown))
                results[task].append(trained)
    return results


def print_tables(results: Mapping[str, list[Result]]) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 100  # for a pipe, rich assumes 80 columns and would truncate the table
    for task, of_task in results.items():
        report.print_table(TASKS[task], of_task, console)


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

    known, epochs = ", ".join(TASKS), ", ".join(str(task.epochs) for task in TASKS.values())
    parser = _Parser(prog="python -m jaxloss", description=__doc__)
    described = "list all losses by family, or those whose name or documentation has the word, and exit"
    parser.add_argument("--list", nargs="?", const="", metavar="WORD", help=described)
    parser.add_argument("--task", default=DEFAULT, metavar="NAME,...", help=f"of {known}; default: {DEFAULT}")
    parser.add_argument("--losses", metavar="NAME,...", help="some losses of the tasks; default: all")
    parser.add_argument("--epochs", type=whole(1), help=f"default: {epochs}, by task")
    parser.add_argument("--seed", type=whole(0), default=0, help="default: %(default)s")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("jaxloss-demo"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    tasks = list(dict.fromkeys(options.task.split(",")))
    for task in tasks:
        if task not in TASKS:
            parser.error(f"argument --task: there is no {task!r}; it takes {known}")
    try:
        options.losses = _chosen(tasks, options.losses)
    except ValueError as error:
        parser.error(f"argument --losses: {error}")
    if options.list is None:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"argument --out: {error}")
    return options


def _chosen(tasks: list[str], losses: str | None) -> dict[str, list[str]]:
    """The names of the losses of each task; of tasks that have one of them."""
    offered = {task: list(TASKS[task].experiments) for task in tasks}
    if losses is None:
        return offered
    names = list(dict.fromkeys(losses.split(",")))
    for name in names:
        if not any(name in of_task for of_task in offered.values()):
            elsewhere = [task for task, each in TASKS.items() if name in each.experiments]
            hint = f" (but --task {elsewhere[0]} has)" if elsewhere else ""
            known = "; ".join(f"{task} has {', '.join(of_task)}" for task, of_task in offered.items())
            raise ValueError(f"there is no {name!r}{hint}; {known}")
    chosen = {task: [name for name in names if name in of_task] for task, of_task in offered.items()}
    return {task: of_task for task, of_task in chosen.items() if of_task}


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
        try:
            print(found, flush=True)
        except BrokenPipeError:  # as of `| head`, which the interpreter would meet once more when it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    missing = [name for name in EXTRAS if _is_missing(name)]
    if missing:
        print(
            f"python -m jaxloss: needs {', '.join(missing)}; pip install 'jaxloss[demo]', or '.[demo]' in a clone",
            file=sys.stderr,
        )
        return 1
    try:
        results = train_all(options.losses, options.epochs, options.seed)
        print_tables(results)
        path = options.out / "learning_curves.png"
        report.save_plot(results, path)
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
