"""Small data sets that packages carry, and models of one or two layers that are trained on them with any loss."""

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Loss = Callable[[Array, Array], Array]
"""Maps the outputs of a model and the targets to a number."""

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Inputs and targets for training, then those of the test set."""

STEPS = 600
DIGIT, CANVAS = 8, 16  # pixels along a side of a digit and of a picture


def fitted(loss: Loss, initial: Callable[..., Any], output: Callable[..., Array]) -> Callable[..., Array]:
    """A function that trains a model and returns its outputs for the test set."""
    import optax

    optimiser = optax.adam(optax.cosine_decay_schedule(0.02, STEPS))

    def run(key: Array, x: Array, y: Array, test_x: Array) -> Array:
        def step(carry: Any, _: None) -> Any:
            parameters, state = carry
            gradient = jax.grad(lambda parameters: loss(output(parameters, x), y))(parameters)
            updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(parameters, updates), state), None

        parameters = initial(key, x)
        (parameters, _), _ = jax.lax.scan(step, (parameters, optimiser.init(parameters)), length=STEPS)
        return output(parameters, test_x)

    return run


def linear(n_outputs: int) -> Any:
    def initial(key: Array, x: Array) -> Any:
        del key
        return jnp.zeros((x.shape[1], n_outputs)), jnp.zeros(n_outputs)

    return initial, lambda parameters, x: x @ parameters[0] + parameters[1]


def hidden(n_outputs: int, width: int = 64) -> Any:
    def initial(key: Array, x: Array) -> Any:
        first, second = jax.random.split(key)
        d = x.shape[-1]
        return (
            jax.random.normal(first, (d, width)) * (2 / d) ** 0.5,
            jnp.zeros(width),
            jax.random.normal(second, (width, n_outputs)) / width,
            jnp.zeros(n_outputs),
        )

    def output(parameters: Any, x: Array) -> Array:
        into, bias, out, last = parameters
        return jax.nn.relu(x @ into + bias) @ out + last

    return initial, output


narrow = functools.partial(hidden, width=16)


def standardised(x: np.ndarray) -> np.ndarray:
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)


def split(x: np.ndarray, y: np.ndarray, seed: int) -> Split:
    order = np.random.default_rng(1000 + seed).permutation(len(x))
    train, test = np.split(order, [len(x) * 7 // 10])
    return x[train], y[train], x[test], y[test]


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return standardised(x), standardised(y)


def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y.astype(np.int32)


def articles() -> tuple[np.ndarray, np.ndarray]:
    """For each paragraph of at least 20 words, the logarithm of its number of words, and how often it says "the"."""
    from pydoc_data.topics import topics

    paragraphs = [p.lower().split() for name in sorted(topics) for p in re.split(r"\n\s*\n", topics[name])]
    paragraphs = [words for words in paragraphs if len(words) >= 20]
    x = np.array([[np.log(len(words))] for words in paragraphs], np.float32)
    return x - x.mean(), np.array([words.count("the") for words in paragraphs], np.float32)


def scenes(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures of a digit somewhere in noise, which pixels are its, and its box: x1, y1, x2, y2."""
    random = np.random.default_rng(seed)
    x, _ = digits()
    chosen = x[random.permutation(len(x))[:n]].reshape(-1, DIGIT, DIGIT)
    pictures = np.zeros((len(chosen), CANVAS, CANVAS), np.float32)
    corners = random.integers(0, CANVAS - DIGIT + 1, (len(chosen), 2))
    for picture, digit, (column, row) in zip(pictures, chosen, corners, strict=True):
        picture[row : row + DIGIT, column : column + DIGIT] = digit
    masks = (pictures > 0.4).astype(np.float32)
    box = [
        [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        for columns, rows in ((np.flatnonzero(m.any(0)), np.flatnonzero(m.any(1))) for m in masks)
    ]
    noise = 0.4 * random.normal(size=pictures.shape).astype(np.float32)
    return pictures + noise, masks, np.array(box, np.float32)
