"""Which loss for which task: small models of real data, trained in the same way with several losses.

Each model is trained on its whole training set with Adam, once for each of several seeds, which decide the split, the
noise and the initial weights. Numbers are errors: less is better.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxloss
from benchmarks.results import Note, Row, Rows
from benchmarks.small_models import (
    CANVAS,
    DIGIT,
    Loss,
    Split,
    articles,
    diabetes,
    digits,
    fitted,
    hidden,
    linear,
    narrow,
    scenes,
    split,
    standardised,
)

Score = Callable[[np.ndarray, np.ndarray], float]
"""Maps the outputs for the test set and its targets to an error."""


def choosing(quick: bool) -> Rows:
    """small models of real data, trained with several losses; mean error, and half the interquartile range"""
    seeds = range(2 if quick else 10)
    for task in (outliers, interval, counts, imbalance, noisy_labels, missing_labels, ordered_classes, regions, boxes):
        yield Note(f"**{task.__name__.replace('_', ' ')}**: {task.__doc__}")
        yield from task(seeds)


def outliers(seeds: range) -> Rows:
    """diabetes, linear model, a tenth of the training targets shifted by 10 standard deviations"""

    def data(seed: int) -> Split:
        x, y, test_x, test_y = split(*diabetes(), seed)
        random = np.random.default_rng(seed)
        return x, y + 10 * (random.uniform(size=len(y)) < 0.1), test_x, test_y

    losses: dict[str, Loss] = {
        "mse_loss": lambda x, y: jaxloss.mse_loss(x[:, 0], y),
        "huber_loss": lambda x, y: jaxloss.huber_loss(x[:, 0], y, delta=0.5),
        "log_cosh": lambda x, y: jaxloss.log_cosh(x[:, 0], y),
        "l1_loss": lambda x, y: jaxloss.l1_loss(x[:, 0], y, kink_width=0.05),
        "general_robust_loss, alpha=-2": lambda x, y: jaxloss.general_robust_loss(x[:, 0], y, alpha=-2.0),
    }
    scores: dict[str, Score] = {"mean absolute error, standard deviations": lambda x, y: np.mean(np.abs(x[:, 0] - y))}
    yield from compared(losses, scores, data, linear, 1, seeds)


def interval(seeds: range) -> Rows:
    """diabetes, linear model, the interval from the 5 % to the 95 % quantile, and its score by Gneiting and Raftery"""

    def quantiles(x: Array, y: Array) -> Array:
        return jaxloss.quantile_loss(x, y[:, None], quantile=jnp.array([[0.05, 0.95]]), kink_width=0.05)

    def likelihood(x: Array, y: Array) -> Array:
        return jaxloss.gaussian_nll_loss(x[:, 0], y, jnp.exp(2 * x[:, 1]))

    def crps(x: Array, y: Array) -> Array:
        return jaxloss.gaussian_crps(x[:, 0], y, jnp.exp(x[:, 1]))

    def ends(x: np.ndarray, loss: str) -> tuple[np.ndarray, np.ndarray]:
        if loss == "quantile_loss":
            return x[:, 0], x[:, 1]
        return x[:, 0] - 1.645 * np.exp(x[:, 1]), x[:, 0] + 1.645 * np.exp(x[:, 1])

    losses = {"quantile_loss": quantiles, "gaussian_nll_loss": likelihood, "gaussian_crps": crps}
    scored = {}
    for name, loss in losses.items():

        def outside(x: np.ndarray, y: np.ndarray, name: str = name) -> float:
            low, high = ends(x, name)
            return 100 * float(np.mean((y < low) | (y > high)))

        def score(x: np.ndarray, y: np.ndarray, name: str = name) -> float:
            low, high = ends(x, name)
            return float(np.mean(high - low + 20 * np.maximum(0, low - y) + 20 * np.maximum(0, y - high)))

        scored[name] = (
            loss,
            {"outside of the interval (wanted: 10), %": outside, "score of the interval, standard deviations": score},
        )
    yield from compared_each(scored, lambda seed: split(*diabetes(), seed), linear, 2, seeds)


def counts(seeds: range) -> Rows:
    """how often a paragraph of the Python manual says "the", from the logarithm of its number of words, linear model"""

    def poisson(x: Array, y: Array) -> Array:
        return jaxloss.poisson_nll_loss(x[:, 0], y)

    def negative_binomial(x: Array, y: Array) -> Array:
        return jaxloss.negative_binomial_nll_loss(x[:, 0], y, jnp.exp(x[:, 1]))

    def exact(x: np.ndarray, y: np.ndarray, concentration: np.ndarray) -> float:
        loss = jaxloss.negative_binomial_nll_loss
        return float(loss(jnp.asarray(x[:, 0]), jnp.asarray(y), jnp.asarray(concentration), full=True))

    each = {
        "poisson_nll_loss": (
            poisson,
            {"minus log-likelihood, nats": lambda x, y: exact(x, y, np.full(len(y), 1e8, "f4"))},
        ),
        "negative_binomial_nll_loss": (
            negative_binomial,
            {"minus log-likelihood, nats": lambda x, y: exact(x, y, np.exp(x[:, 1]))},
        ),
    }
    yield from compared_each(each, lambda seed: split(*articles(), seed), linear, 2, seeds)


def imbalance(seeds: range) -> Rows:
    """breast cancer, linear model, 5 % of the training set malignant"""
    from sklearn.datasets import load_breast_cancer
    from sklearn.metrics import average_precision_score, balanced_accuracy_score

    def data(seed: int) -> Split:
        x, y = load_breast_cancer(return_X_y=True)
        x, y, test_x, test_y = split(standardised(x), 1 - y, seed)
        benign = np.flatnonzero(y == 0)
        kept = np.r_[benign, np.flatnonzero(y == 1)[: len(benign) // 19]]
        return x[kept], y[kept].astype(np.float32), test_x, test_y

    losses: dict[str, Loss] = {
        "binary_cross_entropy_with_logits": lambda x, y: jaxloss.binary_cross_entropy_with_logits(x[:, 0], y),
        "the same, pos_weight=19": lambda x, y: jaxloss.binary_cross_entropy_with_logits(x[:, 0], y, pos_weight=19.0),
        "sigmoid_focal_loss": lambda x, y: jaxloss.sigmoid_focal_loss(x[:, 0], y),
        "hinge_loss": lambda x, y: jaxloss.hinge_loss(x[:, 0], 2 * y - 1),
    }
    scores: dict[str, Score] = {
        "1 - balanced accuracy, %": lambda x, y: 100 * (1 - balanced_accuracy_score(y, x[:, 0] > 0)),
        "1 - average precision, %": lambda x, y: 100 * (1 - average_precision_score(y, x[:, 0])),
    }
    yield from compared(losses, scores, data, linear, 1, seeds)


def noisy_labels(seeds: range) -> Rows:
    """digits, one hidden layer, 40 % of the training labels random"""

    def data(seed: int) -> Split:
        x, y, test_x, test_y = split(*digits(), seed)
        random = np.random.default_rng(seed)
        return x, np.where(random.uniform(size=len(y)) < 0.4, random.integers(0, 10, len(y)), y), test_x, test_y

    losses: dict[str, Loss] = {
        "cross_entropy": jaxloss.cross_entropy,
        "the same, label_smoothing=0.2": lambda x, y: jaxloss.cross_entropy(x, y, label_smoothing=0.2),
        "softmax_focal_loss": jaxloss.softmax_focal_loss,
        "multiclass_hinge_loss": jaxloss.multiclass_hinge_loss,
        "generalized_cross_entropy": jaxloss.generalized_cross_entropy,
    }
    yield from compared(losses, {"wrong, %": wrong}, data, hidden, 10, seeds)


def missing_labels(seeds: range) -> Rows:
    """digits with four labels (odd, from 5 on, prime, round), one hidden layer, 40 % of training labels missing"""
    from sklearn.metrics import average_precision_score

    labels = np.array([[d % 2, d >= 5, d in (2, 3, 5, 7), d in (0, 6, 8, 9)] for d in range(10)], np.float32)

    def data(seed: int) -> Split:
        x, y, test_x, test_y = split(*digits(), seed)
        kept = np.random.default_rng(seed).uniform(size=(len(y), 4)) > 0.4
        return x, labels[y] * kept, test_x, labels[test_y]

    losses: dict[str, Loss] = {
        "binary_cross_entropy_with_logits": jaxloss.binary_cross_entropy_with_logits,
        "sigmoid_focal_loss": jaxloss.sigmoid_focal_loss,
        "asymmetric_loss": jaxloss.asymmetric_loss,
    }
    scores: dict[str, Score] = {
        "wrong labels, %": lambda x, y: 100 * float(np.mean((x > 0) != y)),
        "1 - mean average precision, %": lambda x, y: 100 * (1 - average_precision_score(y, x)),
    }
    yield from compared(losses, scores, data, hidden, 4, seeds)


def ordered_classes(seeds: range) -> Rows:
    """diabetes with the tenths of its targets as ten classes, linear model; a class beside the right one counts 1"""

    def data(seed: int) -> Split:
        x, y = diabetes()
        return split(x, np.searchsorted(np.quantile(y, np.arange(1, 10) / 10), y), seed)

    def distance(classes: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean(np.abs(classes - y)))

    title = "distance from the right class, classes"
    each: dict[str, tuple[Loss, dict[str, Score]]] = {
        "cross_entropy": (jaxloss.cross_entropy, {title: lambda x, y: distance(x.argmax(1), y)}),
        "coral_loss": (
            # One score, and thresholds that the model learns as biases.
            lambda x, y: jaxloss.coral_loss(x[:, :1] + x[:, 1:], y),
            {title: lambda x, y: distance((x[:, :1] + x[:, 1:] > 0).sum(1), y)},
        ),
        "mse_loss": (
            lambda x, y: jaxloss.mse_loss(x[:, 0], y.astype(jnp.float32)),
            {title: lambda x, y: distance(np.clip(np.round(x[:, 0]), 0, 9), y)},
        ),
    }
    yield from compared_each(each, data, linear, 10, seeds)


def regions(seeds: range) -> Rows:
    """which pixels of a noisy picture belong to a digit, one hidden layer over the 49 pixels around each"""

    def data(seed: int) -> Split:
        pictures, masks, _ = scenes(seed, 200)
        around = np.lib.stride_tricks.sliding_window_view(np.pad(pictures, ((0, 0), (3, 3), (3, 3))), (7, 7), (1, 2))
        around, n = around.reshape(*pictures.shape, 49), 140
        return around[:n], masks[:n], around[n:], masks[n:]

    def cross_entropy(x: Array, y: Array) -> Array:
        return jaxloss.binary_cross_entropy_with_logits(x[..., 0], y)

    def dice(x: Array, y: Array) -> Array:
        return jaxloss.dice_loss(jax.nn.sigmoid(x[..., 0]), y, axis=(-2, -1))

    def missed(x: np.ndarray, y: np.ndarray) -> float:
        found = x[..., 0] > 0
        both, either = (found & (y > 0)).sum((1, 2)), (found | (y > 0)).sum((1, 2))
        return 100 * float(np.mean(1 - both / np.maximum(either, 1)))

    losses: dict[str, Loss] = {
        "binary_cross_entropy_with_logits": cross_entropy,
        "sigmoid_focal_loss": lambda x, y: jaxloss.sigmoid_focal_loss(x[..., 0], y),
        "dice_loss": dice,
        "both": lambda x, y: cross_entropy(x, y) + dice(x, y),
        "lovasz_hinge_loss": lambda x, y: jaxloss.lovasz_hinge_loss(x[..., 0], y, axis=(-2, -1)),
    }
    yield from compared(losses, {"1 - intersection over union, %": missed}, data, narrow, 1, seeds)


def boxes(seeds: range) -> Rows:
    """the box of a digit somewhere in a noisy picture, one hidden layer"""

    def data(seed: int) -> Split:
        pictures, _, corners = scenes(seed, 1000)
        flat, n = pictures.reshape(len(pictures), -1), 700
        return flat[:n], corners[:n], flat[n:], corners[n:]

    def corners(x: Any) -> Any:
        middle, size = CANVAS / 2 + 4 * x[:, :2], DIGIT * jnp.exp(x[:, 2:])
        return jnp.concatenate([middle - size / 2, middle + size / 2], axis=1)

    def missed(x: np.ndarray, y: np.ndarray) -> float:
        return 100 * float(jaxloss.box_iou_loss(corners(x), jnp.asarray(y)))

    losses: dict[str, Loss] = {
        "l1_loss": lambda x, y: jaxloss.l1_loss(corners(x), y, kink_width=0.1),
        "smooth_l1_loss": lambda x, y: jaxloss.smooth_l1_loss(corners(x), y),
        "box_iou_loss": lambda x, y: jaxloss.box_iou_loss(corners(x), y),
        "generalized_box_iou_loss": lambda x, y: jaxloss.generalized_box_iou_loss(corners(x), y),
        "complete_box_iou_loss": lambda x, y: jaxloss.complete_box_iou_loss(corners(x), y),
    }
    yield from compared(losses, {"1 - intersection over union, %": missed}, data, hidden, 4, seeds)


def compared(
    losses: Mapping[str, Loss],
    scores: Mapping[str, Score],
    data: Callable[[int], Split],
    model: Callable[..., Any],
    n_outputs: int,
    seeds: range,
) -> Rows:
    """A row for each score, with the same scores for every loss."""
    return compared_each({name: (loss, scores) for name, loss in losses.items()}, data, model, n_outputs, seeds)


def compared_each(
    losses: Mapping[str, tuple[Loss, Mapping[str, Score]]],
    data: Callable[[int], Split],
    model: Callable[..., Any],
    n_outputs: int,
    seeds: range,
) -> Rows:
    """A row for each score, with scores of its own for every loss, under the same titles, which end with the unit."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, (loss, scores) in losses.items():
        train = jax.jit(fitted(loss, *model(n_outputs)))
        for seed in seeds:
            x, y, test_x, test_y = data(seed)
            outputs = np.asarray(train(jax.random.key(seed), x, y, test_x))
            for title, score in scores.items():
                found.setdefault(title, {}).setdefault(name, []).append(score(outputs, test_y))
    for title, by_loss in found.items():
        means = {name: float(np.mean(numbers)) for name, numbers in by_loss.items()}
        spread = {name: float(np.subtract(*np.percentile(numbers, [75, 25]))) / 2 for name, numbers in by_loss.items()}
        label, _, unit = title.rpartition(", ")
        yield Row(label, means, unit, spread)


def wrong(outputs: np.ndarray, y: np.ndarray) -> float:
    return 100 * float(np.mean(outputs.argmax(1) != y))
