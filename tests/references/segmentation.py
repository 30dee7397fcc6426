"""Losses of the pixels of an image."""

import numpy as np

from tests.references import N_CLASSES, with_ones


def draw_soft_region(generator, shape):
    return tuple(generator.uniform(size=(*shape, N_CLASSES)) for _ in range(2))


def draw_region(generator, shape):
    """Logits, and a target with pixels of both kinds."""
    target = (np.arange(N_CLASSES) < generator.integers(1, N_CLASSES, size=shape)[..., None]).astype(np.int32)
    return generator.normal(size=(*shape, N_CLASSES)), generator.permuted(target, axis=-1)


def draw_region_of_probabilities(generator, shape):
    return generator.uniform(size=(*shape, N_CLASSES)), draw_region(generator, shape)[1]


def tversky(p, t, *, alpha=0.5, beta=0.5, smooth=1.0):
    found, false, missed = ((x * y).sum(-1) for x, y in ((p, t), (p, 1 - t), (1 - p, t)))
    false, missed = alpha * false, beta * missed
    whole = found + false + missed + smooth
    return with_ones((false + missed) / np.where(whole == 0, 1, whole))


def jaccard(p, t, *, smooth=1.0):
    return tversky(p, t, alpha=1.0, beta=1.0, smooth=smooth)


def lovasz_extension(errors, target):
    """As in the paper's algorithm 1: the differences of the Jaccard losses of the sorted errors."""
    order = np.argsort(-errors, axis=-1, kind="stable")
    errors, target = (np.take_along_axis(x, order, -1) for x in (errors, target))
    whole = target.sum(-1, keepdims=True)
    losses = 1 - (whole - target.cumsum(-1)) / (whole + (1 - target).cumsum(-1))
    steps = np.diff(losses, axis=-1, prepend=0)
    return np.where(steps > 0, errors * steps, 0).sum(-1)


def lovasz_hinge(x, t):
    return with_ones(lovasz_extension(np.maximum(1 - x * (2 * t - 1), 0), t))


def lovasz_softmax(p, t):
    is_present = t.max(-1)
    return is_present * lovasz_extension(np.abs(t - p), t), is_present
