"""Losses of real-valued predictions."""

import numpy as np

from tests.references import Arrays, with_ones


def draw_regression(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return generator.normal(size=shape) * 2, generator.normal(size=shape)


def mse(x, y):
    return with_ones((x - y) ** 2)


def l1(x, y, *, kink_width=None):
    return with_ones(np.abs(x - y))


def smooth_l1(x, y, *, beta=1.0, kink_width=None):
    size = np.abs(x - y)
    return with_ones(np.where(size < beta, size**2 / (2 * np.where(beta == 0, 1, beta)), size - beta / 2))


def huber(x, y, *, delta=1.0):
    size = np.abs(x - y)
    return with_ones(np.where(size < delta, size**2 / 2, delta * (size - delta / 2)))
