"""Losses of sets in NumPy, as loops over the items."""

import numpy as np

from tests.references import N_CLASSES


def unit(x):
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(length == 0, 1, length)


def log_sum_exp(x):
    x = np.asarray(x)
    return np.max(x) + np.log(np.sum(np.exp(x - np.max(x)))) if x.size else -np.inf


def softplus(x):
    return np.logaddexp(0, x)


def draw_pairs(generator, shape):
    """Queries and keys of sets whose items are along the last of the axes."""
    queries = generator.normal(size=(*shape, 4))
    return queries, queries + generator.normal(size=queries.shape)


def draw_labelled(generator, shape):
    return generator.normal(size=(*shape, 4)), generator.integers(0, 3, size=shape)


def info_nce(queries, keys, where, *, temperature=0.07, symmetric=False, normalize=True):
    s = similarities(queries, keys, normalize) / temperature
    items, losses = np.flatnonzero(where), np.zeros(len(s))
    for i in items:
        losses[i] = log_sum_exp(s[i, items]) - s[i, i]
        if symmetric:
            losses[i] = (losses[i] + log_sum_exp(s[items, i]) - s[i, i]) / 2
    return losses, where.astype(float)


def siglip(queries, keys, where, *, scale=10.0, bias=-10.0, normalize=True):
    logits = scale * similarities(queries, keys, normalize) + bias
    items, losses = np.flatnonzero(where), np.zeros(len(logits))
    for i in items:
        losses[i] = sum(softplus(-logits[i, j] if i == j else logits[i, j]) for j in items)
    return losses, where.astype(float)


def similarities(first, second, normalize):
    return unit(first) @ unit(second).T if normalize else first @ second.T


def distances(first, second, normalize):
    del normalize
    return np.array([[np.linalg.norm(x - y) for y in second] for x in first])


def labelled(of_item, pairwise=similarities):
    """A loss of a set from that of an item, a function of (to its positives, to its negatives, options)."""

    def reference(embeddings, labels, where, *, normalize=True, **options):
        values = pairwise(embeddings, embeddings, normalize)
        losses, normalisers = np.zeros(len(values)), np.zeros(len(values))
        items = np.flatnonzero(where)
        for i in items:
            positives = [values[i, j] for j in items if j != i and labels[j] == labels[i]]
            negatives = [values[i, j] for j in items if labels[j] != labels[i]]
            losses[i], normalisers[i] = of_item(np.array(positives), np.array(negatives), **options)
        return losses, normalisers

    return reference


def _ntxent(positives, negatives, temperature=0.07):
    rest = log_sum_exp(negatives / temperature)
    return sum(softplus(rest - s / temperature) for s in positives), len(positives)


def _supcon(positives, negatives, temperature=0.07):
    if not positives.size:
        return 0, 0
    total = log_sum_exp(np.concatenate([positives, negatives]) / temperature)
    return np.mean(total - positives / temperature), 1


def _multi_similarity(positives, negatives, alpha=2.0, beta=50.0, base=0.5):
    near = softplus(log_sum_exp(-alpha * (positives - base))) / alpha
    return near + softplus(log_sum_exp(beta * (negatives - base))) / beta, 1


def _circle(positives, negatives, margin=0.4, gamma=80.0):
    if not (positives.size and negatives.size):
        return 0, 0
    pull = -gamma * np.maximum(1 + margin - positives, 0) * (positives - 1 + margin)
    push = gamma * np.maximum(negatives + margin, 0) * (negatives - margin)
    return softplus(log_sum_exp(pull) + log_sum_exp(push)), 1


def _batch_hard(positives, negatives, margin=1.0, soft=False, kink_width=None):
    if not (positives.size and negatives.size):
        return 0, 0
    gap = positives.max() - negatives.min()
    return softplus(gap) if soft else max(gap + margin, 0), 1


def _semi_hard(positives, negatives, margin=1.0, kink_width=None):
    if not negatives.size:
        return 0, 0
    total = 0.0
    for d in positives:
        farther = negatives[negatives > d]
        total += max(d - (farther.min() if farther.size else negatives.max()) + margin, 0)
    return total, len(positives)


ntxent, supcon, multi_similarity, circle = map(labelled, (_ntxent, _supcon, _multi_similarity, _circle))
batch_hard, semi_hard = labelled(_batch_hard, distances), labelled(_semi_hard, distances)


def held_circle(embeddings, labels, where, *, held, margin=0.4, gamma=80.0, normalize=True):
    """The circle loss with constant weights of pairs, those at the embeddings `held`."""
    s, at = similarities(embeddings, embeddings, normalize), similarities(held, held, normalize)
    losses = np.zeros(len(s))
    items = np.flatnonzero(where)
    for i in items:
        positives = [j for j in items if j != i and labels[j] == labels[i]]
        negatives = [j for j in items if labels[j] != labels[i]]
        if positives and negatives:
            pull = [-gamma * max(1 + margin - at[i, j], 0) * (s[i, j] - 1 + margin) for j in positives]
            push = [gamma * max(at[i, j] + margin, 0) * (s[i, j] - margin) for j in negatives]
            losses[i] = softplus(log_sum_exp(pull) + log_sum_exp(push))
    return losses, None


def draw_proxies(generator, shape):
    """Embeddings of sets, proxies, and targets."""
    target = generator.integers(0, N_CLASSES, size=(*shape, 4))
    return generator.normal(size=(*shape, 4, 3)), generator.normal(size=(N_CLASSES, 3)), target


def proxy_anchor(embeddings, proxies, target, *, margin=0.1, alpha=32.0, normalize=True, valid=None, chunk_size=None):
    del chunk_size
    *shape, n, _ = embeddings.shape
    valid = np.broadcast_to(True if valid is None else valid, (*shape, n))
    margin, alpha = np.broadcast_to(margin, shape), np.broadcast_to(alpha, shape)
    losses = np.zeros(shape)
    for at in np.ndindex(*shape):
        s, there, y = similarities(proxies, embeddings[at], normalize), valid[at], target[at]
        used = 0
        pulls = pushes = 0.0
        for c in range(len(proxies)):
            positives, negatives = s[c, there & (y == c)], s[c, there & (y != c)]
            used += bool(positives.size)
            pulls += softplus(log_sum_exp(-alpha[at] * (positives - margin[at])))
            pushes += softplus(log_sum_exp(alpha[at] * (negatives + margin[at])))
        losses[at] = pulls / max(used, 1) + pushes / len(proxies)
    return losses, valid.any(-1).astype(float)
