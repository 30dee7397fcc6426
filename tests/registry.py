"""One row a loss: how to draw valid arguments, which options to try, and its value in NumPy's float64.

Every generic test of `test_registry.py` runs over every row.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import jaxloss

Arrays = tuple[np.ndarray, ...]
N_CLASSES = 5


@dataclasses.dataclass(frozen=True)
class Row:
    """A loss and what its tests have to know of it.

    Args:
      function: the loss.
      cores: the number of core axes of each array.
      draw: (generator, batch shape) to valid float64 or integer arrays.
      reference: (arrays, options) to the losses and their normalisers, in NumPy, the class axis last.
      options: sets of options that differ in what they compile to; arrays of them are made for any batch shape.
      numbers: options that are traced numbers, with ten values other than the default.
      bad_numbers: options with Python numbers out of range.
    """

    function: Callable[..., Any]
    cores: tuple[int, ...]
    draw: Callable[[np.random.Generator, tuple[int, ...]], Arrays]
    reference: Callable[..., tuple[np.ndarray, np.ndarray]]
    options: tuple[Mapping[str, Any], ...] = ({},)
    numbers: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    bad_numbers: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def has_classes(self) -> bool:
        return self.cores[0] == 1

    @property
    def has_indices(self) -> bool:
        return self.has_classes and self.cores[1] == 0


def _ones(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return losses, np.ones_like(losses)


def _draw_regression(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return generator.normal(size=shape) * 2, generator.normal(size=shape)


def _draw_binary(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return generator.normal(size=shape) * 3, generator.uniform(size=shape)


def _draw_indexed(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    return generator.normal(size=(*shape, N_CLASSES)) * 3, generator.integers(0, N_CLASSES, size=shape)


def _draw_log_probabilities(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    logits, target = _draw_indexed(generator, shape)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True)), target


def _draw_soft(generator: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
    logits, _ = _draw_indexed(generator, shape)
    return logits, generator.dirichlet(np.ones(N_CLASSES), size=shape)


def _mse(x, y):
    return _ones((x - y) ** 2)


def _l1(x, y, *, kink_width=None):
    return _ones(np.abs(x - y))


def _smooth_l1(x, y, *, beta=1.0, kink_width=None):
    size = np.abs(x - y)
    if beta == 0:
        return _ones(size)
    return _ones(np.where(size < beta, size**2 / (2 * beta), size - beta / 2))


def _huber(x, y, *, delta=1.0):
    size = np.abs(x - y)
    return _ones(np.where(size < delta, size**2 / 2, delta * (size - delta / 2)))


def _bce_with_logits(x, y, *, pos_weight=1.0):
    return _ones(pos_weight * y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x))


def _nll(log_probabilities, target, *, class_weights=None, ignore_index=-100):
    weights = np.ones(log_probabilities.shape[-1]) if class_weights is None else np.asarray(class_weights, float)
    counted = target != ignore_index
    index = np.where(counted, target, 0)
    picked = np.take_along_axis(log_probabilities, index[..., None], -1)[..., 0]
    normaliser = np.where(counted, weights[index], 0)
    return -picked * normaliser, normaliser


def _cross_entropy(x, target, *, class_weights=None, ignore_index=-100, label_smoothing=0.0):
    log_probabilities = x - np.logaddexp.reduce(x, -1, keepdims=True)
    weights = np.ones(x.shape[-1]) if class_weights is None else np.asarray(class_weights, float)
    smooth = -(log_probabilities * weights).mean(-1)
    if np.issubdtype(target.dtype, np.integer):
        hard, normaliser = _nll(log_probabilities, target, class_weights=class_weights, ignore_index=ignore_index)
        smooth = np.where(target == ignore_index, 0, smooth)
    else:
        hard = -(log_probabilities * weights * target).sum(-1)
        normaliser = np.ones_like(hard)
    return (1 - label_smoothing) * hard + label_smoothing * smooth, normaliser


_TEN = tuple(np.linspace(0.11, 0.93, 10).tolist())
_CLASS_WEIGHTS = np.array([0.5, 2.0, 1.0, 0.0, 1.5], np.float32)

REGISTRY = (
    Row(jaxloss.mse_loss, (0, 0), _draw_regression, _mse),
    Row(
        jaxloss.l1_loss,
        (0, 0),
        _draw_regression,
        _l1,
        options=({}, {"kink_width": 0.0}),
        numbers={"kink_width": _TEN},
        bad_numbers={"kink_width": (-1.0, float("nan"))},
    ),
    Row(
        jaxloss.smooth_l1_loss,
        (0, 0),
        _draw_regression,
        _smooth_l1,
        options=({}, {"beta": 0}, {"beta": 2.5}),
        numbers={"beta": _TEN, "kink_width": _TEN},
        bad_numbers={"beta": (-1, float("inf")), "kink_width": (-0.5,)},
    ),
    Row(
        jaxloss.huber_loss,
        (0, 0),
        _draw_regression,
        _huber,
        options=({}, {"delta": 0.3}),
        numbers={"delta": _TEN},
        bad_numbers={"delta": (0, -2.0)},
    ),
    Row(
        jaxloss.binary_cross_entropy_with_logits,
        (0, 0),
        _draw_binary,
        _bce_with_logits,
        options=({}, {"pos_weight": 3.0}),
        numbers={"pos_weight": _TEN},
        bad_numbers={"pos_weight": (-1.0,)},
    ),
    Row(
        jaxloss.nll_loss,
        (1, 0),
        _draw_log_probabilities,
        _nll,
        options=({}, {"class_weights": _CLASS_WEIGHTS}, {"ignore_index": 2}),
    ),
    Row(
        jaxloss.cross_entropy,
        (1, 0),
        _draw_indexed,
        _cross_entropy,
        options=(
            {},
            {"class_weights": _CLASS_WEIGHTS, "label_smoothing": 0.2},
            {"ignore_index": 1, "label_smoothing": 1.0},
        ),
        numbers={"label_smoothing": _TEN},
        bad_numbers={"label_smoothing": (2, -0.1)},
    ),
    Row(
        jaxloss.cross_entropy,
        (1, 1),
        _draw_soft,
        _cross_entropy,
        options=({}, {"class_weights": _CLASS_WEIGHTS, "label_smoothing": 0.2}),
        numbers={"label_smoothing": _TEN},
        bad_numbers={"label_smoothing": (2,)},
    ),
)
