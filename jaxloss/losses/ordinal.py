"""Losses of classes that have an order."""

from __future__ import annotations

from typing import Unpack

import jax.numpy as jnp
from jax import Array

from jaxloss import _logistic as logistic
from jaxloss._arrays import Vector
from jaxloss._decorator.lift import loss
from jaxloss.options import AxisOptions


@loss("(k),()->()", indices={"target": "[0, k]"})
def coral_loss(logits: Vector, target: Vector | int, **options: Unpack[AxisOptions]) -> Array:
    r"""Ordinal regression as one binary decision per threshold: whether the class lies above it.

    $$l = -\sum_{k=0}^{K-1} \bigl( 1[y > k] \log \sigma(x_k) + 1[y \le k] \log \sigma(-x_k) \bigr)$$

    $K + 1$ classes have $K$ thresholds. CORAL computes the logits as one score with a bias for each threshold,
    $x_k = s + b_k$, so that the decisions never contradict each other; the predicted class is the number of positive
    logits.

    Args:
      logits: floating `(..., K)`: $x$, of $P(y > k)$ for each threshold.
      target: integer `(...)`: $y$, the right class in [0, K].
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of `target`. NaN for a sample whose target is
      out of range.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `logits` is not floating, or `target` is not integer.

    Reference:
      Cao, Mirjalili and Raschka, Rank consistent ordinal regression for neural networks with application to age
      estimation, Pattern Recognition Letters 140, 2020, equation 4, with weights of 1.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> score, biases = jnp.array([[1.0], [-1.0]]), jnp.array([[2.0, 0.0, -2.0]])
      >>> print(f"{jaxloss.coral_loss(score + biases, jnp.array([2, 0])):.4f}")
      1.1751
    """
    is_above = jnp.asarray(target) > jnp.arange(logits.size, dtype=jnp.result_type(target))
    return jnp.sum(logistic.logistic_cross_entropy(logits, is_above.astype(logits.dtype)))
