"""Proper scores of probabilistic forecasts: normal distributions, and ensembles of numbers or of vectors."""

from __future__ import annotations

import math
from typing import Unpack

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _ensembles as ensembles
from jaxloss import _numerics as numerics
from jaxloss import _positive as positive
from jaxloss import _scaling as scaling
from jaxloss import kinks, vectors
from jaxloss._arrays import Real, Vector
from jaxloss._decorator.lift import loss
from jaxloss.options import AxisOptions, ReductionOptions


@loss("(),(),()->()", domains={"scale": "[0, inf)"})
def gaussian_crps(prediction: Real, target: Real, scale: Real, **options: Unpack[ReductionOptions]) -> Array:
    r"""Continuous ranked probability score of a normal distribution.

    $$l = s \Bigl( z \bigl( 2 \Phi(z) - 1 \bigr) + 2 \varphi(z) - \frac{1}{\sqrt{\pi}} \Bigr), \qquad
    z = \frac{y - x}{s}$$

    The score is the squared distance between the predicted distribution function and that of the target. It has the
    unit of the target. Far from the target, it grows like the absolute error, and the negative log-likelihood like its
    square.

    Args:
      prediction: floating, any shape `(...)`: $x$, the mean.
      target: real, the same shape: $y$.
      scale: floating, at least 0, the same shape: $s$, the standard deviation. At 0 the score is the absolute error.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments. NaN for a negative scale.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `prediction` or `scale` is not floating.

    Reference:
      Gneiting, Raftery, Westveld and Goldman, Calibrated probabilistic forecasting using ensemble model output
      statistics and minimum CRPS estimation, Monthly Weather Review 133, 2005, equation 5.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> prediction, target, scale = jnp.array([0.0, 0.0]), jnp.array([0.0, 1.0]), jnp.array([1.0, 2.0])
      >>> losses = jaxloss.gaussian_crps(prediction, target, scale, reduction="none")
      >>> print(", ".join(f"{each:.4f}" for each in losses))
      0.2337, 0.6628
    """
    return _gaussian_crps(jnp.subtract(target, prediction), jnp.asarray(scale))


@jax.custom_jvp
def _gaussian_crps(difference: Array, scale: Array) -> Array:
    # Not s times the bracket: z may overflow where s is small.
    by_difference, by_scale = _slopes(_standardised(difference, scale))
    return difference * by_difference + scale * by_scale


@_gaussian_crps.defjvp
def _gaussian_crps_jvp(primals, tangents):
    scale = positive.normal(primals[1])
    # A bounded z, as its square times a density of 0 is a term of the second derivative.
    bounded = jnp.clip(numerics.finite(primals[0]), -1e4 * scale, 1e4 * scale)
    by_difference, by_scale = _slopes(_standardised(bounded, scale))
    return _gaussian_crps(*primals), by_difference * tangents[0] + by_scale * tangents[1]


def _standardised(difference: Array, scale: Array) -> Array:
    # The root of a negative scale is NaN.
    root = jnp.sqrt(positive.normal(scale))
    return difference / root / root


def _slopes(z: Array) -> tuple[Array, Array]:
    """2 Phi(z) - 1 and 2 phi(z) - 1 / sqrt(pi), the derivatives with respect to the difference and the scale."""
    # With the exponential minus 1, terms near z = 0 are small instead of nearly equal.
    at_zero = (math.sqrt(2) - 1) / math.sqrt(math.pi)
    return lax.erf(z / math.sqrt(2)), at_zero + math.sqrt(2 / math.pi) * jnp.expm1(-z * z / 2)


@loss("(m),()->()")
def ensemble_crps(prediction: Vector, target: Real, *, fair: bool = False, **options: Unpack[AxisOptions]) -> Array:
    r"""Continuous ranked probability score of an ensemble of predictions.

    $$l = \frac1m \sum_i |x_i - y| - \frac{1}{2 m^2} \sum_{i, j} |x_i - x_j|$$

    The first term draws the members to the target, and the second keeps them apart. Sorting the members takes
    $O(m \log m)$ operations instead of the $m^2$ of the formula, and gives a sum of positive terms.

    Args:
      prediction: floating `(..., m)`: $x$, the members of the ensemble.
      target: real `(...)`: $y$.
      fair: whether to divide the second sum by $2 m (m - 1)$. The mean is then smallest for members that are drawn from
        the distribution of the target, whatever their number. The second term of a single member is 0.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`. `axis` is that of the members.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of `target`.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `prediction` is not floating.

    Reference:
      Gneiting and Raftery, Strictly proper scoring rules, prediction, and estimation, JASA 102, 2007, equation 21;
      Ferro, Fair scores for ensemble forecasts, Quarterly Journal of the Royal Meteorological Society 140, 2014.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> prediction, target = jnp.array([[0.0, 2.0, 4.0, 2.0]]), jnp.array([3.0])
      >>> print(jaxloss.ensemble_crps(prediction, target), jaxloss.ensemble_crps(prediction, target, fair=True))
      0.75 0.5
    """
    return ensembles.crps(numerics.half_difference(prediction, target), fair)


@loss("(m,d),(d)->()")
def energy_score(
    prediction: Vector, target: Vector, *, fair: bool = False, **options: Unpack[ReductionOptions]
) -> Array:
    r"""Energy score of an ensemble of predicted vectors: `ensemble_crps` with distances in place of absolute values.

    $$l = \frac1m \sum_i \|x_i - y\|_2 - \frac{1}{2 m^2} \sum_{i, j} \|x_i - x_j\|_2$$

    It takes $O(m^2 d)$ operations, and $O(m d)$ temporary numbers for each sample.

    Args:
      prediction: floating `(..., m, d)`: $x$, the members of the ensemble.
      target: real `(..., d)`: $y$.
      fair: whether to divide the second sum by $2 m (m - 1)$, as in `ensemble_crps`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per ensemble, `(...)`.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `prediction` is not floating.

    Reference:
      Gneiting and Raftery, Strictly proper scoring rules, prediction, and estimation, JASA 102, 2007, equation 22.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> prediction, target = jnp.array([[[0.0, 0.0], [6.0, 8.0]]]), jnp.array([[0.0, 0.0]])
      >>> print(jaxloss.energy_score(prediction, target), jaxloss.energy_score(prediction, target, fair=True))
      2.5 0.0
    """
    # In this unit no distance overflows, so no difference is infinity minus infinity.
    unit = 2 * scaling.above_root(target.shape[0], 2, prediction.dtype)
    width = kinks.resolve_width("energy_score", prediction, None) / unit
    members, observed = prediction / unit, target / unit
    m, others = ensembles.sizes(members, fair)
    errors = jnp.sum(vectors.norm(members - observed[None], kink_width=width) / m)
    return unit * (errors - ensembles.spread(members, width) / (2 * m * others))
