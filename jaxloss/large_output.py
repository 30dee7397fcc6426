"""Losses of output layers too large for their logits to be held in memory."""

from __future__ import annotations

import functools
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import chunks, numerics
from jaxloss.checks import Real, Vector
from jaxloss.classification import softmax_cross_entropy
from jaxloss.dtypes import compute_dtype
from jaxloss.lift import loss
from jaxloss.options import ReductionOptions
from jaxloss.reductions import Rows


@loss(
    "(d),(d,c),()->()",
    "(d),(d,c),(c)->()",
    indices={"target": "[0, c)"},
    domains={
        "target": "[0, 1]",
        "label_smoothing": "[0, 1]",
        "z_loss": "[0, inf)",
        "logit_softcap": "(0, inf)",
        "chunk_size": "[1, inf)",
    },
    parameters={"kernel": "(d,c)", "bias": "(c)", "class_weights": "(c)"},
    static=("ignore_index", "chunk_size"),
    by_rows=True,
)
def linear_cross_entropy(
    hidden: Vector,
    kernel: Vector,
    target: Vector | int,
    *,
    bias: Vector | None = None,
    class_weights: Vector | None = None,
    ignore_index: int = -100,
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
    logit_softcap: Real | None = None,
    chunk_size: int | None = None,
    **options: Unpack[ReductionOptions],
) -> Rows:
    r"""`cross_entropy` of the logits of an output layer, without ever holding them.

    $$x = h K + b, \qquad x \leftarrow \kappa \tanh(x / \kappa), \qquad
    l = \operatorname{cross\_entropy}(x, y) + \zeta \Bigl(\log \sum_c e^{x_c}\Bigr)^2$$

    The rows are worked through in chunks. Where a scalar is differentiated, a chunk's gradients are formed beside its
    losses, from the same logits: three matrix products, as many as with all logits in memory. For `reduction="none"` or
    a callable the logits are computed again in the backward pass.

    Args:
      hidden: floating `(..., D)`: $h$, what goes into the output layer, features last.
      kernel: floating `(D, C)`: $K$.
      target: integer `(...)`, the right class in [0, C); or floating `(..., C)`, the probability of each class.
      bias: real `(C,)`: $b$; none if not given.
      class_weights: real `(C,)`, as in `cross_entropy`.
      ignore_index: samples with this class index do not count.
      label_smoothing: in [0, 1], as in `cross_entropy`.
      z_loss: at least 0: $\zeta$, which keeps the normaliser of the softmax near 1. A number, or an array with one a
        sample. Neither class weights nor smoothing scale this term.
      logit_softcap: above 0: $\kappa$, which the logits approach but do not exceed; none if not given.
      chunk_size: rows worked on at a time, a Python number of at least 1. None takes as many as have 2²² logits but
        at least 64, so that temporaries are a few times 16 MiB, or from 65,536 classes on of 64 rows of logits.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"` one loss a sample. NaN for a sample whose class index is out
      of range. The products are in the dtype of `hidden` and `kernel` (the wider of the two) and summed up in float32,
      in which all else is computed.

    Raises:
      ValueError: shapes do not fit, an option is out of its range, or `ignore_index` is given with a floating target.
      TypeError: `hidden` or `kernel` is not floating; or forward-mode differentiation (`jax.jvp`, `jax.jacfwd`), which
        would have to hold the logits, is asked for.

    Reference:
      Wijmans et al., Cut your losses in large-vocabulary language models, ICLR 2025; Hsu et al., Liger Kernel, 2024,
      section 3.2 (gradients in the forward pass); Chowdhery et al., PaLM, JMLR 2023, section 5 (z-loss); Gemma Team,
      Gemma 2, 2024, section 2 (soft-capping).

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> hidden, kernel = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
      >>> print(jaxloss.linear_cross_entropy(hidden, kernel, jnp.array([0, 2]), reduction="none").round(4))
      [0.2395 1.0986]
    """
    shared = _given(bias=bias, class_weights=class_weights)
    own = _given(target=target, label_smoothing=label_smoothing, z_loss=z_loss, logit_softcap=logit_softcap)

    def row(logits: Array, shared: chunks.Arrays, own: chunks.Arrays) -> Array:
        logits = logits + shared["bias"] if "bias" in shared else logits
        if "logit_softcap" in own:
            logits = own["logit_softcap"] * jnp.tanh(logits / own["logit_softcap"])
        smoothing = own.get("label_smoothing", label_smoothing)
        cross, _ = softmax_cross_entropy(logits, own["target"], shared.get("class_weights"), smoothing)
        return cross + own["z_loss"] * numerics.square(jax.nn.logsumexp(logits)) if "z_loss" in own else cross

    hidden, kernel = jnp.asarray(hidden), jnp.asarray(kernel)
    dtype = hidden.dtype if hidden.dtype == kernel.dtype else compute_dtype([hidden, kernel])
    layer = chunks.Layer(hidden.astype(dtype), kernel.astype(dtype), shared, own)
    size = chunks.default_chunk_size(kernel.shape[1]) if chunk_size is None else chunk_size
    is_weighted = "class_weights" in shared and jnp.ndim(target) == 1
    return Rows(
        losses=functools.partial(chunks.losses, row, size, layer),
        weighted_sum=functools.partial(chunks.weighted_sum, row, size, layer),
        normalisers=shared["class_weights"][target] if is_weighted else None,
    )


def _given(**values: Any) -> chunks.Arrays:
    """Those that are arrays: not left at a default, by which a term is left out."""
    return {name: value for name, value in values.items() if isinstance(value, Array)}
