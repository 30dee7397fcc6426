"""Losses of language models: of preferences and of policies."""

import numpy as np

from tests.references import with_ones
from tests.references.margin import draw_sign


def draw_two(generator, shape):
    """Log-probabilities of two answers."""
    return tuple(-generator.exponential(2, size=(2, *shape)))


def draw_four(generator, shape):
    return *draw_two(generator, shape), *draw_two(generator, shape)


def draw_labelled(generator, shape):
    return generator.normal(size=shape) * 3, draw_sign(generator, shape), generator.normal(size=shape)


def draw_policy(generator, shape):
    """Log-probabilities near those of the old policy, so that some ratios are clipped and some are not."""
    old, _ = draw_two(generator, shape)
    return old + generator.normal(size=shape) / 2, old, generator.normal(size=shape)


def minus_log_sigmoid(x):
    return np.logaddexp(0, -x)


def lead(c, r, c_reference, r_reference):
    return (c - c_reference) - (r - r_reference)


def dpo(*log_probabilities, beta=0.1, label_smoothing=0.0):
    x = beta * lead(*log_probabilities)
    right, wrong = minus_log_sigmoid(x), minus_log_sigmoid(-x)
    return with_ones(
        np.where(label_smoothing == 1, 0, 1 - label_smoothing) * right
        + np.where(label_smoothing == 0, 0, label_smoothing * np.where(label_smoothing == 0, 0, wrong))
    )


def ipo(*log_probabilities, beta=0.1):
    return with_ones((lead(*log_probabilities) - 1 / (2 * beta)) ** 2)


def simpo(c, r, *, beta=2.0, gamma=0.5):
    return with_ones(minus_log_sigmoid(beta * (c - r) - gamma))


def orpo(c, r, *, beta=0.1):
    with np.errstate(divide="ignore", invalid="ignore"):
        log_missing = np.log(-np.expm1(c)), np.log(-np.expm1(r))
        log_odds_ratio = (c - r) - np.where(log_missing[0] == log_missing[1], 0, np.subtract(*log_missing))
    return with_ones(-c + beta * minus_log_sigmoid(log_odds_ratio))


def kto(x, y, baseline, *, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0, held=None):
    weight = np.where(y == 1, desirable_weight, undesirable_weight)
    ahead = y * beta * (x - (baseline if held is None else held))
    return with_ones(weight * np.exp(-minus_log_sigmoid(-ahead)))


def baseline_of_kto(x, y, baseline, **options):
    return baseline


def bradley_terry(c, r, *, margin=0.0):
    return with_ones(minus_log_sigmoid(c - r - margin))


def clipped_policy(x, old, advantage, *, clip_low=0.2, clip_high=0.2, dual_clip=None):
    with np.errstate(over="ignore", invalid="ignore"):
        ratio = np.exp(x - old)
        surrogate = np.where(advantage == 0, 0, ratio * advantage)
    loss = -np.minimum(surrogate, np.clip(ratio, 1 - clip_low, 1 + clip_high) * advantage)
    return with_ones(
        loss if dual_clip is None else np.where(advantage < 0, np.minimum(loss, -dual_clip * advantage), loss)
    )
