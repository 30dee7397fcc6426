"""Plots of the results: time against size, shares of the roofline, and accuracy, all readable in greyscale."""

import math
import pathlib
from collections.abc import Iterator
from typing import Any

from benchmarks.results import Results

STYLES = (("0.0", "-", "o"), ("0.4", "--", "s"), ("0.6", ":", "^"), ("0.7", "-.", "v"))


def draw(results: Results, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Saves each plot for which there are results."""
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in (("growth", growth), ("roofline", roofline), ("accuracy", accuracy)):
        figure = picture(results)
        if figure is not None:
            figure.savefig(folder / f"{name}.png", dpi=110)
            plt.close(figure)
            yield folder / f"{name}.png"


def growth(results: Results) -> Any:
    """Time against size on logarithmic axes, one panel per series."""
    import matplotlib.pyplot as plt

    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for benchmark in results.rows:
        for row in results.measured(benchmark):
            for candidate, number in row.measured.items() if row.series and row.unit == "ms" else ():
                panels.setdefault(row.series, {}).setdefault(candidate, []).append((row.size, number))
    panels = {series: lines for series, lines in panels.items() if any(len(points) > 2 for points in lines.values())}
    if not panels:
        return None
    columns = min(3, len(panels))
    shape = (math.ceil(len(panels) / columns), columns)
    figure, axes = plt.subplots(
        *shape, figsize=(3.8 * columns, 3.1 * shape[0]), squeeze=False, layout="constrained", sharey=True
    )
    for panel, (series, lines) in zip(axes.flat, panels.items(), strict=False):
        for (candidate, points), (shade, line, marker) in zip(lines.items(), STYLES, strict=False):
            panel.loglog(*zip(*sorted(points), strict=True), line, color=shade, marker=marker, label=candidate, ms=4)
        by_classes = "by classes" in series
        by_samples = "by samples" in series
        panel.set_title(series, fontsize="medium")
        panel.set(xlabel="classes" if by_classes else "samples" if by_samples else "elements")
        panel.legend(frameon=False, fontsize="small")
        panel.spines[["top", "right"]].set_visible(False)
    for panel in list(axes.flat)[len(panels) :]:
        panel.remove()
    for row in axes:
        row[0].set_ylabel("time (ms)")
    return figure


def roofline(results: Results) -> Any:
    """The share of the read bandwidth that each elementwise loss reaches at the largest size."""
    import matplotlib.pyplot as plt
    import numpy as np

    rows = [row for row in results.measured("elementwise") if row.share and row.label.endswith("value")]
    if not rows:
        return None
    figure, axes = plt.subplots(figsize=(7, 0.42 * len(rows) + 1), layout="constrained")
    names = [row.label.split(",")[0] for row in rows]
    candidates = list(rows[0].share)
    height = 0.8 / len(candidates)
    for i, candidate in enumerate(candidates):
        places = np.arange(len(rows)) + (i - (len(candidates) - 1) / 2) * height
        shares = [100 * row.share[candidate] for row in rows]
        axes.barh(places, shares, height, color=STYLES[i][0], label=candidate)
    axes.axvline(100, color="0.3", linewidth=0.8, linestyle="--")
    axes.set(yticks=np.arange(len(rows)), yticklabels=names, xlabel="share of the read bandwidth of a plain sum (%)")
    axes.invert_yaxis()
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def accuracy(results: Results) -> Any:
    """The largest error of value and gradient in float32, one row per loss; NaN is drawn at the right end."""
    import matplotlib.pyplot as plt

    rows = [row for row in results.measured("accuracy") if ", float32, " in row.label]
    if not rows:
        return None
    quantities = ("value", "gradient")
    names = list(dict.fromkeys(row.label.split(", float32, ")[0] for row in rows))
    end = 1e12
    figure, panels = plt.subplots(1, 2, figsize=(11, 0.2 * len(names) + 1.3), layout="constrained", sharey=True)
    for panel, quantity in zip(panels, quantities, strict=True):
        for candidate, (shade, _, marker) in zip(("jaxloss", "torch", "optax", "keras"), STYLES, strict=True):
            points = [
                (row.measured[candidate], names.index(row.label.split(", float32, ")[0]))
                for row in rows
                if row.label.endswith(f", {quantity}") and candidate in row.measured
            ]
            if points:
                errors = [max(min(x, end), 1e-3) if math.isfinite(x) else end for x, _ in points]
                filled = {} if candidate == "jaxloss" else {"facecolors": "none", "edgecolors": shade}
                panel.scatter(
                    errors, [y for _, y in points], marker=marker, color=shade, label=candidate, s=28, **filled
                )
        panel.axvline(1, color="0.3", linewidth=0.8, linestyle="--")
        panel.set(xscale="log", xlabel="largest error (units in the last place)", title=f"{quantity}, float32")
        panel.set_xlim(5e-4, 4 * end)
        panel.set_xticks([1e-3, 1, 1e3, 1e6, 1e9, end], ["≤ 10⁻³", "1", "10³", "10⁶", "10⁹", "NaN, ∞\nor ≥ 10¹²"])
        panel.grid(axis="y", color="0.9")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names, fontsize="small")
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside upper center", ncols=len(labels))
    return figure
