"""The task `embedding`: places digits so that those of one class are near each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxloss
from jaxloss import imbalance, vectors
from jaxloss._demo import networks
from jaxloss._demo.digits import N_CLASSES, split
from jaxloss._demo.training import Examples, Experiment, Parameters, Problem, Task

FEATURES = 16


def load(seed: int) -> Problem:
    """The digits. Each image of the test data searches for those of its class among the others."""
    images, test_images, targets, test_targets = map(jnp.asarray, split(seed))
    same = (test_targets[:, None] == test_targets) & ~np.eye(len(test_targets), dtype=bool)
    n_same = jnp.sum(same, axis=1)

    def measured(parameters: Parameters) -> list[Array]:
        embeddings = vectors.normalize(networks.outputs(parameters["network"], test_images))
        similarities = jnp.fill_diagonal(embeddings @ embeddings.T, -2.0, inplace=False)
        order = jnp.argsort(-similarities, axis=1)
        is_same = jnp.take_along_axis(same, order, axis=1)
        within = jnp.arange(len(test_targets)) < n_same[:, None]
        return [jnp.mean(jnp.sum(is_same & within, axis=1) / n_same), jnp.mean(is_same[:, 0])]

    keys = jax.random.split(jax.random.key(seed))
    parameters = {
        "network": networks.initial_layers(keys[0], 64, 128, FEATURES),
        "proxies": jax.random.normal(keys[1], (N_CLASSES, FEATURES)),
    }
    training = {"image": images, "target": targets}
    return Problem(training, parameters, measured, imbalance.class_counts(training["target"], N_CLASSES))


def _embeddings(parameters: Parameters, examples: Examples) -> Array:
    return networks.outputs(parameters["network"], examples["image"])


_of_set = functools.partial(Experiment.of, _embeddings, balanced_share=1.0)


def _proxy_anchor(parameters: Parameters, examples: Examples, _: Problem) -> Array:
    embeddings = _embeddings(parameters, examples)
    return jaxloss.proxy_anchor_loss(embeddings, parameters["proxies"], examples["target"])


def _arcface(parameters: Parameters, examples: Examples, _: Problem) -> Array:
    embeddings = _embeddings(parameters, examples)
    return jaxloss.arcface_loss(embeddings, parameters["proxies"].T, examples["target"], margin=0.3, scale=16.0)


EMBEDDING = Task(
    title="Digits as embeddings",
    measures=("R-precision", "recall at 1"),
    plotted="1 - R-precision on the test set (%)",
    load=load,
    experiments={
        "supcon_loss": _of_set(jaxloss.supcon_loss, temperature=0.1),
        "ntxent_loss": _of_set(jaxloss.ntxent_loss, temperature=0.1),
        "multi_similarity_loss": _of_set(jaxloss.multi_similarity_loss),
        "circle_loss": _of_set(jaxloss.circle_loss),
        "batch_hard_triplet_loss": _of_set(jaxloss.batch_hard_triplet_loss, soft=True),
        "proxy_anchor_loss": Experiment(_proxy_anchor, balanced_share=1.0),
        "arcface_loss": Experiment(_arcface, balanced_share=1.0),
    },
    epochs=10,
    batch=60,
)
