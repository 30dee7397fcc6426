"""The task `segmentation`: finds the pixels of small digits in large, noisy images."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxloss
from jaxloss._demo import networks
from jaxloss._demo.digits import images_and_targets
from jaxloss._demo.training import Examples, Experiment, Parameters, Problem, Task

SIDE, DIGIT, NOISE = 16, 8, 0.45
N_TRAINING, N_TEST = 480, 240


def load(seed: int) -> Problem:
    """Each image has one digit of 8 by 8 pixels at a random place. The target is where it has at least half the ink."""
    random = np.random.default_rng(seed)
    digits, _ = images_and_targets()
    n = N_TRAINING + N_TEST
    images = np.zeros((n, SIDE, SIDE), np.float32)
    places = random.integers(0, SIDE - DIGIT + 1, (n, 2))
    for image, digit, (row, column) in zip(images, random.permutation(digits)[:n], places, strict=True):
        image[row : row + DIGIT, column : column + DIGIT] = digit.reshape(DIGIT, DIGIT)
    target = jnp.asarray(images >= 0.5)
    noisy = jnp.asarray(images + random.normal(scale=NOISE, size=images.shape).astype(np.float32))[..., None]
    test_images, test_target = noisy[N_TRAINING:], target[N_TRAINING:]

    def measured(parameters: Parameters) -> list[Array]:
        found = networks.filtered(parameters, test_images)[..., 0] > 0
        both = jnp.sum(found & test_target, axis=(1, 2))
        either = jnp.sum(found | test_target, axis=(1, 2))
        return [jnp.mean(both / either), jnp.mean(found == test_target)]

    training = {"image": noisy[:N_TRAINING], "target": target[:N_TRAINING]}
    return Problem(training, networks.initial_filters(jax.random.key(seed), 3, 1, 12, 12, 12, 1), measured)


def _logits(parameters: Parameters, examples: Examples) -> Array:
    return networks.filtered(parameters, examples["image"])[..., 0]


_of_logits = functools.partial(Experiment.of, _logits)


def _of_probabilities(loss: Callable[..., Array], **options: object) -> Experiment:
    return _of_logits(lambda logits, target: loss(jax.nn.sigmoid(logits), target, axis=(-2, -1), **options))


SEGMENTATION = Task(
    title="Pixels of digits in noisy images",
    measures=("IoU", "accuracy of pixels"),
    plotted="1 - IoU on the test set (%)",
    load=load,
    experiments={
        "binary_cross_entropy_with_logits": _of_logits(jaxloss.binary_cross_entropy_with_logits),
        "sigmoid_focal_loss": _of_logits(jaxloss.sigmoid_focal_loss),
        "dice_loss": _of_probabilities(jaxloss.dice_loss),
        "tversky_loss": _of_probabilities(jaxloss.tversky_loss, alpha=0.3, beta=0.7),
        "lovasz_hinge_loss": _of_logits(functools.partial(jaxloss.lovasz_hinge_loss, axis=(-2, -1))),
    },
    epochs=15,
    batch=32,
)
