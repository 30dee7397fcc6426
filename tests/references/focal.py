"""Cross-entropies that weigh a sample by a probability."""

import numpy as np

from tests.references import with_ones
from tests.references.classification import bce_with_logits, cross_entropy, nll


def draw_binary_label(generator, shape):
    return generator.normal(size=shape) * 3, generator.integers(0, 2, size=shape).astype(float)


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def power(base, exponent):
    with np.errstate(under="ignore"):
        return base**exponent


def sigmoid_focal(x, y, *, alpha=None, gamma=2.0):
    share = 1 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
    other = y * sigmoid(-x) + (1 - y) * sigmoid(x)
    return with_ones(share * power(other, gamma) * bce_with_logits(x, y)[0])


def of_class(function, x, target, class_weights, ignore_index):
    """The sum of w q f(log p) over the classes, and its normaliser."""
    _, normaliser = cross_entropy(x, target, class_weights=class_weights, ignore_index=ignore_index)
    log_p = x - np.logaddexp.reduce(x, -1, keepdims=True)
    losses = function(log_p)
    if np.issubdtype(target.dtype, np.integer):
        return nll(-losses, target, class_weights=class_weights, ignore_index=ignore_index)
    weights = 1 if class_weights is None else np.asarray(class_weights, float)
    return (losses * weights * target).sum(-1), normaliser


def softmax_focal(x, target, *, gamma=2.0, class_weights=None, ignore_index=-100):
    exponent = np.expand_dims(gamma, -1)
    return of_class(lambda log_p: power(-np.expm1(log_p), exponent) * -log_p, x, target, class_weights, ignore_index)


def poly(x, target, *, epsilon=2.0, class_weights=None, ignore_index=-100):
    factor = np.expand_dims(epsilon, -1)
    return of_class(lambda log_p: -log_p - factor * np.expm1(log_p), x, target, class_weights, ignore_index)


def generalized(x, target, *, q=0.7, class_weights=None, ignore_index=-100):
    q = np.expand_dims(q, -1)

    def loss(log_p):
        return np.where(q == 0, -log_p, -np.expm1(q * log_p) / np.where(q == 0, 1, q))

    return of_class(loss, x, target, class_weights, ignore_index)


def asymmetric(x, y, *, gamma_negative=4.0, gamma_positive=1.0, clip=0.05):
    p = sigmoid(x)
    positive = power(sigmoid(-x), gamma_positive) * np.logaddexp(0, -x)
    shifted = np.maximum(p - clip, 0)
    # log(1 - p_m), where the difference has no digits left for a large p and no clip.
    with np.errstate(divide="ignore"):
        far = np.logaddexp(-np.logaddexp(0, x), np.log(clip))
    log_complement = np.where(shifted > 0.5, far, np.log1p(-np.minimum(shifted, 0.5)))
    return with_ones(y * positive - (1 - y) * power(shifted, gamma_negative) * log_complement)
