"""One row a loss: every generic test of `test_registry.py` runs over every row."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import jaxloss
from tests import references as ref
from tests.references import N_CLASSES, Arrays


@dataclasses.dataclass(frozen=True)
class Row:
    """A loss and what its tests have to know of it.

    Args:
      function: the loss.
      cores: the number of core axes of each array.
      draw: (generator, batch shape) to valid float64 or integer arrays.
      reference: (arrays, options) to the losses and their normalisers, in NumPy, the class axis last.
      extremes: (first numbers, second numbers, options) to arrays within the domain that hold them, one sample a pair.
      options: sets of options that differ in what they compile to; arrays of them are made for any batch shape.
      numbers: options that are traced numbers, with ten values other than the default.
      bad_numbers: such options with Python numbers out of range.
      bad_static: the same for options that are compiled in.
      has_indices: whether the target is one class index.
      bad_data: for arrays with a domain, by name, a value outside it and what the data check says it lies in.
      kinked: options with which the loss has kinks along its first array.
      convex: whether it is convex in that array.
      shared: positions of arrays without batch axes.
      forward_mode: whether it can be differentiated in forward mode.
      pack: makes the arguments of the loss of the arrays that are drawn, where these are not the same.
      in_torch: whether PyTorch has it, and its values are recorded.
      scale: below which the loss's rounding errors do not shrink with its inputs.
    """

    function: Callable[..., Any]
    cores: tuple[int, ...]
    draw: Callable[[np.random.Generator, tuple[int, ...]], Arrays]
    reference: Callable[..., tuple[np.ndarray, np.ndarray]]
    extremes: Callable[[np.ndarray, np.ndarray, Mapping[str, Any]], Arrays]
    options: tuple[Mapping[str, Any], ...] = ({},)
    numbers: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    bad_numbers: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    bad_static: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    has_indices: bool = False
    bad_data: Mapping[str, tuple[float, str]] = dataclasses.field(default_factory=dict)
    kinked: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    convex: bool = True
    shared: tuple[int, ...] = ()
    forward_mode: bool = True
    pack: Callable[..., tuple[Any, ...]] = lambda *arrays: arrays
    in_torch: bool = True
    scale: float = 0.0

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def has_axis(self) -> bool:
        return "axis" in inspect.signature(self.function).parameters

    def batched(self, function, arrays):
        """The arrays, of which the function is applied to those that have batch axes."""
        return tuple(a if i in self.shared else function(a) for i, a in enumerate(arrays))

    def loss(self, *arrays, **options):
        """The loss of drawn arrays, with the first set of options where others are not given."""
        return self.call(*self.pack(*arrays), **options)

    def call(self, *arguments, **options):
        """The same with the arguments of the loss itself."""
        return self.function(*arguments, **{**self.options[0], **options})

    def expected(self, *arrays, **options):
        """The reference, likewise."""
        return self.reference(*arrays, **{**self.options[0], **options})


def _elementwise(a, b, options):
    return a, b


def _with_probability(a, b, options):
    return a, np.clip(abs(b), 0, 1)


def _two_probabilities(a, b, options):
    return np.clip(abs(a), 0, 1), np.clip(abs(b), 0, 1)


def _log_probabilities(a, b, options):
    return -abs(a), -abs(b) if options.get("log_target") else np.clip(abs(b), 0, 1)


def _rates(a, b, options):
    return a if options.get("log_input", True) else abs(a), abs(b)


def _normals(a, b, options):
    return a, b, abs(np.roll(b, 1))


def _signs(a):
    return np.where(np.arange(len(a)) % 2, 1, -1).astype(a.dtype)


def _with_sign(a, b, options):
    return a, _signs(a)


def _pair_with_sign(a, b, options):
    return a, b, _signs(a)


def _logits(a, b):
    zero = np.zeros_like(a)
    return np.stack([zero, zero, a, b, zero], axis=-1)


def _classes(a):
    return (np.arange(len(a)) % N_CLASSES).astype(np.int32)


def _indexed(a, b, options):
    return _logits(a, b), _classes(a)


def _one_hot(a, b, options):
    return _logits(a, b), np.eye(N_CLASSES, dtype=a.dtype)[_classes(a)]


def _listed(a, b, options):
    lists = (_classes(a)[:, None] + np.arange(N_CLASSES, dtype=np.int32)) % N_CLASSES
    return _logits(a, b), np.where(np.arange(N_CLASSES) == 2, -1, lists).astype(np.int32)


def _triplets(a, b, options):
    return _logits(a, b), _logits(b, a), np.roll(_logits(a, -b), 1, axis=-1)


def _vector_pair(a, b, options):
    return _logits(a, b), np.roll(_logits(b, a), 1, axis=-1), _signs(a)


_KERNEL = np.array([[1, 0, 0, 0, 0], [0, 1, 0, -1, 0], [0.5, 0, 0, 0, -2]])


def _layer(a, b, options):
    return np.stack([a, b, np.zeros_like(a)], axis=-1), _KERNEL.astype(a.dtype), _classes(a)


def _adaptive(a, b, options):
    hidden, kernel, target = _layer(a, b, options)
    head, bias, down = kernel[:, :4], kernel[0, 1:], kernel[:, 1:3]
    return hidden, head, bias, down, down[:2, :1], kernel[:, :1], kernel[:1, :2], target


_TEN = tuple(np.linspace(0.11, 0.93, 10).tolist())
_CLASS_WEIGHTS = np.array([0.5, 2.0, 1.0, 0.0, 1.5], np.float32)
_SIGN = {"target": (0.0, "{-1, 1}")}
_PROBABILITY = {"target": (1.5, "[0, 1]")}
_INDEX = {"target": (N_CLASSES + 3, f"[0, {N_CLASSES})")}
_KINK = {"kink_width": _TEN}
_BAD_KINK = {"kink_width": (-0.5, float("nan"))}

REGISTRY = (
    Row(jaxloss.mse_loss, (0, 0), ref.draw_regression, ref.mse, _elementwise),
    Row(
        jaxloss.l1_loss,
        (0, 0),
        ref.draw_regression,
        ref.l1,
        _elementwise,
        options=({}, {"kink_width": 0.0}),
        numbers=_KINK,
        bad_numbers=_BAD_KINK,
    ),
    Row(
        jaxloss.smooth_l1_loss,
        (0, 0),
        ref.draw_regression,
        ref.smooth_l1,
        _elementwise,
        options=({}, {"beta": 0}, {"beta": 2.5}),
        numbers={"beta": _TEN} | _KINK,
        kinked={"beta": 0},
        bad_numbers={"beta": (-1, float("inf"))} | _BAD_KINK,
    ),
    Row(
        jaxloss.huber_loss,
        (0, 0),
        ref.draw_regression,
        ref.huber,
        _elementwise,
        options=({}, {"delta": 0.3}),
        numbers={"delta": _TEN},
        bad_numbers={"delta": (0, -2.0)},
    ),
    Row(
        jaxloss.poisson_nll_loss,
        (0, 0),
        ref.draw_count,
        ref.poisson_nll,
        _rates,
        options=({}, {"full": True}),
        bad_data={"target": (-1.0, "[0, inf)")},
    ),
    Row(
        jaxloss.poisson_nll_loss,
        (0, 0),
        ref.draw_rate,
        ref.poisson_nll,
        _rates,
        options=({"log_input": False}, {"log_input": False, "full": True, "eps": 0.01}),
        bad_numbers={"eps": (0.0,)},
        bad_data={"prediction": (-1.0, "[0, inf)")},
    ),
    Row(
        jaxloss.gaussian_nll_loss,
        (0, 0, 0),
        ref.draw_normal,
        ref.gaussian_nll,
        _normals,
        options=({}, {"full": True, "eps": 0.5}),
        numbers={"eps": _TEN},
        bad_numbers={"eps": (0.0, -1.0)},
        bad_data={"variance": (-1.0, "[0, inf)")},
    ),
    Row(jaxloss.kl_div, (0, 0), ref.draw_log_and_probability, ref.kl_div, _log_probabilities, bad_data=_PROBABILITY),
    Row(
        jaxloss.kl_div,
        (0, 0),
        ref.draw_log_and_log,
        ref.kl_div,
        _log_probabilities,
        options=({"log_target": True},),
        bad_data={"log_probabilities": (0.5, "[-inf, 0]"), "target": (0.5, "[-inf, 0]")},
    ),
    Row(
        jaxloss.binary_cross_entropy,
        (0, 0),
        ref.draw_probability,
        ref.binary_cross_entropy,
        _two_probabilities,
        bad_data={"prediction": (-0.5, "[0, 1]")} | _PROBABILITY,
    ),
    Row(
        jaxloss.binary_cross_entropy_with_logits,
        (0, 0),
        ref.draw_binary,
        ref.bce_with_logits,
        _with_probability,
        options=({}, {"pos_weight": 3.0}),
        numbers={"pos_weight": _TEN},
        bad_numbers={"pos_weight": (-1.0,)},
        bad_data=_PROBABILITY,
    ),
    Row(
        jaxloss.nll_loss,
        (1, 0),
        ref.draw_log_probabilities,
        ref.nll,
        _indexed,
        options=({}, {"class_weights": _CLASS_WEIGHTS}, {"ignore_index": 2}),
        has_indices=True,
        bad_data=_INDEX,
    ),
    Row(
        jaxloss.cross_entropy,
        (1, 0),
        ref.draw_indexed,
        ref.cross_entropy,
        _indexed,
        options=(
            {},
            {"class_weights": _CLASS_WEIGHTS, "label_smoothing": 0.2},
            {"ignore_index": 1, "label_smoothing": 1.0},
        ),
        numbers={"label_smoothing": _TEN},
        bad_numbers={"label_smoothing": (2, -0.1)},
        has_indices=True,
        bad_data=_INDEX,
    ),
    Row(
        jaxloss.cross_entropy,
        (1, 1),
        ref.draw_soft,
        ref.cross_entropy,
        _one_hot,
        options=({}, {"class_weights": _CLASS_WEIGHTS, "label_smoothing": 0.2}),
        numbers={"label_smoothing": _TEN},
        bad_numbers={"label_smoothing": (2,)},
        bad_data=_PROBABILITY,
    ),
    Row(
        jaxloss.linear_cross_entropy,
        (1, 2, 0),
        ref.draw_layer,
        ref.linear_cross_entropy,
        _layer,
        options=(
            {},
            {"chunk_size": 5, "bias": _CLASS_WEIGHTS, "class_weights": _CLASS_WEIGHTS, "label_smoothing": 0.2},
            {"chunk_size": 4, "ignore_index": 1, "z_loss": 0.1, "logit_softcap": 2.0},
        ),
        numbers={"label_smoothing": _TEN, "z_loss": _TEN, "logit_softcap": _TEN},
        bad_numbers={"label_smoothing": (2, -0.1), "z_loss": (-1,), "logit_softcap": (0,)},
        bad_static={"chunk_size": (0,)},
        has_indices=True,
        bad_data=_INDEX,
        shared=(1,),
        forward_mode=False,
    ),
    Row(
        jaxloss.linear_cross_entropy,
        (1, 2, 1),
        ref.draw_soft_layer,
        ref.linear_cross_entropy,
        lambda a, b, options: (*_layer(a, b, options)[:2], np.eye(N_CLASSES, dtype=a.dtype)[_classes(a)]),
        options=({}, {"chunk_size": 7, "class_weights": _CLASS_WEIGHTS, "label_smoothing": 0.2, "z_loss": 0.1}),
        bad_data=_PROBABILITY,
        shared=(1,),
        forward_mode=False,
    ),
    Row(
        jaxloss.adaptive_log_softmax_with_loss,
        (1, 2, 1, 2, 2, 2, 2, 0),
        ref.draw_adaptive,
        ref.adaptive_softmax,
        _adaptive,
        options=({}, {"ignore_index": 1}),
        has_indices=True,
        bad_data=_INDEX,
        shared=(1, 2, 3, 4, 5, 6),
        forward_mode=False,
        pack=ref.pack_adaptive,
    ),
    Row(
        jaxloss.hinge_embedding_loss,
        (0, 0),
        ref.draw_decision,
        ref.hinge_embedding,
        _with_sign,
        options=({}, {"margin": -0.5, "kink_width": 0.0}),
        numbers={"margin": _TEN} | _KINK,
        bad_numbers=_BAD_KINK,
        bad_data=_SIGN,
    ),
    Row(
        jaxloss.margin_ranking_loss,
        (0, 0, 0),
        ref.draw_ranking,
        ref.margin_ranking,
        _pair_with_sign,
        options=({}, {"margin": 0.7, "kink_width": 0.0}),
        numbers={"margin": _TEN} | _KINK,
        bad_numbers=_BAD_KINK,
        bad_data=_SIGN,
    ),
    Row(jaxloss.soft_margin_loss, (0, 0), ref.draw_decision, ref.soft_margin, _with_sign, bad_data=_SIGN),
    Row(
        jaxloss.multi_margin_loss,
        (1, 0),
        ref.draw_indexed,
        ref.multi_margin,
        _indexed,
        options=({}, {"p": 2, "class_weights": _CLASS_WEIGHTS, "margin": 0.5}, {"kink_width": 0.0}),
        numbers={"margin": _TEN} | _KINK,
        bad_numbers=_BAD_KINK,
        bad_static={"p": (3, 0)},
        has_indices=True,
        bad_data=_INDEX,
    ),
    Row(
        jaxloss.multilabel_margin_loss,
        (1, 1),
        ref.draw_list,
        ref.multilabel_margin,
        _listed,
        options=({}, {"kink_width": 0.0}),
        numbers=_KINK,
        bad_numbers=_BAD_KINK,
        bad_data={"target": (-2, f"[-1, {N_CLASSES})")},
    ),
    Row(
        jaxloss.multilabel_soft_margin_loss,
        (1, 1),
        ref.draw_labels,
        ref.multilabel_soft_margin,
        _one_hot,
        options=({}, {"class_weights": _CLASS_WEIGHTS}),
        bad_data=_PROBABILITY,
    ),
    Row(
        jaxloss.triplet_margin_loss,
        (1, 1, 1),
        ref.draw_vectors,
        ref.triplet_margin,
        _triplets,
        options=(
            {},
            {"swap": True, "margin": 0.3, "eps": 0.0},
            {"p": 1.0, "kink_width": 0.0},
            {"p": 1.5, "eps": 0.0},
            {"p": 3.0},
            {"p": float("inf"), "swap": True},
        ),
        numbers={"margin": _TEN, "eps": _TEN} | _KINK,
        bad_numbers={"eps": (-1e-6,)} | _BAD_KINK,
        bad_static={"p": (0.5, -1.0)},
        convex=False,
    ),
    Row(
        jaxloss.triplet_margin_with_distance_loss,
        (1, 1, 1),
        ref.draw_vectors,
        ref.triplet_margin_with_distance,
        _triplets,
        options=({}, {"swap": True}, {"distance_function": ref.taxicab, "margin": 0.4}),
        numbers={"margin": _TEN} | _KINK,
        bad_numbers=_BAD_KINK,
        convex=False,
    ),
    Row(
        jaxloss.cosine_embedding_loss,
        (1, 1, 0),
        ref.draw_vector_pair,
        ref.cosine_embedding,
        _vector_pair,
        options=({}, {"margin": 0.25, "kink_width": 0.0}),
        numbers={"margin": _TEN} | _KINK,
        bad_numbers=_BAD_KINK,
        bad_data=_SIGN,
        convex=False,
        scale=1.0,
    ),
)
