"""Plots of a loss against one number."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxloss.plot._figures import STYLE, new_axes, require_one_number

N_POINTS = 401  # odd, so that a point falls on a kink in the middle


def profile(
    function: Callable[[Array], Array],
    low: float,
    high: float,
    *,
    xlabel: str = "prediction - target",
    title: str | None = None,
    axes: Axes | None = None,
) -> Axes:
    r"""Plots the value, the gradient and the curvature of a loss against one number.

    $$x \mapsto l(x),\ l'(x),\ l''(x)$$

    The curvature at a kink is a spike that is as wide as the ramp of the kink, and higher for a narrower ramp. The
    range of the plot is chosen for the value and the gradient, so the spike may exceed it.

    Args:
      function: maps one number to one number, and is twice differentiable.
      low: left end of the x axis, finite.
      high: right end of the x axis, above `low`.
      xlabel: label of the x axis.
      title: title of the plot; None means the name of the function, if it has one.
      axes: matplotlib axes to draw in, without a legend; None creates a figure with a legend.

    Returns:
      The matplotlib axes.

    Raises:
      ValueError: `low` is not below `high`, or the function does not return one number or is nowhere finite.

    Reference:
      Tufte, Envisioning Information, 1990, chapter 4: small multiples.

    Example:
      >>> import jaxloss, jaxloss.plot
      >>> axes = jaxloss.plot.profile(lambda x: jaxloss.huber_loss(x, 0.0), -3, 3)
      >>> axes.get_legend_handles_labels()[1]
      ['value', 'gradient', 'curvature']
    """
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"profile: low is {low} and high is {high} but must be finite, with low < high")
    # Spaced in float64, so that a point falls on a kink at a round number. jnp.linspace from -2 to 2 misses 0 by 2e-8.
    points = jnp.asarray(np.linspace(low, high, N_POINTS), float)
    require_one_number("profile", function, points[0])

    def gradient_and_value(x: Array) -> tuple[Array, Array]:
        value, gradient = jax.value_and_grad(function)(x)
        return gradient, value

    # One program traces the function once, and not three times.
    (gradient, value), curvature = jax.jit(jax.vmap(jax.value_and_grad(gradient_and_value, has_aux=True)))(points)
    curves = {"value": np.asarray(value), "gradient": np.asarray(gradient), "curvature": np.asarray(curvature)}
    y_values = np.concatenate([curves["value"], curves["gradient"], np.percentile(curves["curvature"], [2, 98])])
    y_values = y_values[np.isfinite(y_values)]
    if not np.isfinite(curves["value"]).any():
        raise ValueError(f"profile: function is finite nowhere between {low} and {high}")
    is_alone, axes = axes is None, axes or new_axes()
    for (name, line), style in zip(curves.items(), STYLE["axes.prop_cycle"], strict=False):
        axes.plot(points, line, label=name, **style)
    bottom, top = y_values.min(), y_values.max()
    margin = 0.06 * max(top - bottom, 1e-6)
    if title is None:
        title = getattr(function, "__name__", "").replace("<lambda>", "")
    axes.set(xlabel=xlabel, title=title)
    axes.set(xlim=(low, high), ylim=(bottom - margin, top + margin))
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    if is_alone:
        axes.legend()
    return axes


Panel = tuple[str, str, Callable[[Array], Array], float, float]
"""Title, label of the x axis, function, left end and right end: what `profile` takes."""


def gallery(*panels: Panel, columns: int = 3) -> Figure:
    r"""Plots several losses side by side, as `profile` does, with one legend.

    $$x \mapsto l_i(x),\ l_i'(x),\ l_i''(x)$$

    Args:
      panels: for each panel a tuple: title, label of the x axis, function, left end, right end.
      columns: the number of panels in a row, at least 1.

    Returns:
      The matplotlib figure, 9 inches wide.

    Raises:
      ValueError: there are no panels, `columns` is below 1, or `profile` rejects a panel.

    Reference:
      Tufte, Envisioning Information, 1990, chapter 4: small multiples.

    Example:
      >>> import jaxloss, jaxloss.plot
      >>> square = "mse_loss", "error", lambda x: jaxloss.mse_loss(x, 0.0), -3, 3
      >>> size = "l1_loss", "error", lambda x: jaxloss.l1_loss(x, 0.0), -3, 3
      >>> [axes.get_title() for axes in jaxloss.plot.gallery(square, size, columns=2).axes]
      ['mse_loss', 'l1_loss']
    """
    if not panels or columns < 1:
        raise ValueError(f"gallery: got {len(panels)} panels in {columns} columns but takes at least 1 of each")
    rows = -(-len(panels) // columns)
    figure = plt.figure(figsize=(9, 2.4 * rows), layout="constrained")
    for i, (title, xlabel, function, low, high) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        profile(function, low, high, xlabel=xlabel, title=title, axes=axes).title.set_fontsize("small")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
