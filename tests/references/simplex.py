"""Losses of a projection onto the simplex, and of a regularised maximum."""

import numpy as np

from tests.references import with_ones
from tests.references.classification import draw_indexed


def draw_close(generator, shape):
    """Scores of which several are close enough to share the simplex."""
    logits, target = draw_indexed(generator, shape)
    return logits / 4, target


def sparsemax(x, y):
    s = x * (1 - 2 * y)
    return with_ones(np.where(s >= 1, s, (np.clip(s, -1, 1) + 1) ** 2 / 4))


def nearest_in_simplex(x):
    """By bisection of the threshold, between max x - 1 and max x."""
    low, high = x.max(-1, keepdims=True) - 1, x.max(-1, keepdims=True)
    for _ in range(60):
        middle = (low + high) / 2
        is_low = np.maximum(x - middle, 0).sum(-1, keepdims=True) > 1
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    # The threshold that makes the sum over this support 1.
    support = x > high
    size = np.maximum(support.sum(-1, keepdims=True), 1)
    return np.maximum(x - (np.where(support, x, 0).sum(-1, keepdims=True) - 1) / size, 0)


def multiclass_sparsemax(x, target):
    x = x - x.max(-1, keepdims=True)
    p = nearest_in_simplex(x)
    right = np.take_along_axis(x, target[..., None], -1)
    return with_ones((1 - (p**2).sum(-1)) / 2 + np.where(p > 0, p * (x - right), 0).sum(-1))


def log_sum_exp(x):
    return np.logaddexp.reduce(x, -1)


def largest_size(x):
    """A maximum for `fenchel_young_loss`, in NumPy and in JAX."""
    return abs(x).max(-1)


def fenchel_young(x, y, *, max_fun=log_sum_exp):
    return with_ones(max_fun(x) - (x * y).sum(-1))
