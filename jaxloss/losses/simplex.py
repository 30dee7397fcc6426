"""Losses of a projection onto the simplex, and of any other regularised choice of a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from jaxloss import _numerics as numerics
from jaxloss import _special as special
from jaxloss._arrays import Real, Vector
from jaxloss._decorator.lift import loss
from jaxloss._errors import as_returned_number, require_unary
from jaxloss.options import AxisOptions, ReductionOptions


@loss("(),()->()", domains={"target": "{0, 1}"})
def sparsemax_loss(logits: Real, target: Real, **options: Unpack[ReductionOptions]) -> Array:
    r"""Sparsemax loss of binary classification: exactly 0 for a sample that is right by a margin.

    $$l = \begin{cases} 0 & s \le -1 \\ (s + 1)^2 / 4 & -1 < s < 1 \\ s & s \ge 1 \end{cases} \qquad s = x (1 - 2 y)$$

    Args:
      logits: floating, any shape `(...)`: $x$.
      target: 0 or 1, the same shape: $y$.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `logits` is not floating.

    Reference:
      Blondel et al., Learning with Fenchel-Young losses, JMLR 21, 2020, section 4.4.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.sparsemax_loss(jnp.array([2.0, 0.0, 2.0]), jnp.array([1, 1, 0]), reduction="none"))
      [0.   0.25 2.  ]
    """
    signed = numerics.product(1 - 2 * target, logits)
    return jnp.where(signed >= 1, signed, numerics.square(jnp.clip(signed, -1, 1) + 1) / 4)


@loss("(c),()->()", indices={"target": "[0, c)"})
def multiclass_sparsemax_loss(logits: Vector, target: Vector | int, **options: Unpack[AxisOptions]) -> Array:
    r"""Sparsemax loss: that of a softmax which gives most classes a probability of exactly 0.

    $$l = \tfrac12 \bigl( 1 - \lVert p \rVert^2 \bigr) + \langle p, x \rangle - x_y$$

    where $p$, the sparsemax of $x$, is the point of the simplex that is nearest to $x$. The loss is 0 if the right
    class leads by 1.

    Args:
      logits: floating `(..., C)`: $x$, a score for each class.
      target: integer `(...)`: $y$, the right class in [0, C).
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of `target`. NaN for a sample whose target is
      out of range.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `logits` is not floating, or `target` is not integer.

    Reference:
      Martins and Astudillo, From softmax to sparsemax, ICML 2016, equation 16.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> logits, target = jnp.array([[2.0, 0.5, 0.0], [0.5, 0.0, 0.0]]), jnp.array([0, 1])
      >>> print(jaxloss.multiclass_sparsemax_loss(logits, target, reduction="none").round(4))
      [0.     0.5833]
    """
    return _multiclass_sparsemax(logits, jnp.arange(logits.size, dtype=jnp.result_type(target)) == target)


@jax.custom_jvp
def _multiclass_sparsemax(logits: Vector, is_right: Array) -> Array:
    scores = numerics.difference(logits, jnp.max(logits))
    probabilities, threshold = special.nearest_in_simplex(logits)
    right = jnp.sum(jnp.where(is_right, scores, 0))
    # The formula with p = x - threshold, of which no term is negative, so that none cancels. Halves do not overflow.
    below = jnp.maximum(threshold - right, 0)
    wrong = jnp.where(is_right, 0, probabilities)
    lead = jnp.maximum(scores, -1) - right
    return jnp.sum(numerics.weighted(wrong, (1 + lead) / 2 + below / 2))


@_multiclass_sparsemax.defjvp
def _multiclass_sparsemax_jvp(primals, tangents):
    logits, is_right = primals
    probabilities, _ = special.nearest_in_simplex(logits)
    # The probabilities maximise what the loss is a maximum of, so their change has no part in the slope.
    return _multiclass_sparsemax(logits, is_right), jnp.sum(
        jnp.where(is_right, probabilities - 1, probabilities) * tangents[0]
    )


@loss("(c),(c)->()", static=("max_fun",))
def fenchel_young_loss(
    scores: Vector,
    target: Vector,
    *,
    max_fun: Callable[[Array], Any] = logsumexp,
    **options: Unpack[AxisOptions],
) -> Array:
    r"""Fenchel-Young loss: how far the score of the target lies below a regularised maximum of all scores.

    $$l = \Omega^*(x) - \langle y, x \rangle, \qquad \Omega^*(x) = \max_p\, \langle p, x \rangle - \Omega(p)$$

    Its gradient with respect to $x$ is $p - y$, where $p$ attains the maximum. With the default, $\Omega$ is the
    negative entropy, and the loss of a distribution $y$ is `cross_entropy`.

    Args:
      scores: floating `(..., C)`: $x$.
      target: real `(..., C)`: $y$, usually one-hot, a distribution, or a vertex of a polytope of structures.
      max_fun: $\Omega^*$, which maps a vector `(C,)` to a number; by default, the logarithm of the sum of the
        exponentials. It is static: pass the same function object each time, not a new lambda.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sample. $\Omega(y)$ is not added, so the minimum
      is $-\Omega(y)$, which is 0 for a one-hot target and the default.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `scores` is not floating, or `max_fun` does not map a vector to a real number.

    Reference:
      Blondel et al., Learning with Fenchel-Young losses, JMLR 21, 2020, definition 2.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> scores, target = jnp.array([[2.0, 0.0, 1.0]]), jnp.array([[0.0, 0.0, 1.0]])
      >>> print(f"{jaxloss.fenchel_young_loss(scores, target):.4f}")
      1.4076
      >>> print(jaxloss.fenchel_young_loss(scores, target, max_fun=jnp.max))
      1.0
    """
    require_unary("fenchel_young_loss", "max_fun", max_fun, "a vector")
    highest = as_returned_number("fenchel_young_loss", "max_fun", max_fun(jnp.asarray(scores)))
    return highest - jnp.sum(numerics.weighted(target, scores))
