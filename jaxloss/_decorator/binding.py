"""The thin layer of Python in front of jit: which arguments are arrays, which are traced and which are static."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxloss import reductions
from jaxloss._decorator.declaration import Declaration
from jaxloss._errors import as_held_number, require_pairwise

ALWAYS_STATIC = frozenset({"reduction", "axis", "ignore_index"})


Plan = tuple[tuple[str, Any], ...]
"""The options that are compiled in, with their names, sorted."""


class Bound(NamedTuple):
    """The options of a call: a hashable plan of what is compiled in, what is traced, and a callable reduction."""

    plan: Plan
    traced: dict[str, Any]
    reduction: Callable[..., Any] | None


class Binder:
    """Sorts the options of one loss, and checks every Python number among them."""

    def __init__(self, declaration: Declaration):
        defaults = declaration.defaults
        flags = {option: () for option, default in defaults.items() if isinstance(default, bool | str)}
        # The options that are compiled in, with the types that each takes besides the type of its default.
        self._static = dict.fromkeys(ALWAYS_STATIC, ()) | {"axis": (tuple,)} | flags | declaration.static
        self._function, self._inputs, self._defaults = declaration.name, declaration.inputs, defaults
        self._arrays, self._domains = declaration.array_options, declaration.domains

    def by_position(self, given: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arrays of a call that passes some of them by name, and its options; a TypeError for a wrong number."""
        takes = f"{self._function}: takes the arrays {', '.join(self._inputs)}"
        if len(given) > len(self._inputs):
            raise TypeError(f"{takes}, got {len(given)} by position; options go by name")
        named = self._inputs[len(given) :]
        missing = [name for name in named if name not in options]
        if missing:
            unknown = [name for name in options if name not in (*self._inputs, *self._defaults)]
            hint = f"; there is no argument {' and no '.join(unknown)}" if unknown else ""
            raise TypeError(f"{takes}, got no {' and no '.join(missing)}{hint}")
        rest = {name: value for name, value in options.items() if name not in named}
        return given + tuple(options[name] for name in named), rest

    def bind(self, options: dict[str, Any]) -> Bound:
        plan, traced, reduction = [], {}, None
        for name, value in options.items():
            if name not in self._defaults:
                raise TypeError(self._unknown(name))
            default = self._defaults[name]
            if value is default:
                continue
            if name == "reduction":
                if callable(value):
                    require_pairwise(self._function, name, value, "weighted losses, normalisers")
                    reduction = value
                plan.append((name, "samples" if reduction is not None else self._reduction(value)))
            elif name in self._static:
                value = self._static_value(name, value, default)
                if value != default:
                    plan.append((name, value))
            elif isinstance(value, float | int | np.number | np.bool_) and name not in self._arrays:
                # As an int, 1 would compile a different program from 0.5.
                value = as_held_number(self._function, name, value, self._domains.get(name))
                if value != default:
                    traced[name] = value
            else:
                traced[name] = value
        return Bound(tuple(sorted(plan)), traced, reduction)

    def _unknown(self, name: str) -> str:
        if name in self._inputs:
            return f"{self._function}: {name} is given twice, by position and by name"
        close = difflib.get_close_matches(name, self._defaults, n=1)
        if name == "weight" and "class_weights" in self._defaults:
            close = ["class_weights, one per class, or weights, one per sample"]
        elif name == "dim" and "axis" in self._defaults:
            close = ["axis"]
        meant = f"did you mean {close[0]}?" if close else f"it takes {', '.join(self._defaults)}"
        return f"{self._function}: there is no option {name}; {meant}"

    def _reduction(self, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(
                f"{self._function}: reduction is of type {type(value).__name__} but takes a name or a callable"
            )
        if value not in reductions.NAMES:
            names = ", ".join(map(repr, reductions.NAMES))
            raise ValueError(f"{self._function}: reduction is {value!r} but takes {names} or a callable")
        return value

    def _static_value(self, name: str, value: Any, default: Any) -> Any:
        """A value that is compiled in. It has the type of the default or, if the default is None, an annotated type."""
        value = tuple(map(_plain, value)) if isinstance(value, tuple) else _plain(value)
        if isinstance(default, float) and type(value) is int and abs(value) < 2**53:
            value = float(value)
        if callable(default):
            takes, fits = "a callable", callable(value)
        else:
            types: list[Any] = list(
                dict.fromkeys([*(() if default is None else (type(default),)), *self._static[name]])
            )
            takes = " or ".join(each.__name__ for each in types)
            fits = not types or type(value) in types or (Callable in types and callable(value))
        if not fits or not _is_hashable(value):
            takes = takes if not fits else "what can be hashed"
            is_traced = isinstance(value, jax.Array)
            got = "an array; set it by functools.partial, outside jit" if is_traced else type(value).__name__
            raise TypeError(f"{self._function}: {name} is compiled into the program and takes {takes}, got {got}")
        if isinstance(value, float | int) and not isinstance(value, bool):
            as_held_number(self._function, name, value, self._domains.get(name))
        return value


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python, and a member of an `IntEnum` as its integer."""
    if isinstance(value, np.bool_ | np.number):
        return value.item()
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
