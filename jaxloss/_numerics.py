"""Numeric primitives that are exact at the extremes. Each holds one trick, once, with its reason.

A `custom_jvp` rule states the derivative where automatic differentiation of the formula would multiply a zero by an
infinity.

Four functions are only there for XLA:CPU, which evaluates a sum and the arithmetic before it in one library call. The
call includes no comparison, `where` or `clip`, and no array that another part of the program reads as well, not even a
constant that was broadcast. Such arrays are written to memory first. `unshared` and `stored` serve a loss and its
gradient, `is_nonzero` and `raised` select without `where`. This is the time without each of them, divided by the time
with it (one core of an AMD EPYC, jax 0.10.2):

    elements                                                            64 k   1 M   16 M
    unshared     value and gradient, binary_cross_entropy_with_logits    1.0   1.4    2.5
                 value and gradient, binary_cross_entropy                1.1   1.2    1.5
                 value and gradient, gaussian_nll_loss                   1.1   1.4    1.3
    stored       value and gradient, huber_loss                          1.8   2.5    1.5
    is_nonzero   value, kl_div                                           0.7   0.9    2.7
    raised       value, gaussian_nll_loss                                0.9   1.0    2.4

The last two are kept for arrays that do not fit in the cache, which take the most time.
Compiled for an H100 or a TPU v5e, the programs read and write as many bytes with these functions as without.
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from jaxloss._arrays import Real


def unshared(number: Real) -> Array:
    """The number, as a constant that XLA does not merge with an equal one elsewhere in the program.

    Not for arrays: accelerators would not fuse the operations that compute the array with those that read it.
    """
    return lax.optimization_barrier(jnp.asarray(number))


def stored(loss: Array) -> Array:
    """The loss, computed in one loop with its gradient and written to memory, where its sum reads it.

    For the rule of a loss that takes less time to write than to compute again.
    """
    return jnp.where(lax.optimization_barrier(jnp.asarray(True)), loss, 0)


def is_nonzero(x: Array) -> Array:
    """1 where x is not 0, and 0 where it is."""
    return jnp.abs(jnp.sign(x))


def at_least(x: Array, floor: Real) -> Array:
    """The larger of x and the floor, NaN where x is.

    If one operand of a maximum or a minimum is NaN, XLA:CPU returns the second one in a sum (x86, jax 0.10 to 0.12):
    `jnp.sum(jnp.maximum(x, 0))` takes NaN as 0 from some thousand numbers on. It makes a literal the second operand.
    """
    return jnp.maximum(unshared(floor), x)


def at_most(x: Array, ceiling: Real) -> Array:
    """The smaller of x and the ceiling, NaN where x is; see `at_least`."""
    return jnp.minimum(unshared(ceiling), x)


def raised(x: Array, floor: Real) -> Array:
    """The larger of x and a positive floor, but a negative x as it is, so that its logarithm is NaN."""
    # The bracket is at most -1 for every negative x, down to the smallest normal number.
    steep = 2 / float(jnp.finfo(x.dtype).tiny)
    return jnp.maximum(jnp.minimum(floor, floor * (1 + x * steep)), x)  # in this order, see `at_least`


@jax.custom_jvp
def finite(x: Array) -> Array:
    """x with infinities replaced by the largest finite numbers, and the derivative of x. NaN stays NaN."""
    largest = jnp.finfo(x.dtype).max
    return jnp.clip(x, -largest, largest)


@finite.defjvp
def _finite_jvp(primals, tangents):
    return finite(*primals), tangents[0]


@jax.custom_jvp
def exp_apart(x: Array) -> Array:
    """e^x. Where it is 0, so is its derivative times any number, even a cotangent that has overflowed."""
    return jnp.exp(x)


@exp_apart.defjvp
def _exp_apart_jvp(primals, tangents):
    value = exp_apart(primals[0])
    return value, jnp.where(value == 0, 0, value * tangents[0])


@jax.custom_jvp
def difference(x: Array, y: Array) -> Array:
    """x - y, and 0 where both x and y have overflowed to the same infinity."""
    return jnp.where(x == y, 0, x - y)


@difference.defjvp
def _difference_jvp(primals, tangents):
    return difference(*primals), tangents[0] - tangents[1]


@jax.custom_jvp
def square(x: Array) -> Array:
    """x^2. Where x has overflowed, a zero cotangent still gives a zero gradient, not 0 * inf."""
    return x * x


@square.defjvp
def _square_jvp(primals, tangents):
    (x,) = primals
    return square(x), finite(2 * x) * tangents[0]


@jax.custom_jvp
def product(x: Array, y: Array) -> Array:
    """x y for a nonzero x. Where y has overflowed, a zero cotangent still gives a zero gradient."""
    return x * y


@product.defjvp
def _product_jvp(primals, tangents):
    x, y = primals
    return product(x, y), finite(y) * tangents[0] + x * tangents[1]


def half_difference(x: Real, y: Real) -> Array:
    """(x - y) / 2, which does not overflow, so that a weight of 0 times it is 0."""
    return jnp.asarray(x) / 2 - jnp.asarray(y) / 2


@jax.custom_jvp
def weighted_squares(below: Real, above: Real, x: Array) -> Array:
    """x^2 with one weight for negative and another for positive x, both finite; infinite only where that is."""
    negative, positive = _parts(below, above, x)
    return jnp.asarray(below * negative * negative + above * positive * positive)


def _parts(below: Real, above: Real, x: Array) -> tuple[Array, Array]:
    """The negative and the positive part, finite where the weight is 0, because infinity times 0 is NaN."""
    negative, positive = jnp.minimum(x, 0), jnp.maximum(x, 0)
    return jnp.where(below == 0, finite(negative), negative), jnp.where(above == 0, finite(positive), positive)


@weighted_squares.defjvp
def _weighted_squares_jvp(primals, tangents):
    below, above, x = primals
    negative, positive = _parts(below, above, x)
    change = finite(2 * (below * negative + above * positive)) * tangents[2]
    change += finite(negative * negative) * tangents[0] + finite(positive * positive) * tangents[1]
    return stored(weighted_squares(below, above, x)), change


@jax.custom_jvp
def exp_minus_product(x: Array, y: Array) -> Array:
    """e^x - x y, infinite where e^x is. For an infinite x, x y is 0 where y is."""
    info = jnp.finfo(x.dtype)
    largest = unshared(float(info.max))
    # The lower bound of x is 0 where y is 0, and elsewhere minus infinity. The minimum keeps XLA from multiplying the
    # two constants first, with which the bound would be 0 times infinity.
    bounded = jnp.maximum(jnp.minimum(largest, jnp.abs(y) * largest) * -largest, jnp.minimum(largest, x))
    # Infinity minus infinity is NaN, so the product is bounded. The last step of an exponential is a product, which the
    # compiler would fuse with the difference, where it does not overflow. It does not fuse the maximum.
    return at_least(jnp.exp(x), float(info.tiny)) - jnp.minimum(largest, bounded * y)


@exp_minus_product.defjvp
def _exp_minus_product_jvp(primals, tangents):
    x, y = primals
    info = jnp.finfo(x.dtype)
    # The exponent is bounded, and not its exponential, which would be shared with the value (see `unshared`).
    largest_exponent = math.log(2) * info.maxexp * (1 - float(info.eps))
    rate = jnp.exp(jnp.minimum(x, largest_exponent))
    return exp_minus_product(x, y), (rate - y) * tangents[0] - finite(x) * tangents[1]


@jax.custom_jvp
def xlogx(x: Array) -> Array:
    """x log(x), with value 0 and derivative 0 at 0."""
    return x * jnp.log(x + (1 - is_nonzero(x)))


@xlogx.defjvp
def _xlogx_jvp(primals, tangents):
    (x,) = primals
    # The inner `where` is for the second derivative: the slope of log(0) is infinite, and 0 times it is NaN.
    slope = jnp.where(x == 0, 0, jnp.log(jnp.where(x == 0, 1, x)) + 1)
    return xlogx(x), slope * tangents[0]


def log_complement(x: Array) -> Array:
    """log(1 - x), to a few units in the last place."""
    if x.dtype != jnp.float64:
        return jnp.log1p(-x)
    # In float64, XLA:CPU's log1p is off by up to 129 units between -0.5 and -0.3. There, log(1 - x) is off by 2.
    return jnp.where(x > 0.3, jnp.log(1 - x), jnp.log1p(-jnp.where(x > 0.3, 0, x)))


@jax.custom_jvp
def weighted(weight: Array, loss: Array) -> Array:
    """weight * loss, and 0 for a weight of 0 even where the loss has overflowed to an infinity."""
    # The largest number where the weight is 0, and infinity elsewhere.
    bound = unshared(float(jnp.finfo(loss.dtype).max)) * (1 + is_nonzero(weight))
    # In this order, for the reason that `at_least` gives.
    return weight * jnp.maximum(-bound, jnp.minimum(bound, loss))


@functools.partial(weighted.defjvp, symbolic_zeros=True)
def _weighted_jvp(primals, tangents):
    weight, loss = primals

    def by_loss(change: Array) -> Array:
        # Zero only where the loss is infinite: elsewhere, the second derivative at weight 0 is the tangent of the loss.
        return jnp.where((weight == 0) & jnp.isinf(loss), 0, weight * change)

    return weighted(weight, loss), change((lambda change: finite(loss) * change, by_loss), tangents)


@jax.custom_jvp
def twice_weighted(one: Array, other: Array, loss: Array) -> Array:
    """Two weights times a loss, as `weighted`.

    The gradient of a weight is the other one times the loss, before a cotangent may overflow in the product with the
    loss. Then a weight of 0 still makes it 0.
    """
    return weighted(one * other, loss)


@functools.partial(twice_weighted.defjvp, symbolic_zeros=True)
def _twice_weighted_jvp(primals, tangents):
    one, other, loss = primals
    rules = (
        lambda change: finite(other * finite(loss)) * change,
        lambda change: finite(one * finite(loss)) * change,
        lambda change: jax.jvp(functools.partial(weighted, one * other), (loss,), (change,))[1],
    )
    return twice_weighted(one, other, loss), change(rules, tangents)


def change(rules: Sequence[Callable[[Array], Array]], tangents: Sequence[Any]) -> Array:
    """The sum over the tangents, each by its rule, without those known to be 0.

    Outside `jit`, the gradient would keep the factors of these too: up to three arrays of the size of the logits.
    """
    changes = [rule(each) for rule, each in zip(rules, tangents, strict=True) if not isinstance(each, SymbolicZero)]
    return functools.reduce(operator.add, changes)


@jax.custom_jvp
def surprise(score: Array, rest: Array, apart: Array) -> tuple[Array, Array]:
    """-log p and log Σ exp of scores of which the largest is 0, for the class with this score.

    The rest is the sum of the exponentials; if `apart`, without that of the class, but with the derivative of the whole
    sum. Then the surprise of a class that is almost certain keeps the digits that the sum loses beside 1.
    """
    log_total = jnp.log(_total(score, rest, apart))
    return jnp.where(apart & (score == 0), jnp.log1p(rest), log_total - score), log_total


@surprise.defjvp
def _surprise_jvp(primals, tangents):
    change = tangents[1] / _total(*primals)
    return surprise(*primals), (change - tangents[0], change)


@jax.custom_jvp
def _total(score: Array, rest: Array, apart: Array) -> Array:
    return rest + jnp.where(apart, jnp.exp(score), 0)


@_total.defjvp
def _total_jvp(primals, tangents):
    return _total(*primals), tangents[1]


@jax.custom_jvp
def ratio(total: Array, normaliser: Array) -> Array:
    """total / normaliser. 0 if both are 0, because nothing is counted. The total itself if it has overflowed."""
    return jnp.where(jnp.isinf(total), total, total / jnp.where((total == 0) & (normaliser == 0), 1, normaliser))


@ratio.defjvp
def _ratio_jvp(primals, tangents):
    total, normaliser = primals
    quotient = ratio(total, normaliser)
    # Not total / normaliser^2: the square underflows where the quotient is an ordinary number.
    change = tangents[0] - finite(quotient) * tangents[1]
    return quotient, change / jnp.where(normaliser == 0, 1, normaliser)
