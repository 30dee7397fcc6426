"""Medians of interleaved rounds. Every candidate runs in every round, so noise affects all of them equally.

On a CPU, each candidate first runs untimed for `SETTLING` seconds. The threads of the previous candidate may still be
spinning (PyTorch's do, which doubled the time of the next candidate), and its own arrays have left the cache.

On an accelerator, a call returns before its kernels have run. There, one call runs untimed. Then a round queues calls
for `ROUND` seconds and waits for the last, so that the time of waiting hardly counts. Each call takes the next copy of
its inputs. All copies together do not fit into the cache.
"""

import functools
import importlib.util
import itertools
import math
import re
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

SETTLING = 0.03
ROUND = 0.01
CACHE = 2**29
"""More bytes than the cache of an accelerator holds. An H100 has 50 MB."""
MOST_COPIES = 64
BLOCK = 2**28
"""Bytes of the arrays that fill the memory of a device."""
Candidates = Mapping[str, Callable[[], object]]
UNITS = {"µs": 1e-6, "ms": 1e-3, "s": 1.0}


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


@functools.cache
def torch_device() -> str | None:
    """What PyTorch calls the device on which JAX runs; None if PyTorch is not installed or lacks it."""
    if not HAS_TORCH:
        return None
    if on_cpu():
        return "cpu"
    import torch

    return "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else None


def as_tensor(array: Any) -> Any:
    """The array as a tensor of PyTorch on the same device."""
    import torch

    # PyTorch cannot read NumPy's bfloat16.
    is_half = array.dtype == jnp.bfloat16
    tensor = torch.tensor(np.asarray(array.astype(jnp.float32) if is_half else array), device=torch_device())
    return tensor.bfloat16() if is_half else tensor


def wait(result: object) -> None:
    """Waits until all kernels of a call have run."""
    jax.block_until_ready(result)
    if torch_device() == "cuda":
        import torch

        torch.cuda.synchronize()


def uncached(arrays: Any) -> list[Any]:
    """Copies of the arrays that together do not fit into the cache of an accelerator; on a CPU the arrays alone."""
    size = sum(array.nbytes for array in jax.tree.leaves(arrays))
    number = 1 if on_cpu() else min(MOST_COPIES, math.ceil(CACHE / max(size, 1)))
    return [arrays, *(jax.tree.map(jnp.copy, arrays) for _ in range(number - 1))]


def jitted(function: Callable[..., Any], *arrays: Any) -> Callable[[], object]:
    compiled = jax.jit(function)
    if on_cpu():
        return lambda: jax.block_until_ready(compiled(*arrays))
    inputs = itertools.cycle(uncached(arrays))
    return lambda: compiled(*next(inputs))


def temporaries(function: Callable[..., Any], arrays: tuple[Any, ...]) -> int:
    """Bytes that the compiled function needs in addition to its arguments and results."""
    return jax.jit(function).lower(*arrays).compile().memory_analysis().temp_size_in_bytes


def peak(call: Callable[[], object]) -> int | None:
    """The most bytes that a call needs beside its inputs; None if the device does not count them, or has too few.

    A device counts the peak of the whole process. Arrays fill the memory up to it, so that the call raises it.
    """
    device = jax.devices()[0]
    if device.memory_stats() is None or not fits(call):  # the call compiles, which may need more memory
        return None
    before = device.memory_stats()
    parts, rest = divmod(before["peak_bytes_in_use"] - before["bytes_in_use"], BLOCK)
    room = jax.block_until_ready([jnp.zeros(size, jnp.uint8) for size in (*[BLOCK] * parts, rest)])
    found = device.memory_stats()["peak_bytes_in_use"] - before["peak_bytes_in_use"] if fits(call) else None
    del room
    return found


def fits(call: Callable[[], object]) -> bool:
    """Whether the call, which runs, has enough memory."""
    try:
        wait(call())
    except RuntimeError as error:
        if not re.search("out of memory|resource_exhausted", str(error), re.IGNORECASE):
            raise
        return False
    return True


def elapsed(call: Callable[[], object], calls: int) -> float:
    """Seconds per call."""
    start = time.perf_counter()
    for _ in range(calls - 1):
        call()
    wait(call())
    return (time.perf_counter() - start) / calls


def rounds(candidates: Candidates, number: int, calls: int) -> dict[str, np.ndarray]:
    """Seconds per call of each candidate in each round, after calls that compile it; NaN if memory does not suffice.

    A round has this number of calls, or on an accelerator as many as fill it.
    """
    seconds: dict[str, list[float]] = {name: [] if fits(call) else [math.nan] for name, call in candidates.items()}
    fitting = {name: call for name, call in candidates.items() if not seconds[name]}
    numbers = dict.fromkeys(fitting, calls)
    if not on_cpu():
        numbers = {name: max(1, min(200, int(ROUND / elapsed(call, 2)))) for name, call in fitting.items()}
    for _ in range(number):
        for name, call in fitting.items():
            start = time.perf_counter()
            wait(call())
            while on_cpu() and time.perf_counter() < start + SETTLING:
                call()
            seconds[name].append(elapsed(call, numbers[name]))
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
    *,
    apart: bool = False,
    **fields: Any,
) -> Row:
    """Medians over `number` rounds; `seconds` is the time that the roofline of the machine allows for the same work.

    With `apart`, all rounds of a candidate run before those of the next. This is for candidates that free gigabytes.
    The system takes the memory back, and the page faults of the next candidate in turn would double its time.
    """
    turns = [{name: call} for name, call in candidates.items()] if apart else [candidates]
    times = {name: each for turn in turns for name, each in rounds(turn, number, calls).items()}
    medians, spread = medians_and_spread(times, unit)
    fitting = [name for name, median in medians.items() if not math.isnan(median)]
    share = {} if seconds is None else {name: seconds / UNITS[unit] / medians[name] for name in fitting}
    return Row(label, medians, unit, {name: spread[name] for name in fitting}, share, **fields)


@functools.cache
def bandwidth() -> float:
    """Bytes per second that the fastest of three plain sums of two arrays reads; a median, as for the losses."""
    n = 2**24 if on_cpu() else 2**27
    x, y = (jax.random.uniform(key, (n,)) for key in jax.random.split(jax.random.key(0)))
    readers = {"sum": jitted(lambda x, y: jnp.sum(x + y), x, y), "dot": jitted(jnp.vdot, x, y)}
    if on_cpu():
        first, second = np.asarray(x), np.asarray(y)
        readers["numpy"] = lambda: np.dot(first, second)
    return 8 * n / min(np.median(times) for times in rounds(readers, 9, 3).values())


@functools.cache
def product_rate(dtype: str = "float32") -> float:
    """Floating-point operations per second of a matrix product, the best of several rounds.

    The numbers are random. A GPU multiplies ones faster, because fewer bits change. It multiplies float32 in TF32.
    """
    n = 2048 if on_cpu() else 8192
    x, y = (jax.random.normal(key, (n, n), dtype) for key in jax.random.split(jax.random.key(0)))
    return 2 * n**3 / np.min(rounds({"product": jitted(jnp.matmul, x, y)}, 5, 1)["product"])
