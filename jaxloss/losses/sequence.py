"""Losses of sequences of labels whose alignment with the frames is not known."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _ctc as ctc
from jaxloss import _transducer as transducer
from jaxloss._arrays import Vector, is_within
from jaxloss._data_checks import data_checks_enabled, nan_unless, require, require_sums_to_1
from jaxloss._decorator.lift import loss
from jaxloss._errors import as_class
from jaxloss.options import ReductionOptions


@loss(
    "(t,c),(s)->()",
    indices={"target": "[0, c)"},
    lengths={"input_lengths": "t", "target_lengths": "s"},
    static=("blank",),
)
def ctc_loss(
    log_probabilities: Vector,
    target: Vector,
    *,
    input_lengths: Vector | int | None = None,
    target_lengths: Vector | int | None = None,
    blank: int = 0,
    zero_infinity: bool = False,
    **options: Unpack[ReductionOptions],
) -> tuple[Array, Array]:
    r"""Connectionist temporal classification: labels from frames, summed over all alignments of the two.

    $$l = -\log \sum_{\pi} \prod_t p_{t,\,\pi_t}, \qquad n = \max(s, 1)$$

    for a target of $s$ labels, over all sequences $\pi$ of one class per frame that become the target when first
    repetitions of a class are merged and then blanks are left out. Where there is none, because the frames are fewer
    than the labels and the blanks that separate equal ones, the loss is infinite. The derivative with respect to
    $\log p$ is minus the probability of each class at each frame, given the target.

    Args:
      log_probabilities: floating `(..., T, C)`: $\log p$, such as the `log_softmax` of logits. Under
        `jaxloss.data_checks`, the probabilities of a frame must sum to 1 within 0.1.
      target: integer `(..., S)`: the labels, each in [0, C) and none of them the blank. What lies beyond a length is
        not read.
      input_lengths: integer, one per sample or one for all, in [0, T]: how many frames exist. None means all.
      target_lengths: integer, one per sample or one for all, in [0, S]: how many labels exist. None means all.
      blank: the class of the blank, in [-C, C).
      zero_infinity: whether a loss of +inf counts as 0. Its gradient is 0 in any case. In a mean, its labels count.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sequence. The mean is one per label. PyTorch's
      `"mean"` is the mean over sequences of the loss per label: `weights=1 / jnp.maximum(target_lengths, 1)`,
      `reduction="weighted_mean"`.
      NaN for a sample with a length or a label out of range, or with a blank among its labels.

    Raises:
      ValueError: shapes do not fit, or `blank` is out of range.
      TypeError: `log_probabilities` is not floating, or `target` or a length is not integer.

    Reference:
      Graves et al., Connectionist temporal classification: labelling unsegmented sequence data with recurrent neural
      networks, ICML 2006.

    Example:
      >>> import jax, jax.numpy as jnp, jaxloss
      >>> log_probabilities = jnp.log(jnp.array([[0.5, 0.5, 0.0], [0.5, 0.25, 0.25]]))
      >>> target = jnp.array([1])  # of "11", "10" and "01"
      >>> print(f"{jnp.exp(-jaxloss.ctc_loss(log_probabilities, target)):.4f}")
      0.5000
      >>> print(jaxloss.ctc_loss(log_probabilities, jnp.array([1, 1])))
      inf
      >>> print(jnp.abs(jax.grad(jaxloss.ctc_loss)(log_probabilities, target)).round(4))
      [[0.25 0.75 0.  ]
       [0.5  0.5  0.  ]]
    """
    n_frames, n_classes = log_probabilities.shape
    labels = _Labels.of("ctc_loss", target, target_lengths, blank, n_classes)
    states = ctc.States.of(labels.target, _as_array(input_lengths), labels.length)
    if data_checks_enabled():
        exists, totals = states.exists(n_frames), jnp.sum(jnp.exp(log_probabilities), axis=-1)
        totals = totals if exists is None else jnp.where(exists, totals, 1)
        # Logarithms in half precision are rounded by some hundredths.
        require_sums_to_1("ctc_loss", "exp(log_probabilities)", totals, 0.1, "; take the log_softmax of logits")
    emissions = ctc.emissions_of(jnp.asarray(log_probabilities), labels.target, blank)
    loss = labels.loss_of(ctc.log_likelihood(emissions, states), n_frames)
    return jnp.where(jnp.isposinf(loss), 0, loss) if zero_infinity else loss, labels.normaliser(loss.dtype)


@loss(
    "(t,s+1,c),(s)->()",
    indices={"target": "[0, c)"},
    lengths={"logit_lengths": "t", "target_lengths": "s"},
    static=("blank",),
)
def rnnt_loss(
    logits: Vector,
    target: Vector,
    *,
    logit_lengths: Vector | int | None = None,
    target_lengths: Vector | int | None = None,
    blank: int = -1,
    **options: Unpack[ReductionOptions],
) -> tuple[Array, Array]:
    r"""Loss of a transducer (RNN-T): labels from frames, each label predicted from the labels before it.

    $$l = -\log \sum_{\text{paths}} \prod_{(t, u)} \operatorname{softmax}(x_{t,u})_{k(t, u)}, \qquad n = \max(s, 1)$$

    for $s$ labels, over all paths from frame 0 with no label to the end, where $u$ labels have been emitted at frame
    $t$: a step emits label $k = y_{u+1}$ and stays at the frame, or the blank and goes to the next frame. The last step
    is the blank of the last frame. The softmax is inside, and so is its gradient.

    Args:
      logits: floating `(..., T, S + 1, C)`: $x$, the scores of the classes at each frame after each number of labels.
      target: integer `(..., S)`: $y$, the labels, each in [0, C) and none of them the blank. What lies beyond a length
        is not read.
      logit_lengths: integer, one per sample or one for all, in [0, T]: how many frames exist. None means all.
      target_lengths: integer, one per sample or one for all, in [0, S]: how many labels exist. None means all.
      blank: the class of the blank, in [-C, C).
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sequence. The mean is one per label. NaN for a
      sample with a length or a label out of range, or with a blank among its labels. Without frames, the loss is 0 for
      an empty target, and infinite for any other.

    Raises:
      ValueError: shapes do not fit, or `blank` is out of range.
      TypeError: `logits` is not floating, or `target` or a length is not integer.

    Reference:
      Graves, Sequence transduction with recurrent neural networks, 2012, section 2.4.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> logits, target = jnp.zeros((2, 3, 4)), jnp.array([0, 1])  # three paths of four steps, each of probability 1/4
      >>> print(f"{jnp.exp(-jaxloss.rnnt_loss(logits, target, reduction='sum')) * 4**4:.4f}")
      3.0000
      >>> frames, labels = jnp.array([2, 1]), jnp.array([1, 2])
      >>> batch, targets = jnp.zeros((2, 2, 3, 4)), jnp.array([[0, -1], [1, 2]])
      >>> losses = jaxloss.rnnt_loss(batch, targets, logit_lengths=frames, target_lengths=labels, reduction="none")
      >>> print(jnp.round(jnp.exp(-losses) * 4**3, 4))
      [2. 1.]
    """
    n_frames, n_nodes, n_classes = logits.shape
    labels = _Labels.of("rnnt_loss", target, target_lengths, blank, n_classes)
    lengths = _as_array(logit_lengths), labels.length
    log_likelihood = transducer.log_likelihood(jnp.asarray(logits), labels.target, blank, *lengths)
    return labels.loss_of(log_likelihood, n_frames + n_nodes), labels.normaliser(log_likelihood.dtype)


class _Labels(NamedTuple):
    """The labels of one sample: the target, how many exist (None if all), and whether none is the blank."""

    target: Array
    length: Array | None
    usable: Array

    @staticmethod
    def of(function: str, target: Vector, length: Vector | int | None, blank: int, n_classes: int) -> _Labels:
        target, length, blank = jnp.asarray(target), _as_array(length), as_class(function, "blank", blank, n_classes)
        is_blank = target == jnp.asarray(blank, target.dtype)
        if length is not None:
            is_blank &= is_within(length, target.shape[0])
        usable = ~jnp.any(is_blank)
        require(usable, f"{function}: target has the blank, class {{blank}}, among its labels", blank=blank)
        return _Labels(target, length, usable)

    def loss_of(self, log_likelihood: Array, n_steps: int) -> Array:
        """The loss, NaN if the blank is a label."""
        loss = -log_likelihood
        # Rounding over many steps may make the loss slightly negative. Only the value is changed, not its derivative.
        bound = n_steps * 2.0 * jnp.finfo(loss.dtype).eps
        loss -= lax.stop_gradient(jnp.where((loss <= 0) & (loss >= -bound), loss, 0))
        return nan_unless(self.usable, loss)

    def normaliser(self, dtype: Any) -> Array:
        """The normaliser: the number of labels, at least 1."""
        return jnp.maximum(self.target.shape[0] if self.length is None else self.length, 1).astype(dtype)


def _as_array(length: Vector | int | None) -> Array | None:
    return None if length is None else jnp.asarray(length)
