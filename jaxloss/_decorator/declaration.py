"""The declaration of a loss: what `@loss` is told about a kernel, checked once, where the loss is defined."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxloss._decorator.notation import Core, Pattern
from jaxloss._errors import COUNT
from jaxloss._interval import Interval
from jaxloss.options import COMMON, AxisOptions, MaskOptions, ReductionOptions, SampleOptions, SetOptions

PREDICTIONS = ("prediction", "logits", "log_probabilities", "hidden", "features", "scores", "probabilities", "boxes")
"""A first argument with one of these names, or of vectors as in "(n,d)", has the full size on every batch axis."""

FLOATING = (jnp.floating,), "floating numbers"
REAL = (jnp.floating, jnp.integer, jnp.bool_), "real numbers"
BOOLEAN = (jnp.bool_,), "booleans"
LABEL = (jnp.integer,), "integer labels"
LENGTH = (jnp.integer,), "integer lengths"
INDEX = (jnp.integer,), "integer class indices"
INDEX_OR_PROBABILITY = (jnp.integer, jnp.floating), "integer class indices or floating class probabilities"


class Declaration:
    """A kernel and everything that the decorator was told about it. The other arguments are those of `jaxloss.loss`.

    Args:
      structures: the arguments that are pytrees of arrays, with the class of each. An instance has the `shape` and
        `dtype` of the array that it represents, and a method `check()` that raises an error if its parts do not fit.
      sees_batch: whether the kernel sees the whole batch and returns a `BatchLoss`.

    Raises:
      ValueError: a notation or an interval is invalid.
      TypeError: the signature of the kernel does not fit the declaration.
    """

    def __init__(
        self,
        kernel: Callable[..., Any],
        patterns: tuple[Pattern, ...],
        *,
        indices: Mapping[str, str],
        domains: Mapping[str, str],
        parameters: Mapping[str, str],
        per_sample: Mapping[str, str],
        lengths: Mapping[str, str],
        labels: Sequence[str] | None,
        static: Sequence[str],
        split: str | None,
        structures: Mapping[str, type],
        sees_batch: bool,
    ):
        declared = list(inspect.signature(kernel).parameters.values())[1 if split else 0 :]
        self.kernel, self.name, self.patterns = kernel, getattr(kernel, "__name__", type(kernel).__name__), patterns
        self.split, self.sees_batch = split, sees_batch
        by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.inputs = tuple(p.name for p in declared if p.kind in by_position)
        self.own = {p.name: p.default for p in declared if p.kind is inspect.Parameter.KEYWORD_ONLY}
        self.structures, self.parameters, self.per_sample = dict(structures), _cores(parameters), _cores(per_sample)
        self.lengths = dict(lengths)
        self._check_lengths({*indices, *domains, *parameters, *per_sample, *static}, indices)
        ranges = {**indices, **{option: f"[0, {axis}]" for option, axis in lengths.items()}}
        self.indices = {argument: Interval(text) for argument, text in ranges.items()}
        self.domains = {argument: Interval(text) for argument, text in domains.items()}
        self.probabilities = {name for name, domain in self.domains.items() if domain.bounds == (0, 1)} & {*self.inputs}
        if labels is None:  # of a set, an array with this name
            labels = ("labels",) if "labels" in self.inputs and self.patterns[0].output else ()
        self.labels = tuple(labels)
        split_options = ("axis_name", "n_classes") if split else ()
        self.static = {option: _types(kernel, option) for option in (*static, *split_options)}
        if split:
            self.domains.setdefault("n_classes", COUNT)
        named = {*self.indices, *self.domains, *self.parameters, *self.per_sample, *self.structures, *self.labels}
        self._check(named | {*self.static}, declared)
        self.cores = {pattern: self._all_cores(pattern) for pattern in self.patterns}
        common = _common_options(kernel, self.patterns, self.own)
        self.defaults = self.own | {option: COMMON[option] for option in common}
        self.is_prediction = self.inputs[0] in PREDICTIONS or len(self.patterns[0].cores[0]) > 1
        self.takes = {name: self._takes(name) for name in (*self.inputs, *self.defaults)}
        self.annotations = {p.name: p.annotation for p in declared if p.annotation is not p.empty}
        self.annotations["return"] = Array | Any
        self.signature = inspect.Signature(
            [p for p in declared if p.kind is not inspect.Parameter.VAR_KEYWORD]
            + [
                inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=COMMON[option], annotation=hint)
                for option, hint in common.items()
            ],
            return_annotation="Array | Any",
        )

    @property
    def array_options(self) -> frozenset[str]:
        """The options that are arrays even if a Python number is given."""
        index_options = self.indices.keys() & self.own
        return frozenset({"weights", "where", "valid", *self.parameters, *self.per_sample, *index_options})

    def _all_cores(self, pattern: Pattern) -> dict[str, Core]:
        """The core axes of each array of a call, by name."""
        own = dict(zip(self.inputs, pattern.cores, strict=True)) | self.parameters | self.per_sample
        common = {"weights": pattern.output, "where": pattern.output}
        return own | common | ({"valid": pattern.cores[0][:1]} if "valid" in self.own else {})

    def _takes(self, name: str) -> tuple[tuple[Any, ...], str]:
        """The kinds of dtype that an array may have, and what errors call them."""
        if name in ("where", "valid"):
            return BOOLEAN
        if name in self.labels:
            return LABEL
        if name in self.lengths:
            return LENGTH
        if name in self.indices:
            return INDEX if len(self.patterns) == 1 else INDEX_OR_PROBABILITY
        return FLOATING if name in self.inputs and name != "target" else REAL

    def _check(self, named: set[str], declared: Sequence[inspect.Parameter]) -> None:
        if not self.patterns or any(len(pattern.cores) != len(self.inputs) for pattern in self.patterns):
            written = " or ".join(pattern.notation for pattern in self.patterns) or "missing"
            self._fail(f"takes the arrays {', '.join(self.inputs)} but its notation is {written}")
        for parameter in declared:
            is_input = parameter.name in self.inputs
            if is_input and parameter.default is not parameter.empty:
                self._fail(f"has a default for the array {parameter.name}, but only options may have one")
            if parameter.name in self.own and parameter.default is parameter.empty:
                self._fail(f"has no default for the option {parameter.name}")
        output = self.patterns[0].output
        if any(pattern.output != output for pattern in self.patterns):
            self._fail("has notations whose losses differ in shape")
        read_by_decorator = self.own.keys() & COMMON.keys() - ({"where"} if output else set())
        if read_by_decorator:
            self._fail(f"declares {', '.join(sorted(read_by_decorator))}, which the decorator reads")
        if "valid" in self.own and not self.patterns[0].cores[0]:
            self._fail(f"declares valid, but {self.inputs[0]} has no core axis with entries")
        axes = {axis for pattern in self.patterns for core in pattern.cores for axis in core}
        for argument, interval in (self.indices | self.domains).items():
            unknown = interval.axes - (axes if argument in self.indices else set())
            if unknown:
                self._fail(f"has {argument} in {interval.notation}, but no axis is called {min(unknown)}")
        for argument in self.indices.keys() & self.inputs if "ignore_index" in self.own else ():
            if any(pattern.cores[self.inputs.index(argument)] not in ((), output) for pattern in self.patterns[:1]):
                self._fail(f"has ignore_index, but a sample has several indices in {argument}")
        if {*self.labels} & {*self.indices}:
            self._fail(f"has {min({*self.labels} & {*self.indices})} as labels and as indices")
        if self.split and self.split not in axes:
            self._fail(f"splits the axis {self.split}, but no axis is called that")
        unknown = named - {*self.inputs, *self.own}
        if unknown:
            self._fail(f"has no argument {' and no '.join(sorted(unknown))}")

    def _check_lengths(self, declared: set[str], indices: Mapping[str, str]) -> None:
        axes = {axis for pattern in self.patterns for core in pattern.cores for axis in core}
        for name, axis in self.lengths.items():
            if self.own.get(name, name) is not None:
                self._fail(f"has the length {name}, which must be an option with the default None")
            if name in declared:
                self._fail(f"has the length {name}, which must not be declared otherwise too")
            if axis not in axes or axis.isdecimal() or axis.endswith("+1"):
                self._fail(f"has {name} as the length of {axis!r}, but no axis that may be shorter is called that")
            if axis in self.patterns[0].output:
                self._fail(f"has {name} as the length of the items of a set, which where= masks")
            if any(axis in Interval(text).axes for text in indices.values()):
                self._fail(f"has {name} as the length of an axis of classes, which valid= shortens")

    def _fail(self, what: str) -> None:
        raise TypeError(f"loss: {self.name} {what}")


def _cores(texts: Mapping[str, str]) -> dict[str, Core]:
    return {option: Pattern.parse(f"{text}->()").cores[0] for option, text in texts.items()}


def _types(kernel: Callable[..., Any], option: str) -> tuple[type, ...]:
    """The types in the annotation of an option, except None; empty if there is no annotation."""
    hint = _hint(kernel, option)
    hints = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    named = (typing.get_origin(each) or each for each in hints)
    return tuple(each for each in named if isinstance(each, type) and each is not type(None))


def _hint(kernel: Callable[..., Any], name: str) -> Any:
    """The annotation of a parameter; None if it is missing, or names something that only type checkers import."""
    hint = kernel.__annotations__.get(name)
    try:
        return eval(hint, kernel.__globals__) if isinstance(hint, str) else hint
    except NameError:
        return None


def _common_options(kernel: Callable[..., Any], patterns: Sequence[Pattern], own: Iterable[str]) -> dict[str, str]:
    """The common options with their types: those that `**options: Unpack[...]` declares, by default all that apply."""
    declared = AxisOptions if any(pattern.has_axis for pattern in patterns) else ReductionOptions
    for parameter in inspect.signature(kernel).parameters.values():
        hint = parameter.kind is parameter.VAR_KEYWORD and _hint(kernel, parameter.name)
        if hint:
            declared = next(iter(typing.get_args(hint)), None)
            if declared not in (ReductionOptions, AxisOptions, SampleOptions, MaskOptions, SetOptions):
                takes = "Unpack[] of jaxloss.ReductionOptions, AxisOptions, SampleOptions, MaskOptions or SetOptions"
                raise TypeError(f"loss: {kernel.__name__} has **{parameter.name} of type {hint} but takes {takes}")
            if "axis" in declared.__annotations__ and not any(pattern.has_axis for pattern in patterns):
                raise TypeError(
                    f"loss: {kernel.__name__} has the option axis, but no array with one core axis to place"
                )
    return {option: hint.__forward_arg__ for option, hint in declared.__annotations__.items() if option not in own}
