"""Numeric primitives that are exact at the extremes: each holds one trick, once, with its reason.

Derivatives are stated by `custom_jvp` where automatic differentiation of the formula would multiply a zero by an
infinity; values use only operations that XLA fuses into its reductions (measured on XLA:CPU, 8 M elements: a sum
over `minimum` and `abs` takes 4.3 ms where one over `where` or `clip` takes 12.6 and 20.6 ms).
"""

import jax
import jax.numpy as jnp
from jax import Array


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
def exp_minus_product(x: Array, y: Array, z: Array) -> Array:
    """e^x - y z, also where e^x alone overflows."""
    rate, half = jnp.exp(x), jnp.exp(x / 2)
    return jnp.where(rate == jnp.inf, half * (half - y / half * z), rate - y * z)


@exp_minus_product.defjvp
def _exp_minus_product_jvp(primals, tangents):
    x, y, z = primals
    change = finite(jnp.exp(x)) * tangents[0] - z * tangents[1] - y * tangents[2]
    return exp_minus_product(x, y, z), change


@jax.custom_jvp
def xlogx(x: Array) -> Array:
    """x log(x), 0 with derivative 0 at 0."""
    return jnp.where(x == 0, 0, x * jnp.log(x))


@xlogx.defjvp
def _xlogx_jvp(primals, tangents):
    (x,) = primals
    # The inner guard is for the second derivative, as 0 times the infinite slope of log(0) is no number.
    slope = jnp.where(x == 0, 0, jnp.log(jnp.where(x == 0, 1, x)) + 1)
    return xlogx(x), slope * tangents[0]


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
    return jnp.maximum(logits, 0) - logits * target + jnp.log1p(jnp.exp(-jnp.abs(logits)))


@logistic_cross_entropy.defjvp
def _logistic_cross_entropy_jvp(primals, tangents):
    logits, target = primals
    # Not sigmoid(x) - y, which is 0 for every confident right answer: here each term keeps its digits.
    by_logits = (1 - target) * jax.nn.sigmoid(logits) - target * jax.nn.sigmoid(-logits)
    return logistic_cross_entropy(logits, target), by_logits * tangents[0] - logits * tangents[1]


@jax.custom_jvp
def weighted(weight: Array, loss: Array) -> Array:
    """weight * loss, in which a weight of 0 gives 0 even where the loss overflowed to an infinity."""
    return jnp.where((weight == 0) & jnp.isinf(loss), 0, weight * loss)


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
