"""Losses of class scores."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloss import _data_checks as checks
from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss._arrays import Boolean, Real, Vector
from jaxloss._class_axis import ClassAxis
from jaxloss._decorator.lift import loss
from jaxloss._lookup import at_class
from jaxloss._sharding import AxisName
from jaxloss.losses.softmax import softmax_cross_entropy, weighted_by_class
from jaxloss.options import AxisOptions, ReductionOptions


@loss("(),()->()", domains={"prediction": "[0, 1]", "target": "[0, 1]"})
def binary_cross_entropy(prediction: Real, target: Real, **options: Unpack[ReductionOptions]) -> Array:
    r"""Binary cross-entropy, from probabilities.

    $$l = -y \max(\log p, -100) - (1 - y) \max(\log(1 - p), -100)$$

    For logits, use `binary_cross_entropy_with_logits`, which is exact where the probability rounds to 0 or 1.

    Args:
      prediction: floating in [0, 1], any shape `(...)`: $p$, the predicted probability of the positive class.
      target: real in [0, 1], the same shape: $y$, the probability of the positive class.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments. NaN for a prediction outside
      [0, 1]. The gradient is $(p - y) / \max(p (1 - p), 10^{-12})$, as in PyTorch.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `prediction` is not floating.

    Reference:
      PyTorch documentation, `torch.nn.functional.binary_cross_entropy` (the clamps).

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.binary_cross_entropy(jnp.array([0.5, 0.0]), jnp.array([1, 1]), reduction="none").round(4))
      [  0.6931 100.    ]
    """
    return _binary_cross_entropy(prediction, target)


_EPSILON = float(np.float32(1e-12))  # PyTorch's, a float32 for float64 inputs as well


@jax.custom_jvp
def _binary_cross_entropy(prediction: Array, target: Array) -> Array:
    yes, no = _clamped_logs(prediction)
    return -(1 - target) * no - target * yes


@_binary_cross_entropy.defjvp
def _binary_cross_entropy_jvp(primals, tangents):
    prediction, target = primals
    yes, no = _clamped_logs(prediction)
    variance = prediction * (numerics.unshared(1.0) - prediction)
    by_prediction = (prediction - target) / jnp.maximum(variance, _EPSILON)
    change = by_prediction * tangents[0] + (no - yes) * tangents[1]
    return _binary_cross_entropy(prediction, target), change


def _clamped_logs(probability: Array) -> tuple[Array, Array]:
    logs = jnp.log(probability), numerics.log_complement(probability)
    return numerics.at_least(logs[0], -100.0), numerics.at_least(logs[1], -100.0)


@loss("(),()->()", domains={"target": "[0, 1]", "pos_weight": "[0, inf)"})
def binary_cross_entropy_with_logits(
    logits: Real, target: Real, *, pos_weight: Real | None = None, **options: Unpack[ReductionOptions]
) -> Array:
    r"""Binary cross-entropy, from logits.

    $$l = p\, y \log(1 + e^{-x}) + (1 - y) \log(1 + e^x)$$

    Args:
      logits: floating, any shape `(...)`: $x$, the log-odds of the positive class. For infinite log-odds, the loss is 0
        if the target is as sure, and else infinite.
      target: real in [0, 1], the same shape: $y$, the probability of the positive class.
      pos_weight: at least 0: $p$, the weight of the positive class relative to the negative one; 1 if not given. One
        number for all samples, or an array with one number per sample. One per column of an `(N, C)` call has shape
        `(1, C)`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, or `pos_weight` is negative.
      TypeError: `logits` is not floating.

    Reference:
      Cox, The regression analysis of binary sequences, JRSS B 20, 1958.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> losses = jaxloss.binary_cross_entropy_with_logits(
      ...     jnp.array([0.0, 100.0, -100.0]), jnp.array([1, 1, 1]), reduction="none")
      >>> print(losses.round(4))
      [  0.6931   0.     100.    ]
    """
    if pos_weight is None:
        return logistic.logistic_cross_entropy(logits, target)
    return logistic.weighted_logistic_cross_entropy(logits, target, pos_weight)


@loss("(c),()->()", indices={"target": "[0, c)"}, parameters={"class_weights": "(c)"}, static=("ignore_index",))
def nll_loss(
    log_probabilities: Vector,
    target: Vector | int,
    *,
    class_weights: Vector | None = None,
    ignore_index: int = -100,
    **options: Unpack[AxisOptions],
) -> tuple[Array, Array | None]:
    r"""Negative log-likelihood of the right class.

    $$l = -w_y \log p_y, \qquad n = w_y$$

    Args:
      log_probabilities: floating `(..., C)`: $\log p$.
      target: integer `(...)`: $y$, the right class in [0, C).
      class_weights: real `(C,)`: $w$, also the normaliser of the mean; 1 if not given.
      ignore_index: samples with this target are ignored.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of `target`. NaN for a sample whose target is
      out of range.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `log_probabilities` is not floating, or `target` is not integer.

    Reference:
      Fisher, On the mathematical foundations of theoretical statistics, 1922, section 6.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> log_probabilities = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
      >>> print(jaxloss.nll_loss(log_probabilities, jnp.array([1, -100])).round(4))
      1.3863
    """
    weight = None if class_weights is None else at_class(class_weights, target)
    return weighted_by_class(-at_class(log_probabilities, target), weight)


@loss(
    "(c),()->()",
    "(c),(c)->()",
    indices={"target": "[0, c)"},
    domains={
        "target": "[0, 1]",
        "label_smoothing": "[0, 1]",
        "z_loss": "[0, inf)",
        "logit_softcap": "(0, inf)",
    },
    parameters={"class_weights": "(c)"},
    static=("ignore_index",),
    split="c",
)
def cross_entropy(
    classes: ClassAxis,
    logits: Vector,
    target: Vector | int,
    *,
    class_weights: Vector | None = None,
    ignore_index: int = -100,
    label_smoothing: Real = 0.0,
    z_loss: Real = 0.0,
    logit_softcap: Real | None = None,
    valid: Boolean | None = None,
    axis_name: AxisName | None = None,
    n_classes: int | None = None,
    **options: Unpack[AxisOptions],
) -> tuple[Array, Array | None]:
    r"""Cross-entropy between the softmax of the logits and the target class or distribution.

    $$x \leftarrow \kappa \tanh(x / \kappa), \qquad
    l = -\sum_c w_c\, q_c \log p_c + \zeta \Bigl(\log \sum_c e^{x_c}\Bigr)^2, \qquad n = w_y \text{ or } 1$$

    $$p = \operatorname{softmax}(x), \qquad q_c = (1 - \varepsilon)\, t_c + \varepsilon / C$$

    where $t$ is one-hot at $y$ for a class index (normaliser $w_y$), or the given distribution (normaliser 1). Sums run
    over the possible classes, and C is their number. The first step applies only if a soft cap $\kappa$ is given.

    Args:
      logits: floating `(..., C)`: $x$. A class with logit -inf is impossible, and contributes 0 if its target is 0.
      target: integer `(...)`, the right class in [0, C); or floating `(..., C)`, the probability of each class. Under
        `jaxloss.data_checks`, the probabilities must sum to 1 within 0.01.
      class_weights: real `(C,)`: $w$; 1 if not given.
      ignore_index: samples with this class index are ignored.
      label_smoothing: in [0, 1]: $\varepsilon$. A number, or an array with one value per sample.
      z_loss: at least 0: $\zeta$, which keeps $\sum_c e^{x_c}$ near 1. A number, or an array with one
        value per sample. Class weights and smoothing do not affect this term.
      logit_softcap: above 0: $\kappa$, which the logits approach but do not exceed; no cap if not given. With a cap,
        a logit of -inf counts as $-\kappa$: use `valid` for classes that are impossible.
      valid: boolean `(..., C)` or `(C,)`: which classes are possible. The logits and soft targets of other classes have
        no effect, and the remaining targets are not rescaled. None means that all classes are possible.
      axis_name: inside `shard_map`, the mesh axis (or axes) over which the classes are split. `logits`, soft targets,
        `valid` and `class_weights` are then the columns of this device, the same number on each. Class indices count
        over all devices. Devices exchange the maximum of a sample and one message of a few numbers, never logits.
      n_classes: the number of classes, if there are more columns. The last columns over all devices are then padding,
        and their contents have no effect. None means that every column is a class.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar, the same on every device of `axis_name`; with `reduction="none"`, one loss per sample.
      NaN for a sample whose class index is out of range or not valid. On a CPU, a loss is rounded to 1e-7 in float32;
      on other platforms, that of a confident prediction keeps its digits, unless it is smoothed.

    Raises:
      ValueError: shapes do not fit, an option is out of its range, `ignore_index` is given with a floating target, no
        axis is called `axis_name`, or `n_classes` exceeds the number of columns of all devices.
      TypeError: `logits` is not floating.

    Reference:
      Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990; Szegedy et al.,
      Rethinking the Inception architecture, CVPR 2016, section 7 (label smoothing); Shoeybi et al., Megatron-LM, 2019,
      section 3 (classes split over devices); Chowdhery et al., PaLM, JMLR 2023, section 5 (z-loss);
      Gemma Team, Gemma 2, 2024, section 2 (soft-capping).

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> logits = jnp.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
      >>> print(jaxloss.cross_entropy(logits, jnp.array([0, 2]), reduction="none").round(4))
      [0.2395 1.0986]
      >>> print(f"{jaxloss.cross_entropy(logits, jnp.array([0, 2]), label_smoothing=0.1):.4f}")
      0.7357
    """
    if jnp.ndim(target) and classes.valid is None and checks.data_checks_enabled():
        (total,) = classes.sums(jnp.sum(jnp.asarray(target)))
        checks.require_sums_to_1("cross_entropy", "target", total, 0.01)
    return softmax_cross_entropy(classes, logits, target, class_weights, label_smoothing, z_loss, logit_softcap)
