"""Losses of real-valued predictions that outliers hardly affect."""

from __future__ import annotations

from typing import Unpack

from jax import Array

from jaxloss import _special as special
from jaxloss._arrays import Real
from jaxloss._decorator.lift import loss
from jaxloss.options import ReductionOptions


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
