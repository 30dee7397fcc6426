"""Reductions of the weighted losses of samples.

A batch is reduced to the pair (sum of the weighted losses, sum of their normalisers). Pairs form a monoid: they can be
added in any order. A mean over micro-batches, devices or hosts is then the mean over all samples, wherever the padding
is. A mean of means is not.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloss import _numerics as numerics
from jaxloss._arrays import compute_dtype, is_known, unwrapped
from jaxloss._compensated import Compensated
from jaxloss._errors import as_any_array, as_broadcast, require_broadcast
from jaxloss._pytree import pytree
from jaxloss._sizes import is_symbolic, n_entries

Name = Literal["none", "sum", "mean", "weighted_mean", "batchmean", "total"]
Reduction = Name | Callable[[Array, Array], Any]
NAMES: tuple[str, ...] = get_args(Name)


@pytree
@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Total:
    r"""The summed loss and the summed normaliser of a batch, for a mean over many batches.

    Totals form a commutative monoid: `+` is associative and commutative up to rounding, with `Total.zero()` as its
    identity. They can be accumulated by `lax.scan` over micro-batches, by `.psum` over devices, or in Python. Sums are
    compensated: they keep what they round off, and have twice the digits of their dtype. In float32, the dtype of every
    loss in half precision too, they hold over any number of batches, and counts are exact up to 2^47.

    $$\text{mean} = \frac{\sum_{\text{batches}} \sum_i w_i l_i}{\sum_{\text{batches}} \sum_i n_i}$$

    Args:
      loss: scalar, the sum of the weighted losses.
      normaliser: scalar, the sum of the normalisers: the number of counted samples, or the sum of their class weights.
      rounded_off: what the two sums rounded off, a pair of scalars that `mean` adds to them; 0 if not given. It
        is a constant, of which `accumulated` takes no gradient.

    Returns:
      A pytree of four scalars.

    Raises:
      TypeError: the other operand of `+` is not a Total.

    Reference:
      Unsloth and Hugging Face Transformers, "Fixing gradient accumulation", 2024: the error that totals prevent.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> long = jaxloss.l1_loss(jnp.array([1.0, 2.0, 3.0]), 0.0, reduction="total")
      >>> short = jaxloss.l1_loss(jnp.array([6.0]), 0.0, reduction="total")
      >>> long + short
      Total(loss=12, normaliser=4, mean=3)
      >>> print((long + short).mean(), (long.mean() + short.mean()) / 2)
      3.0 4.0
    """

    loss: Array
    normaliser: Array
    rounded_off: Any = None

    def __post_init__(self) -> None:
        if self.rounded_off is None:
            object.__setattr__(self, "rounded_off", (_zero_like(self.loss), _zero_like(self.normaliser)))

    @staticmethod
    def zero(dtype: Any = None) -> "Total":
        """The identity of `+`. `dtype` is the dtype of the losses, by default JAX's default float."""
        # Different arrays, because a donated carry must not hold the same buffer twice.
        dtype = jnp.result_type(float) if dtype is None else _floating_dtype(dtype)
        return Total(jnp.zeros((), dtype), jnp.zeros((), dtype))

    def __add__(self, other: object) -> "Total":
        if not isinstance(other, Total):
            return NotImplemented
        mine, its = self._checked("+"), other._checked("+")
        for one, another in zip(mine, its, strict=True):
            require_broadcast("Total.+", one=one.rounded, other=another.rounded)
        return _total(*_added(mine, its))

    def __radd__(self, other: object) -> "Total":
        # Python's sum() starts from 0.
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def mean(self) -> Array:
        """The mean loss over everything that was added; 0 with zero gradient if no sample was counted."""
        return _mean(self._checked("mean"))

    def psum(self, axis_name: Any) -> "Total":
        """The total over every device along `axis_name`, inside `shard_map`, `pmap` or a named `vmap`."""
        parts = self._checked("psum")
        try:
            return _total(*(part.psum(axis_name) for part in parts))
        except (NameError, TypeError, ValueError):
            message = (
                f"Total.psum: there is no axis {axis_name!r} here; give one that shard_map, pmap or vmap maps over"
            )
            raise ValueError(message) from None

    def __repr__(self) -> str:
        """The two sums and, if they are concrete numbers, their mean."""
        try:
            loss, normaliser = float(self.loss), float(self.normaliser)
            return f"Total(loss={loss:.6g}, normaliser={normaliser:.6g}, mean={float(self.mean()):.6g})"
        except (TypeError, ValueError, jax.errors.JAXTypeError):  # not numbers, several numbers, or traced
            return f"Total(loss={self.loss!r}, normaliser={self.normaliser!r})"

    def _checked(self, method: str) -> tuple[Compensated, Compensated]:
        """Both sums; raises an error if they are not real numbers or do not broadcast.

        Checked on use and not on creation, because the parts of a pytree may be anything.
        """
        parts: list[Array] = []
        if not isinstance(self.rounded_off, tuple | list) or len(self.rounded_off) != 2:
            raise TypeError(f"Total.{method}: rounded_off is {self.rounded_off!r:.60} but takes a pair of numbers")
        for name, part in zip(_PARTS, (self.loss, self.normaliser, *self.rounded_off), strict=True):
            parts.append(as_any_array(f"Total.{method}", name, part))
            dtype = parts[-1].dtype
            is_number = any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer))
            if not is_number or dtype.itemsize == 1:  # JAX does not promote 8-bit dtypes
                raise TypeError(f"Total.{method}: {name} has dtype {dtype} but takes real numbers of 16 bits or more")
        loss, normaliser, *rests = as_broadcast(f"Total.{method}", **dict(zip(_PARTS, parts, strict=True)))
        # An integer has no digits beyond its last.
        dtype = compute_dtype([part for part in parts if jnp.issubdtype(part.dtype, jnp.floating)])
        loss, normaliser = (
            Compensated(part, rest) if jnp.issubdtype(part.dtype, jnp.floating) else Compensated.of_integer(part, dtype)
            for part, rest in zip((loss, normaliser), rests, strict=True)
        )
        return loss, normaliser


def _total(loss: Compensated, normaliser: Compensated) -> Total:
    return Total(loss.rounded, normaliser.rounded, (loss.rest, normaliser.rest))


@jax.jit
def _added(mine: tuple[Compensated, Compensated], its: tuple[Compensated, Compensated]) -> Any:
    return tuple(map(Compensated.plus, mine, its))


@jax.jit
def _mean(parts: tuple[Compensated, Compensated]) -> Array:
    return numerics.ratio(*(part.value() for part in parts))


_PARTS = ("loss", "normaliser", "rounded_off[0]", "rounded_off[1]")


def _zero_like(part: Any) -> Any:
    """0 in the dtype of a number or array; anything else, such as the sharding of a part, as it is."""
    part = unwrapped(part)
    if isinstance(part, Array):
        return jnp.zeros_like(part)
    if isinstance(part, np.ndarray | np.generic):
        return np.zeros(part.shape, part.dtype)
    return type(part)(0) if isinstance(part, int | float) else part


def _floating_dtype(dtype: Any) -> Any:
    try:
        given = None if isinstance(dtype, Array) else jnp.dtype(dtype)
    except (TypeError, ValueError):
        given = None
    if given is None or not (is_known(given) and jnp.issubdtype(given, jnp.floating)):
        raise TypeError(f"Total.zero: dtype is {dtype!r:.60} but takes a floating dtype")
    return given


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """The losses of a batch, or of one sample, before reduction.

    Args:
      losses: weighted losses, 0 where masked.
      normalisers: unweighted normalisers in the shape of the losses, 0 where masked. Booleans if they only say which
        samples are counted; None if each is 1.
      weighted_normalisers: `normalisers` times the weights; None if there are no weights.
      loss_sum: the sum of the losses, if it was computed directly. Then only the shape and dtype of `losses` are valid.
    """

    losses: Array
    normalisers: Array | None
    weighted_normalisers: Array | None = None
    loss_sum: Array | None = None


def pair(samples: Samples) -> tuple[Array, Array]:
    """The arguments of a callable reduction: the weighted losses and the unweighted normalisers, one per sample."""
    losses, normalisers = samples.losses, samples.normalisers
    return losses, jnp.ones_like(losses) if normalisers is None else normalisers.astype(losses.dtype)


def reduce(samples: Samples, reduction: str) -> Array | Total:
    """Applies the reduction with this name. The caller applies callable reductions."""
    losses = samples.losses
    if reduction == "none":
        return losses
    loss = jnp.sum(losses) if samples.loss_sum is None else samples.loss_sum
    if reduction == "sum":
        return loss
    if reduction == "batchmean":
        return loss / n_entries(losses.shape[:1], losses.dtype, least=1)
    if reduction == "weighted_mean" and samples.weighted_normalisers is not None:
        return numerics.ratio(loss, jnp.sum(samples.weighted_normalisers))
    if reduction == "total":
        return _total(Compensated.of(loss), _count(samples))
    if samples.normalisers is None:
        return loss / n_entries(losses.shape, losses.dtype, least=1)
    return numerics.ratio(loss, _count(samples).rounded)


def _count(samples: Samples) -> Compensated:
    """The sum of the normalisers."""
    losses, normalisers = samples.losses, samples.normalisers
    if normalisers is None:
        return Compensated.of_size(losses.shape, losses.dtype)
    if normalisers.dtype != bool:
        return Compensated.of(jnp.sum(normalisers))
    # Counted as integers: adding 1 to a float32 has no effect from 2^24 on.
    if not is_symbolic(losses.size) and losses.size < 2**31:
        return Compensated.of_integer(jnp.sum(normalisers, dtype=jnp.int32), losses.dtype)
    return Compensated.of_wrapped(*(jnp.sum(normalisers, dtype=dtype) for dtype in (jnp.uint32, losses.dtype)))
