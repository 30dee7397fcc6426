"""`python -m benchmarks`: tables of our times and memory beside those of peers, ours in units of theirs in brackets."""

import argparse
import ast
import inspect
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss
from benchmarks.language_model import language_model
from benchmarks.large_output import adaptive_softmax, chunk_sizes, large_output
from benchmarks.measuring import HAS_CCE, HAS_OPTAX, HAS_TORCH, Candidates, Row, jitted, medians, row, temporaries


def by_hand() -> dict[str, Callable[..., Any]]:
    """The best jitted line that we know of for each loss, mean over all."""

    def huber(x: Any, y: Any) -> Any:
        size = jnp.abs(x - y)
        q = jnp.minimum(size, 1.0)
        return jnp.mean(q * (size - 0.5 * q))

    def huber_by_where(x: Any, y: Any) -> Any:
        size = jnp.abs(x - y)
        return jnp.mean(jnp.where(size < 1.0, 0.5 * size * size, size - 0.5))

    def binary(x: Any, y: Any) -> Any:
        return jnp.mean(jnp.maximum(x, 0) - x * y + jnp.log1p(jnp.exp(-jnp.abs(x))))

    return {
        "mse_loss": lambda x, y: jnp.mean((x - y) ** 2),
        "l1_loss": lambda x, y: jnp.mean(jnp.abs(x - y)),
        "smooth_l1_loss": huber,
        "huber_loss": huber,
        "huber_loss by where": huber_by_where,
        "binary_cross_entropy_with_logits": binary,
        "binary_cross_entropy_with_logits by softplus": lambda x, y: jnp.mean(jax.nn.softplus(x) - x * y),
    }


def torch_call(name: str, arrays: tuple[Any, ...], gradient: bool) -> Callable[[], object]:
    import torch

    tensors = [torch.tensor(np.asarray(array)) for array in arrays]
    tensors = [tensor.long() if not tensor.is_floating_point() else tensor for tensor in tensors]
    tensors[0].requires_grad_(gradient)
    loss = getattr(torch.nn.functional, name)

    def call() -> object:
        if not gradient:
            return loss(*tensors)
        tensors[0].grad = None
        return loss(*tensors).backward()

    return call


def dispatch(quick: bool) -> Iterator[Row]:
    """Eager calls on small arrays: µs."""
    x, y, labels = jnp.ones((8, 4)), jnp.zeros((8, 4)), jnp.zeros(8, int)
    hand = by_hand()

    def hand_cross_entropy(x: Any, t: Any) -> Any:
        return jnp.mean(jax.nn.logsumexp(x, axis=-1) - jnp.take_along_axis(x, t[:, None], 1)[:, 0])

    def hand_huber(x: Any, y: Any, delta: Any) -> Any:
        size = jnp.abs(x - y)
        return jnp.mean(jnp.where(size < delta, size**2 / 2, delta * (size - delta / 2)))

    cases: dict[str, dict[str, Callable[[], object]]] = {
        "mse_loss": {"jaxloss": lambda: jaxloss.mse_loss(x, y), "by hand": jit_call(hand["mse_loss"], x, y)},
        "huber_loss(delta=2.0)": {
            "jaxloss": lambda: jaxloss.huber_loss(x, y, delta=2.0),
            "by hand": jit_call(hand_huber, x, y, 2.0),
        },
        "cross_entropy": {
            "jaxloss": lambda: jaxloss.cross_entropy(x, labels),
            "by hand": jit_call(hand_cross_entropy, x, labels),
        },
    }
    if HAS_OPTAX:
        from optax import losses

        cases["mse_loss"]["optax"] = lambda: losses.squared_error(x, y).mean()
        cases["huber_loss(delta=2.0)"]["optax"] = lambda: losses.huber_loss(x, y, delta=2.0).mean()
        cases["cross_entropy"]["optax"] = lambda: losses.softmax_cross_entropy_with_integer_labels(x, labels).mean()
    for name, candidates in cases.items():
        yield row(name, medians(candidates, 5 if quick else 15, 200), 1e-6)


def jit_call(function: Callable[..., Any], *arguments: Any) -> Callable[[], object]:
    compiled = jax.jit(function)
    return lambda: compiled(*arguments)


def elementwise(quick: bool) -> Iterator[Row]:
    """8 M elements, value and value+gradient: ms."""
    n = 2**20 if quick else 2**23
    x, y = jax.random.normal(jax.random.key(0), (n,)) * 2, jax.random.normal(jax.random.key(1), (n,))
    hands = by_hand()
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits"):
        arrays = (x, jax.nn.sigmoid(y) if name.startswith("binary") else y)
        same = {"smooth_l1_loss": "huber_loss"}.get(name, name)
        variants = {hand: f for hand, f in hands.items() if hand.startswith(same)}
        for gradient in (False, True):
            lift = jax.value_and_grad if gradient else lambda f: f
            candidates = {"jaxloss": jitted(lift(getattr(jaxloss, name)), *arrays)}
            for hand, function in variants.items():
                candidates[f"by hand{hand.removeprefix(same)}"] = jitted(lift(function), *arrays)
            if HAS_TORCH:
                candidates["torch"] = torch_call(name, arrays, gradient)
            label = f"{name}, {'value+gradient' if gradient else 'value'}"
            yield row(label, medians(candidates, 5 if quick else 9, 3), 1e-3)


def cross_entropy(quick: bool) -> Iterator[Row]:
    """Class indices, value+gradient: ms."""
    shapes = [(65536, 10), (8192, 1000)] if quick else [(65536, 10), (8192, 1000), (2048, 8192), (1024, 32000)]
    for n, c in shapes:
        logits = jax.random.normal(jax.random.key(0), (n, c)) * 3
        target = jax.random.randint(jax.random.key(1), (n,), 0, c)
        candidates: Candidates = {"jaxloss": jitted(jax.value_and_grad(jaxloss.cross_entropy), logits, target)}
        if HAS_OPTAX:
            from optax import losses

            optax_loss = losses.softmax_cross_entropy_with_integer_labels
            mean = jax.value_and_grad(lambda x, t, f=optax_loss: f(x, t).mean())
            candidates["optax"] = jitted(mean, logits, target)
        if HAS_TORCH:
            candidates["torch"] = torch_call("cross_entropy", (logits, target), gradient=True)
        yield row(f"({n}, {c})", medians(candidates, 5 if quick else 15, 3), 1e-3)


def memory(quick: bool) -> Iterator[Row]:
    """Temporaries of value+gradient with weights and a mask: MiB."""
    n, c = 4096, 256 if quick else 1024
    x, y, labels = jnp.ones((n, c)), jnp.zeros((n, c)), jnp.zeros(n, int)
    weights, where = jnp.ones(n), jnp.arange(n) % 3 > 0

    def hand_mse(x: Any, y: Any, w: Any, m: Any) -> Any:
        return jnp.sum(jnp.where(m, w * (x - y) ** 2, 0)) / jnp.sum(m)

    def hand_cross_entropy(x: Any, t: Any, w: Any, m: Any) -> Any:
        losses = jax.nn.logsumexp(x, axis=-1) - jnp.take_along_axis(x, t[:, None], 1)[:, 0]
        return jnp.sum(jnp.where(m, w * losses, 0)) / jnp.sum(m)

    wide = (jnp.broadcast_to(weights[:, None], x.shape), jnp.broadcast_to(where[:, None], x.shape))
    for name, hand, arrays in (
        ("mse_loss", hand_mse, (x, y, *wide)),
        ("cross_entropy", hand_cross_entropy, (x, labels, weights, where)),
    ):
        ours = getattr(jaxloss, name)
        functions = {"jaxloss": lambda x, t, w, m, f=ours: f(x, t, weights=w, where=m), "by hand": hand}
        for lift, label in ((lambda f: f, "value"), (jax.value_and_grad, "value+gradient")):
            measured = {key: temporaries(lift(f), arrays) for key, f in functions.items()}
            yield [f"{name}, {label}", *(f"{key} {bytes_ / 2**20:.3f}" for key, bytes_ in measured.items())]


def importing(quick: bool) -> Iterator[Row]:
    """`import jaxloss` after `import jax`: ms."""
    script = "import jax, time; s = time.perf_counter(); import jaxloss; print(time.perf_counter() - s)"
    command = [sys.executable, "-c", script]
    seconds = [float(subprocess.check_output(command, text=True)) for _ in range(3 if quick else 7)]
    yield ["import jaxloss", f"{np.median(seconds) * 1e3:.1f}"]


def kernels(quick: bool) -> Iterator[Row]:
    """Lines of each loss's kernel, without signature and docstring, then those of the helpers in its module."""
    del quick
    for name, function in sorted(vars(jaxloss).items()):
        if inspect.isfunction(function) and hasattr(function, "__wrapped__") and name != "data_checks":
            module = ast.parse(inspect.getsource(inspect.getmodule(function)))  # pyright: ignore
            functions = {f.name: f for f in module.body if isinstance(f, ast.FunctionDef)}
            called, new = {name}, {name}
            while new:
                names = {n.id for f in new for n in ast.walk(functions[f]) if isinstance(n, ast.Name)}
                # The rule of a derivative is called by nobody.
                names |= {f"{f}_jvp" for f in new}
                new = (names & functions.keys()) - called
                called |= new
            yield [name, str(lines(functions[name])), *(f"{f} {lines(functions[f])}" for f in sorted(called - {name}))]


def lines(function: ast.FunctionDef) -> int:
    first = function.body[1] if ast.get_docstring(function) else function.body[0]
    last = function.body[-1]
    return (last.end_lineno or last.lineno) - first.lineno + 1


BENCHMARKS = {
    benchmark.__name__: benchmark
    for benchmark in (
        dispatch,
        elementwise,
        cross_entropy,
        large_output,
        chunk_sizes,
        adaptive_softmax,
        language_model,
        memory,
        importing,
        kernels,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; it takes {', '.join(BENCHMARKS)}")
    print(f"jax {jax.__version__}, Python {platform.python_version()}, {jax.devices()[0].device_kind}, medians")
    absent = [name for name, has in (("torch", HAS_TORCH), ("optax", HAS_OPTAX), ("jax-cce", HAS_CCE)) if not has]
    if absent:
        print(f"not installed and left out: {', '.join(absent)}")
    for name in options.names or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        print(f"\n{name}: {benchmark.__doc__}")
        for cells in benchmark(options.quick):
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
