"""Medians of interleaved rounds: every candidate runs in every round, so that noise meets all alike.

A turn begins with calls that are not timed, for `SETTLING` seconds: the threads of the peer before it may still spin
(PyTorch's do, which doubled the time of whoever came next), and its arrays have left the cache.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

HAS_TORCH = importlib.util.find_spec("torch") is not None
HAS_OPTAX = importlib.util.find_spec("optax") is not None
HAS_CCE = importlib.util.find_spec("jax_cce") is not None
HAS_KERAS = importlib.util.find_spec("keras") is not None

SETTLING = 0.03
Row = list[str]
Candidates = Mapping[str, Callable[[], object]]


def jitted(function: Callable[..., Any], *arrays: Any) -> Callable[[], object]:
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(*arrays))


def temporaries(function: Callable[..., Any], arrays: tuple[Any, ...]) -> int:
    """Bytes that the compiled function needs beside its arguments and results."""
    return jax.jit(function).lower(*arrays).compile().memory_analysis().temp_size_in_bytes


def medians(candidates: Candidates, rounds: int, calls: int) -> dict[str, float]:
    """Seconds a call of each candidate, after one call that compiles it."""
    for call in candidates.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            start = time.perf_counter()
            while time.perf_counter() < start + SETTLING:
                call()
            start = time.perf_counter()
            for _ in range(calls):
                call()
            seconds[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(times) for name, times in seconds.items()}


def row(label: str, measured: Mapping[str, float], unit: float) -> list[str]:
    """A table's row: our time, and for each peer its time and ours in units of it."""
    ours = measured["jaxloss"]
    peers = (f"{name} {t / unit:.4g} ({ours / t:.2f})" for name, t in measured.items() if name != "jaxloss")
    return [label, f"{ours / unit:.4g}", *peers]
