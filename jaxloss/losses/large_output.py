"""Losses of output layers whose logits do not fit in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Unpack

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss._arrays import Real, Vector, compute_dtype, product_dtype
from jaxloss._class_axis import ClassAxis
from jaxloss._decorator.batching import BatchLoss
from jaxloss._decorator.lift import batch_loss
from jaxloss._large_output import chunked as chunks
from jaxloss._large_output.adaptive import AdaptiveSoftmax
from jaxloss._large_output.layer import capped_logits, given
from jaxloss._large_output.loops import Span
from jaxloss._large_output.tiling import Tilings
from jaxloss._sharding import AxisName, equally_varying
from jaxloss.losses.softmax import softmax_cross_entropy
from jaxloss.options import ReductionOptions


@batch_loss(
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
    split="c",
)
def linear_cross_entropy(
    classes: ClassAxis,
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
    axis_name: AxisName | None = None,
    n_classes: int | None = None,
    **options: Unpack[ReductionOptions],
) -> BatchLoss:
    r"""`cross_entropy` of the logits of an output layer, without materialising the logits.

    $$x = h K + b, \qquad x \leftarrow \kappa \tanh(x / \kappa), \qquad
    l = \operatorname{cross\_entropy}(x, y) + \zeta \Bigl(\log \sum_c e^{x_c}\Bigr)^2$$

    The rows are processed in chunks. If a scalar is differentiated, the gradients of a chunk are computed together with
    its losses, from the same logits. This needs three matrix products, as many as with all logits in memory. For
    `reduction="none"` or a callable, the logits are computed again in the backward pass.

    Args:
      hidden: floating `(..., D)`: $h$, the input of the output layer, features last.
      kernel: floating `(D, C)`: $K$.
      target: integer `(...)`, the right class in [0, C); or floating `(..., C)`, the probability of each class.
      bias: real `(C,)`: $b$; 0 if not given.
      class_weights: real `(C,)`, as in `cross_entropy`.
      ignore_index: samples with this class index are ignored.
      label_smoothing: in [0, 1], as in `cross_entropy`.
      z_loss: at least 0: $\zeta$, which keeps $\sum_c e^{x_c}$ near 1. A number, or an array with one
        value per sample. Class weights and smoothing do not affect this term.
      logit_softcap: above 0: $\kappa$, which the logits approach but do not exceed; no cap if not given.
      chunk_size: the maximum number of rows per chunk, a Python number of at least 1. None means, on a CPU, as many
        rows as have 2²¹ logits, but at least 128; on a GPU, 2048 rows for each device; on a TPU, half as many rows as
        features for a kernel in bfloat16 (as many in float32), between 512 and 2048. From 262,144 classes on, it is
        2²⁹ logits instead. Temporaries are then the gradient of the kernel in float32 and, on a CPU, twice the logits
        of a chunk; on a GPU, a quarter of them, and their gradient in the dtype of the kernel; on a TPU, the logits of
        a chunk. Under automatic sharding, a chunk has rows of every device.
      axis_name: inside `shard_map`, the mesh axis (or axes) over which the classes are split. `kernel`, `bias`,
        `class_weights` and soft targets are then the columns of this device, the same number on each. `hidden` is the
        same on all devices, and class indices count over all of them. Devices exchange the maximum of a row and one
        message of a few numbers. In the backward pass, they sum the gradients of `hidden`.
      n_classes: C, if there are more columns than classes. The last columns over all devices are then padding, and
        their contents have no effect. None means that every column is a class.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar, the same on every device of `axis_name`; with `reduction="none"`, one loss per sample.
      NaN for a sample whose class index is out of range. Products are in the wider dtype of `hidden` and `kernel`,
      or in float64 if any array is. Their sums and everything else are in float32 or wider.

    Raises:
      ValueError: shapes do not fit, an option is out of its range, `ignore_index` is given with a floating target, no
        axis is called `axis_name`, or `n_classes` exceeds the number of columns of all devices.
      TypeError: `hidden` or `kernel` is not floating, or the loss is differentiated in forward mode (`jax.jvp`,
        `jax.jacfwd`). Its gradient may be, as for a Hessian, which keeps no more than the logits of a few chunks.

    Reference:
      Wijmans et al., Cut your losses in large-vocabulary language models, ICLR 2025; Hsu et al., Liger Kernel, 2024,
      section 3.2 (gradients in the forward pass); Shoeybi et al., Megatron-LM, 2019, section 3 (classes split over
      devices); Chowdhery et al., PaLM, JMLR 2023, section 5 (z-loss); Gemma Team,
      Gemma 2, 2024, section 2 (soft-capping).

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> hidden, kernel = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
      >>> print(jaxloss.linear_cross_entropy(hidden, kernel, jnp.array([0, 2]), reduction="none").round(4))
      [0.2395 1.0986]
    """
    target = jnp.asarray(target)
    shared = given(bias=bias, class_weights=class_weights)
    is_index = target.ndim < jnp.ndim(hidden)
    layer = chunks.Layer.of(
        hidden,
        kernel,
        shared=shared,
        # The cap is the same on all devices, but its gradient belongs to the columns of each.
        own=given(label_smoothing=label_smoothing, z_loss=z_loss, target=target if is_index else None),
        split=given(logit_softcap=logit_softcap, target=None if is_index else target),
        axis_name=axis_name,
    )
    row = functools.partial(_row, classes)
    tilings = Tilings.of(layer.kernels[0], chunk_size)
    weight = None
    if is_index and "class_weights" in shared:
        (weight,) = classes.sums(classes.share(shared["class_weights"], target))
    return BatchLoss(
        losses=functools.partial(chunks.losses, row, tilings, layer),
        weighted_sum=functools.partial(chunks.weighted_sum, row, tilings, layer),
        normalisers=weight,
    )


@batch_loss(
    "(d),(d,c),()->()",
    indices={"target": "[0, c)"},
    parameters={"parameters": "(d,c)"},
    structures={"parameters": AdaptiveSoftmax},
    static=("ignore_index",),
)
def adaptive_log_softmax_with_loss(
    hidden: Vector,
    parameters: AdaptiveSoftmax,
    target: Vector | int,
    *,
    ignore_index: int = -100,
    **options: Unpack[ReductionOptions],
) -> BatchLoss:
    r"""Negative log-likelihood of the right class under an adaptive softmax, which is cheap if most classes are rare.

    $$l = -\log p_y$$

    with the probabilities of `jaxloss.AdaptiveSoftmax`. Rows are sorted by the tail of their class. The product of a
    tail runs only over blocks of its own rows, and their number is determined at run time. Masked or ignored rows are
    in no product. The gradients are computed together with the losses, as in `linear_cross_entropy`.

    Args:
      hidden: floating `(..., D)`: the input of the output layer, features last.
      parameters: an `AdaptiveSoftmax` of D features and C classes.
      target: integer `(...)`: $y$, the right class in [0, C); class 0 is the most frequent.
      ignore_index: samples with this class index are ignored.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sample: the negative of PyTorch's `output`. NaN
      for a sample whose class index is out of range. Products are in the wider dtype of `hidden` and `parameters`; on
      a CPU, and in float16, the second product of a tail is in float32. Sums and everything else are in float32 or
      wider.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `hidden` is not floating, `parameters` is not an `AdaptiveSoftmax`, `target` is not integer, or the
        loss is differentiated in forward mode (`jax.jvp`, `jax.jacfwd`). Its gradient may be, as for a Hessian.

    Reference:
      Grave et al., Efficient softmax approximation for GPUs, ICML 2017; PyTorch documentation,
      `torch.nn.AdaptiveLogSoftmaxWithLoss`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxloss
      >>> softmax = jaxloss.AdaptiveSoftmax(jnp.zeros((2, 4)), None, ((jnp.ones((2, 1)), jnp.zeros((1, 8))),))
      >>> print(jaxloss.adaptive_log_softmax_with_loss(jnp.ones((2, 2)), softmax, jnp.array([0, 5]), reduction="none"))
      [1.3862944 3.465736 ]
    """
    hidden, target = jnp.asarray(hidden), jnp.asarray(target)
    order, place, layers = _sorted_layers(hidden.reshape(-1, hidden.shape[-1]), parameters, target.reshape(-1))

    def added(losses: Callable[..., Array], *arrays: Array) -> Array:
        def of(layer: chunks.Layer) -> Array:
            c = layer.kernels[-1].shape[1]
            row = functools.partial(_row, ClassAxis(c, axis_name=None, n_classes=c))
            return losses(row, Tilings.of_tail(c), layer, *arrays)

        first, *others = map(of, layers)
        return sum(others, first)

    return BatchLoss(
        losses=lambda: _permuted(added(chunks.losses), place, order).reshape(target.shape),
        weighted_sum=lambda weights: added(chunks.weighted_sum, _permuted(weights.reshape(-1), order, place)),
    )


def _sorted_layers(
    hidden: Array, parameters: AdaptiveSoftmax, target: Array
) -> tuple[Array, Array, list[chunks.Layer]]:
    """The order of the rows by tail, the position of each row in it, and a layer for the head and for each tail."""
    hidden, target = equally_varying((hidden, target.astype(jnp.int32)))
    dtype = product_dtype(jax.tree.leaves((hidden, parameters)))
    hidden, head, n_tails = hidden.astype(dtype), parameters.head.astype(dtype), len(parameters.tails)
    wide = compute_dtype([hidden])
    # 0 for the head, 1, 2, ... for the tails, and one more for rows that are masked, ignored or out of range.
    tail = sum(((target >= cutoff).astype(jnp.int32) for cutoff in parameters.cutoffs), jnp.zeros_like(target))
    tail = jnp.where(target < 0, n_tails + 1, tail)
    lengths = [jnp.sum(tail == i, dtype=jnp.int32) for i in range(n_tails + 1)]
    order = jnp.argsort(tail)
    place = jnp.zeros_like(order).at[order].set(jnp.arange(order.size, dtype=order.dtype), unique_indices=True)
    hidden, target, tail = _permuted(hidden, order, place), target[order], tail[order]

    def layer(span: Span, kernels: tuple[Array, ...], target: Array, bias: Array | None = None) -> chunks.Layer:
        shared = {} if bias is None else {"bias": bias.astype(wide)}
        own = {"target": jnp.clip(target, 0, kernels[-1].shape[1] - 1)}  # rows of other tails are out of range
        return chunks.Layer(hidden, kernels, shared, own, span=span)

    first = jnp.zeros_like(lengths[0])
    in_head = jnp.where(tail == 0, target, head.shape[1] - n_tails - 1 + tail)
    layers = [layer(Span(first, sum(lengths[1:], lengths[0])), (head,), in_head, parameters.head_bias)]
    for i, (cutoff, (down, up)) in enumerate(zip(parameters.cutoffs, parameters.tails, strict=True)):
        first = first + lengths[i]
        kernels = (down.astype(dtype), up.astype(dtype))
        layers.append(layer(Span(first, lengths[i + 1]), kernels, target - cutoff))
    return order, place, layers


def _row(classes: ClassAxis, logits: Array, shared: chunks.Arrays, own: chunks.Arrays) -> Array:
    """The loss of one row, without the terms of options that are not given."""
    logits = capped_logits(logits, shared, own)
    options = own.get("label_smoothing", 0.0), own.get("z_loss", 0.0), None
    loss, _ = softmax_cross_entropy(classes, logits, own["target"], shared.get("class_weights"), *options)
    return loss


@jax.custom_vjp
def _permuted(rows: Array, order: Array, inverse: Array) -> Array:
    """`rows[order]`. The gradient is a gather too, because XLA:CPU scatters row by row."""
    del inverse
    return rows[order]


def _permuted_forward(rows: Array, order: Array, inverse: Array) -> tuple[Array, Array]:
    return rows[order], inverse  # not `_permuted`, which has no derivative in forward mode, as for a Hessian


def _permuted_backward(inverse: Array, cotangent: Array) -> tuple[Array, None, None]:
    return cotangent[inverse], None, None


_permuted.defvjp(_permuted_forward, _permuted_backward)
