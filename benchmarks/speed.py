"""Time of calls: dispatch, elementwise losses by size, cross-entropy by shape, and the roofline of the machine."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxloss
from benchmarks import by_hand
from benchmarks.estimates import estimated
from benchmarks.measuring import (
    HAS_OPTAX,
    Candidates,
    as_tensor,
    bandwidth,
    jitted,
    on_cpu,
    product_rate,
    timed,
    torch_device,
    uncached,
)
from benchmarks.results import Note, Row, Rows


def torch_call(name: str, arrays: tuple[Any, ...], gradient: bool) -> Callable[[], object]:
    import torch

    loss = getattr(torch.nn.functional, name)

    def tensors(arrays: tuple[Any, ...]) -> list[Any]:
        found = [as_tensor(array) for array in arrays]
        found = [tensor if tensor.is_floating_point() else tensor.long() for tensor in found]
        found[0].requires_grad_(gradient)
        return found

    inputs = itertools.cycle([tensors(each) for each in uncached(arrays)])

    def call() -> object:
        given = next(inputs)
        if not gradient:
            return loss(*given)
        given[0].grad = None
        return loss(*given).backward()

    return call


def compiled_call(function: Callable[..., Any], *arguments: Any) -> Callable[[], object]:
    compiled = jax.jit(function)
    return lambda: compiled(*arguments)


def roofline(quick: bool) -> Rows:
    """Roofline of this machine: time to read 1 GiB in sums, plain or of a function, and time of 10⁹ multiply-adds."""
    functions = {"eˣ": jnp.exp, "log x": jnp.log, "selections": lambda x: jnp.where(x < 0.5, x, 0.25)}
    x = jax.random.uniform(jax.random.key(0), (2**24,))
    sums = {f"sum of {name}": jitted(lambda x, f=f: jnp.sum(f(x)), x) for name, f in functions.items()}
    yield Row("reading 1 GiB", {"fastest sum": 2**30 / bandwidth() * 1e3}, "ms")
    yield timed("reading 64 MiB", sums, 5 if quick else 9, 3, seconds=x.nbytes / bandwidth())
    yield Row("10⁹ multiply-adds", {"matrix product": 2e9 / product_rate() * 1e3}, "ms")
    yield Note(f"{bandwidth() / 1e9:.1f} GB/s and {product_rate() / 1e9:.0f} GFLOP/s")


def dispatch(quick: bool) -> Rows:
    """Eager calls on 8 x 4 arrays, where all time is overhead."""
    x, y, labels = jnp.ones((8, 4)), jnp.zeros((8, 4)), jnp.zeros(8, int)

    def huber(x: Any, y: Any, delta: Any) -> Any:
        size = jnp.abs(x - y)
        return jnp.mean(jnp.where(size < delta, size**2 / 2, delta * (size - delta / 2)))

    cases: dict[str, dict[str, Callable[[], object]]] = {
        "mse_loss": {
            "jaxloss": lambda: jaxloss.mse_loss(x, y),
            "by hand, jitted": compiled_call(by_hand.mean(by_hand.LINES["mse_loss"]), x, y),
        },
        "huber_loss(delta=2.0)": {
            "jaxloss": lambda: jaxloss.huber_loss(x, y, delta=2.0),
            "by hand, jitted": compiled_call(huber, x, y, 2.0),
        },
        "cross_entropy": {
            "jaxloss": lambda: jaxloss.cross_entropy(x, labels),
            "by hand, jitted": compiled_call(by_hand.mean(by_hand.cross_entropy), x, labels),
        },
    }
    if HAS_OPTAX:
        from optax import losses

        cases["mse_loss"]["optax"] = lambda: losses.squared_error(x, y).mean()
        cases["huber_loss(delta=2.0)"]["optax"] = lambda: losses.huber_loss(x, y, delta=2.0).mean()
        cases["cross_entropy"]["optax"] = lambda: losses.softmax_cross_entropy_with_integer_labels(x, labels).mean()
    for name, candidates in cases.items():
        if torch_device():
            candidates["torch"] = torch_call(name.split("(")[0], (x, labels if "cross" in name else y), False)
        yield timed(name, candidates, 5 if quick else 15, 200, "µs")


LARGEST = 2**24
"""Elements that no cache holds."""


def elementwise(quick: bool) -> Rows:
    """Mean of elementwise losses by the number of elements; the roofline is the read bandwidth of a plain sum."""
    largest = 2**20 if quick else LARGEST
    for name in by_hand.ELEMENTWISE:
        sizes = [2**10, 2**15, largest] if quick else [2**10, 2**14, 2**18, 2**22, largest]
        sizes = sizes if on_cpu() else [2**18, largest]
        for n in sizes if name in ("mse_loss", "binary_cross_entropy_with_logits") else [largest]:
            arrays = by_hand.arguments(name, n)
            for gradient in (False, True):
                lift = jax.value_and_grad if gradient else lambda f: f
                candidates: Candidates = {
                    "jaxloss": jitted(lift(getattr(jaxloss, name)), *arrays),
                    "by hand": jitted(lift(by_hand.mean(by_hand.LINES[name])), *arrays),
                }
                if torch_device():
                    candidates = {**candidates, "torch": torch_call(name, arrays, gradient)}
                what = "value+gradient" if gradient else "value"
                # The gradient, as large as one array, is written.
                least = 4 * n * (len(arrays) + gradient) / bandwidth()
                label, seconds = f"{name}, {n} elements, {what}", least if n == largest else None
                calls = max(1, min(100, 2**18 // n))
                number = 5 if quick else 9
                fields = {"series": f"{name}, {what}", "size": n}
                guess = estimated(f"{name} ({n}) float32") if gradient else {}
                yield timed(label, candidates, number, calls, seconds=seconds, estimated=guess, **fields)


def cross_entropy(quick: bool) -> Rows:
    """Value and gradient of cross_entropy with class indices, by samples and by classes."""
    if not on_cpu():
        yield from cross_entropy_on_accelerators(quick)
        return
    shapes = [(65536, 10), (8192, 1000), (2048, 8192), (1024, 32000)]
    growth = [(n, 1000) for n in (64, 512, 4096, 32768)] + [(256, c) for c in (10, 100, 1000, 10_000, 100_000)]
    for n, c in [(16384, 10), (2048, 1000), (256, 100), (256, 10_000)] if quick else shapes + growth:
        series = {1000: "1000 classes, by samples"}.get(c, "") if n != 256 else "256 samples, by classes"
        size = n if "by samples" in series else c
        calls = max(1, min(20, 2**20 // (n * c)))
        yield of_logits(f"({n}, {c})", n, c, "float32", 5 if quick else 9, calls, series=series, size=size)


LOGITS = ((8192, 32_000), (4096, 128_256), (262_144, 10), (4096, 1000))
"""Samples and classes of the logits that an accelerator needs time for."""


def cross_entropy_on_accelerators(quick: bool) -> Rows:
    """In float32 and in bfloat16."""
    for n, c in [(4096, 1000)] if quick else LOGITS:
        for dtype in ("float32", "bfloat16"):
            label = f"({n}, {c}) {dtype}"
            yield of_logits(label, n, c, dtype, 9, estimated=estimated(f"cross_entropy {label}"))


def of_logits(label: str, n: int, c: int, dtype: str, number: int, calls: int = 1, **fields: Any) -> Row:
    logits = (jax.random.normal(jax.random.key(0), (n, c)) * 3).astype(dtype)
    target = jax.random.randint(jax.random.key(1), (n,), 0, c)
    candidates: Candidates = {"jaxloss": jitted(jax.value_and_grad(jaxloss.cross_entropy), logits, target)}
    if not on_cpu():

        def selecting(logits: Any, target: Any) -> Any:
            return jnp.mean(by_hand.SELECTING["cross_entropy"](logits.astype(jnp.float32), target))

        candidates["by hand"] = jitted(jax.value_and_grad(selecting), logits, target)
    if HAS_OPTAX:
        from optax import losses

        def mean(logits: Any, target: Any) -> Any:
            return losses.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), target).mean()

        candidates["optax"] = jitted(jax.value_and_grad(mean), logits, target)
    if torch_device():
        candidates["torch"] = torch_call("cross_entropy", (logits, target), gradient=True)
    # Logits are read once for the maximum and once for the sum, and the gradient is written.
    return timed(label, candidates, number, calls, seconds=3 * logits.nbytes / bandwidth(), **fields)
