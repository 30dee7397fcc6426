"""Numeric primitives that are exact at the extremes: each holds one trick, once, with its reason.

Derivatives are stated by `custom_jvp` where automatic differentiation of the formula would multiply a zero by an
infinity; values use only operations that XLA:CPU fuses into its reductions, of which comparisons and `where` are none:
what they give is written to memory first (measured, 16 M elements: a sum over `minimum` and `abs` takes 17 ms, one over
`where` 60 ms).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss._arrays import Real


def _huge(dtype: Any) -> float:
    """Beyond the reciprocal of the smallest normal number.

    Not the largest number, by which rules of derivatives clip: a constant that value and gradient share XLA:CPU writes
    to memory, as often as an array has numbers (measured, 16 M elements: 1.5 times the time of both).
    """
    return 2.0 ** (jnp.finfo(dtype).maxexp - 1)


def is_nonzero(x: Array) -> Array:
    """1 where x is not 0, nor flushed to it as a subnormal, and else 0; as products fuse."""
    return jnp.minimum(jnp.abs(x) * _huge(x.dtype), 1)


def raised(x: Array, floor: Real) -> Array:
    """The larger of x and a floor above 0, but a negative x as it is, so that its logarithm is no number."""
    return jnp.maximum(x, jnp.minimum(floor, floor * (1 + x * _huge(x.dtype))))


@jax.custom_jvp
def finite(x: Array) -> Array:
    """x with an infinity replaced by the largest finite number, its derivative still that of x; NaN stays NaN."""
    largest = jnp.finfo(x.dtype).max
    return jnp.clip(x, -largest, largest)


@finite.defjvp
def _finite_jvp(primals, tangents):
    return finite(*primals), tangents[0]


@jax.custom_jvp
def difference(x: Array, y: Array) -> Array:
    """x - y, 0 where both overflowed on the way here to the same infinity."""
    return jnp.where(x == y, 0, x - y)


@difference.defjvp
def _difference_jvp(primals, tangents):
    return difference(*primals), tangents[0] - tangents[1]


@jax.custom_jvp
def square(x: Array) -> Array:
    """x^2; where x overflowed on the way here, a zero cotangent still gives a zero gradient, not 0 * inf."""
    return x * x


@square.defjvp
def _square_jvp(primals, tangents):
    (x,) = primals
    return square(x), finite(2 * x) * tangents[0]


@jax.custom_jvp
def product(x: Array, y: Array) -> Array:
    """x y for x other than 0; where y overflowed on the way here, a zero cotangent still gives a zero gradient."""
    return x * y


@product.defjvp
def _product_jvp(primals, tangents):
    x, y = primals
    return product(x, y), finite(y) * tangents[0] + x * tangents[1]


@jax.custom_jvp
def exp_minus_product(x: Array, y: Array) -> Array:
    """e^x - x y; infinite where e^x is."""
    info = jnp.finfo(x.dtype)
    # As a maximum e^x is no product, which the compiler would fuse with the difference, where it does not overflow.
    # Infinity minus infinity is no number: the product is clipped, by a number that is not that of the rule (`_huge`).
    return jnp.maximum(jnp.exp(x), float(info.tiny)) - jnp.minimum(x * y, float(info.max) * (1 - float(info.eps)))


@exp_minus_product.defjvp
def _exp_minus_product_jvp(primals, tangents):
    x, y = primals
    info = jnp.finfo(x.dtype)
    # Not the exponential of the value, clipped: XLA:CPU would write that to memory, for both to read.
    rate = jnp.exp(jnp.minimum(x, math.log(2) * info.maxexp * (1 - float(info.eps))))
    return exp_minus_product(x, y), (rate - y) * tangents[0] - x * tangents[1]


@jax.custom_jvp
def xlogx(x: Array) -> Array:
    """x log(x), 0 with derivative 0 at 0."""
    return x * jnp.log(x + (1 - is_nonzero(x)))


@xlogx.defjvp
def _xlogx_jvp(primals, tangents):
    (x,) = primals
    # The inner guard is for the second derivative, as 0 times the infinite slope of log(0) is no number.
    slope = jnp.where(x == 0, 0, jnp.log(jnp.where(x == 0, 1, x)) + 1)
    return xlogx(x), slope * tangents[0]


def log_complement(x: Array) -> Array:
    """log(1 - x), to some units in the last place."""
    if x.dtype != jnp.float64:
        return jnp.log1p(-x)
    # XLA:CPU's log1p is off by 129 units between -0.5 and -0.3 in float64, where 1 - x costs 2.
    return jnp.where(x > 0.3, jnp.log(1 - x), jnp.log1p(-jnp.where(x > 0.3, 0, x)))


@jax.custom_jvp
def softplus(x: Array) -> Array:
    """log(1 + exp(x)), to a unit in the last place for every x, with the logistic function as its derivative."""
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    (x,) = primals
    return softplus(x), jax.nn.sigmoid(x) * tangents[0]


@jax.custom_jvp
def logistic_cross_entropy(logits: Array, target: Array) -> Array:
    """y softplus(-x) + (1 - y) softplus(x), of which both hold the same logarithm."""
    # Not max(x, 0) - x y, of which less than its rounding may be left. No constant is that of the rule: see `_huge`.
    positive = jnp.maximum(logits, 0)
    negative = positive - logits
    return negative * target - positive * (target - 1) + jnp.log1p(jnp.exp(-jnp.abs(logits)))


@logistic_cross_entropy.defjvp
def _logistic_cross_entropy_jvp(primals, tangents):
    logits, target = primals
    change = _logistic_residual(logits, target) * tangents[0] - logits * tangents[1]
    return logistic_cross_entropy(logits, target), change


@jax.custom_jvp
def _logistic_residual(logits: Array, target: Array) -> Array:
    """sigmoid(x) - y, as (1 - y) sigmoid(x) - y sigmoid(-x), which keeps its digits for a confident right answer."""
    # One exponential, which cannot overflow. It is spelled otherwise than the value's, and so are the comparison with 0
    # and 1 - y, lest XLA:CPU share them and write them to memory: see `_huge`.
    smaller = jnp.exp(jnp.minimum(logits, -logits))
    is_positive = logits > -logits
    up, down = jnp.where(is_positive, 1, smaller), jnp.where(is_positive, smaller, 1)
    return ((1 - target) * up - target * down) / (1 + smaller)


@_logistic_residual.defjvp
def _logistic_residual_jvp(primals, tangents):
    logits, target = primals
    # Not that of the formula, whose minimum and selections have a kink at 0.
    slope = jax.nn.sigmoid(logits) * jax.nn.sigmoid(-logits)
    return _logistic_residual(logits, target), slope * tangents[0] - tangents[1]


@jax.custom_jvp
def weighted(weight: Array, loss: Array) -> Array:
    """weight * loss, in which a weight of 0 gives 0 even where the loss overflowed to an infinity."""
    huge = _huge(loss.dtype)
    bound = huge * (1 + is_nonzero(weight))  # of another weight than 0 infinity, which is none
    return weight * jnp.maximum(jnp.minimum(loss, bound), -bound)


@weighted.defjvp
def _weighted_jvp(primals, tangents):
    weight, loss = primals
    weight_tangent, loss_tangent = tangents
    # Only an infinite loss is cut off: the derivative of this rule by the weight, at weight 0, is the loss's tangent.
    by_loss = jnp.where((weight == 0) & jnp.isinf(loss), 0, weight * loss_tangent)
    return weighted(weight, loss), finite(loss) * weight_tangent + by_loss


@jax.custom_jvp
def ratio(total: Array, normaliser: Array) -> Array:
    """total / normaliser; 0 where nothing is counted, both being 0; the total where it overflowed."""
    return jnp.where(jnp.isinf(total), total, total / jnp.where((total == 0) & (normaliser == 0), 1, normaliser))


@ratio.defjvp
def _ratio_jvp(primals, tangents):
    total, normaliser = primals
    quotient = ratio(total, normaliser)
    # Not total / normaliser^2, as the square underflows where the quotient is an ordinary number.
    change = tangents[0] - finite(quotient) * tangents[1]
    return quotient, change / jnp.where(normaliser == 0, 1, normaliser)
