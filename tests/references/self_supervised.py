"""Losses of two views of the same items."""

import numpy as np

N, D = 4, 3


def draw_views(generator, shape):
    first = generator.normal(size=(*shape, N, D)) * 0.7
    return first, first + generator.normal(size=(*shape, N, D)) * 0.5


def extreme_views(a, b, options):
    """Features that hold the numbers: one beside zeros, one at two items, and one that is nearly the same in both."""
    zero, one = np.zeros_like(a), np.ones_like(a)
    items = (a, b, one), (zero, zero, zero), (b, a, zero), (zero, a, one)
    first = np.stack([np.stack(each, -1) for each in items], -2)
    return first, np.roll(first, 1, axis=-2)


def of_each_set(loss):
    """A function of arrays with batch axes, from one of (first, second) of one set and of numbers by name."""

    def losses(first, second, *, valid=None, axis_name=None, **options):
        shape = first.shape[:-2]
        numbers = {name: np.broadcast_to(number, shape) for name, number in options.items()}
        exists = np.broadcast_to(True if valid is None else valid, first.shape[:-1])
        found = np.zeros((2, *shape))
        for i in np.ndindex(shape):
            if exists[i].any():
                own = {name: float(number[i]) for name, number in numbers.items()}
                found[(slice(None), *i)] = loss(first[i][exists[i]], second[i][exists[i]], **own), 1
        return found[0], found[1]

    return losses


def correlation(x, y):
    """The correlation of two features, 0 if one of them has no variance."""
    if np.all(x == x[0]) or np.all(y == y[0]):
        return 0.0
    # In units of their ranges, so that squares of large numbers do not overflow.
    x, y = (each / np.ptp(each) - np.mean(each / np.ptp(each)) for each in (x, y))
    return (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())


@of_each_set
def barlow_twins(first, second, *, off_diagonal=5e-3):
    loss = 0.0
    for i in range(first.shape[1]):
        for j in range(first.shape[1]):
            c = correlation(first[:, i], second[:, j])
            loss += (1 - c) ** 2 if i == j else off_diagonal * c**2
    return loss


@of_each_set
def vicreg(first, second, *, similarity=25.0, variance=25.0, covariance=1.0, eps=1e-4):
    n, d = first.shape
    loss = similarity * ((first - second) ** 2).mean()
    for x in (first, second):
        x = x - x.mean(axis=0)
        cov = np.array([[(x[:, i] * x[:, j]).sum() / max(n - 1, 1) for j in range(d)] for i in range(d)])
        loss += variance / 2 * np.mean([max(0, 1 - np.sqrt(cov[i, i] + eps)) for i in range(d)])
        loss += covariance * sum(cov[i, j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    return loss
