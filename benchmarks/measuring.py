"""Medians of interleaved rounds. Every candidate runs in every round, so noise affects all of them equally.

Each candidate first runs untimed for `SETTLING` seconds. The threads of the previous candidate may still be spinning
(PyTorch's do, which doubled the time of the next candidate), and its own arrays have left the cache.
"""

import functools
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.results import Row

PEERS = {
    "torch": "torch",
    "optax": "optax",
    "keras": "keras",
    "jax_cce": "jax-cce",
    "ejkernel": "ejkernel",
    "tokamax": "tokamax",
    "levanter": "levanter",
}
"""Modules of the peers, and the packages that install them."""

HAS_TORCH, HAS_OPTAX, HAS_KERAS, HAS_CCE, HAS_EJKERNEL, HAS_TOKAMAX, HAS_LEVANTER = (
    importlib.util.find_spec(module) is not None for module in PEERS
)


def times_torch() -> bool:
    """Whether PyTorch is timed. Its tensors are on the CPU, so only if JAX runs on the CPU too."""
    return HAS_TORCH and jax.default_backend() == "cpu"


SETTLING = 0.03
Candidates = Mapping[str, Callable[[], object]]
UNITS = {"µs": 1e-6, "ms": 1e-3, "s": 1.0}


def jitted(function: Callable[..., Any], *arrays: Any) -> Callable[[], object]:
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(*arrays))


def temporaries(function: Callable[..., Any], arrays: tuple[Any, ...]) -> int:
    """Bytes that the compiled function needs in addition to its arguments and results."""
    return jax.jit(function).lower(*arrays).compile().memory_analysis().temp_size_in_bytes


def rounds(candidates: Candidates, number: int, calls: int) -> dict[str, np.ndarray]:
    """Seconds per call of each candidate in each round, after one call that compiles it."""
    for call in candidates.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(number):
        for name, call in candidates.items():
            start = time.perf_counter()
            while time.perf_counter() < start + SETTLING:
                call()
            start = time.perf_counter()
            for _ in range(calls):
                call()
            seconds[name].append((time.perf_counter() - start) / calls)
    return {name: np.asarray(times) for name, times in seconds.items()}


def medians_and_spread(
    seconds: Mapping[str, Sequence[float] | np.ndarray], unit: str
) -> tuple[dict[str, float], dict[str, float]]:
    """The median of each candidate and half of its interquartile range, in the given unit."""
    quartiles = {name: np.quantile(each, [0.25, 0.5, 0.75]) / UNITS[unit] for name, each in seconds.items()}
    medians = {name: float(q[1]) for name, q in quartiles.items()}
    return medians, {name: float(q[2] - q[0]) / 2 for name, q in quartiles.items()}


def timed(
    label: str,
    candidates: Candidates,
    number: int,
    calls: int = 1,
    unit: str = "ms",
    seconds: float | None = None,
    **fields: Any,
) -> Row:
    """Medians over `number` rounds; `seconds` is the time that the roofline of the machine allows for the same work."""
    medians, spread = medians_and_spread(rounds(candidates, number, calls), unit)
    share = {} if seconds is None else {name: seconds / UNITS[unit] / median for name, median in medians.items()}
    return Row(label, medians, unit, spread, share, **fields)


def timed_apart(label: str, candidates: Candidates, number: int, calls: int = 1, unit: str = "ms") -> Row:
    """As `timed`, but all rounds of a candidate run before those of the next.

    This is for candidates that free gigabytes. The system takes the memory back, and the page faults of the next
    candidate in turn would double its time.
    """
    apart = [rounds({name: call}, number, calls) for name, call in candidates.items()]
    medians, spread = medians_and_spread({name: each for one in apart for name, each in one.items()}, unit)
    return Row(label, medians, unit, spread)


@functools.cache
def bandwidth() -> float:
    """Bytes per second that the fastest of three plain sums of two arrays reads; a median, as for the losses."""
    n = 2**24
    x, y = jnp.ones(n), jnp.ones(n)
    readers = {"sum": jitted(lambda x, y: jnp.sum(x + y), x, y), "dot": jitted(jnp.vdot, x, y)}
    if jax.default_backend() == "cpu":
        first, second = np.asarray(x), np.asarray(y)
        readers["numpy"] = lambda: np.dot(first, second)
    return 8 * n / min(np.median(times) for times in rounds(readers, 9, 3).values())


@functools.cache
def product_rate() -> float:
    """Floating-point operations per second of a float32 matrix product, the best of several rounds."""
    n = 2048
    x = jnp.ones((n, n))
    return 2 * n**3 / np.min(rounds({"product": jitted(jnp.matmul, x, x)}, 5, 1)["product"])
