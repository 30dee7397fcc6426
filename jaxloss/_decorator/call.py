"""One call of a loss, as jit traces it: check, promote, mask, vmap, reduce, each step one function."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec

from jaxloss import _data_checks as checks
from jaxloss import _errors, reductions
from jaxloss._arrays import compute_dtype, promote
from jaxloss._class_axis import ClassAxis
from jaxloss._decorator.batching import cut, spread_batch, vmap_batch
from jaxloss._decorator.declaration import Declaration
from jaxloss._decorator.notation import Operand, Pattern, match
from jaxloss._errors import Interval
from jaxloss._sharding import by_automatic_axes, explicit_mesh, vary_over, varying_axes
from jaxloss.reductions import Samples


def run(declaration: Declaration, plan: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """The whole pipeline: `plan` is static, the values are traced."""
    check_arrays(declaration, values)
    values = jax.tree.map(jnp.asarray, dict(values))  # under disable_jit they are none yet
    _check_dtypes(declaration, values)
    call = Call(declaration, plan, values)
    reduction = call.options.get("reduction", "none")
    is_summed = reduction not in ("none", "samples")

    def reduced(values: Mapping[str, Any]) -> Any:
        samples = call.rows(values, is_summed) if declaration.by_rows else call.samples(values)
        if 0 in call.matched.batch_shape:
            # Of nothing: a derivative by what is empty is no program that XLA takes inside shard_map.
            samples = jax.tree.map(lambda x: vary_over(jnp.zeros(x.shape, x.dtype), varying_axes(x)), samples)
        if reduction == "samples":
            return samples.losses, reductions.normalisers(samples)
        return reductions.reduce(samples, reduction)

    mesh = explicit_mesh(values)
    if mesh is None:
        return reduced(values)
    return by_automatic_axes(reduced, values, mesh, PartitionSpec() if is_summed else call.placement(values))


def check_arrays(declaration: Declaration, values: Mapping[str, Any]) -> None:
    """Raises a TypeError for what is no array, or not the structure that an argument takes."""
    for name, value in values.items():
        structure = declaration.structures.get(name)
        if structure is None:
            _errors.require_array(declaration.name, name, value)
        elif not isinstance(value, structure):
            raise TypeError(f"{declaration.name}: {name} takes an {structure.__name__}, got {type(value).__name__}")
        else:
            value.check()


def _check_dtypes(declaration: Declaration, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if name == "where":
            kind, takes = jnp.bool_, "booleans"
        elif name in declaration.indices and len(declaration.patterns) == 1:
            kind, takes = jnp.integer, "integer class indices"
        elif name in declaration.indices:
            kind, takes = (jnp.integer, jnp.floating), "integer class indices or floating class probabilities"
        elif name == "target" or name not in declaration.inputs:
            kind, takes = (jnp.floating, jnp.integer, jnp.bool_), "real numbers"
        else:
            kind, takes = jnp.floating, "floating numbers"
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not any(jnp.issubdtype(value.dtype, kind) for kind in kinds):
            raise TypeError(f"{declaration.name}: {name} has dtype {value.dtype} but takes {takes}")


class Call:
    """What is known of one call before its numbers are: its options, which notation it fits, and all shapes.

    Args:
      declaration: of the kernel.
      plan: the options that are compiled in.
      values: all arrays and traced options, of which only shapes and dtypes are looked at.
    """

    def __init__(self, declaration: Declaration, plan: Mapping[str, Any], values: Mapping[str, Array]):
        self.declaration, self.name = declaration, declaration.name
        self.options = declaration.defaults | dict(plan)
        self.axis = self.options.get("axis", -1)
        self.indices = [name for name in declaration.indices if jnp.issubdtype(values[name].dtype, jnp.integer)]
        pattern = self._pattern(plan)
        self.cores = dict(zip(declaration.inputs, pattern.cores, strict=True)) | declaration.parameters
        self.operands = self._operands(pattern, values)
        self.matched = match(self.name, self.operands, self.axis)
        self.classes = self._classes()
        self.ranges = self._ranges()

    def _pattern(self, plan: Mapping[str, Any]) -> Pattern:
        patterns = self.declaration.patterns
        if len(patterns) == 1 or self.indices:
            return patterns[0]
        if "ignore_index" in plan:
            raise ValueError(
                f"{self.name}: ignore_index is {plan['ignore_index']} but is for integer class indices, and "
                f"{next(iter(self.declaration.indices))} is floating; mask such samples by where="
            )
        return patterns[1]

    def _operands(self, pattern: Pattern, values: Mapping[str, Array]) -> list[Operand]:
        """What is known of each array's axes."""
        operands = []
        for name, value in values.items():
            unit = hint = None
            if name in self.declaration.indices:
                unit = "class index" if pattern is self.declaration.patterns[0] else None
                hint = None if unit else "; a floating target means class probabilities, class indices are integers"
            is_parameter = name in self.declaration.parameters
            core = self.cores.get(name, ())
            operands.append(Operand(name, value.shape, core, is_parameter, unit or "value", hint or ""))
        return operands

    def _classes(self) -> ClassAxis | None:
        split = self.declaration.split
        if split is None:
            return None
        columns = self.matched.core_sizes[split]
        return ClassAxis.of(self.name, columns, self.options["axis_name"], self.options["n_classes"])

    def _ranges(self) -> dict[str, Interval]:
        """The range of each index, with every name of an axis in it replaced by its length, over all devices."""
        sizes = dict(self.matched.core_sizes)
        if self.classes is not None:
            sizes[self.declaration.split or ""] = self.classes.n_classes
        texts = {name: self.declaration.indices[name] for name in self.indices}
        return {
            name: Interval(re.sub(r"[a-z]\w*", lambda axis: str(sizes.get(axis[0], axis[0])), text))
            for name, text in texts.items()
        }

    def placement(self, values: Mapping[str, Array]) -> PartitionSpec:
        """How the batch lies on a mesh of explicit axes: each of its axes as that of the first array that is split."""
        placed: list[Any] = [None] * len(self.matched.batch_shape)
        for operand in filter(lambda operand: operand.batch_rank, self.operands):
            spec = jax.typeof(values[operand.name]).sharding.spec
            core = range(operand.core_position(self.axis), operand.core_position(self.axis) + len(operand.core))
            batch = [name for i, name in enumerate(spec) if i not in core]
            placed = [one or (None if other in placed else other) for one, other in zip(placed, batch, strict=True)]
        return PartitionSpec(*placed)

    def samples(self, values: Mapping[str, Array]) -> Samples:
        """The batch by the kernel of one sample."""
        return vmap_batch(self._sample, self.operands, self.matched, self.axis)(
            promote(values, set(self.indices), {"where"})
        )

    def _sample(self, values: dict[str, Array]) -> Samples:
        """One sample: the kernel between the mask that goes in and the mask that comes out."""
        values = self._without_padding(values)
        counted = self._counted(values)
        values = jax.tree.map(functools.partial(cut, counted=counted), values)
        with checks.sparing(counted):
            self._check_data(values)
            values, usable = self._usable(values, counted)
            result = self._call_kernel(values)
        dtype = compute_dtype(values.values())
        value, normaliser = result if isinstance(result, tuple) else (result, None)
        value = _unless(usable, self._scalar(value, dtype))
        normaliser = None if normaliser is None else _unless(usable, self._scalar(normaliser, dtype))
        return reductions.weigh(value, normaliser, values.get("weights"), counted)

    def rows(self, values: Mapping[str, Array], summed: bool) -> Samples:
        """The batch by the kernel that sees it as a whole: what `_sample` does for one, to all rows at once."""
        inputs = {name for name in self.declaration.inputs if name != "target"}
        values = self._without_padding(promote(values, set(self.indices), {"where"} | inputs))
        if checks.data_checks_enabled():
            vmap_batch(self._check_sample, self.operands, self.matched, -1)(values)
        values = spread_batch(self.operands, self.matched, values)
        counted = self._counted(values)
        values, usable = self._usable(values, counted)
        harmless = counted if usable is None else usable if counted is None else counted & usable
        for operand in self.operands:
            name = operand.name
            if harmless is not None and not operand.is_parameter and name != "where":
                fill = 1 if name in self.declaration.own else -1 if name in self.indices else 0
                values[name] = _fill_unless(harmless, values[name], fill)
        kernel_rows, weights = self._call_kernel(values), values.get("weights")
        normalisers = kernel_rows.normalisers
        if normalisers is not None:
            normalisers = _unless(usable, normalisers)
        if summed:
            floats = (v for v in jax.tree.leaves(values) if jnp.issubdtype(v.dtype, jnp.floating))
            ones = jnp.ones(self.matched.batch_shape, compute_dtype(floats))
            used = ones if weights is None else weights
            used = used if harmless is None else _fill_unless(harmless, used, 0)
            losses = jnp.zeros_like(ones)
            loss_sum = kernel_rows.weighted_sum(used)
            if usable is not None:
                bad = ~usable if counted is None else counted & ~usable
                loss_sum += jnp.where(jnp.any(bad), jnp.nan, 0)  # added, as the others keep their gradients
        else:
            losses, loss_sum = _unless(usable, kernel_rows.losses()), None
        return dataclasses.replace(reductions.weigh(losses, normalisers, weights, counted), loss_sum=loss_sum)

    def _call_kernel(self, values: Mapping[str, Any]) -> Any:
        declaration = self.declaration
        arguments = [values[name] for name in declaration.inputs]
        options = {name: values.get(name, self.options[name]) for name in declaration.own}
        return declaration.kernel(*arguments, **options)

    def _check_sample(self, values: dict[str, Array]) -> Array:
        with checks.sparing(self._counted(values)):
            self._check_data(values)
        return jnp.zeros(())

    def _check_data(self, values: Mapping[str, Array]) -> None:
        if checks.data_checks_enabled():
            for name, domain in (self.declaration.domains | self.ranges).items():
                if name in values:
                    checks.require_inside(self.name, name, values[name], domain)

    def _usable(self, values: dict[str, Array], counted: Array | None) -> tuple[dict[str, Array], Array | None]:
        """The values with every index in its range, and which samples, by their batch axes, had them all there.

        A sample that does not count is usable: a NaN that is masked later would be an error under jax_debug_nans.
        """
        usable, batch_rank = None, len(self.matched.batch_shape) if self.declaration.by_rows else 0
        for name, domain in self.ranges.items():
            inside = domain.contains(values[name])
            inside = jnp.all(inside, axis=tuple(range(batch_rank, inside.ndim)))
            usable = inside if usable is None else usable & inside
            values = values | {name: domain.clip_index(values[name])}
        if usable is not None and counted is not None:
            usable = usable | ~counted
        return values, usable

    def _without_padding(self, values: dict[str, Array]) -> dict[str, Array]:
        """Each array, its core axes last, with 0 in the columns that are no classes."""
        exists = None if self.classes is None else self.classes.exists()
        if exists is None:
            return values

        def filled(name: str, value: Array) -> Array:
            core = self.cores.get(name, ())
            if self.declaration.split not in core:
                return value
            behind = len(core) - 1 - core.index(self.declaration.split)
            return jnp.where(exists.reshape(-1, *[1] * behind), value, jnp.zeros((), value.dtype))

        return {name: filled(name, value) for name, value in values.items()}

    def _scalar(self, value: Any, dtype: Any) -> Array:
        value = jnp.asarray(value)
        if value.shape:
            raise TypeError(f"{self.name}: the kernel returned shape {value.shape} for one sample but takes a scalar")
        return value.astype(dtype)

    def _counted(self, values: Mapping[str, Array]) -> Array | None:
        """Whether the sample counts; None where every sample does."""
        counted = values.get("where")
        if "ignore_index" in self.options:
            for name in self.indices:
                kept = values[name] != self.options["ignore_index"]
                counted = kept if counted is None else counted & kept
        return counted


def _unless(usable: Array | None, value: Array) -> Array:
    """The value of a sample whose indices all are in their ranges; of any other NaN, with no gradient."""
    if usable is None:
        return value
    # Without jit this constant, which nobody sees, would be an error under jax_debug_nans.
    with jax.debug_nans(False):
        return jnp.where(usable, value, jnp.nan)


def _fill_unless(harmless: Array, value: Array, fill: int) -> Array:
    """The rows that count, and a number that no loss minds in the place of others."""
    harmless = jnp.expand_dims(harmless, range(harmless.ndim, value.ndim))
    return jnp.where(harmless, value, jnp.asarray(fill, value.dtype))
