"""Cross-entropies that weigh a sample by the probability that it gives to its class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss import _special as special
from jaxloss import kinks
from jaxloss._arrays import Real, Vector
from jaxloss._decorator.lift import loss
from jaxloss._kept_gradient import keep_gradient
from jaxloss._lookup import at_class
from jaxloss.losses.softmax import weighted_by_class
from jaxloss.options import AxisOptions, ReductionOptions


@loss("(),()->()", domains={"target": "[0, 1]", "alpha": "[0, 1]", "gamma": "[0, inf)"})
def sigmoid_focal_loss(
    logits: Real, target: Real, *, alpha: Real | None = None, gamma: Real = 2.0, **options: Unpack[ReductionOptions]
) -> Array:
    r"""Focal loss of binary classification: cross-entropy that scales down easy samples.

    $$l = \alpha_y (1 - p_y)^\gamma \bigl( -y \log \sigma(x) - (1 - y) \log \sigma(-x) \bigr), \qquad
    p_y = y \sigma(x) + (1 - y) \sigma(-x)$$

    with $\alpha_y = y \alpha + (1 - y)(1 - \alpha)$, or 1 if $\alpha$ is not given.

    Args:
      logits: floating, any shape `(...)`: $x$.
      target: real in [0, 1], the same shape: $y$, the probability of the positive class.
      alpha: in [0, 1]: $\alpha$, the weight of the positive class, beside $1 - \alpha$ for the negative one. None means
        a weight of 1 for both. A number, or an array with one value per sample.
      gamma: at least 0: $\gamma$; 0 gives `binary_cross_entropy_with_logits`. A number, or an array with one value per
        sample.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, `alpha` is outside [0, 1], or `gamma` is negative.
      TypeError: `logits` is not floating.

    Reference:
      Lin et al., Focal loss for dense object detection, ICCV 2017, equation 5.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> logits, target = jnp.array([0.0, 4.0, 4.0]), jnp.array([1, 1, 0])
      >>> print(jaxloss.sigmoid_focal_loss(logits, target, alpha=0.25, reduction="none").round(4))
      [0.0433 0.     2.9062]
    """

    def formula(logits: Real, target: Real, alpha: Real | None, gamma: Real) -> Array:
        focus = special.power(special.mixed_complement(logits, target), gamma)
        cross_entropy = logistic.logistic_cross_entropy(logits, target)
        if alpha is None:
            return numerics.weighted(focus, cross_entropy)
        return numerics.twice_weighted(focus, alpha * target + (1 - alpha) * (1 - target), cross_entropy)

    return keep_gradient(formula, logits, target, alpha, gamma, recompute=True)


@loss(
    "(c),()->()",
    "(c),(c)->()",
    indices={"target": "[0, c)"},
    domains={"target": "[0, 1]", "gamma": "[0, inf)"},
    parameters={"class_weights": "(c)"},
)
def softmax_focal_loss(
    logits: Vector,
    target: Vector | int,
    *,
    gamma: Real = 2.0,
    class_weights: Vector | None = None,
    ignore_index: int = -100,
    **options: Unpack[AxisOptions],
) -> tuple[Array, Array | None]:
    r"""Focal loss of several classes: cross-entropy that scales down easy samples.

    $$l = -\sum_c w_c\, q_c\, (1 - p_c)^\gamma \log p_c, \qquad p = \operatorname{softmax}(x), \qquad
    n = w_y \text{ or } 1$$

    where $q$ is one-hot at $y$ for a class index (normaliser $w_y$), or the given distribution (normaliser 1).

    Args:
      logits: floating `(..., C)`: $x$. A class with logit -inf is impossible, and contributes 0 if its target is 0.
      target: integer `(...)`, the right class in [0, C); or floating `(..., C)`, the probability of each class.
      gamma: at least 0: $\gamma$; 0 gives `cross_entropy`. A number, or an array with one value per sample.
      class_weights: real `(C,)`: $w$; 1 if not given.
      ignore_index: samples with this class index are ignored.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sample. NaN for a sample whose class index is
      out of range.

    Raises:
      ValueError: shapes do not fit, `gamma` is negative, or `ignore_index` is given with a floating target.
      TypeError: `logits` is not floating.

    Reference:
      Lin et al., Focal loss for dense object detection, ICCV 2017, section 3.2.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> logits = jnp.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
      >>> print(jaxloss.softmax_focal_loss(logits, jnp.array([0, 2]), reduction="none").round(4))
      [0.0109 0.4883]
    """

    def focal(log_p: Array, gamma: Real) -> Array:
        return numerics.weighted(special.power(special.complement(log_p), gamma), -log_p)

    return _sum_over_classes(focal, gamma, logits, target, class_weights)


@loss(
    "(c),()->()",
    "(c),(c)->()",
    indices={"target": "[0, c)"},
    domains={"target": "[0, 1]"},
    parameters={"class_weights": "(c)"},
)
def poly_loss_cross_entropy(
    logits: Vector,
    target: Vector | int,
    *,
    epsilon: Real = 2.0,
    class_weights: Vector | None = None,
    ignore_index: int = -100,
    **options: Unpack[AxisOptions],
) -> tuple[Array, Array | None]:
    r"""PolyLoss: cross-entropy with another coefficient of the first term of its series in $1 - p$.

    $$l = \sum_c w_c\, q_c \bigl( -\log p_c + \varepsilon (1 - p_c) \bigr), \qquad p = \operatorname{softmax}(x), \qquad
    n = w_y \text{ or } 1$$

    where $q$ is one-hot at $y$ for a class index (normaliser $w_y$), or the given distribution (normaliser 1).

    Args:
      logits: floating `(..., C)`: $x$. A class with logit -inf is impossible, and contributes 0 if its target is 0.
      target: integer `(...)`, the right class in [0, C); or floating `(..., C)`, the probability of each class.
      epsilon: $\varepsilon$; 0 gives `cross_entropy`. A number, or an array with one value per sample.
      class_weights: real `(C,)`: $w$; 1 if not given.
      ignore_index: samples with this class index are ignored.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sample. NaN for a sample whose class index is
      out of range.

    Raises:
      ValueError: shapes do not fit, or `ignore_index` is given with a floating target.
      TypeError: `logits` is not floating.

    Reference:
      Leng et al., PolyLoss: a polynomial expansion perspective of classification loss functions, ICLR 2022, section 4.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> logits = jnp.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
      >>> print(jaxloss.poly_loss_cross_entropy(logits, jnp.array([0, 2]), reduction="none").round(4))
      [0.6656 2.4319]
    """
    return _sum_over_classes(lambda log_p, e: -log_p - e * jnp.expm1(log_p), epsilon, logits, target, class_weights)


@loss(
    "(c),()->()",
    indices={"target": "[0, c)"},
    domains={"q": "[0, 1]"},
    parameters={"class_weights": "(c)"},
)
def generalized_cross_entropy(
    logits: Vector,
    target: Vector | int,
    *,
    q: Real = 0.7,
    class_weights: Vector | None = None,
    ignore_index: int = -100,
    **options: Unpack[AxisOptions],
) -> tuple[Array, Array | None]:
    r"""Generalised cross-entropy, which noisy labels affect less: between cross-entropy and the mean absolute error.

    $$l = w_y \frac{1 - p_y^q}{q}, \qquad p = \operatorname{softmax}(x), \qquad n = w_y$$

    At $q = 0$ it is `cross_entropy`, its limit; at $q = 1$ it is $1 - p_y$, half of the absolute error of $p$.

    Args:
      logits: floating `(..., C)`: $x$. A class with logit -inf is impossible.
      target: integer `(...)`: $y$, the right class in [0, C).
      q: in [0, 1]: $q$. A number, or an array with one value per sample.
      class_weights: real `(C,)`: $w$; 1 if not given.
      ignore_index: samples with this class index are ignored.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sample. NaN for a sample whose class index is
      out of range.

    Raises:
      ValueError: shapes do not fit, or `q` is outside [0, 1].
      TypeError: `logits` is not floating, or `target` is not integer.

    Reference:
      Zhang and Sabuncu, Generalized cross entropy loss for training deep neural networks with noisy labels, NeurIPS
      2018, equation 6.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> logits = jnp.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
      >>> print(f"{jaxloss.generalized_cross_entropy(logits, jnp.array([0, 2])):.4f}")
      0.4935
    """
    return _sum_over_classes(special.missing_power, q, logits, target, class_weights)


def _sum_over_classes(
    loss: Callable[..., Array], parameter: Real, logits: Vector, target: Vector | int, class_weights: Vector | None
) -> tuple[Array, Array | None]:
    """The sum of w q f(log p) over the classes, for a loss f that has a parameter as well, and the normaliser."""
    maximum = lax.stop_gradient(jnp.max(logits))
    scores = numerics.difference(jnp.asarray(logits), maximum)
    log_normaliser = jnp.log(jnp.sum(jnp.exp(scores)))
    if jnp.ndim(target) == 0:
        # Look up the logit, not its logarithm of a probability, all of which XLA:CPU would write to memory.
        log_p = numerics.difference(at_class(logits, target), maximum) - log_normaliser
        weights = [] if class_weights is None else [at_class(class_weights, target)]
        return weighted_by_class(loss(log_p, parameter), *weights)
    # A class of probability 0 contributes 0 even where its loss is infinite.
    masses = target if class_weights is None else target * class_weights

    def total(log_p: Array, masses: Array, parameter: Real) -> Array:
        return jnp.sum(numerics.weighted(masses, loss(log_p, parameter)))

    return keep_gradient(total, scores - log_normaliser, masses, parameter, recompute=True), None


@loss(
    "(),()->()",
    domains={"target": "{0, 1}", "gamma_negative": "[0, inf)", "gamma_positive": "[0, inf)", "clip": "[0, 1]"},
)
def asymmetric_loss(
    logits: Real,
    target: Real,
    *,
    gamma_negative: Real = 4.0,
    gamma_positive: Real = 1.0,
    clip: Real = 0.05,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""Focal loss of multi-label classification that scales down, and below a probability drops, easy negative labels.

    $$l = -y\, (1 - p)^{\gamma_+} \log p - (1 - y)\, p_m^{\gamma_-} \log(1 - p_m), \qquad p = \sigma(x), \qquad
    p_m = \max(0,\, p - m)$$

    Args:
      logits: floating, any shape `(...)`: $x$.
      target: 0 or 1, the same shape: $y$.
      gamma_negative: at least 0: $\gamma_-$. A number, or an array with one value per sample.
      gamma_positive: at least 0: $\gamma_+$. A number, or an array with one value per sample.
      clip: in [0, 1]: $m$. The loss of a negative label is 0 up to this probability. A number, or an array with one
        value per sample.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, `clip` is outside [0, 1], or an exponent is negative.
      TypeError: `logits` is not floating.

    Reference:
      Ridnik et al., Asymmetric loss for multi-label classification, ICCV 2021, equation 7.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> logits, target = jnp.array([0.0, 0.0, -3.0]), jnp.array([1, 0, 0])
      >>> print(jaxloss.asymmetric_loss(logits, target, reduction="none").round(4))
      [0.3466 0.0245 0.    ]
    """

    def formula(logits: Real, target: Real, gamma_negative: Real, gamma_positive: Real, clip: Real) -> Array:
        # Not the logarithm of 1 - p + m, of which few digits are left where p is near 1 and m is 0.
        miss = kinks.positive_part(-special.log_sum(-logistic.softplus(logits), clip))
        shifted = kinks.positive_part(special.logistic(logits) - clip)
        focus = special.power(special.logistic(-logits), gamma_positive)
        positive = numerics.weighted(focus, logistic.softplus(-logits))
        negative = numerics.weighted(special.power(shifted, gamma_negative), miss)
        return numerics.weighted(target, positive) + numerics.weighted(1 - target, negative)

    return keep_gradient(formula, logits, target, gamma_negative, gamma_positive, clip, recompute=True)
