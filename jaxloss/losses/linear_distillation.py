"""Losses of knowledge distillation, of output layers whose logits do not fit in memory."""

from __future__ import annotations

import functools
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _entropy
from jaxloss import _positive as positive
from jaxloss._arrays import Real, Vector, product_dtype
from jaxloss._class_axis import ClassAxis
from jaxloss._decorator.batching import BatchLoss
from jaxloss._decorator.lift import batch_loss
from jaxloss._large_output import chunked as chunks
from jaxloss._large_output.layer import capped_logits, given
from jaxloss._large_output.tiling import Tilings
from jaxloss._sharding import AxisName
from jaxloss.losses.distillation import divergence_of, times_square
from jaxloss.options import ReductionOptions

_LAYER = {"temperature": "(0, inf)", "logit_softcap": "(0, inf)", "chunk_size": "[1, inf)"}


@batch_loss(
    "(d),(d,c),(e),(e,c)->()",
    domains=_LAYER,
    parameters={"kernel": "(d,c)", "teacher_kernel": "(e,c)", "bias": "(c)", "teacher_bias": "(c)"},
    static=("chunk_size",),
    split="c",
)
def linear_distillation_loss(
    classes: ClassAxis,
    hidden: Vector,
    kernel: Vector,
    teacher_hidden: Vector,
    teacher_kernel: Vector,
    *,
    temperature: Real = 1.0,
    reverse: bool = False,
    bias: Vector | None = None,
    teacher_bias: Vector | None = None,
    logit_softcap: Real | None = None,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    n_classes: int | None = None,
    **options: Unpack[ReductionOptions],
) -> BatchLoss:
    r"""`distillation_loss` of two output layers, without materialising the logits of either.

    $$x = h K + b, \qquad t = h' K' + b', \qquad l = \operatorname{distillation\_loss}(x, t)$$

    The rows are processed in chunks, as in `linear_cross_entropy`, with one product more for the logits of the teacher.
    The teacher gets no gradient.

    Args:
      hidden: floating `(..., D)`: $h$, the input of the student's output layer, features last.
      kernel: floating `(D, C)`: $K$.
      teacher_hidden: floating `(..., E)`: $h'$, the input of the teacher's output layer.
      teacher_kernel: floating `(E, C)`: $K'$.
      temperature: above 0: $\tau$. A number, or an array with one value per sample.
      reverse: whether student and teacher are exchanged in the divergence.
      bias: real `(C,)`: $b$; 0 if not given.
      teacher_bias: real `(C,)`: $b'$; 0 if not given.
      logit_softcap: above 0: $\kappa$, which the logits of both approach but do not exceed, see `linear_cross_entropy`;
        no cap if not given.
      chunk_size: the maximum number of rows per chunk, as in `linear_cross_entropy`.
      axis_name: inside `shard_map`, the mesh axis (or axes) over which the classes of both layers are split, as in
        `linear_cross_entropy`.
      n_classes: C, if there are more columns than classes, as in `linear_cross_entropy`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar, the same on every device of `axis_name`; with `reduction="none"`, one loss per sample.
      The products of each layer are in the wider dtype of its two arrays, or in float64 if any array is; their sums and
      everything else are in float32 or wider.

    Raises:
      ValueError: shapes do not fit, an option is out of its range, no axis is called `axis_name`, or `n_classes`
        exceeds the number of columns of all devices.
      TypeError: an array is not floating, or the loss is differentiated in forward mode (`jax.jvp`, `jax.jacfwd`). Its
        gradient may be, as for a Hessian.

    Reference:
      As `distillation_loss` and `linear_cross_entropy`.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> hidden, kernel = jnp.array([[1.0], [2.0]]), jnp.array([[0.0, 0.0]])
      >>> teacher_hidden, teacher_kernel = jnp.array([[1.0, 1.0], [0.0, 0.0]]), jnp.array([[1.0, 0.0], [1.0, 0.0]])
      >>> losses = jaxloss.linear_distillation_loss(
      ...     hidden, kernel, teacher_hidden, teacher_kernel, temperature=2.0, reduction="none")
      >>> print(losses.round(4))
      [0.4438 0.    ]
    """
    rows, matrix = jnp.asarray(teacher_hidden), jnp.asarray(teacher_kernel)
    dtype = product_dtype([rows, matrix])
    return _of_layer(
        functools.partial(_row, classes, reverse),
        hidden,
        kernel,
        chunk_size=chunk_size,
        axis_name=axis_name,
        shared=given(bias=bias, teacher_bias=teacher_bias),
        options=given(temperature=temperature, logit_softcap=logit_softcap),
        second=(rows.astype(dtype), matrix.astype(dtype)),
    )


@batch_loss(
    "(d),(d,c),(c)->()",
    domains=_LAYER,
    parameters={"kernel": "(d,c)", "bias": "(c)"},
    static=("chunk_size",),
    split="c",
)
def linear_distillation_loss_from_logits(
    classes: ClassAxis,
    hidden: Vector,
    kernel: Vector,
    teacher_logits: Vector,
    *,
    temperature: Real = 1.0,
    reverse: bool = False,
    bias: Vector | None = None,
    logit_softcap: Real | None = None,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    n_classes: int | None = None,
    **options: Unpack[ReductionOptions],
) -> BatchLoss:
    r"""`linear_distillation_loss` of a teacher whose logits are at hand, for example stored in half precision.

    $$x = h K + b, \qquad l = \operatorname{distillation\_loss}(x, t)$$

    A chunk of them at a time is converted to float32. The teacher gets no gradient.

    Args:
      hidden: floating `(..., D)`: $h$, the input of the student's output layer, features last.
      kernel: floating `(D, C)`: $K$.
      teacher_logits: floating `(..., C)`: $t$, as they are: neither bias nor cap applies to them.
      temperature: above 0: $\tau$. A number, or an array with one value per sample.
      reverse: whether student and teacher are exchanged in the divergence.
      bias: real `(C,)`: $b$; 0 if not given.
      logit_softcap: above 0: $\kappa$, which the student's logits approach but do not exceed, see
        `linear_cross_entropy`; no cap if not given.
      chunk_size: the maximum number of rows per chunk, as in `linear_cross_entropy`.
      axis_name: inside `shard_map`, the mesh axis (or axes) over which the classes are split, those of
        `teacher_logits` too, as in `linear_cross_entropy`.
      n_classes: C, if there are more columns than classes, as in `linear_cross_entropy`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      As `linear_distillation_loss`.

    Raises:
      ValueError: as `linear_distillation_loss`.
      TypeError: as `linear_distillation_loss`.

    Reference:
      As `distillation_loss` and `linear_cross_entropy`.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> hidden, kernel = jnp.array([[1.0], [2.0]]), jnp.array([[0.0, 0.0]])
      >>> teacher_logits = jnp.array([[2.0, 0.0], [0.0, 0.0]], jnp.bfloat16)
      >>> losses = jaxloss.linear_distillation_loss_from_logits(
      ...     hidden, kernel, teacher_logits, temperature=2.0, reduction="none")
      >>> print(losses.round(4))
      [0.4438 0.    ]
    """
    return _of_layer(
        functools.partial(_row, classes, reverse),
        hidden,
        kernel,
        chunk_size=chunk_size,
        axis_name=axis_name,
        shared=given(bias=bias),
        options=given(temperature=temperature, logit_softcap=logit_softcap),
        fixed={"teacher_logits": jnp.asarray(teacher_logits)},
    )


@batch_loss(
    "(d),(d,c),(k),(k)->()",
    indices={"teacher_classes": "[0, c)"},
    domains={**_LAYER, "teacher_log_probabilities": "[-inf, 0]"},
    parameters={"kernel": "(d,c)", "bias": "(c)"},
    static=("chunk_size",),
    split="c",
)
def linear_distillation_loss_from_top_k(
    classes: ClassAxis,
    hidden: Vector,
    kernel: Vector,
    teacher_log_probabilities: Vector,
    teacher_classes: Vector,
    *,
    temperature: Real = 1.0,
    bias: Vector | None = None,
    logit_softcap: Real | None = None,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    n_classes: int | None = None,
    **options: Unpack[ReductionOptions],
) -> BatchLoss:
    r"""`linear_distillation_loss` for a teacher of which only the K most probable classes are known.

    $$l = \tau^2 \Bigl(\sum_{k} p_k \log \frac{p_k}{q_{c_k}} + r \log \frac{r}{1 - \sum_k q_{c_k}}\Bigr), \qquad
    r = 1 - \sum_k p_k, \qquad q = \operatorname{softmax}(x / \tau), \qquad x = h K + b$$

    All other classes count as one, whose mass is the rest, and 0 if all classes are in the list.

    At a high temperature, the loss has fewer digits than `linear_distillation_loss`: student and teacher differ by
    about $1 / \tau$, and the given logarithms are rounded, in float32 to about $10^{-6}$.

    Args:
      hidden: floating `(..., D)`: $h$, the input of the student's output layer, features last.
      kernel: floating `(D, C)`: $K$.
      teacher_log_probabilities: floating `(..., K)`, at most 0: $\log p$, at the same temperature. An entry of -inf is
        not in the list, so that lists of different lengths can be padded; its class has to be in [0, C) too.
      teacher_classes: integer `(..., K)`: $c_k$, the class of each, in [0, C).
      temperature: above 0: $\tau$. A number, or an array with one value per sample.
      bias: real `(C,)`: $b$; 0 if not given.
      logit_softcap: above 0: $\kappa$, which the student's logits approach but do not exceed, see
        `linear_cross_entropy`; no cap if not given.
      chunk_size: the maximum number of rows per chunk, as in `linear_cross_entropy`.
      axis_name: inside `shard_map`, the mesh axis (or axes) over which the classes of the student are split, as in
        `linear_cross_entropy`. The list is the same on all devices.
      n_classes: C, if there are more columns than classes, as in `linear_cross_entropy`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      As `linear_distillation_loss`. NaN for a sample with a class index that is out of range.

    Raises:
      ValueError: as `linear_distillation_loss`.
      TypeError: as `linear_distillation_loss`, or `teacher_classes` is not integer.

    Reference:
      As `distillation_loss` and `linear_cross_entropy`.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> hidden, kernel = jnp.array([[1.0], [2.0]]), jnp.array([[0.0, 0.0, 0.0, 0.0]])
      >>> best, classes = jnp.log(jnp.array([[0.5, 0.25], [0.25, 0.25]])), jnp.array([[0, 1], [2, 3]])
      >>> losses = jaxloss.linear_distillation_loss_from_top_k(hidden, kernel, best, classes, reduction="none")
      >>> print(losses.round(4))
      [0.1733 0.    ]
    """
    return _of_layer(
        functools.partial(_listed_row, classes),
        hidden,
        kernel,
        chunk_size=chunk_size,
        axis_name=axis_name,
        shared=given(bias=bias),
        options=given(temperature=temperature, logit_softcap=logit_softcap),
        fixed={"log_p": jnp.asarray(teacher_log_probabilities), "index": jnp.asarray(teacher_classes)},
    )


def _of_layer(
    row: chunks.Row,
    hidden: Vector,
    kernel: Vector,
    *,
    chunk_size: int | None,
    axis_name: AxisName | None,
    options: chunks.Arrays,
    **arrays: Any,
) -> BatchLoss:
    # Options are the same on all devices, but their gradients belong to the columns of each; that of a factor does not.
    own = {"factor": options["temperature"]} if "temperature" in options else {}
    layer = chunks.Layer.of(hidden, kernel, own=own, split=options, axis_name=axis_name, **arrays)
    given_row = row, Tilings.of(layer.kernels[0], chunk_size), layer
    return BatchLoss(functools.partial(chunks.losses, *given_row), functools.partial(chunks.weighted_sum, *given_row))


def _row(classes: ClassAxis, reverse: bool, logits: Array, shared: chunks.Arrays, own: chunks.Arrays) -> Array:
    x = capped_logits(logits, shared, own)
    if "teacher_logits" in own:
        t = own["teacher_logits"]
    else:
        bias = {"bias": jax.lax.stop_gradient(shared["teacher_bias"])} if "teacher_bias" in shared else {}
        t = capped_logits(own["second"], bias, own)
    x, t = classes.possible(x), classes.possible(t)
    return divergence_of(classes, reverse, own.get("factor", 1.0), own.get("temperature", 1.0), x, t)


def _listed_row(classes: ClassAxis, logits: Array, shared: chunks.Arrays, own: chunks.Arrays) -> Array:
    x = capped_logits(logits, shared, own)
    x = classes.possible(positive.tempered(x, own["temperature"]) if "temperature" in own else x)
    divergence = _entropy.entropy_of_listed(classes, classes.spread(jnp.exp(own["log_p"]), own["index"]), x)
    return times_square(own.get("factor", 1.0), divergence)
