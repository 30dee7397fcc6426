"""Everything about masks: what a kernel sees of masked samples, and what becomes of their losses.

A masked sample must affect neither value nor gradient, whatever it contains. Two steps keep it out. Before the kernel,
its inputs are made harmless: cut off from differentiation or, if the kernel combines samples, replaced by harmless
numbers. After the kernel, its loss and its normaliser are replaced by 0.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss._arrays import as_index, differs
from jaxloss._class_axis import ClassAxis
from jaxloss._data_checks import nan_unless
from jaxloss._decorator.batching import BatchLoss
from jaxloss._decorator.declaration import Declaration
from jaxloss._decorator.notation import Core
from jaxloss._interval import Interval
from jaxloss.reductions import Samples


@dataclasses.dataclass(frozen=True)
class Mask:
    """Which samples are counted, and which of them can be computed.

    Both are boolean with one entry per sample: a scalar if the kernel sees one sample, an array over the items if it
    sees a set, and an array over all batch axes if it sees the batch. None means all samples.

    Args:
      counted: which samples are masked neither by `where` nor by `ignore_index`.
      usable: which samples have all class indices in range. A masked sample is usable, because a NaN that is masked
        later would be an error under `jax_debug_nans`.
    """

    counted: Array | None
    usable: Array | None

    @staticmethod
    def of(
        where: Array | None,
        indices: Mapping[str, Array],
        ranges: Mapping[str, Interval],
        ignored: Mapping[str, int],
        shape: tuple[int, ...],
        is_possible: Callable[[str, Array], Array | None] | None,
    ) -> tuple[Mask, dict[str, Array]]:
        """The mask of samples along axes of this shape, and the class indices clipped to their ranges.

        `ignored` has the index that masks a sample, for each argument with one. `is_possible` maps the name of an
        argument and its indices to which of their classes are valid.
        """
        counted, usable, clipped = where, None, {}
        for name, index in indices.items():
            if name in ignored:
                counted = _both(counted, differs(index, ignored[name]))
            index = as_index(index)
            clipped[name] = ranges[name].clip_index(index)
            # Not two comparisons with the bounds, with which cross_entropy takes a kernel more on an H100 (jax 0.10.2).
            inside = clipped[name] == index
            usable = _both(usable, jnp.all(inside, axis=tuple(range(len(shape), inside.ndim))))
            if is_possible is not None:
                usable = _both(usable, is_possible(name, clipped[name]))
        usable = usable if usable is None or counted is None else usable | ~counted
        counted, usable = (None if flags is None else jnp.broadcast_to(flags, shape) for flags in (counted, usable))
        return Mask(counted, usable), clipped

    @property
    def harmless(self) -> Array | None:
        """The samples that a kernel may combine with others: neither masked nor unusable."""
        return _both(self.counted, self.usable)

    def of_set(self) -> Mask:
        """The mask for arrays that belong to a set as a whole: true if any item counts."""
        return Mask(None if self.counted is None else jnp.any(self.counted), None)

    def cut(self, value: Array) -> Array:
        """The value of one sample, cut off from differentiation if the sample is masked.

        The selection has equal branches, so it costs nothing in the forward pass. Replacing masked logits by harmless
        ones costs 2.7 times the forward pass of a (2048, 8192) cross-entropy (XLA:CPU, jax 0.10).
        """
        if self.counted is None or not jnp.issubdtype(value.dtype, jnp.floating):
            return value
        return jnp.where(self.counted, value, lax.stop_gradient(value))

    def fill(self, value: Array, core: Core, output: Core, number: int) -> Array:
        """The value, its core axes last, with this number in samples that are not harmless; see `of_samples`."""
        if self.harmless is not None:
            for there in of_samples(self.harmless, core, output, value.ndim):
                value = jnp.where(there, value, jnp.asarray(number, value.dtype))
        return value

    def weigh(self, losses: Array, normalisers: Array | None, weights: Array | None) -> Samples:
        """Weighted losses and their normalisers: 0 for a masked sample, NaN for one that is not usable.

        A function that is not a loss may return several numbers per sample, which are masked alike.
        """
        if self.usable is not None:
            losses = jax.tree.map(functools.partial(nan_unless, self.usable), losses)
            normalisers = None if normalisers is None else nan_unless(self.usable, normalisers)
        weighted_normalisers = None
        if weights is not None:
            losses = numerics.weighted(weights, losses)
            weighted_normalisers = weights if normalisers is None else numerics.weighted(weights, normalisers)
        if self.counted is not None:
            losses = jax.tree.map(functools.partial(_zero_unless, self.counted), losses)
            normalisers = self.counted if normalisers is None else jnp.where(self.counted, normalisers, 0)
            if weighted_normalisers is not None:
                weighted_normalisers = jnp.where(self.counted, weighted_normalisers, 0)
        return Samples(losses, normalisers, weighted_normalisers)

    def weigh_batch(self, batch: BatchLoss, weights: Array | None, ones: Array, *, is_summed: bool) -> Samples:
        """The same for a whole batch, or only the sum if `is_summed`. `ones` has one number per sample."""
        if not is_summed:
            return self.weigh(batch.losses(), batch.normalisers, weights)
        loss_sum = batch.weighted_sum(self.fill(ones if weights is None else weights, (), (), 0))
        if self.usable is not None:
            bad = ~self.usable if self.counted is None else self.counted & ~self.usable
            # Added, so that other samples keep their gradients.
            loss_sum += nan_unless(~jnp.any(bad), jnp.zeros_like(loss_sum))
        return dataclasses.replace(self.weigh(0 * ones, batch.normalisers, weights), loss_sum=loss_sum)


def _zero_unless(counted: Array, losses: Array) -> Array:
    return jnp.where(counted, losses, 0)


def _both(one: Array | None, other: Array | None) -> Array | None:
    """Where both conditions hold; None means that a condition always holds."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def existing_entries(
    values: Mapping[str, Array],
    cores: Mapping[str, Core],
    declaration: Declaration,
    classes: ClassAxis | None,
    sizes: Mapping[str, int],
) -> dict[str, Array]:
    """Which entries of each axis exist: those that are valid, not padding and within the length."""
    padding = None if classes is None else classes.exists()
    exists = {} if padding is None or declaration.split is None else {declaration.split: padding}
    found = [(cores["valid"][0], values["valid"])] if "valid" in values else []
    for name, axis in declaration.lengths.items():
        if name in values:
            length = as_index(values[name])[..., None]
            index = jnp.arange(sizes[axis] + 1, dtype=length.dtype)
            found += [(axis, index[:-1] < length), (f"{axis}+1", index <= length)]
    for axis, flags in found:
        exists[axis] = flags & exists[axis] if axis in exists else flags
    return exists


def of_samples(flags: Array, core: Core, output: Core, rank: int) -> Iterator[Array]:
    """Yields the flags of samples reshaped to broadcast with a value of this rank, whose core axes are last.

    A set has one flag per item: once for each core axis of the value that is the axis of items. A value that belongs to
    the set as a whole has the flag of any item.
    """
    if output and output[0] in core:
        yield from along(flags, core, output[0])
    else:
        flags = jnp.any(flags, axis=-1) if output else flags
        yield jnp.expand_dims(flags, range(flags.ndim, rank))


def along(flags: Array, core: Core, axis: str) -> Iterator[Array]:
    """Yields the flags once for each core axis with this name, reshaped to broadcast along it.

    Flags may have batch axes before the axis.
    """
    batch = flags.ndim - 1
    for i, each in enumerate(core):
        if each == axis:
            yield jnp.expand_dims(flags, (*range(batch, batch + i), *range(i + 1 - len(core), 0)))


def zero_unless(flags: Array, value: Array, core: Core, axis: str) -> Array:
    """The value, its core axes last, with 0 in the entries of an axis that are not flagged."""
    for there in along(flags, core, axis):
        value = jnp.where(there, value, jnp.zeros((), value.dtype))
    return value
