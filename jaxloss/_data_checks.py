"""Checks of the data themselves, which run only where they are enabled, and NaN for data that are unusable."""

import contextlib
import contextvars
from collections.abc import Generator

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import checkify

from jaxloss._arrays import Boolean, Real
from jaxloss._interval import Interval

_data_checks = jax.make_user_context(default_value=False)


@contextlib.contextmanager
def data_checks(enabled: bool) -> Generator[None]:
    """Adds checks of the data themselves to every loss that is traced inside this context.

    Shapes, dtypes and Python numbers are always checked. Other errors show only when the program runs: a class index
    out of range, a target that is not a probability, or a traced option out of range. They are checked if this is on
    *and* `jax.experimental.checkify` reports the error. A checked program costs about 100 µs more per call. By default
    the checks are off, and add no instruction to the program. As other contexts of JAX, this one holds for a thread: do
    not `await` inside it.

    Args:
      enabled: True adds the checks; False leaves them out, even inside an outer `data_checks(True)`.

    Returns:
      A context manager.

    Raises:
      TypeError: `enabled` is not a bool.

    Reference:
      JAX documentation, "The checkify transformation".

    Example:
      >>> import jax, jax.numpy as jnp, jaxloss
      >>> from jax.experimental import checkify
      >>> checked = checkify.checkify(jax.jit(jaxloss.cross_entropy))
      >>> with jaxloss.data_checks(True):
      ...     error, loss = checked(jnp.zeros((2, 3)), jnp.array([0, 3]))
      >>> print(error.get().partition(" (")[0])
      cross_entropy: target is 3 but must lie in [0, 3)
    """
    if type(enabled) is not bool:
        raise TypeError(f"data_checks: takes True or False, got {enabled!r}")
    with _data_checks(enabled):
        yield


def data_checks_enabled() -> bool:
    return bool(_data_checks.value)


# While a kernel is traced, this holds which samples are counted, so that checks inside the kernel skip masked samples.
_counted: contextvars.ContextVar[Array | None] = contextvars.ContextVar("counted", default=None)


@contextlib.contextmanager
def sparing(counted: Array | None) -> Generator[None]:
    """Data checks made inside this context apply only where `counted` is true (None: everywhere)."""
    token = _counted.set(counted)
    try:
        yield
    finally:
        _counted.reset(token)


def require(condition: Boolean, message: str, **values: Real) -> None:
    r"""A data check: under `jaxloss.data_checks` and `checkify`, a false condition raises an error with `message`.

    $$\bigwedge_i c_i$$

    Args:
      condition: boolean, any shape: $c$, which must be true everywhere; inside a kernel, masked samples are exempt.
      message: a format string in which `{name}` stands for the value given as `name=`.
      values: scalars, one for each name in the message.

    Returns:
      None.

    Raises:
      JaxRuntimeError: the condition is false; raised by `error.throw()` of `checkify`.

    Reference:
      `jax.experimental.checkify.debug_check`, which it calls.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> from jax.experimental import checkify
      >>> check = checkify.checkify(lambda x: jaxloss.require(x > 0, "x is {x}", x=x))
      >>> with jaxloss.data_checks(True):
      ...     error, _ = check(jnp.float32(-1))
      >>> print(error.get().split(" (")[0])
      x is -1.0
    """
    if data_checks_enabled():
        holds = _spared(jnp.asarray(condition))
        checkify.debug_check(jnp.all(holds), message, **{name: jnp.asarray(value) for name, value in values.items()})


def nan_unless(usable: Array | bool, value: Array) -> Array:
    """The value where it is usable, NaN elsewhere."""
    # Without jit, the constant NaN would be an error under jax_debug_nans.
    with jax.debug_nans(False):
        return jnp.where(usable, value, jnp.nan)


def require_inside(function: str, argument: str, value: Real, domain: Interval) -> None:
    """A data check that every number of the value lies in the domain. The error names one that does not."""
    if data_checks_enabled():
        require_all(function, argument, jnp.asarray(value), domain, _spared(jnp.asarray(domain.contains(value))))


def require_all(function: str, argument: str, value: Array, domain: Interval, holds: Array) -> None:
    """The same, where `holds` is true for each number that lies in the domain or is exempt from the check."""
    notation = domain.notation.replace("{", "{{").replace("}", "}}")
    message = f"{function}: {argument} is {{value}} but must lie in {notation}"
    outside = value.ravel()[jnp.argmin(holds)] if value.size else jnp.zeros((), value.dtype)
    checkify.debug_check(jnp.all(holds), message, value=outside)


def require_sums_to_1(function: str, what: str, totals: Array, tolerance: float, hint: str = "") -> None:
    """A data check that totals of probabilities over the classes are about 1. The error names the farthest."""
    if totals.size:
        farthest = totals.ravel()[jnp.argmax(jnp.abs(totals - 1))]
        message = f"{function}: {what} sums to {{value}} over the classes but takes probabilities that sum to 1{hint}"
        require(jnp.abs(farthest - 1) < tolerance, message, value=farthest)


def _spared(condition: Array) -> Array:
    """The condition, made true for masked samples."""
    counted = _counted.get()
    if counted is None:
        return condition
    if condition.shape[: counted.ndim] != counted.shape:
        return condition | ~jnp.any(counted)
    return condition | ~jnp.expand_dims(counted, range(counted.ndim, condition.ndim))
