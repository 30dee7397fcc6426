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


def draw_relative(generator, shape):
    """Targets away from 0, of either sign."""
    size = generator.uniform(0.5, 3, size=shape) * generator.choice([-1.0, 1.0], size=shape)
    return generator.normal(size=shape) * 2, size


def draw_above_minus_one(generator, shape):
    return tuple(generator.uniform(-0.7, 4, size=shape) for _ in range(2))


def log_cosh(x, y):
    error = np.abs(x - y)
    return with_ones(np.where(error < 1, np.log1p(2 * np.sinh(np.minimum(error, 1) / 2) ** 2), far_log_cosh(error)))


def far_log_cosh(error):
    return error + np.log1p(np.exp(-2 * error)) - np.log(2)


def quantile(x, y, *, quantile=0.5, kink_width=None):
    error = y - x
    return with_ones(np.maximum(quantile * error, (quantile - 1) * error))


def expectile(x, y, *, expectile=0.5):
    error = y - x
    return with_ones(np.abs(expectile - (error < 0)) * error**2)


def absolute_percentage(x, y, *, eps=1e-7, kink_width=None):
    return with_ones(100 * np.abs(x - y) / np.maximum(np.abs(y), eps))


def squared_logarithmic(x, y):
    return with_ones((np.log1p(x) - np.log1p(y)) ** 2)


def general_robust(x, y, *, alpha=1.0, scale=1.0):
    z, alpha = ((x - y) / scale) ** 2, np.broadcast_to(np.float64(alpha), np.shape(x))
    b, ordinary = np.abs(alpha - 2), np.isfinite(alpha) & (alpha != 0) & (alpha != 2)
    b, power = np.where(ordinary, b, 1), np.where(ordinary, alpha, 1)
    general = b / power * ((z / b + 1) ** (power / 2) - 1)
    special = np.where(alpha == 2, z / 2, np.where(alpha == 0, np.log1p(z / 2), -np.expm1(-z / 2)))
    return with_ones(np.where(ordinary, general, special))
