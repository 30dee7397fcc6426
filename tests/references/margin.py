"""Margin losses."""

import numpy as np

from tests.references import N_CLASSES, with_ones
from tests.references.classification import draw_indexed
from tests.references.regression import draw_regression


def draw_sign(generator, shape):
    return generator.choice([-1, 1], size=shape)


def draw_decision(generator, shape):
    return generator.normal(size=shape) * 2, draw_sign(generator, shape)


def draw_ranking(generator, shape):
    return *draw_regression(generator, shape), draw_sign(generator, shape)


def draw_list(generator, shape):
    logits, _ = draw_indexed(generator, shape)
    lists = generator.permuted(np.broadcast_to(np.arange(N_CLASSES), logits.shape), axis=-1)
    length = generator.integers(0, N_CLASSES + 1, size=shape)
    return logits, np.where(np.arange(N_CLASSES) == length[..., None], -1, lists)


def draw_labels(generator, shape):
    logits, _ = draw_indexed(generator, shape)
    return logits, generator.uniform(size=logits.shape)


def hinge_embedding(x, y, *, margin=1.0, kink_width=None):
    return with_ones(np.where(y == 1, x, np.maximum(margin - x, 0)))


def margin_ranking(x, y, target, *, margin=0.0, kink_width=None):
    return with_ones(np.maximum(margin - target * (x - y), 0))


def soft_margin(x, y):
    return with_ones(np.logaddexp(0, -y * x))


def multi_margin(x, target, *, p=1, margin=1.0, class_weights=None, kink_width=None):
    weights = np.ones(x.shape[-1]) if class_weights is None else np.asarray(class_weights, float)
    right = np.take_along_axis(x, target[..., None], -1)
    terms = np.maximum(np.expand_dims(margin, -1) - right + x, 0) ** p
    np.put_along_axis(terms, target[..., None], 0, -1)
    return with_ones(weights[target] * terms.mean(-1))


def multilabel_margin(x, target, *, kink_width=None):
    losses = np.zeros(target.shape[:-1])
    for i in np.ndindex(losses.shape):
        listed = target[i].tolist()
        listed = listed[: listed.index(-1)] if -1 in listed else listed
        wrong = [c for c in range(x.shape[-1]) if c not in listed]
        losses[i] = sum(max(0, 1 - x[i][j] + x[i][c]) for j in listed for c in wrong) / x.shape[-1]
    return with_ones(losses)


def multilabel_soft_margin(x, y, *, class_weights=None):
    weights = np.ones(x.shape[-1]) if class_weights is None else np.asarray(class_weights, float)
    return with_ones((weights * (y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x))).mean(-1))
