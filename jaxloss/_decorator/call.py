"""One call of a loss, as jit traces it: check, promote, mask, vmap and reduce, with a function for each step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec

from jaxloss import _data_checks, _errors, reductions
from jaxloss._arrays import as_index, compute_dtype
from jaxloss._class_axis import ClassAxis
from jaxloss._decorator import masks
from jaxloss._decorator.batching import BatchLoss, spread_batch, vmap_batch
from jaxloss._decorator.declaration import Declaration
from jaxloss._decorator.masks import Mask
from jaxloss._decorator.notation import Operand, Pattern, match
from jaxloss._sharding import by_automatic_axes, explicit_mesh, vary_over, varying_axes
from jaxloss.reductions import Samples


def run(declaration: Declaration, plan: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """The whole pipeline: `plan` is static, the values are traced."""
    checked = check_arrays(declaration, values)
    call = Call(declaration, plan, checked)
    reduction = call.options.get("reduction", "none")
    is_summed = reduction not in ("none", "samples")

    def reduced(values: Mapping[str, Array]) -> Any:
        samples = call.samples(values, is_summed=is_summed)
        return reductions.pair(samples) if reduction == "samples" else reductions.reduce(samples, reduction)

    mesh = explicit_mesh(checked)
    if mesh is None:
        return reduced(checked)
    return by_automatic_axes(reduced, checked, mesh, PartitionSpec() if is_summed else call.placement(checked))


def check_arrays(declaration: Declaration, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as arrays. Raises a TypeError for a value that is not an array, or has a dtype that is not allowed."""
    arrays: dict[str, Any] = {}
    for name, value in values.items():
        if name in declaration.structures:
            require_array(declaration, name, value)
            arrays[name] = jax.tree.map(jnp.asarray, value)
        else:
            arrays[name] = _errors.as_array(declaration.name, name, value, *declaration.takes[name])
    return arrays


def require_array(declaration: Declaration, name: str, value: Any) -> None:
    """Raises a TypeError for an argument that is not an array, or not an instance of its declared structure."""
    structure = declaration.structures.get(name)
    if structure is None:
        _errors.require_array(declaration.name, name, value)
    elif isinstance(value, structure):
        value.check()
    else:
        got = type(value).__name__
        raise TypeError(f"{declaration.name}: {name} is of type {got} but takes an {structure.__name__}")


class Call:
    """What is known about a call before its values are: the options, the notation that applies, and all shapes.

    Args:
      declaration: the declaration of the kernel.
      plan: the options that are compiled in.
      values: all arrays and traced options; only their shapes and dtypes are used here.
    """

    def __init__(self, declaration: Declaration, plan: Mapping[str, Any], values: Mapping[str, Array]):
        self.declaration, self.name = declaration, declaration.name
        self.options = declaration.defaults | dict(plan)
        self.indices = [name for name in declaration.indices if jnp.issubdtype(values[name].dtype, jnp.integer)]
        self.pattern = self._pattern(plan)
        self.cores = declaration.cores[self.pattern]
        self.operands = [self._operand(name, value.shape, values) for name, value in values.items()]
        self.matched = match(self.name, self.operands, self.pattern.output)
        sizes, self.classes = dict(self.matched.core_sizes), None
        if declaration.split is not None:
            columns = sizes[declaration.split]
            self.classes = ClassAxis.of(self.name, columns, self.options["axis_name"], self.options["n_classes"])
            sizes[declaration.split] = self.classes.n_classes
        self.ranges = {name: declaration.indices[name].at(sizes) for name in self.indices}
        self.output_shape = tuple([self.matched.core_sizes[axis] for axis in self.pattern.output])
        self.shape = self.matched.batch_shape + self.output_shape
        self.fills = self._fills() if declaration.sees_batch or self.pattern.output else {}

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

    def _operand(self, name: str, shape: tuple[int, ...], values: Mapping[str, Array]) -> Operand:
        """The axes of an array, and how errors describe it."""
        declaration, core = self.declaration, self.cores.get(name, ())
        role, unit, hint = "", "value", ""
        if name in declaration.parameters:
            role = "parameter"
        elif name == declaration.inputs[0] and declaration.is_prediction:
            role = "prediction"
        elif name in self.indices:
            role, unit = "index", "class index"
            if len(declaration.patterns) > 1 and shape == values[declaration.inputs[0]].shape:
                hint = f"; one-hot targets are floats: use {name}.astype(float)"
        elif name in declaration.indices:
            hint = "; a floating target means class probabilities, class indices are integers"
        if name in ("weights", "where") and not shape:
            core = ()  # a scalar applies to all items of a set
        return Operand.of(self.name, name, shape, core, self.options.get("axis", -1), role, unit, hint)

    def _fills(self) -> dict[str, tuple[int, int]]:
        """For each array to fill in masked samples: the number to fill in, and the axis at which samples begin."""
        declaration, fills = self.declaration, dict[str, tuple[int, int]]()
        for operand in self.operands:
            name, core = operand.name, self.cores.get(operand.name, ())
            if operand.role == "parameter" or name == "where":
                continue
            if declaration.sees_batch:
                fills[name] = (1 if name in declaration.own else -1 if name in self.indices else 0), 0
            elif self.pattern.output[0] in core:
                fills[name] = 0, core.index(self.pattern.output[0])
        return fills

    def placement(self, values: Mapping[str, Array]) -> PartitionSpec:
        """The sharding of the batch on a mesh with explicit axes: each axis as in the first array that splits it."""
        placed: list[Any] = [None] * len(self.matched.batch_shape)
        for operand in filter(lambda operand: operand.batch_axes, self.operands):
            spec = jax.typeof(values[operand.name]).sharding.spec
            batch = [spec[i] for i in operand.batch_axes]
            placed = [one or (None if other in placed else other) for one, other in zip(placed, batch, strict=True)]
        return PartitionSpec(*placed)

    def samples(self, values: Mapping[str, Array], *, is_summed: bool) -> Samples:
        """The losses of the batch, weighted and masked, or their sum alone."""
        dtype, promoted = self._promoted(values)
        for name in promoted.keys() & {"weights", "where"} if self.pattern.output else ():
            if not promoted[name].ndim:  # a scalar applies to all items
                promoted[name] = jnp.broadcast_to(promoted[name], self.output_shape)
        if 0 in self.output_shape:
            return Samples(vary_over(jnp.zeros(self.shape, dtype), varying_axes(promoted)), None)
        operands = self.operands
        if isinstance(self.options.get("axis"), tuple):
            flat = [o.flatten(promoted[o.name]) for o in operands if len(o.core) == 1 and o.role != "parameter"]
            promoted |= {operand.name: value for operand, value in flat}
            operands = [{o.name: o for o, _ in flat}.get(operand.name, operand) for operand in operands]
        if self.declaration.sees_batch:
            spread = spread_batch(operands, self.matched, promoted)
            samples = self._weighed(spread, dtype, len(self.shape), is_summed=is_summed)
        else:
            weighed = functools.partial(self._weighed, dtype=dtype, rank=len(self.output_shape))
            samples = vmap_batch(weighed, operands, self.matched)(promoted)
        if 0 in self.shape:
            # Inside shard_map, XLA cannot compile the derivative with respect to an empty batch.
            samples = jax.tree.map(lambda x: vary_over(jnp.zeros(x.shape, x.dtype), varying_axes(x)), samples)
        return samples

    def _promoted(self, values: Mapping[str, Array]) -> tuple[Any, dict[str, Array]]:
        """The dtype of the computation, and the values with all numeric arrays converted to it."""
        declaration = self.declaration
        kept = {"where", "valid", *self.indices, *declaration.labels}
        dtype = compute_dtype(
            jax.tree.leaves([v for name, v in values.items() if name not in kept and v.dtype != bool])
        )
        if declaration.sees_batch:
            kept.update(name for name in declaration.inputs if name != "target")
        return dtype, {name: value if name in kept else value.astype(dtype) for name, value in values.items()}

    def _weighed(self, values: Mapping[str, Array], dtype: Any, rank: int, *, is_summed: bool = False) -> Samples:
        """Runs the kernel, with masking before and after it.

        Both kinds of kernels run here: one that sees a sample (or a set, with its items masked along the first axis),
        and one that sees the batch. They differ in how masked values are made harmless, and in what they return.
        """
        entries = masks.entries(values.get("valid"), self.cores.get("valid", ()), self.classes, self.declaration.split)
        values = masks.without_missing(values, self.cores, entries) if entries else values
        indices = {name: values[name] for name in self.indices}
        is_possible = functools.partial(self._is_possible, values["valid"]) if "valid" in values else None
        mask, clipped = Mask.of(
            values.get("where"), indices, self.ranges, self.options.get("ignore_index"), rank, is_possible
        )
        harmless = mask.harmless({**values, **clipped}, self.fills)
        if _data_checks.data_checks_enabled():
            with _data_checks.sparing(mask.counted):
                self._check_data(values)
                result = self._call_kernel(harmless, mask, entries)
        else:
            result = self._call_kernel(harmless, mask, entries)
        if isinstance(result, BatchLoss):
            ones = jnp.ones(self.shape, dtype)
            return mask.weigh_batch(result, harmless.get("weights"), ones, is_summed=is_summed)
        parts = [jnp.asarray(part) for part in (result if isinstance(result, tuple) else (result,)) if part is not None]
        shape = self.output_shape if rank else ()
        for part in parts:
            if part.shape != shape:
                takes = f"takes shape {shape}, one loss an item" if shape else "takes a scalar"
                raise TypeError(f"{self.name}: the kernel returned shape {part.shape} for one sample but {takes}")
        losses, *normalisers = (part.astype(dtype) for part in parts)
        return mask.weigh(losses, normalisers[0] if normalisers else None, harmless.get("weights"))

    def _is_possible(self, valid: Array, name: str, index: Array) -> Array | None:
        """Whether the class of an index is valid; None for an index into another axis."""
        (axis,) = self.cores["valid"]
        if self.declaration.indices[name].axes != {axis} or self.cores[name]:
            return None
        classes = self.classes or ClassAxis.of(self.name, self.matched.core_sizes[axis])
        (is_possible,) = classes.sums(classes.share(valid.astype(jnp.int32), index))
        return is_possible > 0

    def _call_kernel(self, values: Mapping[str, Any], mask: Mask, entries: Mapping[str, Array]) -> Any:
        declaration = self.declaration
        arguments = [values[name] for name in declaration.inputs]
        options = {name: values.get(name, self.options[name]) for name in declaration.own}
        for name, axes in (("valid", self.cores.get("valid", ())), ("where", self.pattern.output)):
            if name in options:
                there = entries.get(axes[0]) if name == "valid" else mask.counted
                length = self.matched.core_sizes[axes[0]]
                options[name] = jnp.ones(length, bool) if there is None else jnp.broadcast_to(there, length)
        if self.classes is not None:
            arguments = [dataclasses.replace(self.classes, valid=values.get("valid")), *arguments]
        return declaration.kernel(*arguments, **options)

    def _check_data(self, values: Mapping[str, Array]) -> None:
        for name, domain in (self.declaration.domains | self.ranges).items():
            if name in values:
                value = as_index(values[name]) if name in self.indices else values[name]
                _data_checks.require_inside(self.name, name, value, domain)
