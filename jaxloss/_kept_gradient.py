"""Functions of which differentiation keeps the gradient, and not everything that the gradient is computed from."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from jaxloss import _numerics as numerics

_PART = 1 / 16
"""The gradient is that of a part of the function: twice a loss that is as large as a number can be would overflow."""


def keep_gradient(
    function: Callable[..., Array],
    *arguments: Any,
    at_once: bool = False,
    recompute: bool = False,
    total: Callable[[Array], Array] | None = None,
) -> Array:
    """The function at these arguments, of which it makes one number.

    Outside `jit`, a derivative keeps the factors of each step: for the intersection of two boxes, 12 numbers for each
    coordinate. The gradient is one number for each, finite even where it overflows, so that 0 times it is 0. What is
    not an array stays as it is and has no derivative.

    With `at_once`, value and gradient are computed together and written before they are used. For a function of many
    numbers, this is faster: otherwise XLA computes, or keeps, again for each derivative what all of them share.

    With `recompute`, accelerators compute the gradient without results of the function. Otherwise, XLA:GPU writes an
    exponential or a logarithm that both use to memory, as many numbers as there are logits: compiled for an H100,
    `asymmetric_loss` of 16 M logits takes an estimated 3.0 times as long, `sigmoid_focal_loss` 2.5 times (jax 0.10.2).

    `total` is the sum over the devices over which the arguments are split, if they are.
    """
    places = [i for i, argument in enumerate(arguments) if isinstance(argument, Array)]

    def of_arrays(*arrays: Array) -> Array:
        values = list(arguments)
        for i, array in zip(places, arrays, strict=True):
            values[i] = array
        return function(*values)

    kept = jax.custom_jvp(of_arrays)

    def rule(primals, tangents):
        wanted = tuple(i for i, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero))
        value, pullback = jax.vjp(of_arrays, *(map(_apart, primals) if recompute else primals))
        if recompute:
            value = numerics.stored(of_arrays(*primals))
        slopes = pullback(jnp.full_like(value, _PART))
        if at_once:
            value, slopes = lax.optimization_barrier((value, slopes))
        terms = (jnp.sum(numerics.finite(slopes[i] / _PART) * tangents[i]) for i in wanted)
        change = functools.reduce(operator.add, terms, jnp.zeros_like(value))
        return value, change if total is None else total(change)

    kept.defjvp(rule, symbolic_zeros=True)
    return kept(*(arguments[i] for i in places))


def _apart(x: Array) -> Array:
    """x, such that accelerators do not merge what is computed from it with what is computed from x.

    On a CPU, it is x: there, to compute a function twice takes longer than to write its results to memory.
    """
    one = jnp.ones((), x.dtype)
    return x * lax.platform_dependent(one, cpu=lambda one: one, default=numerics.unshared)
