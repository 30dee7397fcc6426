"""Losses of probabilities, logits and classes."""

import numpy as np

from tests.references import N_CLASSES, Arrays, with_ones


def draw_probability(generator, shape):
    return generator.uniform(0.02, 0.98, size=shape), generator.uniform(size=shape)


def draw_binary(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return generator.normal(size=shape) * 3, generator.uniform(size=shape)


def draw_indexed(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return generator.normal(size=(*shape, N_CLASSES)) * 3, generator.integers(0, N_CLASSES, size=shape)


def draw_log_probabilities(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    logits, target = draw_indexed(generator, shape)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True)), target


def draw_soft(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    logits, _ = draw_indexed(generator, shape)
    return logits, generator.dirichlet(np.ones(N_CLASSES), size=shape)


def binary_cross_entropy(x, y):
    with np.errstate(divide="ignore"):
        return with_ones(-y * np.maximum(np.log(x), -100) - (1 - y) * np.maximum(np.log1p(-x), -100))


def bce_with_logits(x, y, *, pos_weight=1.0):
    return with_ones(pos_weight * y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x))


def nll(log_probabilities, target, *, class_weights=None, ignore_index=-100):
    weights = np.ones(log_probabilities.shape[-1]) if class_weights is None else np.asarray(class_weights, float)
    counted = target != ignore_index
    index = np.where(counted, target, 0)
    picked = np.take_along_axis(log_probabilities, index[..., None], -1)[..., 0]
    normaliser = np.where(counted, weights[index], 0)
    return -picked * normaliser, normaliser


def cross_entropy(
    x, target, *, class_weights=None, ignore_index=-100, label_smoothing=0.0, z_loss=0.0, logit_softcap=None
):
    if logit_softcap is not None:
        cap = np.expand_dims(logit_softcap, -1)
        x = cap * np.tanh(x / cap)
    log_normaliser = np.logaddexp.reduce(x, -1)
    log_probabilities = x - log_normaliser[..., None]
    weights = np.ones(x.shape[-1]) if class_weights is None else np.asarray(class_weights, float)
    smooth, counted = -(log_probabilities * weights).mean(-1), 1
    if np.issubdtype(target.dtype, np.integer):
        counted = target != ignore_index
        hard, normaliser = nll(log_probabilities, target, class_weights=class_weights, ignore_index=ignore_index)
        smooth = np.where(counted, smooth, 0)
    else:
        hard = -(log_probabilities * weights * target).sum(-1)
        normaliser = np.ones_like(hard)
    penalty = counted * z_loss * log_normaliser**2
    return (1 - label_smoothing) * hard + label_smoothing * smooth + penalty, normaliser
