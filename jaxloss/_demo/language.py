"""The task `language`: predicts the next word of Python's own manual, which `pydoc_data` carries."""

import collections
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxloss
from jaxloss._demo import networks
from jaxloss._demo.training import Examples, Experiment, Parameters, Problem, Task

VOCABULARY, CONTEXT, FEATURES, HIDDEN = 1000, 4, 32, 64
N_TRAINING, N_TEST = 48_000, 6_000


def load(seed: int) -> Problem:
    """Words and punctuation in the order of the text. The last topics are the test data; rare words are all word 0."""
    from pydoc_data.topics import topics

    words = re.findall(r"[a-z]+|[.,:;()]", " ".join(topics[name] for name in sorted(topics)).lower())
    words = words[: N_TRAINING + N_TEST + 2 * CONTEXT]
    common = [word for word, _ in collections.Counter(words).most_common(VOCABULARY - 1)]
    number = {word: i for i, word in enumerate(common, 1)}
    windows = np.lib.stride_tricks.sliding_window_view([number.get(word, 0) for word in words], CONTEXT + 1)
    parts = [windows[:N_TRAINING].astype(np.int32), windows[-N_TEST:].astype(np.int32)]
    training, test = ({"context": jnp.asarray(a[:, :-1]), "target": jnp.asarray(a[:, -1])} for a in parts)

    def measured(parameters: Parameters) -> list[Array]:
        logits = _logits(parameters, test)
        normalisers = jax.nn.logsumexp(logits, axis=1)
        is_right = jnp.argmax(logits, axis=1) == test["target"]
        nats = jaxloss.cross_entropy(logits, test["target"])
        return [jnp.exp(nats), 100 * jnp.mean(is_right), jnp.mean(jnp.abs(normalisers))]

    keys = jax.random.split(jax.random.key(seed), 3)
    parameters = {
        "embeddings": jax.random.normal(keys[0], (VOCABULARY, FEATURES)) / 2,
        "network": networks.initial_layers(keys[1], CONTEXT * FEATURES, HIDDEN),
        "kernel": jax.random.normal(keys[2], (HIDDEN, VOCABULARY)) / jnp.sqrt(HIDDEN),
    }
    return Problem(training, parameters, measured)


def _hidden(parameters: Parameters, examples: Examples) -> Array:
    context = parameters["embeddings"][examples["context"]]
    return jax.nn.relu(networks.outputs(parameters["network"], context.reshape(len(context), -1)))


def _of_layer(**options: Any) -> Experiment:
    """The cross-entropy of an output layer, whose logits are never materialised."""

    def of_batch(parameters: Parameters, examples: Examples, _: Problem) -> Array:
        hidden = _hidden(parameters, examples)
        return jaxloss.linear_cross_entropy(hidden, parameters["kernel"], examples["target"], **options)

    return Experiment(of_batch)


def _logits(parameters: Parameters, examples: Examples) -> Array:
    return _hidden(parameters, examples) @ parameters["kernel"]


LANGUAGE = Task(
    title="Next word of Python's manual",
    measures=("perplexity", "accuracy (%)", "mean |log normaliser|"),
    plotted="test perplexity",
    load=load,
    experiments={
        "cross_entropy": Experiment.of(_logits, jaxloss.cross_entropy),
        "linear_cross_entropy": _of_layer(),
        "label_smoothing": _of_layer(label_smoothing=0.1),
        "z_loss": _of_layer(z_loss=1e-2),
        "softmax_focal_loss": Experiment.of(_logits, jaxloss.softmax_focal_loss, gamma=1.0),
    },
    epochs=4,
    batch=240,
    shares=False,
)
