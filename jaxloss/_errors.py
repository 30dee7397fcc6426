"""Errors that are raised at the call, before anything is computed.

Each message has one form: the function, the argument, what the argument is or has, and what it takes, as in
`f: x has dtype int32 but takes floating numbers`. What to do about it follows after a semicolon. Where no single
argument is at fault, the message says what the function takes and what it got.
"""

import inspect
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloss import _arrays
from jaxloss._arrays import ARRAY_TYPES
from jaxloss._interval import Interval
from jaxloss._sizes import is_symbolic, may_be_zero

REAL = Interval("[-inf, inf]")
COUNT = Interval("[1, inf)")
_ORDINARY = (1e-37, 3e38)  # what float32 holds, in short, so that most numbers are not converted


def as_array(function: str, name: str, value: Any, kinds: tuple[Any, ...], takes: str) -> Array:
    """The argument as an array; raises a TypeError if its dtype is of none of these kinds."""
    array = value if isinstance(value, Array) else as_any_array(function, name, value)
    # The dtype that the caller gave, which JAX may have narrowed.
    dtype = value.dtype if isinstance(value, np.ndarray | np.generic) else array.dtype
    for kind in kinds:
        if jnp.issubdtype(dtype, kind):
            return array
    is_number = jnp.issubdtype(dtype, jnp.integer) and array.weak_type and jnp.floating in kinds
    hint = "; write a Python integer as a float, such as 0.0" if is_number else ""
    raise TypeError(f"{function}: {name} has dtype {dtype} but takes {takes}{hint}")


def as_any_array(function: str, name: str, value: Any) -> Array:
    """The argument as an array, of any dtype that JAX has. NumPy's integers that JAX would wrap become floats."""
    require_array(function, name, value)
    return jnp.asarray(_arrays.narrow_number(_arrays.unwrapped(value)))


def require_array(function: str, name: str, value: Any) -> None:
    """Raises a TypeError if the value is not a number or an array, a ValueError for an integer that JAX cannot hold."""
    got = type(value).__name__
    if isinstance(value, list | tuple):
        raise TypeError(f"{function}: {name} is a {got} but takes an array; use jnp.asarray({name})")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{function}: {name} is a {got} but takes an array; give its data, and where=~mask")
    value = _arrays.unwrapped(value)
    if not isinstance(value, ARRAY_TYPES):
        raise TypeError(f"{function}: {name} is of type {got} but takes a number or an array")
    if isinstance(value, np.ndarray | np.generic) and not _arrays.is_known(value.dtype):
        raise TypeError(f"{function}: {name} has dtype {value.dtype} but takes numbers in a dtype that JAX has")
    if isinstance(value, int) and not _arrays.holds(value):
        raise ValueError(f"{function}: {name} is {value} but takes an integer that JAX holds")


def as_floating(function: str, name: str, value: Any) -> Array:
    return as_array(function, name, value, (jnp.floating,), "floating numbers")


def as_vectors(function: str, name: str, value: Any) -> Array:
    """The argument as a floating array; raises a ValueError if it has no axis or the last axis is empty."""
    array = as_floating(function, name, value)
    if not array.ndim or not array.shape[-1]:
        raise ValueError(f"{function}: {name} has shape {array.shape} but takes vectors of at least one entry")
    return array


def as_vector(function: str, name: str, value: Any, kinds: tuple[Any, ...], takes: str) -> Array:
    """The argument as one vector; raises a TypeError for another dtype, a ValueError for another shape."""
    array = as_array(function, name, value, kinds, takes)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{function}: {name} has shape {array.shape} but takes {takes}, (n,)")
    return array


def as_real(function: str, name: str, value: Any, dtype: Any, domain: Interval = REAL) -> Array:
    """The argument, integer or floating, as an array of that dtype."""
    value = _arrays.unwrapped(value)
    if not isinstance(value, Array | np.ndarray):
        return jnp.asarray(as_held_number(function, name, value, domain), dtype)
    return as_array(function, name, value, (jnp.integer, jnp.floating), "real numbers").astype(dtype)


def as_number(function: str, name: str, value: Any, domain: Interval | None = None) -> float:
    """The Python number as a float; raises a TypeError for anything else, a ValueError outside the domain."""
    if not isinstance(value, float | int | np.number) or isinstance(value, bool | np.complexfloating):
        raise TypeError(f"{function}: {name} is {_kind(value)} but takes a real number")
    if isinstance(value, int) and abs(value) >= 2**1024:
        raise ValueError(f"{function}: {name} is {value} but takes a number that float64 holds")
    if domain is not None and not domain.contains(value):
        raise ValueError(f"{function}: {name} is {value} but must lie in {domain.notation}")
    return float(value)


def as_held_number(function: str, name: str, value: Any, domain: Interval | None = None) -> float:
    """`as_number` for a number that becomes an array: JAX's default float must hold it inside the domain, too."""
    number = as_number(function, name, value, domain)
    if domain is not None and not _ORDINARY[0] < abs(number) < _ORDINARY[1]:
        dtype = jnp.result_type(float)
        with np.errstate(over="ignore"):
            held = dtype.type(number if abs(number) >= jnp.finfo(dtype).tiny else 0)  # XLA flushes subnormal numbers
        if not domain.contains(held):
            raise ValueError(f"{function}: {name} is {value}, in {dtype} {held}, but must lie in {domain.notation}")
    return number


def as_integer(function: str, name: str, value: Any, domain: Interval) -> int:
    """The Python integer; raises a TypeError for anything else, a ValueError outside the domain."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise TypeError(f"{function}: {name} is {_kind(value)} but takes an integer")
    as_number(function, name, number, domain)
    return number


def as_class(function: str, name: str, value: Any, n_classes: int) -> int:
    """A Python integer in [-C, C) as a class, counted from the end if it is negative."""
    if not is_symbolic(n_classes):
        as_integer(function, name, value, Interval(f"[{-n_classes}, {n_classes})"))
    return value if value >= 0 else n_classes + value


def _kind(value: Any) -> str:
    return "a symbolic size" if is_symbolic(value) else f"of type {type(value).__name__}"


def require_number(function: str, name: str, size: int) -> None:
    """Raises a ValueError for a symbolic size that decides how the program is built."""
    if is_symbolic(size):
        raise ValueError(f"{function}: {name} is {size} but must be a number in an exported program")


def require_broadcast(function: str, **arrays: Array) -> None:
    """Raises a ValueError that names the shapes if they do not broadcast."""
    try:
        jnp.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shapes = " and ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{function}: takes shapes that broadcast, got {shapes}") from None


def as_broadcast(function: str, **arrays: Array) -> list[Array]:
    """The arrays with leading axes of length 1, all of one rank except for numbers; raises as `require_broadcast`."""
    require_broadcast(function, **arrays)
    rank = max(array.ndim for array in arrays.values())
    return [jnp.expand_dims(a, range(rank - a.ndim)) if 0 < a.ndim < rank else a for a in arrays.values()]


def require_samples(function: str, shape: tuple[int, ...]) -> None:
    """Raises a ValueError for a symbolic batch that may be empty, over which JAX has no gather and no loop."""
    if any(is_symbolic(size) and may_be_zero(size) for size in shape):
        raise ValueError(f"{function}: takes symbolic sizes of at least 1, got samples of shape {shape}")


def require_key(function: str, key: Any) -> None:
    """Raises a TypeError if the value is not a single key of `jax.random`, typed or raw."""
    if isinstance(key, Array | np.ndarray):
        if _arrays.is_key(key.dtype) and key.ndim == 0:
            return
        try:
            # A raw key, of the default implementation.
            if key.ndim == 1 and jax.random.wrap_key_data(jnp.asarray(key)).ndim == 0:
                return
        except (TypeError, ValueError):
            pass
        got = f"has dtype {key.dtype} and shape {key.shape}"
    else:
        got = f"is of type {type(key).__name__}"
    raise TypeError(f"{function}: key {got} but takes one key such as jax.random.key(0)")


def require_pairwise(function: str, name: str, value: Callable[..., Any], takes: str) -> None:
    """Raises a TypeError unless the callable requires two arguments. `jnp.mean` fails: its second one is optional."""
    _require_arguments(function, name, value, 2, f"the two arguments ({takes})")


def require_unary(function: str, name: str, value: Callable[..., Any], takes: str) -> None:
    """Raises a TypeError unless the callable takes one argument and requires it."""
    _require_arguments(function, name, value, 1, f"one argument ({takes})")


def as_returned_number(function: str, name: str, returned: Any) -> Array:
    """What a callable option returned for one sample. Raises a TypeError unless it is a real number."""
    takes = f"{function}: {name} returned {{}} but takes a callable that returns a real number"
    if not isinstance(returned, Array | np.ndarray | float | int):
        raise TypeError(takes.format(f"an object of type {type(returned).__name__}"))
    if jnp.shape(returned):
        raise TypeError(takes.format(f"shape {jnp.shape(returned)}"))
    array = jnp.asarray(returned)
    if not jnp.issubdtype(array.dtype, jnp.floating) and not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(takes.format(f"dtype {array.dtype}"))
    return array


def _require_arguments(function: str, name: str, value: Callable[..., Any], count: int, takes: str) -> None:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        signature = inspect.signature(value)
        signature.bind(*[None] * count)
        parameters = list(signature.parameters.values())
        fits = all(p.default is p.empty for p in [p for p in parameters if p.kind in kinds][:count])
    except (TypeError, ValueError):  # a callable written in C may show no signature
        fits = False
    if not fits:
        called = getattr(value, "__name__", type(value).__name__)
        raise TypeError(f"{function}: {name} is {called} but takes a callable of {takes}")
