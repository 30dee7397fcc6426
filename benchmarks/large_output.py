"""Output layers with many classes: time and temporary memory of value and gradient, compared with peers."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss
from benchmarks import by_hand
from benchmarks.estimates import estimated
from benchmarks.measuring import (
    HAS_OPTAX,
    Candidates,
    as_tensor,
    jitted,
    on_cpu,
    peak,
    product_rate,
    temporaries,
    timed,
    torch_device,
)
from benchmarks.peers import output_layers
from benchmarks.results import Note, Row, Rows

Arrays = tuple[jax.Array, jax.Array, jax.Array]


def layer(n: int, d: int, c: int, dtype: str = "float32") -> Arrays:
    keys = jax.random.split(jax.random.key(0), 3)
    kernel = jax.random.normal(keys[1], (d, c), dtype) / d**0.5
    return jax.random.normal(keys[0], (n, d), dtype), kernel, jax.random.randint(keys[2], (n,), 0, c)


def plain(hidden: Any, kernel: Any, target: Any) -> Any:
    """Cross-entropy that materialises all logits."""
    return jaxloss.cross_entropy(hidden @ kernel, target)


def with_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.value_and_grad(function, (0, 1))


def large_output(quick: bool) -> Rows:
    """Value and gradients w.r.t. hidden and kernel of output layers; the roofline is that of plain matrix products."""
    if not on_cpu():
        yield from large_output_on_accelerators(quick)
        return
    shapes = [(2048, 256, 32000), (4096, 128, 50257), *((1024, 64, c) for c in (1000, 10_000, 100_000, 1_000_000))]
    for n, d, c in [(512, 64, c) for c in (800, 8000, 80_000)] if quick else shapes:
        label = f"({n}, {d}, {c})"
        calls = calls_of_layer(layer(n, d, c), 2**28)
        yield from leave_out_unfit(label, calls)
        candidates = candidates_of(calls, n * c < 2**28)
        series = f"{n} samples of {d} features, by classes"
        calls_per_round = max(1, min(20, 2**24 // (n * c)))
        number = 3 if quick else 5
        seconds = seconds_of_products(n, d, c, "float32")
        yield timed(label, candidates, number, calls_per_round, seconds=seconds, series=series, size=c)
        kept = {name: temporaries(f, arrays) / 2**20 for name, (f, arrays) in calls.items()}
        yield Row(label, kept, "MiB")


LAYERS = ((4096, 1024, 50_304), (32_768, 4096, 128_256))
"""Output layers of language models: rows, features and classes."""


def large_output_on_accelerators(quick: bool) -> Rows:
    """Layers in bfloat16: time, temporary memory, and the measured peak beside the inputs."""
    dtype = "bfloat16"
    for n, d, c in [(512, 256, 8000)] if quick else LAYERS:
        label = f"({n}, {d}, {c}) {dtype}"
        calls = calls_of_layer(layer(n, d, c, dtype), 2**33)
        yield from leave_out_unfit(label, calls)
        candidates = candidates_of(calls, n * c < 2**31)
        seconds = seconds_of_products(n, d, c, dtype)
        guess = estimated(f"linear_cross_entropy {label}")
        yield timed(label, candidates, 3 if quick else 5, seconds=seconds, estimated=guess)
        kept = {name: temporaries(f, arrays) / 2**20 for name, (f, arrays) in calls.items()}
        yield Row(label, kept, "MiB of temporaries")
        # The largest one last, because the others have less memory after it.
        peaks = {name: peak(candidates[name]) for name in sorted(kept, key=lambda name: kept[name])}
        counted = {name: bytes_ / 2**20 for name in calls if (bytes_ := peaks[name]) is not None}
        if counted:
            yield Row(label, counted, "MiB at the peak")


Calls = dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]


def calls_of_layer(arrays: Arrays, most_logits: int) -> Calls:
    """By candidate, value and gradients of a layer, and their arguments; all logits are held if there are fewer."""
    _, kernel, target = arrays
    losses = {"jaxloss": jaxloss.linear_cross_entropy}
    if target.size * kernel.shape[1] < most_logits:
        losses["logits in memory"] = plain
        if not on_cpu():
            losses |= on_accelerators()
    calls: Calls = {name: (with_gradients(loss), arrays) for name, loss in losses.items()}
    for name, peer in output_layers().items():
        calls[name] = (with_gradients(peer.loss), peer.arguments(*arrays))
    return calls


def candidates_of(calls: Calls, with_torch: bool) -> Candidates:
    """The calls of a layer, compiled; with PyTorch's on the arguments of the first, if it is there and wanted."""
    candidates: Candidates = {name: jitted(function, *arrays) for name, (function, arrays) in calls.items()}
    if with_torch and torch_device():
        candidates = {**candidates, "torch": torch_layer(*calls["jaxloss"][1])}
    return candidates


def on_accelerators() -> dict[str, Callable[..., Any]]:
    """More losses that hold all logits: the line that `benchmarks compiled` estimates, and that of Optax."""
    found = {"by hand": by_hand.mean(by_hand.SELECTING["linear_cross_entropy"])}
    if HAS_OPTAX:
        from optax import losses

        def mean(hidden: Any, kernel: Any, target: Any) -> Any:
            logits = (hidden @ kernel).astype(jnp.float32)
            return losses.softmax_cross_entropy_with_integer_labels(logits, target).mean()

        found["optax, logits in memory"] = mean
    return found


def leave_out_unfit(label: str, calls: Calls) -> Rows:
    """Removes the peers whose loss is wrong or fails, and names them in notes."""

    def loss(name: str) -> np.ndarray:
        function, arrays = calls[name]
        return np.asarray(jax.jit(function)(*arrays)[0])

    expected = loss("jaxloss")
    for name in output_layers():
        try:
            found = loss(name)
        except Exception as error:  # whatever the other package raises
            reason = f"it fails with {type(error).__name__}: {error}".splitlines()[0][:200]
        else:
            if math.isclose(found, expected, rel_tol=max(1e-3, jnp.finfo(found.dtype).eps)):
                continue
            reason = f"its loss is {found:.4f} and should be {expected:.4f}"
        del calls[name]
        yield Note(f"{label}: {name} is left out; {reason}")


def seconds_of_products(n: int, d: int, c: int, dtype: str) -> float:
    """The time of three products: the logits, and the gradients with respect to hidden and kernel."""
    return 6 * n * d * c / product_rate(dtype)


def torch_layer(hidden: Any, kernel: Any, target: Any) -> Callable[[], object]:
    import torch
    from torch.nn import functional

    tensors = [as_tensor(array).requires_grad_() for array in (hidden, kernel.T)]
    classes = as_tensor(target).long()
    if hasattr(functional, "linear_cross_entropy"):
        options = torch.nn.LinearCrossEntropyOptions()
        loss = functools.partial(functional.linear_cross_entropy, options=options)
    else:  # PyTorch 2.12 and older

        def loss(hidden: Any, kernel: Any, classes: Any) -> Any:
            return functional.cross_entropy(functional.linear(hidden, kernel), classes)

    def call() -> object:
        for tensor in tensors:
            tensor.grad = None
        return loss(*tensors, classes).backward()

    return call


def chunk_sizes(quick: bool) -> Rows:
    """Value and gradient of linear_cross_entropy by rows per chunk."""
    for n, d, c in [(512, 64, 8000)] if quick else [(4096, 256, 4096), (2048, 256, 32000), (1024, 64, 200_000)]:
        arrays = layer(n, d, c)
        candidates = {"jaxloss": jitted(with_gradients(jaxloss.linear_cross_entropy), *arrays)}
        for size in (16, 32, 64, 128, 256, 512, 1024):
            if size * c < 2**26:
                function = with_gradients(
                    lambda h, k, t, size=size: jaxloss.linear_cross_entropy(h, k, t, chunk_size=size)
                )
                candidates[f"{size} rows"] = jitted(function, *arrays)
        yield timed(f"({n}, {d}, {c})", candidates, 3 if quick else 5)


def adaptive_softmax(quick: bool) -> Rows:
    """Value and gradients w.r.t. hidden and all parameters of an adaptive softmax, Zipf's law; temporary memory."""
    n, d, c, cutoffs = (512, 64, 20_000, (500, 4000)) if quick else (4096, 256, 100_000, (2000, 10_000))
    frequencies = 1 / np.arange(1, c + 1)
    target = np.random.default_rng(0).choice(c, size=n, p=frequencies / frequencies.sum()).astype(np.int32)
    hidden, kernel, _ = layer(n, d, c)
    softmax = jaxloss.AdaptiveSoftmax.init(jax.random.key(1), d, c, cutoffs=cutoffs)
    best = jaxloss.adaptive_softmax_cutoffs(frequencies, d, batch_size=n)
    chosen = jaxloss.AdaptiveSoftmax.init(jax.random.key(1), d, c, cutoffs=best)
    adaptive = with_gradients(jaxloss.adaptive_log_softmax_with_loss)
    labels = jnp.asarray(target)
    calls = {
        "jaxloss": (adaptive, (hidden, softmax, labels)),
        f"cutoffs {best}": (adaptive, (hidden, chosen, labels)),
        "full, linear_cross_entropy": (with_gradients(jaxloss.linear_cross_entropy), (hidden, kernel, labels)),
        "full, logits in memory": (with_gradients(plain), (hidden, kernel, labels)),
    }
    candidates: Candidates = {name: jitted(f, *arguments) for name, (f, arguments) in calls.items()}
    if torch_device():
        candidates = {**candidates, "torch": torch_adaptive(hidden, softmax, target)}
    yield timed(f"({n}, {d}, {c}), cutoffs {cutoffs}", candidates, 3 if quick else 5, apart=True)
    kept = {name: temporaries(f, arguments) / 2**20 for name, (f, arguments) in calls.items()}
    yield Row(f"({n}, {d}, {c}), cutoffs {cutoffs}", kept, "MiB")


def torch_adaptive(hidden: Any, softmax: jaxloss.AdaptiveSoftmax, target: Any) -> Callable[[], object]:
    import torch

    module = torch.nn.AdaptiveLogSoftmaxWithLoss(*softmax.shape, list(softmax.cutoffs), device=torch_device())
    tensor, classes = as_tensor(hidden).requires_grad_(), torch.tensor(target, device=torch_device()).long()

    def call() -> object:
        tensor.grad = None
        module.zero_grad()
        return module(tensor, classes).loss.backward()

    return call
