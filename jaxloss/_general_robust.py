r"""Barron's general robust loss rho(u) and its derivatives, of any shape alpha.

With $b = |\alpha - 2|$, $w = u^2 / b$ and $L = \log(1 + w)$, the loss and its derivatives are

$$\rho = \frac{b}{\alpha} \bigl( e^{\alpha L / 2} - 1 \bigr), \qquad
\frac{\partial \rho}{\partial u} = u \, e^{(\alpha / 2 - 1) L}, \qquad
\frac{\partial \rho}{\partial \alpha} = \frac{b}{4} \int_0^L e^{\alpha l / 2} (e^{-l} - 1 + l) \, dl.$$

Where $\alpha$ is 0, 2 or infinite, these are 0 / 0, 0 times infinity or infinity times 0, and near there they lose
their digits. Instead of $\alpha$ and $b$, the functions here take $H = b L / 2$, which is $u^2 / 2$ for an infinite
alpha and 0 at 2, and $a = \alpha / b$, which is -1 or 1 for an infinite alpha.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_derivatives import SymbolicZero

from jaxloss import _numerics as numerics
from jaxloss import _special as special


class _Shape(NamedTuple):
    """What value and derivatives have in common.

    Args:
      b: |alpha - 2|, between the smallest and the largest number.
      sign: 1 for an alpha of at most 2, else -1.
      a: alpha / b.
      w: u^2 / b, which may overflow.
      root: sqrt(1 + w), which does not.
      logarithm: log(1 + w).
      half: b log(1 + w) / 2.
    """

    b: Array
    sign: Array
    a: Array
    w: Array
    root: Array
    logarithm: Array
    half: Array


def _shape(u: Array, alpha: Array) -> _Shape:
    info = jnp.finfo(u.dtype)
    b, sign = jnp.abs(alpha - 2), jnp.where(alpha > 2, -1, 1).astype(u.dtype)
    b = jnp.clip(b, float(info.tiny), float(info.max))
    is_finite = b < 1e3
    a = jnp.where(is_finite, jnp.where(is_finite, alpha, 0) / b, 2 / b - sign)
    w = u * u / b
    is_low = w < 1e30
    low = jnp.where(is_low, w, 1)
    above = 2 * jnp.log(jnp.where(is_low, 1, jnp.abs(u))) - jnp.log(b)
    logarithm = jnp.where(is_low, jnp.log1p(low), above)
    # log(1 + w) / w, whose product with u^2 is exact also where w underflows.
    is_tiny = low < float(info.eps) / 4
    share = jnp.where(is_tiny, 1, jnp.log1p(low) / jnp.where(is_tiny, 1, low))
    square = jnp.where(w < 1, u, 0) ** 2
    half = jnp.where(w < 1, square * share, jnp.minimum(b * logarithm, float(info.max))) / 2
    return _Shape(b, sign, a, w, _root(numerics.finite(jnp.abs(u) / jnp.sqrt(b))), logarithm, half)


CLOSE = 0.1
"""For a b below this, alpha is so close to 2 that H is not large."""


@jax.custom_jvp
def pseudo_huber(u: Array) -> Array:
    """The same for alpha = 1: sqrt(1 + u^2) - 1."""
    # Beyond 1e18, whose square does not overflow, it is |u| to rounding.
    size = jnp.abs(u)
    part = jnp.minimum(size, 1e18)
    return size * (part / (1 + jnp.sqrt(1 + part * part)))


@pseudo_huber.defjvp
def _pseudo_huber_jvp(primals, tangents):
    (u,) = primals
    part = jnp.clip(u, -1e18, 1e18)
    return numerics.stored(pseudo_huber(u)), part / jnp.sqrt(1 + part * part) * tangents[0]


def _root(u: Array) -> Array:
    """sqrt(1 + u^2), which does not overflow."""
    larger, smaller = jnp.maximum(jnp.abs(u), 1), jnp.minimum(jnp.abs(u), 1)
    return larger * jnp.sqrt(1 + jnp.square(smaller / larger))


@jax.custom_jvp
def general_robust(u: Array, alpha: Array) -> Array:
    """The loss of an error u, in units of its scale."""
    is_infinite, u = jnp.isinf(u), numerics.finite(u)
    shape = _shape(u, alpha)
    b, sign, a, half = shape.b, shape.sign, shape.a, shape.half
    exponent, is_close = a * half, b < CLOSE
    is_large = (exponent >= 1) & ~is_close
    # Where H is large, (e^x - 1) / x would underflow.
    is_small = jnp.abs(exponent) < 1
    near = half * _relative_expm1(jnp.where(is_small, exponent, 0))
    low = (jnp.exp(jnp.minimum(exponent, -1)) - 1) / jnp.where(is_small, 1, a)
    near = jnp.where(is_small, near, low)
    # A power keeps its digits where the exponential of a product does not, and the other way round for a base near 1.
    is_power = is_large & (shape.w >= 1)
    power = jnp.where(is_power, shape.root, 1) ** jnp.where(is_power, alpha / 2, 1)
    power = jnp.where(is_power, power, jnp.exp(jnp.where(is_large, exponent, 0) / 2))
    # The square of the power may overflow where the loss does not.
    divisor = jnp.where(is_large, a, 1)
    far = power * (power / divisor) - 1 / divisor
    # Close to alpha = 2, a is the quotient of a small number.
    divisor = jnp.where(is_close, alpha, 1)
    close = u / divisor * (u * jnp.exp(-sign * half)) + b / divisor * jnp.expm1(-sign * half)
    bound = jnp.where(a < 0, -1 / jnp.where(a < 0, a, -1), jnp.inf)
    return jnp.where(is_infinite, bound, jnp.where(is_close, close, jnp.where(is_large, far, near)))


def _general_robust_jvp(primals, tangents):
    u, alpha = numerics.finite(primals[0]), primals[1]
    change = jnp.zeros_like(u)
    if not isinstance(tangents[0], SymbolicZero):
        change += numerics.finite(_slope(u, alpha)) * tangents[0]
    if not isinstance(tangents[1], SymbolicZero):
        change += numerics.finite(_by_alpha(u, alpha)) * tangents[1]
    return general_robust(*primals), change


general_robust.defjvp(_general_robust_jvp, symbolic_zeros=True)


@jax.custom_jvp
def _slope(u: Array, alpha: Array) -> Array:
    """u (1 + w)^(alpha / 2 - 1), the derivative with respect to u."""
    return _times_weight(u, u, alpha)


@_slope.defjvp
def _slope_jvp(primals, tangents):
    u, alpha = primals
    shape = _shape(u, alpha)
    share = u / shape.root
    by_u = _times_weight(1 - shape.sign * share * share, u, alpha)
    return _slope(u, alpha), by_u * tangents[0] + _slope(u, alpha) * _kappa(shape) / 2 * tangents[1]


def _times_weight(factor: Array, u: Array, alpha: Array) -> Array:
    """The factor times (1 + w)^(alpha / 2 - 1)."""
    shape = _shape(u, alpha)
    is_power = (shape.w >= 1) & (shape.b >= CLOSE)
    # One root goes with the factor: the weight of a large error underflows where its product with the error does not.
    root = jnp.where(is_power, shape.root, 1)
    power = factor / root * root ** jnp.where(is_power, alpha - 1, 1)
    return jnp.where(is_power, power, factor * jnp.exp(-shape.sign * jnp.where(is_power, 0, shape.half)))


def _kappa(shape: _Shape) -> Array:
    """log(1 + w) - w / (1 + w) = e^-L - 1 + L."""
    return special.exp_excess(-shape.logarithm)


def _relative_expm1(x: Array) -> Array:
    """(e^x - 1) / x for |x| < 1, and 1 at 0."""
    series = jnp.ones_like(x)
    for n in range(20, 1, -1):
        series = 1 + series * x / n
    return series


_NODES, _SHARES = (x.tolist() for x in np.polynomial.legendre.leggauss(8))


def _by_alpha(u: Array, alpha: Array) -> Array:
    """The derivative with respect to alpha."""
    shape = _shape(u, alpha)
    b, sign, half, logarithm = shape.b, shape.sign, shape.half, shape.logarithm
    largest = float(jnp.finfo(u.dtype).max)
    exponent = jnp.minimum(shape.a * half, math.log(largest) - 10)
    is_short = (shape.w < 1) & (jnp.abs(exponent) < 1)
    length, short = jnp.where(is_short, logarithm, 0), jnp.where(is_short, exponent, 0)
    integral = jnp.zeros_like(u)
    for node, share in zip(_NODES, _SHARES, strict=True):
        place = (1 + node) / 2
        integral += share / 2 * jnp.exp(short * place) * special.exp_excess(-length * place)
    # The integral in closed form: with e^(alpha L / 2) = (1 + w) e^-H close to alpha = 2, and elsewhere by parts.
    decay, h = jnp.exp(-sign * half), jnp.where(b < 1, alpha, 2) / 2
    close = (u * (u * decay) + b * decay) / 4 * (logarithm / h - (1 + h) / h**2)
    close += b * (1 + h) / (4 * h**2) - sign * jnp.expm1(-sign * half) / 2
    # Beyond, the derivative overflows, and its terms would be infinity minus infinity.
    is_beyond = shape.a * half > exponent
    far = sign * (logarithm**2 / 2 * _moment(exponent) - jnp.exp(exponent) * _kappa(shape) / 2)
    return jnp.where(is_short, b / 4 * length * integral, jnp.where(b < 1, close, jnp.where(is_beyond, largest, far)))


def _moment(x: Array) -> Array:
    """The integral of s e^(x s) over s from 0 to 1: (x e^x - e^x + 1) / x^2."""
    is_small = jnp.abs(x) < 1
    far, near = jnp.where(is_small, 1, x), jnp.where(is_small, x, 0)
    total, term = jnp.full_like(x, 0.5), jnp.ones_like(x)
    for n in range(1, 20):
        term = term * near / n
        total += term / (n + 2)
    return jnp.where(is_small, total, (jnp.exp(far) * (far - 1) + 1) / far**2)
