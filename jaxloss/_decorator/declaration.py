"""What the decorator `@loss` is told of a kernel, and whether it makes sense."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxloss._decorator.notation import Pattern
from jaxloss._errors import Interval
from jaxloss.options import COMMON, AxisOptions, ReductionOptions, SampleOptions


class Declaration:
    """A kernel with all that the decorator was told of it: see `jaxloss.loss` for the arguments.

    Raises:
      ValueError: an interval that is none.
      TypeError: a kernel whose signature does not fit what is said of it.
    """

    def __init__(
        self,
        kernel: Callable[..., Any],
        patterns: tuple[Pattern, ...],
        *,
        indices: Mapping[str, str] | None,
        domains: Mapping[str, str] | None,
        parameters: Mapping[str, str] | None,
        structures: Mapping[str, type] | None,
        static: Sequence[str],
        split: str | None,
        by_rows: bool,
    ):
        declared = inspect.signature(kernel).parameters.values()
        self.kernel, self.name, self.patterns = kernel, kernel.__name__, patterns
        self.inputs = tuple(p.name for p in declared if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.own = {p.name: p.default for p in declared if p.kind is inspect.Parameter.KEYWORD_ONLY}
        self.indices, self.structures = dict(indices or {}), dict(structures or {})
        self.domains = {argument: Interval(text) for argument, text in (domains or {}).items()}
        self.parameters = {option: Pattern.parse(f"{text}->()").cores[0] for option, text in (parameters or {}).items()}
        self.static = {option: _types(kernel, option) for option in static}
        self.split, self.by_rows = split, by_rows
        split_options = ("axis_name", "n_classes") if split else ()
        self._check({*self.indices, *self.domains, *self.parameters, *self.structures, *static, *split_options})
        common = _common_options(kernel, self.patterns)
        self.defaults = self.own | {option: COMMON[option] for option in common}
        self.signature = inspect.Signature(
            [p for p in declared if p.kind is not inspect.Parameter.VAR_KEYWORD]
            + [
                inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=COMMON[option], annotation=hint)
                for option, hint in common.items()
            ],
            return_annotation="Array | Any",
        )

    def _check(self, named: set[str]) -> None:
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
        if self.split and self.split not in axes:
            raise TypeError(f"loss: {self.name} splits the axis {self.split}, but no axis is called that")
        for option, default in self.own.items():
            if default is inspect.Parameter.empty:
                raise TypeError(f"loss: option {option} of {self.name} has no default")
        unknown = named - {*self.inputs, *self.own}
        if unknown:
            raise TypeError(f"loss: {self.name} has no argument {' and no '.join(sorted(unknown))}")


def _types(kernel: Callable[..., Any], option: str) -> tuple[type, ...]:
    """The classes that the annotation of an option names, None apart; empty where there is none."""
    hint = typing.get_type_hints(kernel).get(option)
    hints = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    named = (typing.get_origin(each) or each for each in hints)
    return tuple(each for each in named if isinstance(each, type) and each is not type(None))


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
