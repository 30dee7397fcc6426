"""Losses of large output layers."""

import numpy as np

import jaxloss
from tests.references import N_CLASSES, Arrays
from tests.references.classification import cross_entropy


def draw_layer(generator, shape):
    hidden = generator.normal(size=(*shape, 3))
    return hidden, generator.normal(size=(3, N_CLASSES)), generator.integers(0, N_CLASSES, size=shape)


def draw_soft_layer(generator, shape):
    hidden, kernel, _ = draw_layer(generator, shape)
    return hidden, kernel, generator.dirichlet(np.ones(N_CLASSES), size=shape)


def linear_cross_entropy(hidden, kernel, target, *, bias=None, chunk_size=None, **options):
    return cross_entropy(hidden @ kernel + (0 if bias is None else np.asarray(bias, float)), target, **options)


def draw_adaptive(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    """Hidden rows, head, head bias, (down, up) of two tails that begin at classes 2 and 3, and targets."""
    shapes = ((*shape, 3), (3, 4), (4,), (3, 2), (2, 1), (3, 1), (1, 2))
    return (*(generator.normal(size=s) for s in shapes), generator.integers(0, N_CLASSES, size=shape))


def pack_adaptive(hidden, head, head_bias, down, up, rarer_down, rarer_up, target):
    """The arguments of the loss."""
    return hidden, jaxloss.AdaptiveSoftmax(head, head_bias, ((down, up), (rarer_down, rarer_up))), target


def adaptive_softmax(hidden, head, head_bias, down, up, rarer_down, rarer_up, target, *, ignore_index=-100):
    def log_softmax(x):
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    shared, first, second = np.split(log_softmax(hidden @ head + head_bias), [2, 3], axis=-1)
    frequent, rarer = log_softmax(hidden @ down @ up), log_softmax(hidden @ rarer_down @ rarer_up)
    log_probabilities = np.concatenate([shared, first + frequent, second + rarer], axis=-1)
    counted = target != ignore_index
    picked = np.take_along_axis(log_probabilities, np.where(counted, target, 0)[..., None], -1)[..., 0]
    return np.where(counted, -picked, 0), counted.astype(float)
