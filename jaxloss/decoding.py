"""What a model trained by `jaxloss.ctc_loss` has read: the labels, or where in the frames known labels are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec

from jaxloss import _ctc as ctc
from jaxloss import _errors
from jaxloss._arrays import Vector, as_index, compute_dtype, is_within, narrow_index
from jaxloss._ctc import Decoded
from jaxloss._decorator.batching import vmap_batch
from jaxloss._decorator.masks import zero_unless
from jaxloss._decorator.notation import Core, Match, Operand, match
from jaxloss._errors import as_class
from jaxloss._log_sums import moved
from jaxloss._sharding import by_automatic_axes, explicit_mesh
from jaxloss._sizes import is_symbolic

_CORES: Mapping[str, Core] = {"log_probabilities": ("t", "c"), "target": ("s",)}
_LENGTHS = {"log_probabilities": "input_lengths", "target": "target_lengths"}
_ROLES = {"log_probabilities": "prediction"} | dict.fromkeys(("target", "input_lengths", "target_lengths"), "index")


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
      that do not exist, and everywhere if there is no alignment, or if a label or a length is out of range.

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
    arrays = {"log_probabilities": log_probabilities, "target": target}
    lengths = {"input_lengths": input_lengths, "target_lengths": target_lengths}
    return _decoded(_alignment, "ctc_alignment", arrays | lengths, blank)


def _alignment(given: Mapping[str, Array], usable: Array, blank: int) -> Array:
    log_probabilities, target, n_frames = given["log_probabilities"], given["target"], given.get("input_lengths")
    states = ctc.States.of(target, n_frames, given.get("target_lengths"))
    # A symbolic class is no index, but its distance from the end is a number.
    place = blank - log_probabilities.shape[1] if is_symbolic(blank) else blank
    path, exists = ctc.best_states(ctc.emissions_of(log_probabilities, target, place), states)
    is_label = (path % 2 == 1) & exists & usable & _exists(n_frames, path.shape[0])
    return jnp.where(is_label, path // 2, -1)


def ctc_greedy(log_probabilities: Vector, *, input_lengths: Vector | int | None = None, blank: int = 0) -> Decoded:
    r"""The labels of the most probable class at each frame: repetitions merged, then blanks left out.

    $$\hat \pi_t = \operatorname*{argmax}_c \log p_{t,c}$$

    This is the best single alignment, not the best target, which sums over its alignments.

    Args:
      log_probabilities: floating `(..., T, C)`: $\log p$, or logits.
      input_lengths: integer, one per sample or one for all, in [0, T]: how many frames exist. None means all.
      blank: the class of the blank, in [-C, C).

    Returns:
      `Decoded`, a named tuple: `labels`, integer `(..., T)`, filled up with -1, and `lengths`, integer `(...)`. A
      sequence with a NaN, or with a length out of range, has no labels.

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
    arrays = {"log_probabilities": log_probabilities, "input_lengths": input_lengths}
    return _decoded(_greedy, "ctc_greedy", arrays, blank)


def _greedy(given: Mapping[str, Array], usable: Array, blank: int) -> Decoded:
    scores, n_frames = given["log_probabilities"], given["log_probabilities"].shape[0]
    best = jnp.argmax(scores, axis=-1).astype(jnp.int32)
    kept = (best != blank) & (best != moved(best, 1, -1)) & _exists(given.get("input_lengths"), n_frames)
    kept &= usable & ~jnp.any(jnp.isnan(scores))
    places = jnp.where(kept, jnp.cumsum(kept, dtype=jnp.int32) - 1, n_frames)
    labels = jnp.full(n_frames, -1, jnp.int32).at[places].set(best, mode="drop")
    return Decoded(labels, jnp.sum(kept, dtype=jnp.int32))


def _decoded(of_sample: Callable[..., Any], name: str, arrays: Mapping[str, Any], blank: int) -> Any:
    """The function of one sample, over the batch axes of the arrays that are given."""
    function, values = f"decoding.{name}", {}
    for argument, value in arrays.items():
        if argument == "log_probabilities":
            values[argument] = _errors.as_array(function, argument, value, (jnp.floating,), "floating numbers")
        elif value is not None or argument == "target":
            _errors.require_array(function, argument, value)
            takes = "integer class indices" if argument == "target" else "integer lengths"
            index, _ = narrow_index(value)
            values[argument] = as_index(_errors.as_array(function, argument, index, (jnp.integer,), takes))
    operands = [
        Operand.of(function, argument, value.shape, _CORES.get(argument, ()), role=_ROLES[argument], unit="length")
        for argument, value in values.items()
    ]
    matched = match(function, operands, may_be_empty=("t", "s"))
    blank = as_class(function, "blank", blank, matched.core_sizes["c"])
    return _compiled(of_sample, tuple(operands), matched.batch_shape, values, blank)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 4))
def _compiled(
    of_sample: Callable[..., Any],
    operands: tuple[Operand, ...],
    batch_shape: tuple[int, ...],
    values: dict[str, Array],
    blank: int,
) -> Any:
    def of_batch(values: dict[str, Array]) -> Any:
        return vmap_batch(sample, operands, Match(batch_shape, {}))(values)

    def sample(given: dict[str, Array]) -> Any:
        scores = given["log_probabilities"]
        n_frames, n_classes = scores.shape
        usable = _is_usable(given, n_frames, n_classes, blank)
        given = given | {name: _existing(given, name) for name in _LENGTHS.keys() & given}
        given["log_probabilities"] = lax.stop_gradient(given["log_probabilities"].astype(compute_dtype([scores])))
        return of_sample(given, usable, blank)

    mesh = explicit_mesh(values)
    if mesh is None:
        return of_batch(values)
    spec = jax.typeof(values["log_probabilities"]).sharding.spec
    return by_automatic_axes(of_batch, values, mesh, PartitionSpec(*spec[:-2]))


def _is_usable(given: Mapping[str, Array], n_frames: int, n_classes: int, blank: int) -> Array:
    """Whether the lengths of a sample are in range, and the labels within them are classes other than the blank."""
    usable = jnp.asarray(True)
    sizes = {"input_lengths": n_frames}
    if "target" in given:
        target, size = given["target"], given["target"].shape[0]
        is_label = (target >= 0) & (target < n_classes) & (target != blank)
        usable = jnp.all(is_label | ~_exists(given.get("target_lengths"), size))
        sizes["target_lengths"] = size
    for name in sizes.keys() & given:
        usable &= (given[name] >= 0) & (given[name] <= sizes[name])
    return usable


def _existing(given: Mapping[str, Array], name: str) -> Array:
    """An array of a sample, with 0 beyond the length of its first axis."""
    core = _CORES[name]
    exists = _exists(given.get(_LENGTHS[name]), given[name].shape[0])
    return zero_unless(exists, given[name], core, core[0])


def _exists(length: Array | None, size: int) -> Array:
    """Which entries of an axis are within the length."""
    return jnp.ones(size, bool) if length is None else is_within(length, size)
