"""A picture of each loss, for the gallery of the site: `python docs/gallery.py FOLDER [NAME ...]` saves them as SVG."""

import functools
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import jaxloss
import jaxloss.plot as plot
from jaxloss.vectors import normalize

Loss = Callable[..., Any]
SIZE = (3.2, 2.4)
SETTINGS = {**plot.STYLE, "font.size": 9, "svg.hashsalt": "jaxloss"}


def curve(xlabel: str, value: Callable[[Loss, Any], Any], low: float, high: float, **options: Any):
    """The value, the gradient and the curvature against one number."""

    def draw(loss: Loss, axes: Axes) -> None:
        given = functools.partial(loss, **options)
        plot.profile(lambda x: value(given, x), low, high, xlabel=xlabel, title="", axes=axes)

    return draw


def points(
    start: Any, groups: Any, value: Callable[[Loss, Any], Any], rate: float, *, steps=100, project=None, **options
):
    """The way of points in a plane; options that the plot takes are those of `moving_points`."""
    goal = options.pop("goal", None)

    def draw(loss: Loss, axes: Axes) -> None:
        given = functools.partial(loss, **options)
        path = plot.descent(lambda x: value(given, x), start, steps=steps, rate=rate, project=project)
        plot.moving_points(path, groups=groups, goal=goal, axes=axes)

    return draw


def items(rate: float, **options: Any):
    """The way of the scores of a list."""

    def draw(loss: Loss, axes: Axes) -> None:
        path = plot.descent(lambda x: loss(x, RELEVANCE, **options), SCORES, rate=rate)
        plot.moving_scores(path, RELEVANCE, axes=axes)

    return draw


def box(start: Any, rate: float):
    """The way of a box to the unit square."""

    def draw(loss: Loss, axes: Axes) -> None:
        path = plot.descent(lambda x: loss(x, SQUARE), start, steps=400, rate=rate)
        plot.moving_boxes(path, SQUARE, axes=axes)

    return draw


def direction(angle: Any) -> jax.Array:
    angle = jnp.asarray(angle)
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


# Regression, likelihoods and scores: the target is 0, or 2 where it must be positive.
ERROR = ("prediction - target", lambda loss, x: loss(x, 0.0))
POSITIVE = ("prediction, of a target of 2", lambda loss, x: loss(x, 2.0))
LOG = ("log of the prediction, of a target of 2", lambda loss, x: loss(x, 2.0))
# Classification: the others have the logits 0 and 0.5.
OTHERS = jnp.array([0.0, 0.0, 0.5])
ONE_HOT = jnp.array([1.0, 0.0, 0.0])
LOGIT = ("logit of the positive class", lambda loss, x: loss(x, 1.0))
RIGHT = ("logit of the right class", lambda loss, x: loss(OTHERS.at[0].set(x), 0))
LABEL = "logit of a right class"
# Segmentation: 16 of 64 pixels.
REGION = jnp.arange(64) < 16
OVERLAP = ("probability in the region", lambda loss, p: loss(jnp.where(REGION, p, 0.2), REGION))
# Sets: three classes, mixed on a circle or in a plane.
LABELS = jnp.array([0, 1, 0, 1, 2, 1, 2, 0, 2])
CIRCLE = direction(2 * np.pi * jnp.asarray([0.02, 0.13, 0.21, 0.35, 0.47, 0.52, 0.66, 0.8, 0.88]))
PLANE = CIRCLE * jnp.asarray([1.0, 0.4, 0.8, 0.5, 1.0, 0.7, 0.9, 0.6, 1.0])[:, None]
PAIR = jnp.concatenate([jnp.arange(4), jnp.arange(4)])
PAIRS = direction(2 * np.pi * jnp.asarray([0.0, 0.12, 0.3, 0.55, 0.2, 0.42, 0.62, 0.9]))
TRIPLET = jnp.array([[0.7, 0.1], [0.3, 1.2], [1.2, -0.5]])
PROXIES = jnp.concatenate([CIRCLE, 1.4 * direction(2 * np.pi * jnp.asarray([0.1, 0.45, 0.75]))])
OF_PROXIES = jnp.concatenate([LABELS, jnp.arange(3)])
VIEWS = jnp.stack([jnp.cos(jnp.arange(12.0)), 0.4 * jnp.sin(1.7 * jnp.arange(12.0))], axis=1)
TWO_VIEWS = jnp.concatenate([VIEWS[:6], VIEWS[:6] + 0.35 * VIEWS[6:][::-1]])
# Lists.
RELEVANCE, SCORES = jnp.array([2, 1, 1, 0, 0]), jnp.array([-0.5, 0.2, 0.6, 0.9, 0.0])
# Boxes.
SQUARE = jnp.array([0.0, 0.0, 1.0, 1.0])
NEAR, FAR = jnp.array([0.5, 0.3, 2.0, 1.0]), jnp.array([1.8, 1.2, 3.2, 1.8])
# Language models: a teacher of three classes.
TEACHER, EYE = jnp.array([2.0, 0.0, -2.0]), jnp.eye(3)
STUDENT = ("first score of the student", lambda loss, x: loss(TEACHER.at[0].set(x), TEACHER))
LEAD = "lead of the chosen answer"
RATIO = "log ratio to the reference"
# Sequences: four frames of three classes, and two labels.
FRAMES, NODES = jnp.zeros((4, 3)), jnp.zeros((3, 3, 3))


def by_pairs(loss: Loss, x: jax.Array) -> jax.Array:
    return loss(x[:4], x[4:])


def by_views(loss: Loss, x: jax.Array) -> jax.Array:
    return loss(x[:6], x[6:])


def by_labels(loss: Loss, x: jax.Array) -> jax.Array:
    return loss(x, LABELS)


def by_proxies(loss: Loss, x: jax.Array) -> jax.Array:
    return loss(x[:9], x[9:], LABELS)


def by_kernel(loss: Loss, x: jax.Array) -> jax.Array:
    return loss(x[:9], x[9:].T, LABELS)


def by_layer(loss: Loss, x: jax.Array) -> jax.Array:
    return loss(OTHERS.at[0].set(x), EYE, 0)


def by_adaptive(loss: Loss, x: jax.Array) -> jax.Array:
    parameters = jaxloss.AdaptiveSoftmax.init(jax.random.key(0), 4, 12, cutoffs=(4, 8), div_value=2.0)
    return loss(x * parameters.head[:, 0] / jnp.linalg.norm(parameters.head[:, 0]), parameters, 0)


def by_list(loss: Loss, x: jax.Array) -> jax.Array:
    log_probabilities = jax.nn.log_softmax(TEACHER)[:2]
    return loss(TEACHER.at[0].set(x), EYE, log_probabilities, jnp.array([0, 1]))


on_circle = functools.partial(points, CIRCLE, LABELS, by_labels, project=normalize)
of_triplet = functools.partial(points, TRIPLET, jnp.array([0, 0, 1]), lambda loss, x: loss(*x))

PICTURES: dict[str, Callable[[Loss, Axes], None]] = {
    "mse_loss": curve(*ERROR, -3, 3),
    "l1_loss": curve(*ERROR, -3, 3),
    "smooth_l1_loss": curve(*ERROR, -3, 3, beta=2.0),
    "huber_loss": curve(*ERROR, -3, 3, delta=1.5),
    "log_cosh": curve(*ERROR, -3, 3),
    "quantile_loss": curve(*ERROR, -2, 2, quantile=0.9),
    "expectile_loss": curve(*ERROR, -2, 2, expectile=0.9),
    "absolute_percentage_error": curve(*POSITIVE, 0, 4),
    "squared_logarithmic_error": curve(*POSITIVE, -0.5, 6),
    "general_robust_loss": curve(*ERROR, -4, 4, alpha=-2.0),
    "poisson_nll_loss": curve(*LOG, -1, 2.5),
    "negative_binomial_nll_loss": curve("log of the mean, of a count of 2", lambda loss, x: loss(x, 2.0, 3.0), -2, 3),
    "gaussian_nll_loss": curve(
        "log of the variance, of an error of 1", lambda loss, x: loss(1.0, 0.0, jnp.exp(x)), -2, 3
    ),
    "gamma_nll_loss": curve(*LOG, -2, 3),
    "tweedie_nll_loss": curve(*LOG, -2, 3),
    "kl_div": curve(
        "logit of a class of 0.3",
        lambda loss, x: loss(jax.nn.log_softmax(jnp.stack([x, 0.0])), jnp.array([0.3, 0.7])),
        *(-4, 4),
        reduction="sum",
    ),
    "generalized_kl_div": curve("log of the prediction, of a target of 0.5", lambda loss, x: loss(x, 0.5), -3, 1),
    "gaussian_crps": curve("predicted mean - target", lambda loss, x: loss(x, 0.0, 1.0), -3, 3),
    "ensemble_crps": curve(
        "centre of 10 members - target", lambda loss, x: loss(x + jnp.linspace(-1, 1, 10), 0.0), -3, 3
    ),
    "energy_score": points(2 + CIRCLE, None, lambda loss, x: loss(x, jnp.zeros(2)), 0.5, steps=600, goal=jnp.zeros(2)),
    "cross_entropy": curve(*RIGHT, -4, 4),
    "nll_loss": curve(
        "log-probability of the right class", lambda loss, x: loss(jnp.stack([x, jnp.log1p(-jnp.exp(x))]), 0), -4, -0.1
    ),
    "softmax_focal_loss": curve(*RIGHT, -4, 4),
    "poly_loss_cross_entropy": curve(*RIGHT, -4, 4),
    "generalized_cross_entropy": curve(*RIGHT, -4, 4),
    "multiclass_sparsemax_loss": curve(*RIGHT, -2, 3),
    "fenchel_young_loss": curve(
        RIGHT[0], lambda loss, x: loss(OTHERS.at[0].set(x), ONE_HOT), -4, 4, max_fun=jax.nn.logsumexp
    ),
    "binary_cross_entropy": curve("predicted probability of a positive", LOGIT[1], 0.2, 0.98),
    "binary_cross_entropy_with_logits": curve(*LOGIT, -5, 5),
    "sigmoid_focal_loss": curve(*LOGIT, -5, 5),
    "sparsemax_loss": curve(*LOGIT, -2, 3),
    "asymmetric_loss": curve("logit of the negative class", lambda loss, x: loss(x, 0.0), -5, 5),
    "coral_loss": curve("shift of three thresholds", lambda loss, x: loss(x + jnp.array([1.0, 0.0, -1.0]), 1), -4, 4),
    "hinge_loss": curve(*LOGIT, -2, 3),
    "squared_hinge_loss": curve(*LOGIT, -2, 3),
    "perceptron_loss": curve(*LOGIT, -2, 3),
    "soft_margin_loss": curve(*LOGIT, -5, 5),
    "hinge_embedding_loss": curve("distance of a dissimilar pair", lambda loss, x: loss(x, -1.0), 0, 2),
    "margin_ranking_loss": curve("better score - worse score", lambda loss, x: loss(x, 0.0, 1.0), -2, 2, margin=0.5),
    "multi_margin_loss": curve(*RIGHT, -2, 3),
    "multiclass_hinge_loss": curve(*RIGHT, -2, 3),
    "multiclass_perceptron_loss": curve(*RIGHT, -2, 3),
    "multilabel_margin_loss": curve(LABEL, lambda loss, x: loss(OTHERS.at[0].set(x), jnp.array([0, 2, -1])), -2, 3),
    "multilabel_soft_margin_loss": curve(LABEL, lambda loss, x: loss(OTHERS.at[0].set(x), jnp.array([1, 0, 1])), -4, 4),
    "triplet_margin_loss": of_triplet(0.05, steps=60),
    "triplet_margin_with_distance_loss": of_triplet(0.05, distance_function=jaxloss.vectors.cosine_distance),
    "cosine_embedding_loss": points(
        jnp.array([[1.0, 0.2], [0.4, 1.0], [-1.0, 0.1], [-0.9, -0.5]]),
        jnp.array([0, 0, 1, 1]),
        lambda loss, x: loss(x[::2], x[1::2], jnp.array([1, -1])),
        0.1,
    ),
    "batch_hard_triplet_loss": points(PLANE, LABELS, by_labels, 0.03, steps=150),
    "semi_hard_triplet_loss": points(PLANE, LABELS, by_labels, 0.03, steps=150),
    "multi_similarity_loss": on_circle(0.2, steps=200, beta=5.0),
    "circle_loss": on_circle(0.05, steps=200, gamma=5.0),
    "proxy_anchor_loss": points(PROXIES, OF_PROXIES, by_proxies, 0.03, alpha=8.0),
    "arcface_loss": points(PROXIES, OF_PROXIES, by_kernel, 0.1, scale=8.0),
    "cosface_loss": points(PROXIES, OF_PROXIES, by_kernel, 0.1, scale=8.0),
    "info_nce_loss": points(PAIRS, PAIR, by_pairs, 0.05, project=normalize, temperature=0.3),
    "siglip_loss": points(PAIRS, PAIR, by_pairs, 0.03, project=normalize, scale=5.0, bias=-3.0),
    "ntxent_loss": on_circle(0.05, temperature=0.3),
    "supcon_loss": on_circle(0.05, temperature=0.3),
    "barlow_twins_loss": points(TWO_VIEWS, jnp.arange(12) // 6, by_views, 0.2, steps=400, off_diagonal=0.5),
    "vicreg_loss": points(TWO_VIEWS, jnp.arange(12) // 6, by_views, 0.01),
    "ranking_softmax_loss": items(0.1),
    "listmle_loss": items(0.05),
    "pairwise_logistic_loss": items(0.1),
    "pairwise_hinge_loss": items(0.05),
    "ctc_loss": curve(
        "score of the second label at the second frame",
        lambda loss, x: loss(jax.nn.log_softmax(FRAMES.at[1, 2].set(x)), jnp.array([1, 2])),
        *(-8, 8),
    ),
    "rnnt_loss": curve(
        "score of the first label at the second frame",
        lambda loss, x: loss(NODES.at[1, 0, 0].set(x), jnp.array([0, 1])),
        *(-8, 8),
    ),
    "distillation_loss": curve(*STUDENT, -4, 8),
    "jensen_shannon_loss": curve(*STUDENT, -4, 8),
    "linear_distillation_loss": curve(STUDENT[0], lambda loss, x: loss(TEACHER.at[0].set(x), EYE, TEACHER, EYE), -4, 8),
    "linear_distillation_loss_from_logits": curve(
        STUDENT[0], lambda loss, x: loss(TEACHER.at[0].set(x), EYE, TEACHER), -4, 8
    ),
    "linear_distillation_loss_from_top_k": curve(STUDENT[0], by_list, -4, 8),
    "dpo_loss": curve(LEAD, lambda loss, x: loss(x, 0.0, 0.0, 0.0), -5, 5, beta=1.0),
    "ipo_loss": curve(LEAD, lambda loss, x: loss(x, 0.0, 0.0, 0.0), -5, 5, beta=0.5),
    "simpo_loss": curve(LEAD, lambda loss, x: loss(x - 3.0, -3.0), -3, 3),
    "orpo_loss": curve("log-probability of the chosen answer", lambda loss, x: loss(x, -1.0), -5, -0.01, beta=1.0),
    "kto_loss": curve(RATIO, lambda loss, x: loss(x, 1, 0.0), -5, 5, beta=1.0),
    "bradley_terry_loss": curve(LEAD, lambda loss, x: loss(x, 0.0), -5, 5),
    "clipped_policy_loss": curve(
        "log ratio to the old policy, advantage 1", lambda loss, x: loss(x - 2.0, -2.0, 1.0), -0.6, 0.6
    ),
    "dice_loss": curve(*OVERLAP, 0, 1),
    "jaccard_loss": curve(*OVERLAP, 0, 1),
    "tversky_loss": curve(*OVERLAP, 0, 1, alpha=0.1, beta=0.9),
    "lovasz_softmax_loss": curve(*OVERLAP, 0, 1),
    "lovasz_hinge_loss": curve("logit in the region", lambda loss, x: loss(jnp.where(REGION, x, -1.0), REGION), -2, 3),
    "box_iou_loss": box(NEAR, 0.01),
    "generalized_box_iou_loss": box(FAR, 0.05),
    "distance_box_iou_loss": box(FAR, 0.05),
    "complete_box_iou_loss": box(FAR, 0.05),
    "linear_cross_entropy": curve(RIGHT[0], by_layer, -4, 4),
    "adaptive_log_softmax_with_loss": curve("size of the hidden state", by_adaptive, -2, 8),
}


def picture(name: str) -> Figure:
    """The picture of a loss."""
    figure = plt.figure(figsize=SIZE, layout="constrained")
    PICTURES[name](getattr(jaxloss, name), figure.add_subplot())
    return figure


def save(folder: pathlib.Path, names: list[str]) -> None:
    """Saves the picture of each loss as `<name>.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(SETTINGS):
        for name in names:
            figure = picture(name)
            # Without a date, so that the same code saves the same files.
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            plt.close(figure)


if __name__ == "__main__":
    plt.switch_backend("agg")
    save(pathlib.Path(sys.argv[1]), sys.argv[2:] or list(PICTURES))
