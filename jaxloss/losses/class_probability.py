"""Losses that are functions of the probability of the right class, as cross-entropy is of its logarithm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss import _special as special
from jaxloss._arrays import Real, Vector
from jaxloss._decorator.lift import loss
from jaxloss._kept_gradient import keep_gradient
from jaxloss._lookup import at_class, leaves_out, sum_of_others
from jaxloss.losses.softmax import weighted_by_class
from jaxloss.options import AxisOptions


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
      out of range. On a CPU, a probability is rounded to 1e-7 in float32, as in `cross_entropy`.

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
      out of range. On a CPU, a probability is rounded to 1e-7 in float32, as in `cross_entropy`.

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
      out of range. On a CPU, a probability is rounded to 1e-7 in float32, as in `cross_entropy`.

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
    if jnp.ndim(target) == 0:
        # Look up the logit, not its logarithm of a probability, all of which XLA:CPU would write to memory.
        score, rest = numerics.difference(at_class(logits, target), maximum), sum_of_others(jnp.exp(scores), target)
        surprise, _ = numerics.surprise(score, rest, leaves_out())
        weights = [] if class_weights is None else [at_class(class_weights, target)]
        return weighted_by_class(keep_gradient(loss, -surprise, parameter), *weights)

    def total(log_p: Array, target: Vector, class_weights: Vector | None, parameter: Real) -> Array:
        # A class of probability 0 contributes 0 even where its loss is infinite.
        masses = jnp.asarray(target if class_weights is None else target * class_weights)
        return jnp.sum(numerics.weighted(masses, loss(log_p, parameter)))

    log_p = scores - jnp.log(jnp.sum(jnp.exp(scores)))
    return keep_gradient(total, log_p, target, class_weights, parameter, recompute=True), None
