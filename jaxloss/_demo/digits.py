"""The tasks `classification` and `imbalance`: a small network that reads scikit-learn's digits."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxloss
from jaxloss import imbalance
from jaxloss._demo import networks
from jaxloss._demo.training import Examples, Experiment, Parameters, Problem, Task

N_CLASSES, HIDDEN = 10, 64
RARE_CLASSES, RARE_SHARE = 5, 0.06


def images_and_targets() -> tuple[np.ndarray, np.ndarray]:
    """1797 images, each a row of 64 numbers in [0, 1], and their digits."""
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), targets.astype(np.int32)


def split(seed: int) -> tuple[np.ndarray, ...]:
    """Images for training and for testing, 30 % of all, then their digits."""
    from sklearn.model_selection import train_test_split

    images, targets = images_and_targets()
    parts = train_test_split(images, targets, test_size=0.3, random_state=seed, stratify=targets)
    return tuple(map(np.asarray, parts))


def load(seed: int, imbalanced: bool) -> Problem:
    """The digits. If `imbalanced`, half of the classes lose most of their training images."""
    images, test_images, targets, test_targets = split(seed)
    if imbalanced:
        n_rare = round(RARE_SHARE * len(targets) / N_CLASSES)
        rare = [np.flatnonzero(targets == c)[:n_rare] for c in range(RARE_CLASSES)]
        kept = np.concatenate([*rare, np.flatnonzero(targets >= RARE_CLASSES)])
        images, targets = images[kept], targets[kept]
    in_class = jax.nn.one_hot(test_targets, N_CLASSES)

    def measured(parameters: Parameters) -> list[Array]:
        is_right = jnp.argmax(networks.outputs(parameters, jnp.asarray(test_images)), axis=1) == test_targets
        of_classes = is_right @ in_class / jnp.sum(in_class, axis=0)
        return [jnp.mean(is_right), jnp.mean(of_classes)]

    training = {"image": jnp.asarray(images), "target": jnp.asarray(targets)}
    parameters = networks.initial_layers(jax.random.key(seed), 64, HIDDEN, N_CLASSES)
    return Problem(training, parameters, measured, imbalance.class_counts(training["target"], N_CLASSES))


def _logits(parameters: Parameters, examples: Examples) -> Array:
    return networks.outputs(parameters, examples["image"])


_of_logits = functools.partial(Experiment.of, _logits)


def _of_one_hot(loss: Callable[[Array, Array], Array]) -> Experiment:
    return _of_logits(lambda logits, target: loss(logits, jax.nn.one_hot(target, N_CLASSES)))


def _ranking(logits: Array, target: Array) -> Array:
    right, wrong = jaxloss.target_score(logits, target), jaxloss.highest_wrong_score(logits, target)
    return jaxloss.margin_ranking_loss(right, wrong, 1, margin=1.0)


def _weighted(parameters: Parameters, examples: Examples, problem: Problem) -> Array:
    logits = _logits(parameters, examples)
    weights = imbalance.inverse_frequency_weights(problem.class_counts)
    return jaxloss.cross_entropy(logits, examples["target"], class_weights=weights)


def _adjusted(parameters: Parameters, examples: Examples, problem: Problem) -> Array:
    logits = _logits(parameters, examples)
    return jaxloss.cross_entropy(logits + imbalance.logit_adjustment(problem.class_counts), examples["target"])


CLASSIFICATION = Task(
    title="Digits",
    measures=("accuracy", "balanced accuracy"),
    plotted="test error (%)",
    load=functools.partial(load, imbalanced=False),
    experiments={
        "cross_entropy": _of_logits(jaxloss.cross_entropy),
        "label_smoothing": _of_logits(jaxloss.cross_entropy, label_smoothing=0.1),
        "nll_loss": _of_logits(lambda x, y: jaxloss.nll_loss(jax.nn.log_softmax(x), y)),
        "binary_cross_entropy_with_logits": _of_one_hot(
            functools.partial(jaxloss.binary_cross_entropy_with_logits, pos_weight=3.0)
        ),
        "mse_loss": _of_one_hot(jaxloss.mse_loss),
        "l1_loss": _of_one_hot(functools.partial(jaxloss.l1_loss, kink_width=0.1)),
        "smooth_l1_loss": _of_one_hot(functools.partial(jaxloss.smooth_l1_loss, beta=0.5)),
        "huber_loss": _of_one_hot(functools.partial(jaxloss.huber_loss, delta=0.5)),
        "multi_margin_loss": _of_logits(jaxloss.multi_margin_loss),
        "ranking": _of_logits(_ranking),
    },
    epochs=40,
    batch=60,
)

IMBALANCE = Task(
    title="Digits, half of which are rare in training",
    measures=CLASSIFICATION.measures,
    plotted=CLASSIFICATION.plotted,
    load=functools.partial(load, imbalanced=True),
    experiments={
        "imbalanced": _of_logits(jaxloss.cross_entropy),
        "imbalanced_weighted": Experiment(_weighted),
        "imbalanced_adjusted": Experiment(_adjusted),
        "imbalanced_balanced": _of_logits(jaxloss.cross_entropy, balanced_share=1.0),
        "imbalanced_finetuned": _of_logits(jaxloss.cross_entropy, balanced_share=0.75),
    },
    epochs=40,
    batch=60,
)
