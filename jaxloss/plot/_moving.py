"""Plots of what gradient descent moves: points, the scores of a list, a box."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from jaxloss.plot._figures import STYLE, new_axes, require_one_number, require_shape


def descent(
    function: Callable[[Array], Array],
    start: ArrayLike,
    *,
    steps: int = 100,
    rate: float = 0.1,
    project: Callable[[Array], Array] | None = None,
) -> np.ndarray:
    r"""The path of gradient descent, which `moving_points`, `moving_scores` and `moving_boxes` plot.

    $$x_{t+1} = P(x_t - \eta \nabla l(x_t))$$

    Args:
      function: maps an array to one number, and is differentiable.
      start: floating, any shape: $x_0$.
      steps: the number of steps, at least 1.
      rate: $\eta$, above 0.
      project: $P$, applied after each step, such as `jaxloss.vectors.normalize`; None means the identity.

    Returns:
      $x_0$ and each $x_t$, of shape `(steps + 1, *start.shape)`.

    Raises:
      ValueError: `steps` is below 1, `rate` is not above 0, or the function does not return one number.

    Reference:
      Cauchy, Méthode générale pour la résolution des systèmes d'équations simultanées, 1847.

    Example:
      >>> import jaxloss, jaxloss.plot
      >>> def loss(x):
      ...     return jaxloss.mse_loss(x, 0.0)
      >>> print(jaxloss.plot.descent(loss, 4.0, steps=3, rate=0.25))
      [4.  2.  1.  0.5]
    """
    if steps < 1 or not rate > 0:
        raise ValueError(f"descent: got steps={steps} and rate={rate} but takes at least 1 step and a rate above 0")
    first = jnp.asarray(start, float)
    require_one_number("descent", function, first)

    def step(x: Array, _: None) -> tuple[Array, Array]:
        moved = x - rate * jax.grad(function)(x)
        moved = project(moved) if project else moved
        return moved, moved

    path = jax.jit(lambda x: jax.lax.scan(step, x, length=steps)[1])(first)
    return np.concatenate([np.asarray(first)[None], np.asarray(path)])


def moving_points(
    path: ArrayLike, *, groups: ArrayLike | None = None, goal: ArrayLike | None = None, axes: Axes | None = None
) -> Axes:
    r"""Plots points of a plane on their way: embeddings, each from an open marker to a filled one.

    $$x_{0,i} \to x_{1,i} \to \dots \to x_{T,i}$$

    Args:
      path: the points at each time, `(T, N, 2)`.
      groups: integers `(N,)`: points of one group, such as a class, share a marker and a colour. None means one group.
      goal: a point `(2,)` that is shown as a star.
      axes: matplotlib axes to draw in; None creates a figure.

    Returns:
      The matplotlib axes.

    Raises:
      ValueError: `path`, `groups` or `goal` has another shape.

    Reference:
      Tufte, Envisioning Information, 1990, chapter 4: small multiples.

    Example:
      >>> import jax.numpy as jnp, jaxloss, jaxloss.plot
      >>> start = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
      >>> labels = jnp.array([0, 0, 1])
      >>> def loss(x):
      ...     return jaxloss.supcon_loss(x, labels)
      >>> path = jaxloss.plot.descent(loss, start)
      >>> axes = jaxloss.plot.moving_points(path, groups=labels)
      >>> len(axes.collections)
      6
    """
    places = np.asarray(path)
    require_shape("moving_points", "path", places, ("T", "N", 2))
    groups = np.zeros(places.shape[1], int) if groups is None else np.asarray(groups)
    require_shape("moving_points", "groups", groups, (places.shape[1],))
    axes = axes or new_axes()
    colours = [style["color"] for style in STYLE["axes.prop_cycle"]]
    for i, group in enumerate(np.searchsorted(np.unique(groups), groups)):
        way, colour, marker = places[:, i], colours[group % len(colours)], "os^D"[group % 4]
        axes.plot(*way.T, "-", color=colour, linewidth=0.8)
        for (x, y), inside in ((way[0], "white"), (way[-1], colour)):
            axes.scatter(x, y, 28, marker=marker, facecolor=inside, edgecolor=colour, zorder=2)
    if goal is not None:
        require_shape("moving_points", "goal", np.asarray(goal), (2,))
        axes.plot(*np.asarray(goal), "*", color="black", markersize=12)
    axes.set_aspect("equal", "datalim")
    return axes


def moving_scores(path: ArrayLike, target: ArrayLike, *, axes: Axes | None = None) -> Axes:
    r"""Plots the scores of the items of a list against time, each with its relevance at the end.

    $$t \mapsto x_{t,i}$$

    Args:
      path: the scores at each time, `(T, K)`.
      target: the relevance of each item, `(K,)`. Items of one relevance share a dash.
      axes: matplotlib axes to draw in; None creates a figure.

    Returns:
      The matplotlib axes.

    Raises:
      ValueError: `path` or `target` has another shape.

    Reference:
      Tufte, Envisioning Information, 1990, chapter 4: small multiples.

    Example:
      >>> import jax.numpy as jnp, jaxloss, jaxloss.plot
      >>> relevance = jnp.array([2, 0])
      >>> def loss(x):
      ...     return jaxloss.listmle_loss(x, relevance)
      >>> path = jaxloss.plot.descent(loss, jnp.array([0.0, 0.5]))
      >>> axes = jaxloss.plot.moving_scores(path, relevance)
      >>> [text.get_text() for text in axes.texts]
      ['2', '0']
    """
    scores, relevance = np.asarray(path), np.asarray(target)
    require_shape("moving_scores", "path", scores, ("T", "K"))
    require_shape("moving_scores", "target", relevance, (scores.shape[1],))
    axes = axes or new_axes()
    styles = list(STYLE["axes.prop_cycle"])
    for line, grade, rank in zip(scores.T, relevance, np.searchsorted(np.unique(-relevance), -relevance), strict=True):
        axes.plot(line, **styles[rank % len(styles)])
        axes.text(len(line), line[-1], f"{grade:g}", va="center")
    axes.set(xlabel="step", ylabel="score")
    return axes


def moving_boxes(path: ArrayLike, target: ArrayLike, *, shown: int = 6, axes: Axes | None = None) -> Axes:
    r"""Plots a box on its way to the target, which is grey: dashed at the start, and darker with time.

    $$b_0 \to b_1 \to \dots \to b_T$$

    Args:
      path: the corners $x_1, y_1, x_2, y_2$ of the box at each time, `(T, 4)`.
      target: the corners of the target, `(4,)`.
      shown: the number of boxes to draw, evenly spaced in time, at least 2.
      axes: matplotlib axes to draw in; None creates a figure.

    Returns:
      The matplotlib axes.

    Raises:
      ValueError: `path` or `target` has another shape, or `shown` is below 2.

    Reference:
      Rezatofighi et al., Generalized Intersection over Union, 2019, figure 2.

    Example:
      >>> import jax.numpy as jnp, jaxloss, jaxloss.plot
      >>> target = jnp.array([0.0, 0.0, 1.0, 1.0])
      >>> def loss(box):
      ...     return jaxloss.generalized_box_iou_loss(box, target)
      >>> path = jaxloss.plot.descent(loss, target + 2.0)
      >>> len(jaxloss.plot.moving_boxes(path, target).patches)
      7
    """
    boxes, goal = np.asarray(path), np.asarray(target)
    require_shape("moving_boxes", "path", boxes, ("T", 4))
    require_shape("moving_boxes", "target", goal, (4,))
    if shown < 2:
        raise ValueError(f"moving_boxes: shown is {shown} but must be at least 2")
    axes = axes or new_axes()

    def add(box: np.ndarray, **style: Any) -> None:
        axes.add_patch(Rectangle((box[0], box[1]), *(box[2:] - box[:2]), **style))

    add(goal, facecolor="0.85")
    for i, at in enumerate(np.linspace(0, len(boxes) - 1, shown).astype(int)):
        add(boxes[at], fill=False, edgecolor=f"{0.6 * (1 - i / (shown - 1)):.2f}", linestyle="-" if i else "--")
    axes.set_aspect("equal", "datalim")
    axes.autoscale_view()
    return axes
