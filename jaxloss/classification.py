"""Losses of class scores."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxloss import checks, numerics
from jaxloss.checks import Real, Vector
from jaxloss.lift import loss
from jaxloss.options import AxisOptions, ReductionOptions


@loss("(),()->()", domains={"prediction": "[0, 1]", "target": "[0, 1]"})
def binary_cross_entropy(prediction: Real, target: Real, **options: Unpack[ReductionOptions]) -> Array:
    r"""Cross-entropy of a yes-or-no decision, from its probability.

    $$l = -y \max(\log p, -100) - (1 - y) \max(\log(1 - p), -100)$$

    From a logit, `binary_cross_entropy_with_logits` is exact where the probability has long been rounded to 0 or 1.

    Args:
      prediction: floating in [0, 1], any shape `(...)`: $p$, the predicted probability of yes.
      target: real in [0, 1], the same shape: $y$, the probability of yes.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"` of the shape of the arguments. NaN for a prediction outside
      [0, 1]. The gradient is $(p - y) / \max(p (1 - p), 10^{-12})$, as PyTorch's.

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


_EPSILON = float(np.float32(1e-12))  # PyTorch's, which is a float32 in float64 as well


@jax.custom_jvp
def _binary_cross_entropy(prediction: Array, target: Array) -> Array:
    yes, no = _clamped_logs(prediction)
    return -(target * yes + (1 - target) * no)


@_binary_cross_entropy.defjvp
def _binary_cross_entropy_jvp(primals, tangents):
    prediction, target = primals
    yes, no = _clamped_logs(prediction)
    by_prediction = (prediction - target) / jnp.maximum(prediction * (1 - prediction), _EPSILON)
    change = by_prediction * tangents[0] + (no - yes) * tangents[1]
    return _binary_cross_entropy(prediction, target), change


def _clamped_logs(probability: Array) -> tuple[Array, Array]:
    return jnp.maximum(jnp.log(probability), -100), jnp.maximum(jnp.log1p(-probability), -100)


@loss("(),()->()", domains={"target": "[0, 1]", "pos_weight": "[0, inf)"})
def binary_cross_entropy_with_logits(
    logits: Real, target: Real, *, pos_weight: Real | None = None, **options: Unpack[ReductionOptions]
) -> Array:
    r"""Cross-entropy of a yes-or-no decision, from its logit.

    $$l = p\, y \log(1 + e^{-x}) + (1 - y) \log(1 + e^x)$$

    Args:
      logits: floating, any shape `(...)`: $x$, the log-odds of yes.
      target: real in [0, 1], the same shape: $y$, the probability of yes.
      pos_weight: at least 0: $p$, the weight of yes against no; 1 if not given. A number, or an array with one a
        sample; for an `(N, C)` call with one a column its shape is `(1, C)`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"` of the shape of the arguments.

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
        return numerics.logistic_cross_entropy(logits, target)
    return jnp.asarray(pos_weight * target * numerics.softplus(-logits) + (1 - target) * numerics.softplus(logits))


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
      ignore_index: samples with this target do not count.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"` of the shape of `target`. NaN for a sample whose target is
      out of range.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `log_probabilities` is not floating, or `target` not integer.

    Reference:
      Fisher, On the mathematical foundations of theoretical statistics, 1922, section 6.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> log_probabilities = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
      >>> print(jaxloss.nll_loss(log_probabilities, jnp.array([1, -100])).round(4))
      1.3863
    """
    return _class_weighted(-log_probabilities[target], target, class_weights)


@loss(
    "(c),()->()",
    "(c),(c)->()",
    indices={"target": "[0, c)"},
    domains={"target": "[0, 1]", "label_smoothing": "[0, 1]"},
    parameters={"class_weights": "(c)"},
    static=("ignore_index",),
)
def cross_entropy(
    logits: Vector,
    target: Vector | int,
    *,
    class_weights: Vector | None = None,
    ignore_index: int = -100,
    label_smoothing: Real = 0.0,
    **options: Unpack[AxisOptions],
) -> tuple[Array, Array | None]:
    r"""Cross-entropy between the softmax of logits and a class, or a distribution over classes.

    $$l = -\sum_c w_c\, q_c \log p_c, \qquad p = \operatorname{softmax}(x), \qquad
    q_c = (1 - \varepsilon)\, t_c + \varepsilon / C, \qquad n = w_y \text{ or } 1$$

    with $t$ one-hot at $y$ for a class index (normaliser $w_y$), or the given distribution (normaliser 1).

    Args:
      logits: floating `(..., C)`: $x$. A class with logit -inf is impossible, and contributes 0 where its target is 0.
      target: integer `(...)`, the right class in [0, C); or floating `(..., C)`, the probability of each class, under
        `jaxloss.data_checks` to a sum of 1 within 0.01.
      class_weights: real `(C,)`: $w$; 1 if not given.
      ignore_index: samples with this class index do not count.
      label_smoothing: in [0, 1]: $\varepsilon$. A number, or an array with one a sample.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"` one loss a sample. NaN for a sample whose class index is out
      of range.

    Raises:
      ValueError: shapes do not fit, `label_smoothing` is outside [0, 1], or `ignore_index` is given with a floating
        target.
      TypeError: `logits` is not floating.

    Reference:
      Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990; Szegedy et al.,
      Rethinking the Inception architecture, CVPR 2016, section 7 (label smoothing).

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> logits = jnp.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
      >>> print(jaxloss.cross_entropy(logits, jnp.array([0, 2]), reduction="none").round(4))
      [0.2395 1.0986]
      >>> print(f"{jaxloss.cross_entropy(logits, jnp.array([0, 2]), label_smoothing=0.1):.4f}")
      0.7357
    """
    if jnp.ndim(target):
        _require_distribution(jnp.asarray(target))
    return softmax_cross_entropy(logits, target, class_weights, label_smoothing)


def softmax_cross_entropy(
    logits: Vector, target: Vector | int, class_weights: Vector | None, label_smoothing: Real
) -> tuple[Array, Array | None]:
    """The loss of `cross_entropy` for one sample, and its normaliser."""
    # The maximum is taken off before anything is added, so that large logits lose no digits.
    maximum = lax.stop_gradient(jnp.max(logits))
    log_normaliser = jnp.log(jnp.sum(jnp.exp(logits - maximum)))

    def surprise(scores: Vector) -> Array:
        return log_normaliser - (scores - maximum)

    def expected_surprise(probabilities: Real) -> Array:
        weights = probabilities if class_weights is None else probabilities * class_weights
        # A class of probability 0 contributes 0 even where its surprise is infinite.
        return jnp.sum(numerics.weighted(weights, surprise(logits)))

    if jnp.ndim(target) == 0:
        cross, normaliser = _class_weighted(surprise(logits[target]), target, class_weights)
    else:
        cross, normaliser = expected_surprise(jnp.asarray(target)), None
    if isinstance(label_smoothing, Array):  # not left at 0
        cross = numerics.weighted(1 - label_smoothing, cross) + expected_surprise(label_smoothing / logits.size)
    return cross, normaliser


def _class_weighted(surprise: Array, target: Vector | int, class_weights: Vector | None) -> tuple[Array, Array | None]:
    if class_weights is None:
        return surprise, None
    weight = class_weights[target]
    return numerics.weighted(weight, surprise), weight


def _require_distribution(target: Vector) -> None:
    total = jnp.sum(target)
    message = "cross_entropy: target sums to {value} over the classes but takes probabilities that sum to 1"
    checks.require(jnp.abs(total - 1) < 0.01, message, value=total)
