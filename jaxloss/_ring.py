"""Candidates passed around a ring of devices, for sets whose candidates do not fit into the memory of one device.

Each device has its own block of candidates first, and then that of one device after another. The backward pass sends
the blocks around again, with their gradients, so that no device keeps a block that is not its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss._sharding import AxisName, equally_varying

Part = Callable[[Any, Any, Any, Array], Array]
"""Maps (what a device keeps, a block of numbers, its flags, the place of its own first item in it) to an array."""


class Fold(NamedTuple):
    """How the parts of all blocks make the whole.

    Args:
      combine: the whole of two parts, in any order.
      share: maps a part and the whole to the derivative of the whole with respect to the part.
    """

    combine: Callable[[Array, Array], Array]
    share: Callable[[Array, Array], Array]


SUM = Fold(jnp.add, lambda part, whole: jnp.ones_like(part))
LOG_SUM_EXP = Fold(jnp.logaddexp, lambda part, whole: jnp.exp(part - whole))


def around_ring(part: Part, fold: Fold, axis_name: AxisName, kept: Any, block: Any, flags: Any, length: int) -> Array:
    """The whole of the parts with the blocks of all devices, each of this length."""
    return _around_ring(part, fold, axis_name, length, *equally_varying((kept, block, flags)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _around_ring(part: Part, fold: Fold, axis_name: AxisName, length: int, kept: Any, block: Any, flags: Any) -> Array:
    def step(carry: Any, steps: Array) -> tuple[Any, None]:
        whole, block, flags = carry
        block, flags = _passed_on((block, flags), axis_name)
        whole = fold.combine(whole, part(kept, block, flags, _place(steps, axis_name, length)))
        return (whole, block, flags), None

    first = part(kept, block, flags, jnp.zeros((), jnp.int32))
    steps = jnp.arange(1, lax.axis_size(axis_name), dtype=jnp.int32)
    return lax.scan(step, (first, block, flags), steps)[0][0]


def _forward(part: Part, fold: Fold, axis_name: AxisName, length: int, kept: Any, block: Any, flags: Any):
    whole = _around_ring(part, fold, axis_name, length, kept, block, flags)
    return whole, (whole, kept, block, flags)


def _backward(part: Part, fold: Fold, axis_name: AxisName, length: int, residuals: Any, cotangent: Array):
    whole, kept, block, flags = residuals

    def step(carry: Any, steps: Array) -> tuple[Any, None]:
        by_kept, by_block, block, flags = carry

        def of_block(kept: Any, block: Any) -> Array:
            return part(kept, block, flags, _place(steps, axis_name, length))

        value, pull = jax.vjp(of_block, kept, block)
        more, of_this = pull(cotangent * fold.share(value, whole))
        by_kept, by_block = (jax.tree.map(jnp.add, *each) for each in ((by_kept, more), (by_block, of_this)))
        # After as many steps as there are devices, each gradient is back with its block.
        return (by_kept, *_passed_on((by_block, block, flags), axis_name)), None

    zeros = jax.tree.map(jnp.zeros_like, (kept, block))
    steps = jnp.arange(lax.axis_size(axis_name), dtype=jnp.int32)
    (by_kept, by_block, *_), _ = lax.scan(step, (*zeros, block, flags), steps)
    return by_kept, by_block, None


_around_ring.defvjp(_forward, _backward)


def _passed_on(tree: Any, axis_name: AxisName) -> Any:
    """What the device before this one has."""
    n = lax.axis_size(axis_name)
    return jax.tree.map(lambda x: lax.ppermute(x, axis_name, [(i, (i + 1) % n) for i in range(n)]), tree)


def _place(steps: Array, axis_name: AxisName, length: int) -> Array:
    """The place of this device's first item in the block that it has after some steps; not in it, but for its own."""
    here, n = lax.axis_index(axis_name), lax.axis_size(axis_name)
    owner = (here - steps) % n
    return (here - owner) * length
