"""Scores of probabilistic forecasts."""

import numpy as np
from scipy import special

from tests.references import with_ones
from tests.references.likelihood import draw_normal as draw_normal

M, D = 5, 2


def draw_ensemble(generator, shape):
    return generator.normal(size=(*shape, M)) * 2, generator.normal(size=shape)


def draw_vectors(generator, shape):
    return generator.normal(size=(*shape, M, D)) * 2, generator.normal(size=(*shape, D))


def extreme_vectors(a, b, options):
    zero = np.zeros_like(a)
    members = np.stack([np.stack([a, zero], -1), np.stack([b, a], -1), np.stack([zero, -b], -1)], -2)
    return members, np.stack([b, np.roll(a, 1)], -1)


def gaussian_crps(x, y, scale):
    z = np.where(scale == 0, 0, (y - x) / np.where(scale == 0, 1, scale))
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    bracket = z * (2 * special.ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi)
    return with_ones(np.where(scale == 0, np.abs(y - x), scale * bracket))


def ensemble_crps(x, y, *, fair=False):
    m = x.shape[-1]
    between = np.abs(x[..., :, None] - x[..., None, :]).sum((-2, -1))
    return with_ones(np.abs(x - y[..., None]).mean(-1) - between / (2 * m * (m - fair)))


def energy_score(x, y, *, fair=False):
    m = x.shape[-2]
    between = np.linalg.norm(x[..., :, None, :] - x[..., None, :, :], axis=-1).sum((-2, -1))
    return with_ones(np.linalg.norm(x - y[..., None, :], axis=-1).mean(-1) - between / (2 * m * (m - fair)))
