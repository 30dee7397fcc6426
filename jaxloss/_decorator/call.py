"""One call of a loss, as jit traces it: check, promote, mask, vmap and reduce, with a function for each step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

from jaxloss import _data_checks, _errors, reductions
from jaxloss._arrays import ARRAY_TYPES, as_index, compute_dtype
from jaxloss._class_axis import ClassAxis
from jaxloss._decorator import masks
from jaxloss._decorator.batching import BatchLoss, spread_batch, vmap_batch
from jaxloss._decorator.declaration import Declaration
from jaxloss._decorator.masks import Mask
from jaxloss._decorator.notation import Operand, Pattern, match, one_hot_hint
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
        given = [name for name in declaration.indices if name in values]
        self.indices = [name for name in given if jnp.issubdtype(values[name].dtype, jnp.integer)]
        self.pattern = self._pattern(plan)
        self.cores = declaration.cores[self.pattern]
        rank = max((v.ndim for name, v in values.items() if len(self.cores.get(name, ())) == 1), default=0)
        self.operands = [
            self._operand(name, value, values[declaration.inputs[0]], rank) for name, value in values.items()
        ]
        self.matched = match(self.name, self.operands, (*self.pattern.output, *declaration.lengths.values()))
        sizes, self.classes = dict(self.matched.core_sizes), None
        if declaration.split is not None:
            columns = sizes[declaration.split]
            self.classes = ClassAxis.of(self.name, columns, self.options["axis_name"], self.options["n_classes"])
            sizes[declaration.split] = self.classes.n_classes
        self.ranges = {name: declaration.indices[name].at(sizes) for name in self.indices}
        self.output_shape = tuple([self.matched.core_sizes[axis] for axis in self.pattern.output])
        self.shape = self.matched.batch_shape + self.output_shape
        if declaration.sees_batch or self.indices:
            _errors.require_samples(self.name, self.shape)

    def _pattern(self, plan: Mapping[str, Any]) -> Pattern:
        patterns = self.declaration.patterns
        if len(patterns) == 1 or any(name in self.declaration.inputs for name in self.indices):
            return patterns[0]
        if "ignore_index" in plan:
            raise ValueError(
                f"{self.name}: ignore_index is {plan['ignore_index']} but is for integer class indices, and "
                f"{next(iter(self.declaration.indices))} is floating; mask such samples by where="
            )
        return patterns[1]

    def _operand(self, name: str, value: Array, first: Array, rank: int) -> Operand:
        """The axes of an array, and how errors describe it. `rank` is that of the arrays that `axis=` refers to."""
        declaration, core = self.declaration, self.cores.get(name, ())
        role, unit, hint = "option" if name in declaration.defaults else "", "value", ""
        if name in declaration.parameters:
            role = "parameter"
        elif name == declaration.inputs[0] and declaration.is_prediction:
            role = "prediction"
        elif name in self.indices:
            is_length = name in declaration.lengths
            role, unit = "index", "length" if is_length else "list of class indices" if core else "class index"
            if not core and value.ndim == first.ndim and not is_length:
                to_floats = f"floats: use {name}.astype(float)" if len(declaration.patterns) > 1 else ""
                hint = f"; one-hot targets are {to_floats or f'not taken: use jnp.argmax({name}, axis=-1)'}"
        elif name in declaration.indices:
            hint = "; a floating target means class probabilities, class indices are integers"
        elif name == "where" and "valid" in declaration.own and value.shape == first.shape[: value.ndim]:
            hint = "; to leave out entries of a sample, use valid="
        elif name in declaration.probabilities and jnp.issubdtype(value.dtype, jnp.integer):
            hint = one_hot_hint(name, value.shape, first.shape)
        if name in ("weights", "where") and not value.ndim:
            core = ()  # a scalar applies to all items of a set
        return Operand.of(self.name, name, value.shape, core, self.options.get("axis", -1), rank, role, unit, hint)

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
        shape = self.shape if self.declaration.sees_batch else self.output_shape
        scalars = [name for name in promoted.keys() & {"weights", "where"} if not promoted[name].ndim]
        for_all = {name: jnp.broadcast_to(promoted[name], shape) for name in scalars if self.pattern.output}
        operands = self.operands
        if isinstance(self.options.get("axis"), tuple):
            flat = [o.flatten(promoted[o.name]) for o in operands if len(o.core) == 1 and o.role != "parameter"]
            promoted |= {operand.name: value for operand, value in flat}
            operands = [{o.name: o for o, _ in flat}.get(operand.name, operand) for operand in operands]
        if 0 in self.output_shape:
            return Samples(vary_over(jnp.zeros(self.shape, dtype), varying_axes(promoted)), None)
        kernel = functools.partial(self._masked_kernel, dtype=dtype)
        if self.declaration.sees_batch:
            samples = kernel(spread_batch(operands, self.matched, promoted) | for_all, is_summed=is_summed)
        else:
            samples = vmap_batch(kernel, operands, self.matched)(promoted | for_all)
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
        if declaration.sees_batch and dtype != jnp.float64:
            kept.update(declaration.inputs)

        def converted(name: str, leaf: Array) -> Array:
            # An array of float64 that was made under x64 comes in 32 bits where that is off.
            return leaf if name in kept and leaf.dtype != jnp.float64 else leaf.astype(dtype)

        promoted = {name: jax.tree.map(functools.partial(converted, name), value) for name, value in values.items()}
        return dtype, promoted | self._labels(values)

    def _labels(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Labels in one dtype that holds them all; raises a TypeError if JAX has none."""
        labels = {name: values[name] for name in self.declaration.labels if name in values}
        dtypes = {label.dtype for label in labels.values()}
        if len(dtypes) < 2:
            return labels
        common = functools.reduce(np.promote_types, dtypes)
        if common.kind not in "iu" or jax.dtypes.canonicalize_dtype(common) != common:
            got = " and ".join(f"{name} has dtype {label.dtype}" for name, label in labels.items())
            raise TypeError(f"{self.name}: {got} but labels take a dtype that holds both")
        return {name: label.astype(common) for name, label in labels.items()}

    def _masked_kernel(self, values: Mapping[str, Array], dtype: Any, *, is_summed: bool = False) -> Samples:
        """Runs the kernel, with masking before and after it.

        Both kinds of kernels run here: one that sees a sample (or a set, with its items masked along their axis), and
        one that sees the batch. They differ in how masked values are made harmless, and in what they return.
        """
        exists = masks.existing_entries(values, self.cores, self.declaration, self.classes, self.matched.core_sizes)
        existing = {name: self._without_missing(name, value, exists) for name, value in values.items()}
        shape = self.shape if self.declaration.sees_batch else self.output_shape
        indices = {name: existing[name] for name in self.indices}
        is_possible = functools.partial(self._is_possible, values["valid"]) if "valid" in values else None
        ignore_index: int | None = self.options.get("ignore_index")
        ignored = {name: ignore_index for name in self.declaration.inputs if ignore_index is not None}
        mask, clipped = Mask.of(values.get("where"), indices, self.ranges, ignored, shape, is_possible)
        harmless = self._harmless(mask, {**existing, **clipped})
        with _data_checks.sparing(mask.counted):
            if _data_checks.data_checks_enabled():
                self._check_data(values, exists, mask.counted)
            result = self._call_kernel(harmless, mask, exists)
        if isinstance(result, BatchLoss):
            ones = jnp.ones(self.shape, dtype)
            return mask.weigh_batch(result, harmless.get("weights"), ones, is_summed=is_summed)
        loss, normaliser = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
        normaliser = None if normaliser is None else self._as_returned(normaliser, "normaliser", dtype)
        return mask.weigh(self._as_returned(loss, "loss", dtype), normaliser, harmless.get("weights"))

    def _without_missing(self, name: str, value: Array, exists: Mapping[str, Array]) -> Array:
        """The array with 0 in the entries that do not exist."""
        for axis, flags in exists.items() if name != "valid" else ():
            value = masks.zero_unless(flags, value, self.cores.get(name, ()), axis)
        return value

    def _harmless(self, mask: Mask, values: dict[str, Array]) -> dict[str, Array]:
        """The values that the kernel may see: cut off from differentiation, or replaced if it combines samples."""
        declaration, output = self.declaration, self.pattern.output
        if not (declaration.sees_batch or output):
            return jax.tree.map(mask.cut, values)
        harmless = dict(values)
        for name, value in values.items() if mask.harmless is not None else ():
            core = self.cores.get(name, ())
            if name == "where" or (declaration.sees_batch and name in declaration.parameters):
                continue
            if declaration.sees_batch:
                number = 1 if name in declaration.own else -1 if name in self.indices else 0
                harmless[name] = mask.fill(value, core, output, number)
            elif output[0] in core:
                harmless[name] = mask.fill(value, core, output, 0)
            else:
                harmless[name] = mask.of_set().cut(value)
        return harmless

    def _as_returned(self, value: Any, what: str, dtype: Any) -> Array:
        """What a kernel returned, as an array of the dtype of the computation."""
        takes = f"a {what} of shape {self.output_shape}" + (", one number per item" if self.output_shape else "")
        is_array = isinstance(value, ARRAY_TYPES)
        if not is_array or jnp.iscomplexobj(value):
            got = "complex numbers" if is_array else type(value).__name__
            raise TypeError(f"{self.name}: the kernel returned {got} but takes {takes}, or the pair (loss, normaliser)")
        if jnp.shape(value) != self.output_shape:
            raise TypeError(
                f"{self.name}: the kernel returned shape {jnp.shape(value)} for one sample but takes {takes}"
            )
        return jnp.asarray(value).astype(dtype)

    def _is_possible(self, valid: Array, name: str, index: Array) -> Array | None:
        """Whether the class of an index is valid; None for an index into another axis."""
        (axis,) = self.cores["valid"]
        if self.declaration.indices[name].axes != {axis} or self.cores.get(name) or name in self.declaration.lengths:
            return None
        classes = self.classes or ClassAxis.of(self.name, self.matched.core_sizes[axis])
        return classes.sums(classes.share(valid.astype(jnp.int32), index))[0] > 0

    def _call_kernel(self, values: Mapping[str, Any], mask: Mask, exists: Mapping[str, Array]) -> Any:
        declaration = self.declaration
        arguments = [values[name] for name in declaration.inputs]
        options = {name: values.get(name, self.options[name]) for name in declaration.own}
        for name, axes in (("valid", self.cores.get("valid", ())), ("where", self.pattern.output)):
            if name in options:
                flags = exists.get(axes[0]) if name == "valid" else mask.harmless
                if flags is None and not declaration.sees_batch:
                    flags = jnp.ones(self.matched.core_sizes[axes[0]], bool)
                options[name] = flags
        if self.classes is not None:
            arguments = [dataclasses.replace(self.classes, valid=values.get("valid")), *arguments]
        return declaration.kernel(*arguments, **options)

    def _check_data(self, values: Mapping[str, Array], exists: Mapping[str, Array], counted: Array | None) -> None:
        """Checks the domains and ranges of what exists, of samples that are not masked."""
        for name, domain in (self.declaration.domains | self.ranges).items():
            if name not in values:
                continue
            value, core = values[name], self.cores.get(name, ())
            holds = domain.contains(as_index(value) if name in self.indices else value)
            for axis, flags in exists.items():
                for there in masks.along(flags, core, axis):
                    holds = holds | ~there
            if counted is not None and self.declaration.sees_batch and name in self.declaration.parameters:
                holds = holds | ~jnp.any(counted)
            elif counted is not None:
                for there in masks.of_samples(counted, core, self.pattern.output, value.ndim):
                    holds = holds | ~there
            _data_checks.require_all(self.name, name, value, domain, holds)
