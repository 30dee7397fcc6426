"""Medians of interleaved rounds: every candidate runs in every round, so that noise meets all alike.

A turn begins with calls that are not timed, for `SETTLING` seconds: the threads of the peer before it may still spin
(PyTorch's do, which doubled the time of whoever came next), and its arrays have left the cache.
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

PEERS = {"torch": "torch", "optax": "optax", "keras": "keras", "jax_cce": "jax-cce"}
"""Modules that some benchmark compares with, and what installs them."""

HAS_TORCH, HAS_OPTAX, HAS_KERAS, HAS_CCE = (importlib.util.find_spec(module) is not None for module in PEERS)


def times_torch() -> bool:
    """Whether PyTorch is timed: its tensors are on the CPU, beside arrays that are as well."""
    return HAS_TORCH and jax.default_backend() == "cpu"


SETTLING = 0.03
Candidates = Mapping[str, Callable[[], object]]
UNITS = {"µs": 1e-6, "ms": 1e-3, "s": 1.0}


def jitted(function: Callable[..., Any], *arrays: Any) -> Callable[[], object]:
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(*arrays))


def temporaries(function: Callable[..., Any], arrays: tuple[Any, ...]) -> int:
    """Bytes that the compiled function needs beside its arguments and results."""
    return jax.jit(function).lower(*arrays).compile().memory_analysis().temp_size_in_bytes


def rounds(candidates: Candidates, number: int, calls: int) -> dict[str, np.ndarray]:
    """Seconds a call of each candidate in each round, after one call that compiles it."""
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
    """By candidate, in that unit: the median, and half of the range of the middle half."""
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
    """The medians of that many rounds; `seconds` is what the machine's roofline would take for the same."""
    medians, spread = medians_and_spread(rounds(candidates, number, calls), unit)
    share = {} if seconds is None else {name: seconds / UNITS[unit] / median for name, median in medians.items()}
    return Row(label, medians, unit, spread, share, **fields)


@functools.cache
def bandwidth() -> float:
    """Bytes a second that the fastest of three plain sums reads of two arrays, by the median as losses are measured."""
    n = 2**24
    x, y = jnp.ones(n), jnp.ones(n)
    readers = {"sum": jitted(lambda x, y: jnp.sum(x + y), x, y), "dot": jitted(jnp.vdot, x, y)}
    if jax.default_backend() == "cpu":
        first, second = np.asarray(x), np.asarray(y)
        readers["numpy"] = lambda: np.dot(first, second)
    return 8 * n / min(np.median(times) for times in rounds(readers, 9, 3).values())


@functools.cache
def product_rate() -> float:
    """Floating-point operations a second of a float32 matrix product, the best of several rounds."""
    n = 2048
    x = jnp.ones((n, n))
    return 2 * n**3 / np.min(rounds({"product": jitted(jnp.matmul, x, x)}, 5, 1)["product"])
