"""The style of all plots, and the checks of their arguments."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from cycler import cycler
from jax import Array
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

STYLE: Mapping[str, Any] = {
    # Four shades and four dashes, so that lines differ in print too.
    "axes.prop_cycle": cycler(color=["#111111", "#0072b2", "#d55e00", "#999999"], linestyle=["-", "--", ":", "-."]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.dpi": 90,
    "image.cmap": "gray",
    "legend.frameon": False,
}
"""Settings for `plt.rcParams.update(...)`: lines that differ in shade and dash, without frames."""


def new_axes() -> Axes:
    return plt.figure(figsize=(3.6, 2.8), layout="constrained").add_subplot()


def require_one_number(name: str, function: Callable[[Array], Array], at: Array) -> None:
    shape = getattr(jax.eval_shape(function, at), "shape", "of a pytree")
    if shape != ():
        takes = "one number" if at.ndim == 0 else "an array"
        raise ValueError(f"{name}: function returns shape {shape} but takes {takes} to one number")


def require_shape(name: str, argument: str, array: np.ndarray, shape: tuple[int | str, ...]) -> None:
    fits = array.ndim == len(shape) and all(
        isinstance(n, str) or n == m for n, m in zip(shape, array.shape, strict=True)
    )
    if not fits:
        takes = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name}: {argument} has shape {array.shape} but takes ({takes})")
