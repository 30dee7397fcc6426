"""Losses of embeddings."""

import numpy as np

from tests.references import N_CLASSES, with_ones
from tests.references.margin import draw_sign


def draw_vectors(generator, shape, n=3):
    return tuple(generator.normal(size=(*shape, N_CLASSES)) for _ in range(n))


def draw_vector_pair(generator, shape):
    return *draw_vectors(generator, shape, 2), draw_sign(generator, shape)


def distance(x, y, p=2.0, eps=1e-6):
    return np.linalg.norm(x - y + np.expand_dims(eps, -1), ord=p, axis=-1)


def triplet_margin(anchor, positive, negative, *, margin=1.0, p=2.0, eps=1e-6, swap=False, kink_width=None):
    farther = distance(anchor, negative, p, eps)
    if swap:
        farther = np.minimum(farther, distance(positive, negative, p, eps))
    return with_ones(np.maximum(distance(anchor, positive, p, eps) - farther + margin, 0))


def taxicab(x, y):
    """A distance for `triplet_margin_with_distance_loss`, in NumPy and in JAX."""
    return abs(x - y).sum(-1)


def triplet_margin_with_distance(
    anchor, positive, negative, *, distance_function=distance, margin=1.0, swap=False, kink_width=None
):
    farther = distance_function(anchor, negative)
    if swap:
        farther = np.minimum(farther, distance_function(positive, negative))
    return with_ones(np.maximum(distance_function(anchor, positive) - farther + margin, 0))


def cosine(x, y):
    largest = [np.abs(v).max(-1, keepdims=True) for v in (x, y)]
    x, y = (v / np.where(top == 0, 1, top) for v, top in zip((x, y), largest, strict=True))
    lengths = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return (x * y).sum(-1) / np.where(lengths == 0, 1, lengths)


def cosine_embedding(x, y, target, *, margin=0.0, kink_width=None):
    return with_ones(np.where(target == 1, 1 - cosine(x, y), np.maximum(cosine(x, y) - margin, 0)))
