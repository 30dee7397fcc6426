"""Losses of boxes."""

import numpy as np

from tests.references import with_ones


def draw_boxes(generator, shape):
    """Two boxes that overlap in most cases."""
    corners = generator.uniform(-3, 1, size=(2, *shape, 2))
    return tuple(np.concatenate([low, low + generator.uniform(0.5, 4, size=low.shape)], axis=-1) for low in corners)


def extreme_boxes(a, b, options):
    """Boxes with corners at the numbers, some of them empty, reversed or apart."""
    zero, one = np.zeros_like(a), np.ones_like(a)
    return np.stack([zero, a, b, abs(b)], axis=-1), np.stack([b, zero, one, a], axis=-1)


def measures(boxes, target, eps):
    """The intersection over the union, and the sides of the smallest box around both."""
    first, second = (np.stack([x[..., :2], np.maximum(x[..., 2:], x[..., :2])], axis=-1) for x in (boxes, target))
    low, high = np.maximum(first[..., 0], second[..., 0]), np.minimum(first[..., 1], second[..., 1])
    shared = np.maximum(high - low, 0).prod(-1)
    areas = [(x[..., 1] - x[..., 0]).prod(-1) for x in (first, second)]
    union = areas[0] + areas[1] - shared
    hull = np.maximum(first[..., 1], second[..., 1]) - np.minimum(first[..., 0], second[..., 0])
    between = (first.sum(-1) - second.sum(-1)) / 2
    aspects = [np.arctan2(x[..., 0, 1] - x[..., 0, 0], x[..., 1, 1] - x[..., 1, 0]) for x in (first, second)]
    return 1 - shared / (union + eps), union, hull, between, aspects


def box_iou(boxes, target, *, eps=1e-7):
    return with_ones(measures(boxes, target, eps)[0])


def generalized(boxes, target, *, eps=1e-7):
    missed, union, hull, *_ = measures(boxes, target, eps)
    return with_ones(missed + (hull.prod(-1) - union) / (hull.prod(-1) + eps))


def distance(boxes, target, *, eps=1e-7):
    missed, _, hull, between, _ = measures(boxes, target, eps)
    return with_ones(missed + (between**2).sum(-1) / ((hull**2).sum(-1) + eps))


def aspect_difference(boxes, target):
    *_, aspects = measures(boxes, target, 0.0)
    return 4 / np.pi**2 * (aspects[1] - aspects[0]) ** 2


def aspect_share(boxes, target, *, eps=1e-7):
    """The factor of the difference of the aspect ratios, which is constant in derivatives."""
    v = aspect_difference(boxes, target)
    whole = measures(boxes, target, eps)[0] + v + eps
    return v / np.where(whole == 0, 1, whole)


def complete(boxes, target, *, eps=1e-7, held=None):
    share = aspect_share(boxes, target, eps=eps) if held is None else held
    return with_ones(distance(boxes, target, eps=eps)[0] + share * aspect_difference(boxes, target))
