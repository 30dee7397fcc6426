"""The public names of the last release with their arguments: `python -m tests.record_api` writes them to `api.json`.

Run it when a version is released, not when a test of compatibility fails.
"""

import inspect
import json
import operator
import pathlib
import re
import types
from collections.abc import Iterator
from typing import Any

import jaxloss
import jaxloss.plot

PATH = pathlib.Path(__file__).parent / "api.json"
REFERENCE = pathlib.Path(__file__).parent.parent / "docs/reference"
ENTRY = re.compile(r"^::: (jaxloss\.[\w.]+)\n(?:    options:\n      members: \[(.*)\])?", re.MULTILINE)


def public_names() -> Iterator[tuple[str, Any]]:
    """Every name in the reference, without `jaxloss.`, and its value. An entry may be a module with members."""
    for page in sorted(REFERENCE.glob("*.md")):
        for name, members in ENTRY.findall(page.read_text()):
            name = name.removeprefix("jaxloss.")
            value = operator.attrgetter(name)(jaxloss)
            if not isinstance(value, types.ModuleType):
                yield name, value
                continue
            own = [key for key, each in vars(value).items() if getattr(each, "__module__", "") == value.__name__]
            for member in members.split(", ") if members else own:
                if not member.startswith("_"):
                    yield f"{name}.{member}", getattr(value, member)


def described(value: Any) -> dict[str, Any]:
    """The arguments of a function, in order: how each may be passed, and its default. For a class, also its methods."""
    if not callable(value):
        return {}
    try:
        parameters = inspect.signature(value).parameters
    except ValueError:  # some classes have no signature
        parameters = {}
    found = {name: arguments(parameter) for name, parameter in parameters.items()}
    if not isinstance(value, type):
        return {"arguments": found}
    methods = {name for name, member in vars(value).items() if not name.startswith("_") and member is not None}
    return {"arguments": found, "members": sorted(methods)}


def arguments(parameter: inspect.Parameter) -> str:
    default = parameter.default
    shown = getattr(default, "__name__", repr(default))  # of a function, without its address
    return parameter.kind.description + ("" if default is inspect.Parameter.empty else f" = {shown}")


def current() -> dict[str, Any]:
    return {name: described(value) for name, value in sorted(public_names())}


def write() -> None:
    names = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in current().items())
    PATH.write_text(f'{{"version": "{jaxloss.__version__}", "names": {{\n{names}\n}}}}\n')


if __name__ == "__main__":
    write()
