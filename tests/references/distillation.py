"""Losses of knowledge distillation."""

import numpy as np

from tests.references import N_CLASSES, Arrays, with_ones
from tests.references.large_output import draw_layer


def draw_two_logits(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return tuple(3 * generator.normal(size=(2, *shape, N_CLASSES)))


def draw_two_layers(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    """A student of three features and a teacher of two."""
    hidden, kernel, _ = draw_layer(generator, shape)
    return hidden, kernel, generator.normal(size=(*shape, 2)), 2 * generator.normal(size=(2, N_CLASSES))


def draw_layer_and_logits(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    hidden, kernel, _ = draw_layer(generator, shape)
    return hidden, kernel, 3 * generator.normal(size=(*shape, N_CLASSES))


def draw_layer_and_list(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    """Two different classes of each sample, and a part of the mass."""
    hidden, kernel, target = draw_layer(generator, shape)
    probabilities = generator.dirichlet(np.ones(3), size=shape)[..., :2]
    other = (target + generator.integers(1, N_CLASSES, size=shape)) % N_CLASSES
    return hidden, kernel, np.log(probabilities), np.stack([target, other], axis=-1)


def column(option):
    """A number, or one per sample, to be combined with rows of classes."""
    return np.expand_dims(np.asarray(option, float), -1)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def divergence(log_p, log_q):
    p = np.exp(log_p)
    with np.errstate(invalid="ignore"):
        return np.where(p == 0, 0, p * (log_p - log_q)).sum(-1)


def distillation(x, t, *, temperature=1.0, reverse=False):
    student, teacher = (log_softmax(each / column(temperature)) for each in (x, t))
    pair = (student, teacher) if reverse else (teacher, student)
    return with_ones(np.square(temperature) * divergence(*pair))


def jensen_shannon(x, t, *, beta=0.5, temperature=1.0):
    student, teacher = (log_softmax(each / column(temperature)) for each in (x, t))
    with np.errstate(invalid="ignore"):
        ahead = np.where(student == teacher, 0, student - teacher)
    share = np.where(ahead > 0, column(beta), 1 - column(beta))  # of the smaller one
    mixture = np.maximum(teacher, student) + np.log1p(share * np.expm1(-abs(ahead)))
    return with_ones(beta * divergence(teacher, mixture) + (1 - beta) * divergence(student, mixture))


def capped(x, cap):
    return x if cap is None else column(cap) * np.tanh(x / column(cap))


def logits(hidden, kernel, bias=None):
    return hidden @ kernel + (0 if bias is None else np.asarray(bias, float))


def teacher_of_layer(hidden, kernel, teacher_hidden, teacher_kernel, *, teacher_bias=None, **options):
    return logits(teacher_hidden, teacher_kernel, teacher_bias)


def linear(hidden, kernel, *teacher, held=None, bias=None, teacher_bias=None, logit_softcap=None, chunk_size=None, **o):
    t = teacher_of_layer(hidden, kernel, *teacher, teacher_bias=teacher_bias) if held is None else held
    return distillation(capped(logits(hidden, kernel, bias), logit_softcap), capped(t, logit_softcap), **o)


def last_array(*arrays, **options):
    return arrays[-1]


def from_logits(hidden, kernel, t, *, held=None, bias=None, logit_softcap=None, chunk_size=None, **options):
    t = t if held is None else held
    return distillation(capped(logits(hidden, kernel, bias), logit_softcap), t, **options)


def listed(hidden, kernel, log_p, classes, **options):
    return log_p


def from_top_k(
    hidden, kernel, log_p, classes, *, held=None, temperature=1.0, bias=None, logit_softcap=None, chunk_size=None
):
    log_p = log_p if held is None else held
    log_q = log_softmax(capped(logits(hidden, kernel, bias), logit_softcap) / column(temperature))
    is_listed = ((classes[..., None] == np.arange(N_CLASSES)) & (log_p > -np.inf)[..., None]).any(-2)
    rest = 1 - np.exp(log_p).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_others = np.logaddexp.reduce(np.where(is_listed, -np.inf, log_q), -1)
        remainder = np.where(rest > 0, rest * (np.log(np.maximum(rest, 0)) - log_others), 0)
    return with_ones(np.square(temperature) * (divergence(log_p, np.take_along_axis(log_q, classes, -1)) + remainder))
