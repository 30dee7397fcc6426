"""Losses of lists."""

import jax.numpy as jnp
import numpy as np

import jaxloss
from tests.references import N_CLASSES, extremes


def draw_list(generator, shape):
    """Scores, and grades of relevance, of which some are 0 and some are equal."""
    scores = generator.normal(size=(*shape, N_CLASSES))
    grades = generator.integers(0, 3, size=(*shape, N_CLASSES))
    grades[..., 0] = 1
    return scores, generator.permuted(grades, axis=-1)


def has_relevant(y):
    return (y > 0).any(-1).astype(float)


def logsumexp(x):
    return np.logaddexp.reduce(x, axis=-1)


def ranking_softmax(x, y):
    x = x - x.max(-1, keepdims=True)  # or a logarithm is lost beside large scores
    log_p = x - logsumexp(x)[..., None]
    return -np.where(y == 0, 0, y * log_p).sum(-1), has_relevant(y)


def listmle(x, y):
    order = np.argsort(-y, axis=-1, kind="stable")
    ordered = np.take_along_axis(x, order, -1)
    losses = sum(logsumexp(ordered[..., i:]) - ordered[..., i] for i in range(x.shape[-1]))
    return has_relevant(y) * losses, has_relevant(y)


def pairwise(x, y, loss, pair_weights=None):
    """The sum of the loss over pairs, and the sum of the weights of the pairs."""
    is_pair = y[..., :, None] > y[..., None, :]
    weights = np.where(is_pair, REFERENCES[pair_weights](x, y) if pair_weights else 1, 0)
    losses = loss(np.where(is_pair, x[..., :, None] - x[..., None, :], 0))
    return np.where(weights == 0, 0, weights * losses).sum((-2, -1)), weights.sum((-2, -1))


def pairwise_logistic(x, y, *, pair_weights=None):
    return pairwise(x, y, lambda ahead: np.logaddexp(0, -ahead), pair_weights)


def pairwise_hinge(x, y, *, margin=1.0, kink_width=None, pair_weights=None):
    margin = np.expand_dims(margin, (-2, -1))
    return pairwise(x, y, lambda ahead: np.maximum(margin - ahead, 0), pair_weights)


def of_high_grades(x, y):
    """Which pairs count: those with an item of a grade above 1. The other order of a pair has another weight."""
    return jnp.broadcast_to(y[:, None] > 1, x.shape * 2)


def ndcg_weights(x, y):
    ranks = 1 + np.argsort(np.argsort(-x, axis=-1, kind="stable"), axis=-1)
    # Divided by the power of 2 of the largest, or it overflows.
    largest = np.maximum(y.max(-1, keepdims=True), 0)
    gains, discounts = 2.0 ** (y - largest) - 2.0**-largest, 1 / np.log2(1 + ranks)
    falling = -np.sort(-gains, axis=-1)
    ideal = (falling / np.log2(2 + np.arange(y.shape[-1]))).sum(-1)[..., None, None]
    changes = (abs(each[..., :, None] - each[..., None, :]) for each in (gains, discounts))
    return np.prod(list(changes), axis=0) / np.where(ideal > 0, ideal, 1)


def extreme_grades(a, b, options):
    return extremes.rows(a, b), abs(extremes.rows(b, a))


REFERENCES = {
    jaxloss.ndcg_pair_weights: ndcg_weights,
    of_high_grades: lambda x, y: 0.0 + (y[..., :, None] > 1),
}
