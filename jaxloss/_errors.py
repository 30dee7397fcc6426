"""What is wrong at the call: ranges of numbers, and errors that read like help."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloss import _arrays as dtypes

Real = Array | np.ndarray | np.floating | float
"""What a caller may give for an array of numbers, or for a number."""

Vector = Array | np.ndarray
"""What a caller may give for an array that has a class or feature axis."""

Boolean = Array | np.ndarray | np.bool_ | bool
"""What a caller may give for a mask."""


ARRAY_TYPES = (Array, np.ndarray, np.generic, bool, int, float, complex)
"""What `jax.numpy` takes for an array, and so do we: no lists."""


class Interval:
    """A range of real numbers in the notation of mathematics, such as "[0, 1]" or "(0, inf)", or a set "{-1, 1}"."""

    def __init__(self, notation: str):
        self.notation = notation
        try:
            bounds = tuple(_bound(text.strip()) for text in notation[1:-1].split(","))
        except ValueError:
            bounds = ()
        brackets = notation[:1] + notation[-1:]
        if brackets not in ("[]", "()", "[)", "(]", "{}") or not bounds or (brackets != "{}" and len(bounds) != 2):
            raise ValueError(
                f"Interval: takes a notation such as '[0, 1]', '(0, inf)' or '{{-1, 1}}', got {notation!r}"
            )
        self._brackets, self._bounds = brackets, bounds

    def __repr__(self) -> str:
        return f"Interval({self.notation!r})"

    def contains(self, x):
        """Whether each number lies in the interval; NaN lies in none."""
        if self._brackets == "{}":
            inside = x == self._bounds[0]
            for member in self._bounds[1:]:
                inside = inside | (x == member)
            return inside
        low, high = self._bounds
        above = x >= low if self._brackets[0] == "[" else x > low
        return above & (x <= high if self._brackets[1] == "]" else x < high)

    def clip_index(self, index: Array) -> Array:
        """The nearest member of a range of integers such as "[0, 10)"."""
        low, high = self._bounds
        return jnp.clip(index, int(low) + (self._brackets[0] == "("), int(high) - (self._brackets[1] == ")"))

    def check_number(self, function: str, argument: str, value: Any) -> None:
        """Raises a ValueError for a Python number outside the interval, a TypeError for what is none."""
        if not isinstance(value, float | int | np.number) or isinstance(value, bool | np.complexfloating):
            raise TypeError(f"{function}: {argument} takes a number, got {type(value).__name__}")
        if isinstance(value, int) and abs(value) >= 2**1024:
            raise ValueError(f"{function}: {argument} is beyond float64: {value}")
        if not self.contains(value):
            raise ValueError(f"{function}: {argument} is {value} but lies in {self.notation}")


def _bound(text: str) -> float:
    # An integer stays one: compared with an array of integers as a float32 it would be rounded from 2^24 on.
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def require_array(function: str, name: str, value: Any) -> None:
    """Raises a TypeError for what is neither a number nor an array, a ValueError for an integer beyond JAX's."""
    got = type(value).__name__
    if isinstance(value, list | tuple):
        raise TypeError(f"{function}: {name} is a {got} but takes an array; use jnp.asarray({name})")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{function}: {name} is a {got} but takes an array; give its data, and where=~mask")
    if not isinstance(value, ARRAY_TYPES):
        raise TypeError(f"{function}: {name} takes a number or an array, got {got}")
    if isinstance(value, np.ndarray | np.generic) and not dtypes.is_known(value.dtype):
        raise TypeError(f"{function}: {name} has dtype {value.dtype} but takes numbers in a dtype that JAX has")
    if isinstance(value, int) and not dtypes.holds(value):
        raise ValueError(f"{function}: {name} is {value}, which no integer of JAX holds")


def as_floating(function: str, name: str, value: Any) -> Array:
    """The argument as an array; raises a TypeError where it is not floating."""
    require_array(function, name, value)
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{function}: takes floating arrays, got dtype {array.dtype} for {name}")
    return array


def as_vectors(function: str, name: str, value: Any) -> Array:
    """The argument as a floating array; raises a ValueError where it has no last axis with an entry."""
    array = as_floating(function, name, value)
    if not array.ndim or not array.shape[-1]:
        raise ValueError(f"{function}: takes vectors of at least one entry, got shape {array.shape} for {name}")
    return array


def as_real(function: str, name: str, value: Any, dtype: Any) -> Array:
    """The argument, integer or floating, as an array of that dtype."""
    if not isinstance(value, Array | np.ndarray):
        _REAL.check_number(function, name, value)
        return jnp.asarray(float(value), dtype)
    require_array(function, name, value)
    if not any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.integer, jnp.floating)):
        raise TypeError(f"{function}: {name} has dtype {value.dtype} but takes real numbers")
    return jnp.asarray(value, dtype)


_REAL = Interval("[-inf, inf]")


def require_broadcast(function: str, **arrays: Array) -> None:
    """Raises a ValueError that names the shapes, where they do not broadcast."""
    try:
        jnp.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shapes = " and ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{function}: takes shapes that broadcast, got {shapes}") from None


def require_key(function: str, key: Any) -> None:
    """Raises a TypeError for what is not one key of `jax.random`, of the new kind or the old."""
    if isinstance(key, Array | np.ndarray):
        if dtypes.is_key(key.dtype) and key.ndim == 0:
            return
        if key.dtype == np.uint32 and key.shape == jax.eval_shape(jax.random.PRNGKey, 0).shape:
            return
        got = f"dtype {key.dtype} and shape {key.shape}"
    else:
        got = type(key).__name__
    raise TypeError(f"{function}: key takes one key such as jax.random.key(0), got {got}")


def require_pairwise(function: str, name: str, value: Callable[..., Any], takes: str) -> None:
    """Raises a TypeError for a callable that does not ask for two arguments, such as `jnp.mean` with an axis second."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        signature = inspect.signature(value)
        signature.bind(None, None)
        parameters = list(signature.parameters.values())
        fits = all(p.default is p.empty for p in [p for p in parameters if p.kind in kinds][:2])
    except (TypeError, ValueError):  # what is written in C may show no signature
        fits = False
    if not fits:
        called = getattr(value, "__name__", type(value).__name__)
        raise TypeError(f"{function}: {name} takes a callable of the two arguments ({takes}), got {called}")
