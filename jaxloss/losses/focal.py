"""Binary cross-entropies that weigh a sample by the probability that it gives to its class."""

from __future__ import annotations

from typing import Unpack

from jax import Array

from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss import _special as special
from jaxloss import kinks
from jaxloss._arrays import Real
from jaxloss._decorator.lift import loss
from jaxloss._kept_gradient import keep_gradient
from jaxloss.options import ReductionOptions


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
