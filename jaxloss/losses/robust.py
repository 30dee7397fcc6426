"""Losses of real-valued predictions that outliers hardly affect."""

from __future__ import annotations

from typing import Unpack

import jax.numpy as jnp
from jax import Array

from jaxloss import _general_robust as robust
from jaxloss import _positive as positive
from jaxloss import _special as special
from jaxloss._arrays import Real
from jaxloss._decorator.lift import loss
from jaxloss.options import ReductionOptions, is_given


@loss("(),()->()")
def log_cosh(prediction: Real, target: Real, **options: Unpack[ReductionOptions]) -> Array:
    r"""Logarithm of the hyperbolic cosine of the error: a parabola near 0, straight lines far from it.

    $$l = \log \cosh (x - y)$$

    It is about $(x - y)^2 / 2$ for small errors and $|x - y| - \log 2$ for large ones, with derivatives of all orders
    between them. All digits are right, also for small errors.

    Args:
      prediction: floating, any shape `(...)`: $x$.
      target: real, the same shape: $y$.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `prediction` is not floating.

    Reference:
      Chen et al., Log hyperbolic cosine loss improves variational auto-encoder, 2018, equation 6.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> losses = jaxloss.log_cosh(jnp.array([1.0, 50.0]), jnp.array([0.0, 0.0]), reduction="none")
      >>> print(", ".join(f"{each:.4f}" for each in losses))
      0.4338, 49.3069
    """
    return special.log_cosh(prediction - target)


@loss("(),()->()", domains={"alpha": "[-inf, inf]", "scale": "(0, inf)"})
def general_robust_loss(
    prediction: Real,
    target: Real,
    *,
    alpha: Real = 1.0,
    scale: Real = 1.0,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""A family of robust losses, with a parameter that says how little outliers count.

    $$l = \begin{cases} z / 2 & \alpha = 2 \\ \log(z / 2 + 1) & \alpha = 0 \\ 1 - e^{-z / 2} & \alpha = -\infty \\
    \dfrac{|\alpha - 2|}{\alpha} \Bigl( \bigl( \dfrac{z}{|\alpha - 2|} + 1 \bigr)^{\alpha / 2} - 1 \Bigr) &
    \text{else} \end{cases} \qquad z = \Bigl( \frac{x - y}{c} \Bigr)^2$$

    It is the squared error at $\alpha = 2$, a smooth absolute error (Charbonnier, pseudo-Huber) at 1, Cauchy's loss at
    0, that of Geman and McClure at -2, and Welsch's at $-\infty$. Both parameters can be learned. The loss alone makes
    $\alpha$ as small as possible, so add a penalty, such as the logarithm of the distribution's normaliser. The
    derivative with respect to $\alpha$ grows without bound towards 2, and is some finite number at 2 itself.

    Args:
      prediction: floating, any shape `(...)`: $x$.
      target: real, the same shape: $y$.
      alpha: $\alpha$, any real number or an infinity. A number, or an array with one number per sample.
      scale: $c$, above 0, the size of errors that are not outliers. A number, or an array with one number per sample.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, or `scale` is not above 0.
      TypeError: `prediction` is not floating.

    Reference:
      Barron, A general and adaptive robust loss function, CVPR 2019, equation 8.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> for alpha in (2, 1, 0, -jnp.inf):
      ...     print(f"{jaxloss.general_robust_loss(jnp.array([4.0]), jnp.array([0.0]), alpha=alpha, scale=2.0):.4f}")
      2.0000
      1.2361
      1.0986
      0.8647
    """
    error = jnp.subtract(prediction, target)
    if is_given(scale):
        error = positive.quotient(error, positive.normal(jnp.asarray(scale)))
    return robust.general_robust(error, alpha) if is_given(alpha) else robust.pseudo_huber(error)
