"""An extension of Griffe, which reads the package for the site without importing it."""

import inspect
import operator
import re
from typing import Any

import griffe

import jaxloss.plot


class AsHelpShowsIt(griffe.Extension):
    """Shows signatures as `help` does, links docstrings to each other, and puts examples under their heading."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
            obj.docstring.value = re.sub(r"`(jaxloss(?:\.\w+)+)`", linked, text)

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        if not any(parameter.kind is griffe.ParameterKind.var_keyword for parameter in func.parameters):
            return
        function = getattr(jaxloss, func.name, None)
        if inspect.isfunction(function) and func.module.path == function.__module__:
            func.returns = "Array"  # the kernel may return a pair
            func.parameters = griffe.Parameters(
                *(
                    griffe.Parameter(
                        name,
                        kind=griffe.ParameterKind[parameter.kind.name.lower()],
                        default=None if parameter.default is parameter.empty else repr(parameter.default),
                    )
                    for name, parameter in inspect.signature(function).parameters.items()
                )
            )


def linked(match: re.Match[str]) -> str:
    """A link to a name of the package, if the name is public."""
    try:
        operator.attrgetter(match[1].removeprefix("jaxloss."))(jaxloss)
    except AttributeError:
        return match[0]
    return f"[`{match[1]}`][{match[1]}]"
