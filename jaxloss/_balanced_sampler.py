"""A sampler that draws every class equally often."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloss._arrays import Vector, unwrapped
from jaxloss._errors import as_integer, as_vector, require_key
from jaxloss._interval import Interval
from jaxloss._pytree import pytree


@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class BalancedSampler:
    r"""Draws each class equally often, from one ring buffer of sample indices per class.

    A buffer is drawn in random order, then reshuffled and reused. A round draws one index from every class. An epoch of
    `epoch_rounds` rounds therefore passes once through the largest class and cycles through the smaller ones, and each
    class uses all of its samples equally often. A pass is a Fisher-Yates shuffle that advances only as indices are
    drawn. The cost of a round does not depend on the size of the data, but each call of `draw` copies the buffers once,
    so draw many rounds at a time.

    Create a sampler with `BalancedSampler.init`. It is an immutable pytree, and `draw` returns the next sampler. You
    can carry it through `lax.scan` and save it in a checkpoint with the parameters. The same key gives the same
    indices.

    Training on balanced classes teaches the network that all classes are equally frequent. If they are not, train for
    some more epochs on the original data, drawn with `jax.random.permutation`, or use `logit_adjustment` instead.

    Args:
      key: a key of `jax.random`.
      order: `(n,)`, the indices of the samples, class by class.
      start: `(c,)`, where each class begins in `order`.
      length: `(c,)`, the number of samples of each class.
      position: `(c,)`, how many of them the current pass has drawn.
      n_drawn: the number of rounds drawn so far, modulo 2³².
      epoch_rounds: the number of samples of the largest class.

    Returns:
      A pytree of arrays; `epoch_rounds` is static.

    Raises:
      ValueError, TypeError: see `init` and `draw`.

    Reference:
      Fisher and Yates, Statistical Tables, 1938; Durstenfeld, Algorithm 235: random permutation, CACM 7, 1964.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxloss.imbalance import BalancedSampler
      >>> target = jnp.array([0, 1, 1, 0, 1, 1])
      >>> sampler = BalancedSampler.init(jax.random.key(0), target)
      >>> indices, sampler = sampler.draw(sampler.epoch_rounds)
      >>> print(target[indices].tolist(), sorted(indices[:, 1].tolist()))
      [[0, 1], [0, 1], [0, 1], [0, 1]] [1, 2, 4, 5]
    """

    # The public path, under which it is documented and pickled.
    __module__ = "jaxloss.imbalance"

    key: Array
    order: Array
    start: Array
    length: Array
    position: Array
    n_drawn: Array
    epoch_rounds: int = dataclasses.field(metadata={"static": True})

    @staticmethod
    def init(key: Array, target: Vector, n_classes: int | None = None) -> BalancedSampler:
        """Creates a sampler that has not drawn anything yet.

        Args:
          key: a key of `jax.random`.
          target: integer `(n,)`, the class of each sample. It must not be traced, because its counts determine shapes.
          n_classes: the number of classes; by default, one more than the largest class in `target`.

        Returns:
          The sampler.

        Raises:
          TypeError: `target` is not integer or is traced, or `key` is not a random key.
          ValueError: `target` is not a vector, holds a class outside [0, n_classes), or lacks a class.

        Reference:
          As the class.

        Example:
          As the class.
        """
        require_key("BalancedSampler.init", key)
        as_vector("BalancedSampler.init", "target", target, (np.integer,), "one integer class index per sample")
        try:
            classes = np.asarray(unwrapped(target))
        except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError):
            takes = "target is traced but its counts determine shapes; create the sampler outside jit"
            raise TypeError(f"BalancedSampler.init: {takes}") from None
        if n_classes is None:
            n_classes = int(classes.max()) + 1
        n_classes = as_integer("BalancedSampler.init", "n_classes", n_classes, Interval("[1, 2147483648)"))
        outside = classes[(classes < 0) | (classes >= n_classes)]
        if outside.size:
            raise ValueError(f"BalancedSampler.init: target has {outside[0]} but must lie in [0, {n_classes})")
        length = np.bincount(classes, minlength=n_classes)
        if not length.all():
            raise ValueError(f"BalancedSampler.init: target has no sample of class {np.argmin(length)} to draw")
        start, longest = np.cumsum(length) - length, int(length.max())
        arrays = (np.argsort(classes, kind="stable"), start, length, np.zeros(n_classes))
        order, start, length, position = (jnp.asarray(a, jnp.int32) for a in arrays)
        return BalancedSampler(key, order, start, length, position, jnp.uint32(0), longest)

    def draw(self, n_rounds: int = 1) -> tuple[Array, BalancedSampler]:
        """Draws the next rounds.

        Args:
          n_rounds: at least 0. Two draws of 3 rounds equal one draw of 6.

        Returns:
          Indices `(n_rounds, c)`, with samples of class c in column c, and the next sampler.

        Raises:
          TypeError: `n_rounds` is not an integer.
          ValueError: `n_rounds` is negative.

        Reference:
          As the class.

        Example:
          As the class.
        """
        n_rounds = as_integer("BalancedSampler.draw", "n_rounds", n_rounds, Interval("[0, 2147483648)"))
        return _draw(self, n_rounds)


@functools.partial(jax.jit, static_argnums=1)
def _draw(sampler: BalancedSampler, n_rounds: int) -> tuple[Array, BalancedSampler]:
    start, length = sampler.start, sampler.length

    def draw_round(state: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], Array]:
        order, position = state
        key = jax.random.fold_in(sampler.key, i)
        here, there = start + position, start + jax.random.randint(key, position.shape, position, length, jnp.int32)
        drawn = order[there]
        order = order.at[there].set(order[here]).at[here].set(drawn)
        return (order, (position + 1) % length), drawn

    rounds = sampler.n_drawn + jnp.arange(n_rounds, dtype=jnp.uint32)
    (order, position), indices = jax.lax.scan(draw_round, (sampler.order, sampler.position), rounds)
    n_drawn = sampler.n_drawn + jnp.uint32(n_rounds)
    return indices, dataclasses.replace(sampler, order=order, position=position, n_drawn=n_drawn)
