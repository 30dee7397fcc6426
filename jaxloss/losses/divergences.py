"""Divergences between what is predicted and what is observed, neither of which sums to 1."""

from __future__ import annotations

from typing import Unpack

import jax.numpy as jnp
from jax import Array

from jaxloss import _data_checks as checks
from jaxloss import _divergence as divergence
from jaxloss._arrays import Real
from jaxloss._decorator.lift import loss
from jaxloss._interval import Interval
from jaxloss.options import ReductionOptions

_NUMBERS = Interval("[0, inf)")


@loss("(),()->()")
def generalized_kl_div(
    log_probabilities: Real, target: Real, *, log_target: bool = False, **options: Unpack[ReductionOptions]
) -> Array:
    r"""One entry's term of the Kullback-Leibler divergence of nonnegative numbers that need not sum to 1.

    $$l = p \, (\log p - \log q) + q - p, \qquad 0 \log 0 = 0$$

    Each term is at least 0, and 0 only where the two numbers are equal, unlike those of `kl_div`. The divergence is the
    sum over the entries.

    Args:
      log_probabilities: floating, any shape `(...)`: $\log q$, the logarithm of the predicted number.
      target: real, the same shape: $p$, at least 0, or with `log_target=True` $\log p$.
      log_target: whether `target` contains logarithms.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `log_probabilities` is not floating.

    Reference:
      Lee and Seung, Algorithms for non-negative matrix factorization, NeurIPS 2000, equation 3.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.generalized_kl_div(jnp.log(jnp.array([4.0, 2.0])), jnp.array([0.0, 2.0]), reduction="none"))
      [4. 0.]
    """
    if log_target:
        return divergence.of_log_target(jnp.asarray(log_probabilities), jnp.asarray(target))
    checks.require_inside("generalized_kl_div", "target", target, _NUMBERS)
    return divergence.of_target(jnp.asarray(log_probabilities), jnp.asarray(target))
