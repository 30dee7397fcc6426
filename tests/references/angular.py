"""Softmax losses of angles with a margin."""

import numpy as np

from tests.references.classification import cross_entropy


def of_cosines(with_margin):
    """A function of features, a kernel and targets, from what a margin makes of the right class's cosine."""

    def losses(features, kernel, target, *, margin, scale=64.0, chunk_size=None, axis_name=None, **options):
        lengths = [np.linalg.norm(each, axis=axis, keepdims=True) for each, axis in ((features, -1), (kernel, 0))]
        units = [
            each / np.where(length == 0, 1, length) for each, length in zip((features, kernel), lengths, strict=True)
        ]
        cosines = units[0] @ units[1]
        is_class = np.arange(kernel.shape[1]) == target[..., None]
        margin, scale = np.expand_dims(margin, -1), np.expand_dims(scale, -1)
        return cross_entropy(scale * np.where(is_class, with_margin(cosines, margin), cosines), target, **options)

    return losses


def _of_angle(cosine, margin):
    angle = np.arccos(np.clip(cosine, -1, 1))
    return np.where(angle + margin < np.pi, np.cos(angle + margin), cosine - margin * np.sin(margin))


def arcface(*arrays, margin=0.5, **options):
    return of_cosines(_of_angle)(*arrays, margin=margin, **options)


def cosface(*arrays, margin=0.35, **options):
    return of_cosines(lambda cosine, margin: cosine - margin)(*arrays, margin=margin, **options)
