"""The log-probabilities of chosen classes, from output layers whose logits do not fit in memory."""

from __future__ import annotations

import functools
from typing import Any, Unpack

import jax.numpy as jnp
from jax import Array

from jaxloss import _positive as positive
from jaxloss._arrays import Real, Vector
from jaxloss._class_axis import ClassAxis
from jaxloss._decorator.batching import BatchLoss
from jaxloss._decorator.lift import batch_loss
from jaxloss._entropy import entropy as entropy_of
from jaxloss._large_output import chunked as chunks
from jaxloss._large_output.layer import capped_logits, given
from jaxloss._large_output.tiling import Tilings
from jaxloss._sharding import AxisName
from jaxloss.losses.softmax import softmax_cross_entropy
from jaxloss.options import MaskOptions


@batch_loss(
    "(d),(d,c),()->()",
    indices={"target": "[0, c)"},
    domains={"temperature": "(0, inf)", "logit_softcap": "(0, inf)", "chunk_size": "[1, inf)"},
    parameters={"kernel": "(d,c)", "bias": "(c)"},
    static=("ignore_index", "chunk_size"),
    split="c",
)
def linear_log_probability(
    classes: ClassAxis,
    hidden: Vector,
    kernel: Vector,
    target: int,
    *,
    bias: Vector | None = None,
    temperature: Real = 1.0,
    logit_softcap: Real | None = None,
    entropy: bool = False,
    ignore_index: int = -100,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    n_classes: int | None = None,
    **options: Unpack[MaskOptions],
) -> BatchLoss:
    r"""Log-probability of a class under an output layer, without materialising the logits; if asked, with the entropy.

    $$x = h K + b, \qquad x \leftarrow \kappa \tanh(x / \kappa), \qquad \log p = \log \operatorname{softmax}(x / \tau),
    \qquad H = -\sum_c p_c \log p_c$$

    Losses of preferences and policies are made of these numbers, one per token. The log-probability of an answer is
    their sum over its tokens; "Language models" in the documentation shows it for padded and for packed answers.

    The rows are processed in chunks, as in `linear_cross_entropy`. The gradient computes the logits of a chunk again:
    four matrix products in all, and one where no gradient is asked for.

    Args:
      hidden: floating `(..., D)`: $h$, the input of the output layer, features last.
      kernel: floating `(D, C)`: $K$.
      target: integer `(...)`, the class whose log-probability is computed, in [0, C).
      bias: real `(C,)`: $b$; 0 if not given.
      temperature: above 0: $\tau$, as in sampling. A number, or an array with one value per row.
      logit_softcap: above 0: $\kappa$, which the logits approach but do not exceed; no cap if not given.
      entropy: whether to return the pair (log-probability, entropy). Both can be differentiated.
      ignore_index: rows with this class index are masked.
      chunk_size: the maximum number of rows per chunk, as in `linear_cross_entropy`.
      axis_name: inside `shard_map`, the mesh axis (or axes) over which the classes are split, as in
        `linear_cross_entropy`. Class indices count over all devices.
      n_classes: C, if there are more columns than classes, as in `linear_cross_entropy`.
      options: `where`: see `jaxloss.MaskOptions`.

    Returns:
      One number in nats per row, `(...)`, in float32 or wider; with `entropy`, two such arrays. 0 for a masked row, NaN
      for a class index that is out of range. Products are in the wider dtype of `hidden` and `kernel`, or in float64
      if any array is; their sums are in float32 or wider.

    Raises:
      ValueError: shapes do not fit, an option is out of its range, no axis is called `axis_name`, or `n_classes`
        exceeds the number of columns of all devices.
      TypeError: `hidden` or `kernel` is not floating, or the result is differentiated in forward mode (`jax.jvp`,
        `jax.jacfwd`). Its gradient may be, as for a Hessian.

    Reference:
      Wijmans et al., Cut your losses in large-vocabulary language models, ICLR 2025 (the losses of a chunk of logits).

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> hidden, kernel = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
      >>> chosen, spread = jaxloss.linear_log_probability(hidden, kernel, jnp.array([0, 2]), entropy=True)
      >>> print(chosen.round(4), spread.round(4))
      [-0.2395 -1.0986] [0.6656 1.0986]
    """
    layer = chunks.Layer.of(
        hidden,
        kernel,
        shared=given(bias=bias),
        own=given(target=jnp.asarray(target)),
        # The same on all devices, but the gradients belong to the columns of each.
        split=given(temperature=temperature, logit_softcap=logit_softcap),
        axis_name=axis_name,
        numbers=2 if entropy else None,
    )
    row = functools.partial(_row, classes, entropy)
    tilings = Tilings.of(layer.kernels[0], chunk_size)
    results = functools.partial(chunks.losses, row, tilings, layer)
    return BatchLoss(results)


def _row(classes: ClassAxis, has_entropy: bool, logits: Array, shared: chunks.Arrays, own: chunks.Arrays) -> Any:
    logits = capped_logits(logits, shared, own)
    logits = positive.tempered(logits, own["temperature"]) if "temperature" in own else logits
    surprise, _ = softmax_cross_entropy(classes, logits, own["target"], None, 0.0, 0.0, None)
    if not has_entropy:
        return -surprise
    return -surprise, entropy_of(classes, classes.possible(logits))
