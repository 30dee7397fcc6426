"""One-time costs: tracing, compilation, import time, temporary memory, and lines of code."""

import ast
import inspect
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss
from benchmarks import by_hand
from benchmarks.measuring import medians_and_spread, temporaries
from benchmarks.results import Row, Rows


def compile_times(quick: bool) -> Rows:
    """Time to trace and to compile value and gradient with weights, a mask and a mean, for jaxloss and by hand."""
    for name, line in by_hand.LINES.items():
        if name == "linear_log_probability":  # which has no reduction
            continue
        arrays = by_hand.arguments(name, 32)
        weights = jnp.ones(jax.eval_shape(line, *arrays).shape)
        where = jnp.arange(weights.size).reshape(weights.shape) % 3 > 0

        def ours(w: Any, m: Any, *arrays: Any, name: str = name) -> Any:
            return getattr(jaxloss, name)(*arrays, weights=w, where=m)

        seconds: dict[str, list[tuple[float, float]]] = {"jaxloss": [], "by hand": []}
        for _ in range(3 if quick else 9):
            for candidate, function in (("jaxloss", ours), ("by hand", by_hand.weighted_mean(line))):
                jax.clear_caches()
                seconds[candidate].append(traced_and_compiled(function, (weights, where, *arrays)))
        for i, step in enumerate(("trace", "compile")):
            medians, spread = medians_and_spread({k: [pair[i] for pair in v] for k, v in seconds.items()}, "ms")
            yield Row(f"{name}, {step}", medians, "ms", spread)


def traced_and_compiled(function: Callable[..., Any], arrays: tuple[Any, ...]) -> tuple[float, float]:
    """Seconds to trace and seconds to compile."""
    start = time.perf_counter()
    lowered = jax.jit(jax.value_and_grad(function, 2)).lower(*arrays)
    middle = time.perf_counter()
    lowered.compile()
    return middle - start, time.perf_counter() - middle


def memory(quick: bool) -> Rows:
    """Temporary memory of the value, and of value and gradient, with weights and a mask."""
    n, c = 4096, 256 if quick else 1024
    x, y, labels = jnp.ones((n, c)), jnp.zeros((n, c)), jnp.zeros(n, int)
    weights, where = jnp.ones(n), jnp.arange(n) % 3 > 0
    wide = (jnp.broadcast_to(weights[:, None], x.shape), jnp.broadcast_to(where[:, None], x.shape))
    for name, arrays in (("mse_loss", (*wide, x, y)), ("cross_entropy", (weights, where, x, labels))):

        def ours(w: Any, m: Any, *arrays: Any, name: str = name) -> Any:
            return getattr(jaxloss, name)(*arrays, weights=w, where=m)

        functions = {"jaxloss": ours, "by hand": by_hand.weighted_mean(by_hand.LINES[name])}
        for lift, what in ((lambda f: f, "value"), (lambda f: jax.value_and_grad(f, 2), "value+gradient")):
            measured = {key: temporaries(lift(f), arrays) / 2**20 for key, f in functions.items()}
            yield Row(f"{name}, {what}", measured, "MiB")


def importing(quick: bool) -> Rows:
    """Time that `import jaxloss` adds to `import jax`."""
    script = "import jax, time; s = time.perf_counter(); import jaxloss; print(time.perf_counter() - s)"
    command = [sys.executable, "-c", script]
    # Keep the bytecode, as an installed package does; some containers disable it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    runs = range(4 if quick else 8)
    _, *seconds = [float(subprocess.check_output(command, text=True, env=environment)) for _ in runs]
    yield Row("import jaxloss", {"jaxloss": float(np.median(seconds)) * 1e3}, "ms")


def kernels(quick: bool) -> Rows:
    """Lines of the kernel of each loss, without signature and docstring, and of the helpers in its module."""
    del quick
    for name, function in sorted(vars(jaxloss).items()):
        if hasattr(function, "__declaration__"):
            module = ast.parse(inspect.getsource(inspect.getmodule(function)))  # pyright: ignore
            functions = {f.name: f for f in module.body if isinstance(f, ast.FunctionDef)}
            called, new = {name}, {name}
            while new:
                names = {n.id for f in new for n in ast.walk(functions[f]) if isinstance(n, ast.Name)}
                # No code calls the rule of a derivative by name.
                names |= {f"{f}_jvp" for f in new}
                new = (names & functions.keys()) - called
                called |= new
            helpers = {f: float(lines(functions[f])) for f in sorted(called - {name})}
            yield Row(name, {"kernel": float(lines(functions[name])), **helpers}, "lines")


def lines(function: ast.FunctionDef) -> int:
    first = function.body[1] if ast.get_docstring(function) else function.body[0]
    last = function.body[-1]
    return (last.end_lineno or last.lineno) - first.lineno + 1
