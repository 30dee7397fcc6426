"""The demo of `python -m jaxloss`: trains a small network on scikit-learn's digits with each of several losses."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxloss
from jaxloss import imbalance

N_CLASSES, HIDDEN, BATCH = 10, 64, 60
RARE_CLASSES, RARE_SHARE = 5, 0.06
Parameters = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A loss to train with, and the data to train on.

    Args:
      loss: maps (logits, target, class counts) to a scalar.
      imbalanced: whether half of the classes are rare.
      balanced_share: the initial share of the epochs that draws every class equally often.
    """

    loss: Callable[[Array, Array, Array], Array]
    imbalanced: bool = False
    balanced_share: float = 0.0


def _one_hot(target: Array) -> Array:
    return jax.nn.one_hot(target, N_CLASSES)


def _cross_entropy(logits: Array, target: Array, counts: Array) -> Array:
    return jaxloss.cross_entropy(logits, target)


def _weighted(logits: Array, target: Array, counts: Array) -> Array:
    return jaxloss.cross_entropy(logits, target, class_weights=imbalance.inverse_frequency_weights(counts))


def _adjusted(logits: Array, target: Array, counts: Array) -> Array:
    return jaxloss.cross_entropy(logits + imbalance.logit_adjustment(counts), target)


def _ranking(logits: Array, target: Array, counts: Array) -> Array:
    right, wrong = jaxloss.target_score(logits, target), jaxloss.highest_wrong_score(logits, target)
    return jaxloss.margin_ranking_loss(right, wrong, 1, margin=1.0)


EXPERIMENTS: Mapping[str, Experiment] = {
    "cross_entropy": Experiment(_cross_entropy),
    "label_smoothing": Experiment(lambda x, y, n: jaxloss.cross_entropy(x, y, label_smoothing=0.1)),
    "nll_loss": Experiment(lambda x, y, n: jaxloss.nll_loss(jax.nn.log_softmax(x), y)),
    "binary_cross_entropy": Experiment(
        lambda x, y, n: jaxloss.binary_cross_entropy_with_logits(x, _one_hot(y), pos_weight=3.0)
    ),
    "mse_loss": Experiment(lambda x, y, n: jaxloss.mse_loss(x, _one_hot(y))),
    "l1_loss": Experiment(lambda x, y, n: jaxloss.l1_loss(x, _one_hot(y), kink_width=0.1)),
    "smooth_l1_loss": Experiment(lambda x, y, n: jaxloss.smooth_l1_loss(x, _one_hot(y), beta=0.5)),
    "huber_loss": Experiment(lambda x, y, n: jaxloss.huber_loss(x, _one_hot(y), delta=0.5)),
    "multi_margin_loss": Experiment(lambda x, y, n: jaxloss.multi_margin_loss(x, y)),
    "ranking": Experiment(_ranking),
    "imbalanced": Experiment(_cross_entropy, imbalanced=True),
    "imbalanced_weighted": Experiment(_weighted, imbalanced=True),
    "imbalanced_adjusted": Experiment(_adjusted, imbalanced=True),
    "imbalanced_balanced": Experiment(_cross_entropy, imbalanced=True, balanced_share=1.0),
    "imbalanced_finetuned": Experiment(_cross_entropy, imbalanced=True, balanced_share=0.75),
}


@dataclasses.dataclass(frozen=True)
class Digits:
    """Images, each a row of 64 floats in [0, 1], and their digits."""

    train_images: Array
    train_targets: Array
    test_images: Array
    test_targets: np.ndarray


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of training with one loss."""

    name: str
    imbalanced: bool
    accuracies: list[float]
    balanced_accuracy: float
    step_microseconds: float
    compile_seconds: float


def load_digits(seed: int, imbalanced: bool) -> Digits:
    """scikit-learn's digits with 30 % held out. If `imbalanced`, half of the classes lose most of their images."""
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    images, targets = load(return_X_y=True)
    split = train_test_split(images / 16, targets, test_size=0.3, random_state=seed, stratify=targets)
    train_images, test_images, train_targets, test_targets = map(np.asarray, split)
    if imbalanced:
        n_rare = round(RARE_SHARE * len(train_targets) / N_CLASSES)
        rare = [np.flatnonzero(train_targets == c)[:n_rare] for c in range(RARE_CLASSES)]
        kept = np.concatenate([*rare, np.flatnonzero(train_targets >= RARE_CLASSES)])
        train_images, train_targets = train_images[kept], train_targets[kept]
    as_images = [jnp.asarray(a, jnp.float32) for a in (train_images, test_images)]
    return Digits(as_images[0], jnp.asarray(train_targets), as_images[1], test_targets)


def initial_parameters(key: Array) -> Parameters:
    hidden, output = jax.random.split(key)
    return {
        "hidden": jax.random.normal(hidden, (64, HIDDEN)) * jnp.sqrt(2 / 64),
        "hidden_bias": jnp.zeros(HIDDEN),
        "output": jax.random.normal(output, (HIDDEN, N_CLASSES)) / jnp.sqrt(HIDDEN),
        "output_bias": jnp.zeros(N_CLASSES),
    }


def logits_of(parameters: Parameters, images: Array) -> Array:
    hidden = jax.nn.relu(images @ parameters["hidden"] + parameters["hidden_bias"])
    return hidden @ parameters["output"] + parameters["output_bias"]


def batches_of_epochs(digits: Digits, epochs: int, balanced_share: float, key: Array) -> Iterator[Array]:
    """For each epoch, the indices of its batches, one batch per row: shuffled data, or every class equally often."""
    n = len(digits.train_targets)
    n_steps = max(n // BATCH, 1)
    sampler = imbalance.BalancedSampler.init(key, digits.train_targets, N_CLASSES)
    n_rounds = n_steps * BATCH // N_CLASSES
    draw = jax.jit(imbalance.BalancedSampler.draw, static_argnums=1)
    for i in range(epochs):
        if i < balanced_share * epochs:
            indices, sampler = draw(sampler, n_rounds)
        else:
            indices = jax.random.permutation(jax.random.fold_in(key, i), n)
        yield jnp.resize(indices, (n_steps, BATCH))


def train(name: str, digits: Digits, epochs: int, seed: int, progress: Callable[[], None]) -> Result:
    """Trains with Adam, one compiled program per epoch, and measures the test accuracy after each epoch."""
    import optax
    from sklearn.metrics import balanced_accuracy_score

    experiment = EXPERIMENTS[name]
    optimiser = optax.adam(3e-3)
    counts = imbalance.class_counts(digits.train_targets, N_CLASSES)

    def step(carry: Any, batch: Array) -> Any:
        parameters, state = carry
        images, targets = digits.train_images[batch], digits.train_targets[batch]

        def loss(parameters: Parameters) -> Array:
            return experiment.loss(logits_of(parameters, images), targets, counts)

        gradient = jax.grad(loss)(parameters)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(parameters, updates), state), None

    def epoch(carry: Any, batches: Array) -> Any:
        carry, _ = jax.lax.scan(step, carry, batches)
        return carry, jnp.argmax(logits_of(carry[0], digits.test_images), axis=1)

    key = jax.random.key(seed)
    parameters = initial_parameters(key)
    carry = (parameters, optimiser.init(parameters))
    compiled, compile_seconds = None, 0.0
    predicted, accuracies, seconds = np.zeros(0), [], []
    for batches in batches_of_epochs(digits, epochs, experiment.balanced_share, key):
        start = time.perf_counter()
        if compiled is None:
            compiled = jax.jit(epoch).lower(carry, batches).compile()
            compile_seconds = time.perf_counter() - start
            start = time.perf_counter()
        carry, predicted = jax.block_until_ready(compiled(carry, batches))
        seconds.append((time.perf_counter() - start) / len(batches))
        accuracies.append(float(np.mean(np.asarray(predicted) == digits.test_targets)))
        progress()
    balanced = float(balanced_accuracy_score(digits.test_targets, np.asarray(predicted)))
    microseconds = float(np.median(seconds)) * 1e6
    return Result(name, experiment.imbalanced, accuracies, balanced, microseconds, compile_seconds)
