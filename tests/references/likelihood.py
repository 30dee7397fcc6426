"""Losses that are likelihoods or divergences."""

import math

import numpy as np
from scipy import special

from tests.references import with_ones
from tests.references.classification import draw_probability
from tests.references.regression import draw_regression


def draw_count(generator, shape):
    return generator.normal(size=shape), generator.poisson(2.0, size=shape).astype(float)


def draw_rate(generator, shape):
    return generator.uniform(0.2, 4, size=shape), generator.poisson(2.0, size=shape).astype(float)


def draw_normal(generator, shape):
    return *draw_regression(generator, shape), generator.uniform(0.2, 3, size=shape)


def draw_log_and_probability(generator, shape):
    probability, target = draw_probability(generator, shape)
    return np.log(probability), target


def draw_log_and_log(generator, shape):
    return tuple(np.log(probability) for probability in draw_probability(generator, shape))


def poisson_nll(x, y, *, log_input=True, full=False, eps=1e-8):
    with np.errstate(over="ignore"):
        losses = np.exp(x) - y * x if log_input else x - y * np.log(x + eps)
    count = np.where(y > 1, y, 1)
    stirling = np.where(y > 1, count * np.log(count) - count + np.log(2 * math.pi * count) / 2, 0)
    return with_ones(losses + stirling if full else losses)


def gaussian_nll(x, y, variance, *, full=False, eps=1e-6):
    variance = np.maximum(variance, eps)
    return with_ones((np.log(variance) + (x - y) ** 2 / variance + full * math.log(2 * math.pi)) / 2)


def kl_div(x, y, *, log_target=False):
    if log_target:
        return with_ones(np.exp(y) * (y - x))
    return with_ones(y * (np.log(np.where(y == 0, 1, y)) - x))


def draw_positive(generator, shape):
    return generator.normal(size=shape), generator.uniform(0.2, 4, size=shape)


def draw_two_positive(generator, shape):
    return tuple(generator.uniform(0.2, 4, size=shape) for _ in range(2))


def draw_log_and_number(generator, shape):
    return generator.normal(size=shape), generator.uniform(0.1, 3, size=shape)


def draw_two_logs(generator, shape):
    return tuple(generator.normal(size=shape) for _ in range(2))


def gamma_nll(x, y, *, log_input=True):
    with np.errstate(over="ignore"):
        return with_ones(y * np.exp(-x) + x if log_input else y / x + np.log(x))


def tweedie_nll(x, y, *, power=1.5, log_input=True):
    log_mean = x if log_input else np.log(x)
    with np.errstate(over="ignore", invalid="ignore"):
        observed = np.where(y == 0, 0, y * np.exp((1 - power) * log_mean) / (power - 1))
        return with_ones(np.exp((2 - power) * log_mean) / (2 - power) + observed)


def generalized_kl_div(x, y, *, log_target=False):
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        x, y = np.longdouble(x), np.longdouble(y)  # where p and q are close to each other, the terms cancel
        q, p = np.exp(x), np.exp(y) if log_target else y
        log_p = y if log_target else np.log(np.where(y == 0, 1, y))
        losses = p * (log_p - x) + q - p
        return with_ones(np.where(np.isinf(p), np.where(x == y, 0, np.inf), losses).astype(np.float64))


def draw_counts(generator, shape):
    return generator.normal(size=shape), *(generator.uniform(0.3, 6, size=shape) for _ in range(2))


def draw_counts_of_means(generator, shape):
    return tuple(generator.uniform(0.3, 6, size=shape) for _ in range(3))


def negative_binomial_nll(x, y, r, *, log_input=True, full=False):
    log_mean = x if log_input else np.log(x)
    log_sum = np.logaddexp(np.log(r), log_mean)
    gammas = special.gammaln(r) - special.gammaln(r + y)
    losses = r * (log_sum - np.log(r)) + y * (log_sum - log_mean) + gammas
    return with_ones(losses + special.gammaln(y + 1) if full else losses)
