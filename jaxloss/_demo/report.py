"""The table and the plot of the demo."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxloss._demo import TASKS
from jaxloss._demo.training import Result, Task

Results = Mapping[str, list[Result]]
"""The results by the name of the task."""


def print_table(task: Task, results: list[Result], console: Any) -> None:
    from rich.table import Table

    table = Table(title=f"{task.title}: test set")
    table.add_column("loss", no_wrap=True)
    for heading in (*task.measures, "µs per step", "compile s"):
        table.add_column(heading, justify="right")
    table.add_row("(untrained)", *map(_shown(task), results[0].curves[0]), "", "")
    for result in results:
        costs = (f"{result.step_microseconds:.0f}", f"{result.compile_seconds:.2f}")
        table.add_row(result.name, *map(_shown(task), result.curves[-1]), *costs)
    console.print(table)


def _shown(task: Task) -> Any:
    return (lambda share: f"{100 * share:.1f} %") if task.shares else (lambda number: f"{number:.4g}")


def save_plot(results: Results, path: pathlib.Path) -> None:
    """Plots the first measure of each task after each epoch, one panel per task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    labels = {TASKS[name].plotted for name in results}
    size = (1 + 5 * len(results), 4.5)
    figure, panels = plt.subplots(
        1, len(results), figsize=size, sharey=len(labels) == 1, squeeze=False, layout="constrained"
    )
    for axes, (name, of_task) in zip(panels[0], results.items(), strict=True):
        _draw(axes, TASKS[name], of_task)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw(axes: Any, task: Task, results: list[Result]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    curves = [result.curves[1:, 0] for result in results]
    if task.shares:
        curves = [100 * (1 - curve) for curve in curves]
    styles = ("-", "--", "-.", ":")
    for i, (result, curve) in enumerate(zip(results, curves, strict=True)):
        epochs = range(1, len(curve) + 1)
        marks = {"marker": "os^vDxP*"[i % 8], "markevery": 0.15, "ms": 4}
        axes.plot(epochs, curve, styles[i % 4], label=result.name, **marks)
    axes.set(title=task.title, xlabel="epoch", ylabel=task.plotted)
    # On a logarithmic axis of less than a factor of 4, no tick may lie within.
    if np.min(curves) > 0 and np.max(curves) > 4 * np.min(curves):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
