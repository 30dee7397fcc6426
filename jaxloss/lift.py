"""`@loss`: from the formula of one sample to a library function.

`Lifted.run` is the whole pipeline, each step one function: check, promote, mask, vmap, reduce, all under one `jit`.
In front of it stands only the sorting of options (`jaxloss.options`).
"""

import dataclasses
import functools
import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import checks, reductions
from jaxloss.batching import cut, flatten_batch, vmap_batch
from jaxloss.checks import Interval
from jaxloss.dtypes import compute_dtype, narrow_index, promote
from jaxloss.notation import Match, Operand, Pattern, match
from jaxloss.options import ALWAYS_STATIC, COMMON, AxisOptions, Binder, ReductionOptions, SampleOptions
from jaxloss.reductions import Rows

P = ParamSpec("P")
Kernel = Callable[P, Array | tuple[Array, Array | None] | Rows]


def loss(
    *notations: str,
    indices: Mapping[str, str] | None = None,
    domains: Mapping[str, str] | None = None,
    parameters: Mapping[str, str] | None = None,
    structures: Mapping[str, type] | None = None,
    static: Sequence[str] = (),
    by_rows: bool = False,
) -> Callable[[Kernel[P]], Callable[P, Array | Any]]:
    r"""Makes a library function of a kernel: of a loss written down for one sample.

    The function takes batches of any rank, NumPy arrays and Python scalars; it has the options `weights`, `where` and
    `reduction` (see `jaxloss.ReductionOptions`) and, for samples that are vectors, `axis`. It computes in float32 or
    wider, keeps masked samples out of value and gradient, and is compiled. Every loss of this library is made by it.

    A kernel sees one sample: its arrays have no batch axes, its loss is a scalar. It returns the loss, or the pair
    (loss, normaliser) where the normaliser, what the sample adds to the denominator of a mean, is not 1 (None is 1):

    $$\text{mean} = \frac{\sum_i w_i l_i}{\sum_i n_i}$$

    Which of the common options the function has, `**options: Unpack[...]` says: `jaxloss.ReductionOptions`,
    `jaxloss.AxisOptions`, or for a number of each sample that is no loss, without reductions, `jaxloss.SampleOptions`.

    Its keyword-only parameters are the options of the loss. One left at its default reaches the kernel as it is, so
    that a kernel can leave a term out; any other number comes as a traced scalar of the dtype of the computation, so
    that another number does not compile another program. A caller may give an array as well, with one value a sample.

    Args:
      notations: what one sample looks like in NumPy's gufunc notation, such as "(c),()->()". Where there are two, an
        integer array of `indices` selects the first, a floating one the second.
      indices: which argument holds indices into an axis, and their range, such as {"target": "[0, c)"}. Samples whose
        index equals the option `ignore_index`, if the kernel declares one, are masked.
      domains: the interval that an argument has to lie in, such as {"margin": "[0, inf)"}. Python numbers given for
        options are always checked, arrays under `jaxloss.data_checks`, for which a kernel may also make checks of its
        own by `jaxloss.checks.require`.
      parameters: options that are arrays shared by all samples, with their axes, such as {"class_weights": "(c)"}.
      structures: arguments that are no arrays but pytrees of arrays, with their class, such as {"parameters":
        jaxloss.AdaptiveSoftmax}. An instance has the `shape` and the `dtype` of the array that it stands for, and a
        method `check()` that raises an error where its parts do not fit together.
      static: options that decide the structure of the program, compiled in as Python values.
      by_rows: the kernel sees the whole batch, for losses that no `vmap` of one sample computes well: each array with
        one leading axis `(n, ...)`, also options that are numbers, with 0 in masked samples (1 in options, -1 in
        indices); `parameters`, which here may be arguments as well, as they are; floating arguments in the caller's
        dtype. It returns `jaxloss.reductions.Rows`.

    Returns:
      A decorator. What it makes of a kernel has the kernel's name, documentation and arguments. Arrays must be
      floating, but for one named `target`, and are named in the singular.

    Raises:
      ValueError: a notation or an interval that is none.
      TypeError: a kernel whose signature does not fit what is said of it.

    Reference:
      NumPy documentation, "Generalized universal function API" (the notation).

    Example:
      The deviance of Tweedie's distribution for 1 < power < 2, as insurers use it: per unit of exposure, so the
      exposure is the normaliser.

      >>> from typing import Unpack
      >>> import jax.numpy as jnp, jaxloss
      >>> @jaxloss.loss("(),(),()->()", domains={"target": "[0, inf)", "power": "(1, 2)"})
      ... def tweedie_loss(log_rate, target, exposure, *, power=1.5, **options: Unpack[jaxloss.ReductionOptions]):
      ...     expected = jnp.exp((2 - power) * log_rate) / (2 - power)
      ...     observed = target * jnp.exp((1 - power) * log_rate) / (1 - power)
      ...     return exposure * (expected - observed), exposure
      >>> log_rate, claims, years = jnp.array([0.0, 0.0, jnp.nan]), jnp.array([0, 2, 1]), jnp.array([1.0, 3.0, 1.0])
      >>> print(tweedie_loss(log_rate, claims, years, where=~jnp.isnan(log_rate)))
      5.0
    """
    if any(callable(text) for text in notations):
        raise TypeError("loss: takes notations such as '(c),()->()' and makes a decorator; write @loss('(c),()->()')")
    patterns = tuple(Pattern.parse(text) for text in notations)

    def decorate(kernel: Kernel[P]) -> Callable[P, Array | Any]:
        lifted = Lifted(
            kernel, patterns, indices or {}, domains or {}, parameters or {}, structures or {}, static, by_rows
        )

        @functools.wraps(kernel)
        def function(*args: P.args, **kwargs: P.kwargs) -> Array | Any:
            return lifted(args, kwargs)

        setattr(function, "__signature__", lifted.signature)  # noqa: B010 (no static attribute of a function)
        function.__annotations__ = kernel.__annotations__ | {"return": Array | Any}
        return function

    return decorate


class Lifted:
    """A kernel with all that the decorator was told of it."""

    def __init__(
        self,
        kernel: Callable[..., Any],
        patterns: tuple[Pattern, ...],
        indices: Mapping[str, str],
        domains: Mapping[str, str],
        parameters: Mapping[str, str],
        structures: Mapping[str, type],
        static: Sequence[str],
        by_rows: bool,
    ):
        declared = inspect.signature(kernel).parameters.values()
        self.kernel, self.name, self.patterns = kernel, kernel.__name__, patterns
        self.inputs = tuple(p.name for p in declared if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.own = {p.name: p.default for p in declared if p.kind is inspect.Parameter.KEYWORD_ONLY}
        self.indices, self.structures, self.by_rows = dict(indices), dict(structures), by_rows
        self.domains = {argument: Interval(text) for argument, text in domains.items()}
        self.parameters = {option: Pattern.parse(f"{text}->()").cores[0] for option, text in parameters.items()}
        self._check_declaration({*indices, *domains, *parameters, *structures, *static})
        common = _common_options(kernel, patterns)
        self.defaults = self.own | {option: COMMON[option] for option in common}
        self.signature = inspect.Signature(
            [p for p in declared if p.kind is not inspect.Parameter.VAR_KEYWORD]
            + [
                inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=COMMON[option], annotation=hint)
                for option, hint in common.items()
            ],
            return_annotation="Array | Any",
        )
        arrays = frozenset({"weights", "where", *parameters})
        self.binder = Binder(self.name, self.inputs, self.defaults, ALWAYS_STATIC | set(static), arrays, self.domains)

        def run(plan: tuple[tuple[str, Any], ...], arrays: tuple[Any, ...], traced: dict[str, Any]) -> Any:
            return self.run(dict(plan), dict(zip(self.inputs, arrays, strict=True)), traced)

        run.__name__ = run.__qualname__ = self.name  # what profiles and HLO call the program
        self.jitted = jax.jit(run, static_argnums=0)

    def _check_declaration(self, named: set[str]) -> None:
        if not self.patterns or any(len(pattern.cores) != len(self.inputs) for pattern in self.patterns):
            written = " or ".join(pattern.notation for pattern in self.patterns) or "missing"
            raise TypeError(
                f"loss: {self.name} takes the arrays {', '.join(self.inputs)} but its notation is {written}"
            )
        for argument in self.inputs:
            if inspect.signature(self.kernel).parameters[argument].default is not inspect.Parameter.empty:
                raise TypeError(f"loss: array {argument} of {self.name} has a default; only options may have one")
        taken = self.own.keys() & COMMON.keys()
        if taken:
            raise TypeError(f"loss: {self.name} declares {', '.join(sorted(taken))}, which the decorator reads")
        axes = {axis for pattern in self.patterns for core in pattern.cores for axis in core}
        for argument, text in self.indices.items():
            unknown = set(re.findall(r"[a-z]\w*", text)) - axes
            if unknown:
                raise TypeError(f"loss: {argument} of {self.name} lies in {text}, but no axis is called {min(unknown)}")
        for option, default in self.own.items():
            if default is inspect.Parameter.empty:
                raise TypeError(f"loss: option {option} of {self.name} has no default")
        unknown = named - {*self.inputs, *self.own}
        if unknown:
            raise TypeError(f"loss: {self.name} has no argument {' and no '.join(sorted(unknown))}")

    def __call__(self, arrays: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if len(arrays) != len(self.inputs):
            arrays, options = self.binder.arrays(arrays, options)
        if self.indices:
            arrays = tuple(map(narrow_index, arrays))
        plan, traced, reduction = self.binder.bind(options) if options else ((), options, None)
        try:
            result = self.jitted(plan, arrays, traced)
        except Exception:
            # jit turns away what is no array before any check of ours has seen it.
            self._check_arrays(dict(zip(self.inputs, arrays, strict=True)) | traced)
            raise
        return result if reduction is None else reduction(*result)

    def run(self, plan: dict[str, Any], arrays: dict[str, Any], traced: dict[str, Any]) -> Any:
        """The pipeline, traced by jit: `plan` is static, `arrays` and `traced` are not."""
        values = arrays | traced
        self._check_arrays(values)
        values = jax.tree.map(jnp.asarray, values)  # under disable_jit they are none yet
        self._check_dtypes(values)
        options = self.defaults | plan
        pattern = self._select_pattern(values, plan)
        operands = self._operands(pattern, values)
        axis = options.get("axis", -1)
        matched = match(self.name, operands, axis)
        reduction = options.get("reduction", "none")
        indices, unchanged = set(self._integer_indices(values)), {"where"}
        if self.by_rows:
            values = promote(values, indices, unchanged | {name for name in self.inputs if name != "target"})
            batch = self._rows(options, matched, operands, values, summed=reduction not in ("none", "samples"))
        else:
            sample = functools.partial(self._sample, options, matched)
            batch = vmap_batch(sample, operands, matched, axis)(promote(values, indices, unchanged))
        if reduction == "samples":
            return batch.losses, reductions.normalisers(batch)
        return reductions.reduce(batch, reduction)

    def _integer_indices(self, values: Mapping[str, Any]) -> list[str]:
        return [name for name in self.indices if jnp.issubdtype(values[name].dtype, jnp.integer)]

    def _check_arrays(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            structure = self.structures.get(name)
            if structure is None:
                checks.require_array(self.name, name, value)
            elif not isinstance(value, structure):
                raise TypeError(f"{self.name}: {name} takes an {structure.__name__}, got {type(value).__name__}")
            else:
                value.check()

    def _check_dtypes(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if name == "where":
                kind, takes = jnp.bool_, "booleans"
            elif name in self.indices and len(self.patterns) == 1:
                kind, takes = jnp.integer, "integer class indices"
            elif name in self.indices:
                kind, takes = (jnp.integer, jnp.floating), "integer class indices or floating class probabilities"
            elif name == "target" or name not in self.inputs:
                kind, takes = (jnp.floating, jnp.integer, jnp.bool_), "real numbers"
            else:
                kind, takes = jnp.floating, "floating numbers"
            kinds = kind if isinstance(kind, tuple) else (kind,)
            if not any(jnp.issubdtype(value.dtype, kind) for kind in kinds):
                raise TypeError(f"{self.name}: {name} has dtype {value.dtype} but takes {takes}")

    def _select_pattern(self, arrays: Mapping[str, Any], plan: Mapping[str, Any]) -> Pattern:
        if len(self.patterns) == 1 or self._integer_indices(arrays):
            return self.patterns[0]
        if "ignore_index" in plan:
            raise ValueError(
                f"{self.name}: ignore_index is {plan['ignore_index']} but is for integer class indices, and "
                f"{next(iter(self.indices))} is floating; mask such samples by where="
            )
        return self.patterns[1]

    def _operands(self, pattern: Pattern, values: Mapping[str, Any]) -> list[Operand]:
        """What is known of each array's axes."""
        cores = dict(zip(self.inputs, pattern.cores, strict=True)) | self.parameters
        operands = []
        for name, value in values.items():
            unit = hint = None
            if name in self.indices:
                unit = "class index" if pattern is self.patterns[0] else None
                hint = None if unit else "; a floating target means class probabilities, class indices are integers"
            core, is_parameter = cores.get(name, ()), name in self.parameters
            operands.append(Operand(name, value.shape, core, is_parameter, unit or "value", hint or ""))
        return operands

    def _sample(self, options: Mapping[str, Any], matched: Match, values: dict[str, Any]) -> reductions.Samples:
        """One sample: the kernel between the mask that goes in and the mask that comes out."""
        counted = self._counted(options, values)
        values = jax.tree.map(functools.partial(cut, counted=counted), values)
        with checks.sparing(counted):
            self._check_data(matched, values)
            values, usable = self._usable(matched, values)
            result = self._call_kernel(options, values)
        dtype = compute_dtype(values.values())
        value, normaliser = result if isinstance(result, tuple) else (result, None)
        value = _unless(usable, self._scalar(value, dtype))
        normaliser = None if normaliser is None else _unless(usable, self._scalar(normaliser, dtype))
        return reductions.weigh(value, normaliser, values.get("weights"), counted)

    def _rows(
        self,
        options: Mapping[str, Any],
        matched: Match,
        operands: list[Operand],
        values: dict[str, Array],
        summed: bool,
    ) -> reductions.Samples:
        """The batch as a whole: what `_sample` does for one, to all rows at once."""
        if checks.data_checks_enabled():
            vmap_batch(functools.partial(self._check_sample, options, matched), operands, matched, -1)(values)
        values = flatten_batch(operands, matched, values)
        counted = self._counted(options, values)
        values, usable = self._usable(matched, values)
        harmless = counted if usable is None else usable if counted is None else counted & usable
        weights, indices = values.get("weights"), self._integer_indices(values)
        for operand in operands:
            name = operand.name
            if harmless is not None and not operand.is_parameter and name != "where":
                fill = 1 if name in self.own else -1 if name in indices else 0
                values[name] = _fill_unless(harmless, values[name], fill)
        kernel_rows = self._call_kernel(options, values)
        n = math.prod(matched.batch_shape)
        normalisers = kernel_rows.normalisers
        if normalisers is not None:
            normalisers = _unless(usable, normalisers)
        if summed:
            ones = jnp.ones(
                n, compute_dtype(v for v in jax.tree.leaves(values) if jnp.issubdtype(v.dtype, jnp.floating))
            )
            used = ones if weights is None else weights
            used = used if harmless is None else _fill_unless(harmless, used, 0)
            losses = jnp.zeros_like(ones)
            loss_sum = kernel_rows.weighted_sum(used)
            if usable is not None:
                bad = ~usable if counted is None else counted & ~usable
                loss_sum += jnp.where(jnp.any(bad), jnp.nan, 0)  # added, as the others keep their gradients
        else:
            losses, loss_sum = _unless(usable, kernel_rows.losses()), None
        samples = reductions.weigh(losses, normalisers, weights, counted)
        samples = jax.tree.map(functools.partial(jnp.reshape, shape=matched.batch_shape), samples)
        return dataclasses.replace(samples, loss_sum=loss_sum)

    def _call_kernel(self, options: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        arguments = [values[name] for name in self.inputs]
        return self.kernel(*arguments, **{name: values.get(name, options[name]) for name in self.own})

    def _check_sample(self, options: Mapping[str, Any], matched: Match, values: dict[str, Any]) -> Array:
        with checks.sparing(self._counted(options, values)):
            self._check_data(matched, values)
        return jnp.zeros(())

    def _check_data(self, matched: Match, values: Mapping[str, Any]) -> None:
        if checks.data_checks_enabled():
            for name, domain in (self.domains | self._ranges(matched, values)).items():
                if name in values:
                    checks.require_inside(self.name, name, values[name], domain)

    def _usable(self, matched: Match, values: dict[str, Any]) -> tuple[dict[str, Any], Array | None]:
        """The values with every index in its range, and which samples, by their leading axes, had them all there."""
        usable = None
        for name, domain in self._ranges(matched, values).items():
            inside = domain.contains(values[name])
            inside = jnp.all(inside, axis=tuple(range(int(self.by_rows), inside.ndim)))
            usable = inside if usable is None else usable & inside
            values = values | {name: domain.clip_index(values[name])}
        return values, usable

    def _ranges(self, matched: Match, values: Mapping[str, Any]) -> dict[str, Interval]:
        """The range of each index, with every name of an axis in it replaced by its length."""
        sizes = matched.core_sizes
        return {
            name: Interval(re.sub(r"[a-z]\w*", lambda axis: str(sizes.get(axis[0], axis[0])), self.indices[name]))
            for name in self._integer_indices(values)
        }

    def _scalar(self, value: Any, dtype: Any) -> Array:
        value = jnp.asarray(value)
        if value.shape:
            raise TypeError(f"{self.name}: the kernel returned shape {value.shape} for one sample but takes a scalar")
        return value.astype(dtype)

    def _counted(self, options: Mapping[str, Any], values: Mapping[str, Any]) -> Array | None:
        """Whether the sample counts; None where every sample does."""
        counted = values.get("where")
        if "ignore_index" in options:
            for name in self._integer_indices(values):
                kept = values[name] != options["ignore_index"]
                counted = kept if counted is None else counted & kept
        return counted


def _common_options(kernel: Callable[..., Any], patterns: Sequence[Pattern]) -> dict[str, str]:
    """The common options with their types: those that `**options: Unpack[...]` declares, or all that make sense."""
    declared = ReductionOptions
    if any(pattern.has_axis for pattern in patterns):
        declared = AxisOptions
    for parameter in inspect.signature(kernel).parameters.values():
        hint = parameter.kind is parameter.VAR_KEYWORD and typing.get_type_hints(kernel).get(parameter.name)
        if hint:
            declared = next(iter(typing.get_args(hint)), None)
            if declared not in (ReductionOptions, AxisOptions, SampleOptions):
                takes = "Unpack[] of jaxloss.ReductionOptions, AxisOptions or SampleOptions"
                raise TypeError(f"loss: **{parameter.name} of {kernel.__name__} is {hint} but takes {takes}")
    return {option: hint.__forward_arg__ for option, hint in declared.__annotations__.items()}


def _unless(usable: Array | None, value: Array) -> Array:
    """The value of a sample whose indices all are in their ranges; of any other NaN, with no gradient."""
    return value if usable is None else jnp.where(usable, value, jnp.nan)


def _fill_unless(harmless: Array, value: Array, fill: int) -> Array:
    """The rows that count, and a number that no loss minds in the place of others."""
    return jnp.where(harmless.reshape(-1, *[1] * (value.ndim - 1)), value, jnp.asarray(fill, value.dtype))
