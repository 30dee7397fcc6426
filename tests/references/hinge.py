"""Hinge losses and perceptrons."""

import numpy as np

from tests.references import with_ones


def hinge(x, y, *, kink_width=None):
    return with_ones(np.maximum(1 - x * y, 0))


def squared_hinge(x, y, *, kink_width=None):
    return with_ones(np.maximum(1 - x * y, 0) ** 2)


def perceptron(x, y, *, kink_width=None):
    return with_ones(np.maximum(-x * y, 0))


def lead_of_wrong(x, target):
    is_right = np.arange(x.shape[-1]) == target[..., None]
    return np.where(is_right, -np.inf, x).max(-1) - np.where(is_right, x, 0).sum(-1)


def multiclass_hinge(x, target, *, kink_width=None):
    return with_ones(np.maximum(1 + lead_of_wrong(x, target), 0))


def multiclass_perceptron(x, target, *, kink_width=None):
    return with_ones(np.maximum(lead_of_wrong(x, target), 0))
