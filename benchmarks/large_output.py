"""Output layers with many classes: time and temporary memory of value and gradient, compared with peers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss
from benchmarks.measuring import Candidates, jitted, product_rate, temporaries, timed, timed_apart, times_torch
from benchmarks.peers import output_layers
from benchmarks.results import Note, Row, Rows

Arrays = tuple[jax.Array, jax.Array, jax.Array]


def layer(n: int, d: int, c: int) -> Arrays:
    keys = jax.random.split(jax.random.key(0), 3)
    kernel = jax.random.normal(keys[1], (d, c)) / d**0.5
    return jax.random.normal(keys[0], (n, d)), kernel, jax.random.randint(keys[2], (n,), 0, c)


def plain(hidden: Any, kernel: Any, target: Any) -> Any:
    """Cross-entropy that materialises all logits."""
    return jaxloss.cross_entropy(hidden @ kernel, target)


def with_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.value_and_grad(function, (0, 1))


def large_output(quick: bool) -> Rows:
    """Value and gradients w.r.t. hidden and kernel of output layers; the roofline is that of plain matrix products."""
    shapes = [(2048, 256, 32000), (4096, 128, 50257), *((1024, 64, c) for c in (1000, 10_000, 100_000, 1_000_000))]
    for n, d, c in [(512, 64, c) for c in (800, 8000, 80_000)] if quick else shapes:
        hidden, kernel, target = layer(n, d, c)
        calls = {"jaxloss": (with_gradients(jaxloss.linear_cross_entropy), (hidden, kernel, target))}
        if n * c < 2**28:
            calls["logits in memory"] = (with_gradients(plain), (hidden, kernel, target))
        for name, peer in output_layers().items():
            arguments = peer.arguments(hidden, kernel, target)
            ours, theirs = jaxloss.linear_cross_entropy(hidden, kernel, target), jax.jit(peer.loss)(*arguments)
            if abs(theirs / ours - 1) < 1e-3:
                calls[name] = (with_gradients(peer.loss), arguments)
            else:
                yield Note(f"({n}, {d}, {c}): {name} is left out; its loss is {theirs:.4f} and should be {ours:.4f}.")
        candidates: Candidates = {name: jitted(f, *arrays) for name, (f, arrays) in calls.items()}
        if times_torch() and n * c < 2**28:
            candidates = {**candidates, "torch": torch_layer(hidden, kernel, target)}
        # Three products: the logits, and the gradients with respect to hidden and kernel.
        seconds = 6 * n * d * c / product_rate()
        series = f"{n} samples of {d} features, by classes"
        calls_per_round = max(1, min(20, 2**24 // (n * c)))
        number = 3 if quick else 5
        yield timed(f"({n}, {d}, {c})", candidates, number, calls_per_round, seconds=seconds, series=series, size=c)
        kept = {name: temporaries(f, arrays) / 2**20 for name, (f, arrays) in calls.items()}
        yield Row(f"({n}, {d}, {c})", kept, "MiB")


def torch_layer(hidden: Any, kernel: Any, target: Any) -> Callable[[], object]:
    import torch

    tensors = [torch.tensor(np.asarray(array)).requires_grad_() for array in (hidden, kernel.T)]
    classes = torch.tensor(np.asarray(target)).long()
    options = torch.nn.LinearCrossEntropyOptions()

    def call() -> object:
        for tensor in tensors:
            tensor.grad = None
        return torch.nn.functional.linear_cross_entropy(*tensors, classes, options=options).backward()

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
    if times_torch():
        candidates = {**candidates, "torch": torch_adaptive(hidden, softmax, target)}
    yield timed_apart(f"({n}, {d}, {c}), cutoffs {cutoffs}", candidates, 3 if quick else 5)
    kept = {name: temporaries(f, arguments) / 2**20 for name, (f, arguments) in calls.items()}
    yield Row(f"({n}, {d}, {c}), cutoffs {cutoffs}", kept, "MiB")


def torch_adaptive(hidden: Any, softmax: jaxloss.AdaptiveSoftmax, target: Any) -> Callable[[], object]:
    import torch

    module = torch.nn.AdaptiveLogSoftmaxWithLoss(*softmax.shape, list(softmax.cutoffs))
    tensor, classes = torch.tensor(np.asarray(hidden)).requires_grad_(), torch.tensor(target).long()

    def call() -> object:
        tensor.grad = None
        module.zero_grad()
        return module(tensor, classes).loss.backward()

    return call
