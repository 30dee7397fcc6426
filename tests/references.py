"""Valid arguments for each loss, drawn at random, and the losses themselves in NumPy's float64."""

import math

import numpy as np

import jaxloss

Arrays = tuple[np.ndarray, ...]
N_CLASSES = 5


def with_ones(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return losses, np.ones_like(losses)


def draw_regression(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return generator.normal(size=shape) * 2, generator.normal(size=shape)


def draw_binary(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return generator.normal(size=shape) * 3, generator.uniform(size=shape)


def draw_indexed(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return generator.normal(size=(*shape, N_CLASSES)) * 3, generator.integers(0, N_CLASSES, size=shape)


def draw_log_probabilities(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    logits, target = draw_indexed(generator, shape)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True)), target


def draw_soft(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    logits, _ = draw_indexed(generator, shape)
    return logits, generator.dirichlet(np.ones(N_CLASSES), size=shape)


def mse(x, y):
    return with_ones((x - y) ** 2)


def l1(x, y, *, kink_width=None):
    return with_ones(np.abs(x - y))


def smooth_l1(x, y, *, beta=1.0, kink_width=None):
    size = np.abs(x - y)
    if beta == 0:
        return with_ones(size)
    return with_ones(np.where(size < beta, size**2 / (2 * beta), size - beta / 2))


def huber(x, y, *, delta=1.0):
    size = np.abs(x - y)
    return with_ones(np.where(size < delta, size**2 / 2, delta * (size - delta / 2)))


def bce_with_logits(x, y, *, pos_weight=1.0):
    return with_ones(pos_weight * y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x))


def nll(log_probabilities, target, *, class_weights=None, ignore_index=-100):
    weights = np.ones(log_probabilities.shape[-1]) if class_weights is None else np.asarray(class_weights, float)
    counted = target != ignore_index
    index = np.where(counted, target, 0)
    picked = np.take_along_axis(log_probabilities, index[..., None], -1)[..., 0]
    normaliser = np.where(counted, weights[index], 0)
    return -picked * normaliser, normaliser


def cross_entropy(x, target, *, class_weights=None, ignore_index=-100, label_smoothing=0.0):
    log_probabilities = x - np.logaddexp.reduce(x, -1, keepdims=True)
    weights = np.ones(x.shape[-1]) if class_weights is None else np.asarray(class_weights, float)
    smooth = -(log_probabilities * weights).mean(-1)
    if np.issubdtype(target.dtype, np.integer):
        hard, normaliser = nll(log_probabilities, target, class_weights=class_weights, ignore_index=ignore_index)
        smooth = np.where(target == ignore_index, 0, smooth)
    else:
        hard = -(log_probabilities * weights * target).sum(-1)
        normaliser = np.ones_like(hard)
    return (1 - label_smoothing) * hard + label_smoothing * smooth, normaliser


def draw_layer(generator, shape):
    hidden = generator.normal(size=(*shape, 3))
    return hidden, generator.normal(size=(3, N_CLASSES)), generator.integers(0, N_CLASSES, size=shape)


def draw_soft_layer(generator, shape):
    hidden, kernel, _ = draw_layer(generator, shape)
    return hidden, kernel, generator.dirichlet(np.ones(N_CLASSES), size=shape)


def linear_cross_entropy(
    hidden, kernel, target, *, bias=None, z_loss=0.0, logit_softcap=None, chunk_size=None, **options
):
    x = hidden @ kernel + (0 if bias is None else np.asarray(bias, float))
    if logit_softcap is not None:
        cap = np.expand_dims(logit_softcap, -1)
        x = cap * np.tanh(x / cap)
    losses, normalisers = cross_entropy(x, target, **options)
    counted = 1 if target.ndim == x.ndim else target != options.get("ignore_index", -100)
    return losses + counted * z_loss * np.logaddexp.reduce(x, -1) ** 2, normalisers


def draw_count(generator, shape):
    return generator.normal(size=shape), generator.poisson(2.0, size=shape).astype(float)


def draw_rate(generator, shape):
    return generator.uniform(0.2, 4, size=shape), generator.poisson(2.0, size=shape).astype(float)


def draw_normal(generator, shape):
    return *draw_regression(generator, shape), generator.uniform(0.2, 3, size=shape)


def draw_probability(generator, shape):
    return generator.uniform(0.02, 0.98, size=shape), generator.uniform(size=shape)


def draw_log_and_probability(generator, shape):
    probability, target = draw_probability(generator, shape)
    return np.log(probability), target


def draw_log_and_log(generator, shape):
    return tuple(np.log(probability) for probability in draw_probability(generator, shape))


def draw_sign(generator, shape):
    return generator.choice([-1, 1], size=shape)


def draw_decision(generator, shape):
    return generator.normal(size=shape) * 2, draw_sign(generator, shape)


def draw_ranking(generator, shape):
    return *draw_regression(generator, shape), draw_sign(generator, shape)


def draw_list(generator, shape):
    logits, _ = draw_indexed(generator, shape)
    lists = generator.permuted(np.broadcast_to(np.arange(N_CLASSES), logits.shape), axis=-1)
    length = generator.integers(0, N_CLASSES + 1, size=shape)
    return logits, np.where(np.arange(N_CLASSES) == length[..., None], -1, lists)


def draw_labels(generator, shape):
    logits, _ = draw_indexed(generator, shape)
    return logits, generator.uniform(size=logits.shape)


def draw_vectors(generator, shape, n=3):
    return tuple(generator.normal(size=(*shape, N_CLASSES)) for _ in range(n))


def draw_vector_pair(generator, shape):
    return *draw_vectors(generator, shape, 2), draw_sign(generator, shape)


def binary_cross_entropy(x, y):
    with np.errstate(divide="ignore"):
        return with_ones(-y * np.maximum(np.log(x), -100) - (1 - y) * np.maximum(np.log1p(-x), -100))


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


def hinge_embedding(x, y, *, margin=1.0, kink_width=None):
    return with_ones(np.where(y == 1, x, np.maximum(margin - x, 0)))


def margin_ranking(x, y, target, *, margin=0.0, kink_width=None):
    return with_ones(np.maximum(margin - target * (x - y), 0))


def soft_margin(x, y):
    return with_ones(np.logaddexp(0, -y * x))


def multi_margin(x, target, *, p=1, margin=1.0, class_weights=None, kink_width=None):
    weights = np.ones(x.shape[-1]) if class_weights is None else np.asarray(class_weights, float)
    right = np.take_along_axis(x, target[..., None], -1)
    terms = np.maximum(np.expand_dims(margin, -1) - right + x, 0) ** p
    np.put_along_axis(terms, target[..., None], 0, -1)
    return with_ones(weights[target] * terms.mean(-1))


def multilabel_margin(x, target, *, kink_width=None):
    losses = np.zeros(target.shape[:-1])
    for i in np.ndindex(losses.shape):
        listed = target[i].tolist()
        listed = listed[: listed.index(-1)] if -1 in listed else listed
        wrong = [c for c in range(x.shape[-1]) if c not in listed]
        losses[i] = sum(max(0, 1 - x[i][j] + x[i][c]) for j in listed for c in wrong) / x.shape[-1]
    return with_ones(losses)


def multilabel_soft_margin(x, y, *, class_weights=None):
    weights = np.ones(x.shape[-1]) if class_weights is None else np.asarray(class_weights, float)
    return with_ones((weights * (y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x))).mean(-1))


def distance(x, y, p=2.0, eps=1e-6):
    return np.linalg.norm(x - y + np.expand_dims(eps, -1), ord=p, axis=-1)


def triplet_margin(anchor, positive, negative, *, margin=1.0, p=2.0, eps=1e-6, swap=False, kink_width=None):
    farther = distance(anchor, negative, p, eps)
    if swap:
        farther = np.minimum(farther, distance(positive, negative, p, eps))
    return with_ones(np.maximum(distance(anchor, positive, p, eps) - farther + margin, 0))


def taxicab(x, y):
    """A distance to be given to `triplet_margin_with_distance_loss`: in NumPy and in JAX."""
    return abs(x - y).sum(-1)


def triplet_margin_with_distance(
    anchor, positive, negative, *, distance_function=distance, margin=1.0, swap=False, kink_width=None
):
    farther = distance_function(anchor, negative)
    if swap:
        farther = np.minimum(farther, distance_function(positive, negative))
    return with_ones(np.maximum(distance_function(anchor, positive) - farther + margin, 0))


def cosine(x, y):
    largest = [np.abs(v).max(-1, keepdims=True) for v in (x, y)]
    x, y = (v / np.where(top == 0, 1, top) for v, top in zip((x, y), largest, strict=True))
    lengths = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return (x * y).sum(-1) / np.where(lengths == 0, 1, lengths)


def cosine_embedding(x, y, target, *, margin=0.0, kink_width=None):
    return with_ones(np.where(target == 1, 1 - cosine(x, y), np.maximum(cosine(x, y) - margin, 0)))


def draw_adaptive(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    """Hidden, head, its bias, (down, up) of two tails which begin at classes 2 and 3, and target."""
    shapes = ((*shape, 3), (3, 4), (4,), (3, 2), (2, 1), (3, 1), (1, 2))
    return (*(generator.normal(size=s) for s in shapes), generator.integers(0, N_CLASSES, size=shape))


def pack_adaptive(hidden, head, head_bias, down, up, rarer_down, rarer_up, target):
    """The arguments of the loss."""
    return hidden, jaxloss.AdaptiveSoftmax(head, head_bias, ((down, up), (rarer_down, rarer_up))), target


def adaptive_softmax(hidden, head, head_bias, down, up, rarer_down, rarer_up, target, *, ignore_index=-100):
    def log_softmax(x):
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    shared, first, second = np.split(log_softmax(hidden @ head + head_bias), [2, 3], axis=-1)
    frequent, rarer = log_softmax(hidden @ down @ up), log_softmax(hidden @ rarer_down @ rarer_up)
    log_probabilities = np.concatenate([shared, first + frequent, second + rarer], axis=-1)
    counted = target != ignore_index
    picked = np.take_along_axis(log_probabilities, np.where(counted, target, 0)[..., None], -1)[..., 0]
    return np.where(counted, -picked, 0), counted.astype(float)
