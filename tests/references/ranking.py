"""Losses of lists."""

import numpy as np

from tests.references import N_CLASSES


def draw_list(generator, shape):
    """Scores, and grades of relevance, of which some are 0 and some are equal."""
    scores = generator.normal(size=(*shape, N_CLASSES))
    grades = generator.integers(0, 3, size=(*shape, N_CLASSES))
    grades[..., 0] = 1
    return scores, generator.permuted(grades, axis=-1)


def has_relevant(y):
    return (y > 0).any(-1).astype(float)


def logsumexp(x):
    return np.logaddexp.reduce(x, axis=-1)


def ranking_softmax(x, y):
    x = x - x.max(-1, keepdims=True)  # or a logarithm is lost beside large scores
    log_p = x - logsumexp(x)[..., None]
    return -np.where(y == 0, 0, y * log_p).sum(-1), has_relevant(y)


def listmle(x, y):
    order = np.argsort(-y, axis=-1, kind="stable")
    ordered = np.take_along_axis(x, order, -1)
    losses = sum(logsumexp(ordered[..., i:]) - ordered[..., i] for i in range(x.shape[-1]))
    return has_relevant(y) * losses, has_relevant(y)
