"""What a model trained by `jaxloss.ctc_loss` has read: the labels, or where in the frames known labels are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _ctc as ctc
from jaxloss import _errors
from jaxloss._arrays import Vector, as_index, compute_dtype
from jaxloss._ctc import Decoded
from jaxloss._decorator.batching import vmap_batch
from jaxloss._decorator.notation import Core, Operand, match
from jaxloss._interval import Interval
from jaxloss._log_sums import moved

_CORES: Mapping[str, Core] = {"log_probabilities": ("t", "c"), "target": ("s",)}


def ctc_alignment(
    log_probabilities: Vector,
    target: Vector,
    *,
    input_lengths: Vector | int | None = None,
    target_lengths: Vector | int | None = None,
    blank: int = 0,
) -> Array:
    r"""Which label each frame belongs to on the most probable alignment of a target with the frames.

    $$\hat \pi = \operatorname*{argmax}_{\pi} \sum_t \log p_{t,\, \pi_t}$$

    over the alignments that `jaxloss.ctc_loss` sums over (Viterbi's algorithm, or forced alignment). The probability of
    each class at each frame, over all alignments, is minus the gradient of `ctc_loss`.

    Args:
      log_probabilities: floating `(..., T, C)`: $\log p$.
      target: integer `(..., S)`: the labels, none of them the blank.
      input_lengths: integer, one per sample or one for all, in [0, T]: how many frames exist. None means all.
      target_lengths: integer, one per sample or one for all, in [0, S]: how many labels exist. None means all.
      blank: the class of the blank, in [-C, C).

    Returns:
      Integers `(..., T)`: at each frame the index of a label in the target, in rising order; -1 at a blank, at frames
      that do not exist, and everywhere if there is no alignment.

    Raises:
      ValueError: shapes do not fit, or `blank` is out of range.
      TypeError: `log_probabilities` is not floating, or `target` or a length is not integer.

    Reference:
      Graves, Supervised sequence labelling with recurrent neural networks, 2012, section 7.5.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> probabilities = jnp.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3], [0.3, 0.1, 0.6]])
      >>> print(jaxloss.decoding.ctc_alignment(jnp.log(probabilities), jnp.array([1, 2])))
      [-1  0  0  1]
    """
    values = _arrays("ctc_alignment", log_probabilities, target, input_lengths, target_lengths)
    return _alignment(values, _class("ctc_alignment", blank, values))


@functools.partial(jax.jit, static_argnums=1)
def _alignment(values: Mapping[str, Array], blank: int) -> Array:
    def of_sample(given: Mapping[str, Array]) -> Array:
        n_frames, n_labels = given.get("input_lengths"), given.get("target_lengths")
        log_probabilities = given["log_probabilities"]
        log_probabilities = _within(n_frames, log_probabilities.astype(compute_dtype([log_probabilities])))
        target = _within(n_labels, given["target"])
        states = ctc.States.of(target, n_frames, n_labels)
        path, exists = ctc.best_states(ctc.emissions_of(log_probabilities, target, blank), states)
        is_label = (path % 2 == 1) & exists
        if n_frames is not None:
            is_label &= jnp.arange(path.shape[0], dtype=n_frames.dtype) < n_frames
        return jnp.where(is_label, path // 2, -1)

    return _over_batch("ctc_alignment", of_sample, values)


def ctc_greedy(log_probabilities: Vector, *, input_lengths: Vector | int | None = None, blank: int = 0) -> Decoded:
    r"""The labels of the most probable class at each frame: repetitions merged, then blanks left out.

    $$\hat \pi_t = \operatorname*{argmax}_c \log p_{t,c}$$

    This is the best single alignment, not the best target, which sums over its alignments.

    Args:
      log_probabilities: floating `(..., T, C)`: $\log p$, or logits.
      input_lengths: integer, one per sample or one for all, in [0, T]: how many frames exist. None means all.
      blank: the class of the blank, in [-C, C).

    Returns:
      `Decoded`, a named tuple: `labels`, integer `(..., T)`, filled up with -1, and `lengths`, integer `(...)`.

    Raises:
      ValueError: shapes do not fit, or `blank` is out of range.
      TypeError: `log_probabilities` is not floating, or `input_lengths` is not integer.

    Reference:
      Graves et al., Connectionist temporal classification, ICML 2006, section 3.2, best path decoding.

    Example:
      >>> import jax, jax.numpy as jnp, jaxloss
      >>> logits = jax.nn.one_hot(jnp.array([0, 1, 1, 0, 1, 2]), 3)
      >>> print(*jaxloss.decoding.ctc_greedy(logits))
      [ 1  1  2 -1 -1 -1] 3
    """
    values = _arrays("ctc_greedy", log_probabilities, None, input_lengths, None)
    return _greedy(values, _class("ctc_greedy", blank, values))


@functools.partial(jax.jit, static_argnums=1)
def _greedy(values: Mapping[str, Array], blank: int) -> Decoded:
    n_frames = values["log_probabilities"].shape[-2]

    def of_sample(given: Mapping[str, Array]) -> Decoded:
        best = jnp.argmax(_within(given.get("input_lengths"), given["log_probabilities"]), axis=-1).astype(jnp.int32)
        kept = (best != blank) & (best != moved(best, 1, -1))
        if "input_lengths" in given:
            kept &= jnp.arange(n_frames, dtype=given["input_lengths"].dtype) < given["input_lengths"]
        places = jnp.where(kept, jnp.cumsum(kept) - 1, n_frames)
        labels = jnp.full(n_frames, -1, jnp.int32).at[places].set(best, mode="drop")
        return Decoded(labels, jnp.sum(kept, dtype=jnp.int32))

    return _over_batch("ctc_greedy", of_sample, values)


def _within(length: Array | None, x: Array) -> Array:
    """The array with 0 beyond a length of its first axis."""
    if length is None:
        return x
    index = jnp.arange(x.shape[0], dtype=length.dtype)
    return jnp.where(jnp.expand_dims(index, range(1, x.ndim)) < length, x, 0)


def _arrays(function: str, log_probabilities: Any, target: Any, n_frames: Any, n_labels: Any) -> dict[str, Array]:
    """The arrays that are given, checked and cut off from differentiation."""
    name = f"decoding.{function}"
    scores = _errors.as_array(name, "log_probabilities", log_probabilities, (jnp.floating,), "floating numbers")
    if scores.ndim < 2:
        raise ValueError(f"{name}: log_probabilities has shape {scores.shape} but one sequence has shape (t, c)")
    values = {"log_probabilities": lax.stop_gradient(scores)}
    integers = {"target": target, "input_lengths": n_frames, "target_lengths": n_labels}
    for argument, value in integers.items():
        if value is not None:
            takes = "integer class indices" if argument == "target" else "integer lengths"
            values[argument] = as_index(_errors.as_array(name, argument, value, (jnp.integer,), takes))
    return values


def _class(function: str, blank: int, values: Mapping[str, Array]) -> int:
    n_classes = values["log_probabilities"].shape[-1]
    domain = Interval(f"[{-n_classes}, {n_classes})")
    return _errors.as_integer(f"decoding.{function}", "blank", blank, domain) % n_classes


def _over_batch(function: str, of_sample: Callable[[Mapping[str, Array]], Any], values: Mapping[str, Array]) -> Any:
    roles = {"log_probabilities": "prediction"}
    operands = [
        Operand.of(f"decoding.{function}", name, value.shape, _CORES.get(name, ()), role=roles.get(name, "index"))
        for name, value in values.items()
    ]
    matched = match(f"decoding.{function}", operands, may_be_empty=("t", "s"))
    return vmap_batch(of_sample, operands, matched)(dict(values))
