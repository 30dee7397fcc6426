"""`python -m jaxloss`: trains a small network on scikit-learn's digits with several losses, and compares them."""

import argparse
import dataclasses
import importlib.util
import inspect
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxloss

EXTRAS = ("matplotlib", "optax", "rich", "sklearn")
N_CLASSES, HIDDEN, BATCH = 10, 64, 64
RARE_CLASSES, RARE_SHARE = 5, 0.06
Parameters = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A loss to train with: of (logits, target, class weights) to a scalar."""

    loss: Callable[[Array, Array, Array], Array]
    imbalanced: bool = False


def _one_hot(target: Array) -> Array:
    return jax.nn.one_hot(target, N_CLASSES)


EXPERIMENTS: Mapping[str, Experiment] = {
    "cross_entropy": Experiment(lambda x, y, w: jaxloss.cross_entropy(x, y)),
    "label_smoothing": Experiment(lambda x, y, w: jaxloss.cross_entropy(x, y, label_smoothing=0.1)),
    "nll_loss": Experiment(lambda x, y, w: jaxloss.nll_loss(jax.nn.log_softmax(x), y)),
    "binary_cross_entropy": Experiment(
        lambda x, y, w: jaxloss.binary_cross_entropy_with_logits(x, _one_hot(y), pos_weight=3.0)
    ),
    "mse_loss": Experiment(lambda x, y, w: jaxloss.mse_loss(x, _one_hot(y))),
    "l1_loss": Experiment(lambda x, y, w: jaxloss.l1_loss(x, _one_hot(y), kink_width=0.1)),
    "smooth_l1_loss": Experiment(lambda x, y, w: jaxloss.smooth_l1_loss(x, _one_hot(y), beta=0.5)),
    "huber_loss": Experiment(lambda x, y, w: jaxloss.huber_loss(x, _one_hot(y), delta=0.5)),
    "imbalanced": Experiment(lambda x, y, w: jaxloss.cross_entropy(x, y), imbalanced=True),
    "imbalanced_weighted": Experiment(lambda x, y, w: jaxloss.cross_entropy(x, y, class_weights=w), imbalanced=True),
}


@dataclasses.dataclass(frozen=True)
class Digits:
    """Images as rows of 64 floats in [0, 1], and their digits."""

    train_images: Array
    train_targets: Array
    test_images: Array
    test_targets: np.ndarray

    @property
    def class_weights(self) -> Array:
        """Inversely proportional to the frequency of each class, 1 on average over the samples."""
        counts = jnp.bincount(self.train_targets, length=N_CLASSES)
        return len(self.train_targets) / (N_CLASSES * counts)


@dataclasses.dataclass(frozen=True)
class Result:
    """What training with one loss came to."""

    name: str
    imbalanced: bool
    accuracies: list[float]
    balanced_accuracy: float
    step_microseconds: float
    compile_seconds: float


def load_digits(seed: int, imbalanced: bool) -> Digits:
    """scikit-learn's digits, 30 % of each class held out; imbalanced, half of the classes lose most of their images."""
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    images, targets = load(return_X_y=True)
    split = train_test_split(images / 16, targets, test_size=0.3, random_state=seed, stratify=targets)
    train_images, test_images, train_targets, test_targets = map(np.asarray, split)
    if imbalanced:
        generator = np.random.default_rng(seed)
        kept = (train_targets >= RARE_CLASSES) | (generator.uniform(size=len(train_targets)) < RARE_SHARE)
        train_images, train_targets = train_images[kept], train_targets[kept]
    as_images = [jnp.asarray(a, jnp.float32) for a in (train_images, test_images)]
    return Digits(as_images[0], jnp.asarray(train_targets), as_images[1], test_targets)


def initial_parameters(key: Array) -> Parameters:
    hidden, output = jax.random.split(key)
    return {
        "hidden": jax.random.normal(hidden, (64, HIDDEN)) * jnp.sqrt(2 / 64),
        "hidden_bias": jnp.zeros(HIDDEN),
        "output": jax.random.normal(output, (HIDDEN, N_CLASSES)) / jnp.sqrt(HIDDEN),
        "output_bias": jnp.zeros(N_CLASSES),
    }


def logits_of(parameters: Parameters, images: Array) -> Array:
    hidden = jax.nn.relu(images @ parameters["hidden"] + parameters["hidden_bias"])
    return hidden @ parameters["output"] + parameters["output_bias"]


def train(name: str, digits: Digits, epochs: int, seed: int, progress: Callable[[], None]) -> Result:
    """Adam over shuffled batches, one compiled program an epoch; the accuracy on the test set after each."""
    import optax
    from sklearn.metrics import balanced_accuracy_score

    experiment = EXPERIMENTS[name]
    optimiser = optax.adam(3e-3)
    n_steps = max(len(digits.train_targets) // BATCH, 1)
    class_weights = digits.class_weights

    def step(carry: Any, batch: Array) -> Any:
        parameters, state = carry
        images, targets = digits.train_images[batch], digits.train_targets[batch]

        def loss(parameters: Parameters) -> Array:
            return experiment.loss(logits_of(parameters, images), targets, class_weights)

        gradient = jax.grad(loss)(parameters)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(parameters, updates), state), None

    def epoch(carry: Any, key: Array) -> Any:
        order = jax.random.permutation(key, len(digits.train_targets))
        batches = jnp.resize(order, (n_steps, min(BATCH, len(order))))
        carry, _ = jax.lax.scan(step, carry, batches)
        return carry, jnp.argmax(logits_of(carry[0], digits.test_images), axis=1)

    key = jax.random.key(seed)
    parameters = initial_parameters(key)
    carry = (parameters, optimiser.init(parameters))
    start = time.perf_counter()
    compiled = jax.jit(epoch).lower(carry, key).compile()
    compile_seconds = time.perf_counter() - start
    predicted, accuracies, seconds = np.zeros(0), [], []
    for i in range(epochs):
        start = time.perf_counter()
        carry, predicted = jax.block_until_ready(compiled(carry, jax.random.fold_in(key, i)))
        seconds.append(time.perf_counter() - start)
        accuracies.append(float(np.mean(np.asarray(predicted) == digits.test_targets)))
        progress()
    balanced = float(balanced_accuracy_score(digits.test_targets, np.asarray(predicted)))
    microseconds = float(np.median(seconds)) / n_steps * 1e6
    return Result(name, experiment.imbalanced, accuracies, balanced, microseconds, compile_seconds)


def train_all(names: list[str], epochs: int, seed: int) -> list[Result]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console()
    data = {imbalanced: load_digits(seed, imbalanced) for imbalanced in (False, True)}
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=len(names) * epochs)
        results: list[Result] = []
        for name in names:
            bar.update(task, description=f"{name:22}")
            digits = data[EXPERIMENTS[name].imbalanced]
            results.append(train(name, digits, epochs, seed, lambda: bar.advance(task)))
    return results


def print_table(results: list[Result]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = 100  # rich knows no width of a pipe, and would cut at 80
    table = Table(title="Digits, test set")
    table.add_column("loss", no_wrap=True)
    table.add_column("training data")
    for heading in ("accuracy", "balanced accuracy", "µs per step", "compile s"):
        table.add_column(heading, justify="right")
    for result in results:
        data = "imbalanced" if result.imbalanced else "balanced"
        numbers = (result.accuracies[-1], result.balanced_accuracy)
        costs = (f"{result.step_microseconds:.0f}", f"{result.compile_seconds:.2f}")
        table.add_row(result.name, data, *(f"{100 * number:.1f} %" for number in numbers), *costs)
    console.print(table)


def save_plot(results: list[Result], path: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    styles = ("-", "--", "-.", ":")
    for side, imbalanced in zip(axes, (False, True), strict=True):
        shown = [result for result in results if result.imbalanced == imbalanced]
        for i, result in enumerate(shown):
            epochs = range(1, len(result.accuracies) + 1)
            errors = [100 * (1 - accuracy) for accuracy in result.accuracies]
            side.plot(epochs, errors, styles[i % 4], marker="os^vDxP*"[i % 8], markevery=0.15, ms=4, label=result.name)
        side.set(title=f"{'imbalanced' if imbalanced else 'balanced'} training data", xlabel="epoch", yscale="log")
        side.set_yticks([1, 2, 5, 10, 20, 50, 100], minor=False)
        side.yaxis.set_major_formatter("{x:g}")
        side.yaxis.set_minor_formatter("")
        side.grid(alpha=0.3, which="both")
        if shown:
            side.legend(fontsize=8)
    axes[0].set_ylabel("errors on the test set (%)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def catalogue() -> str:
    """Every loss, with the first line of its documentation."""
    functions = {name: value for name, value in vars(jaxloss).items() if inspect.isfunction(value)}
    losses = {name: f for name, f in functions.items() if "weights" in inspect.signature(f).parameters}
    lines = {name: inspect.getdoc(f) or "" for name, f in losses.items()}
    width = max(map(len, lines))
    return "\n".join(f"{name:{width}}  {text.splitlines()[0]}" for name, text in sorted(lines.items()))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    def whole(least: int) -> Callable[[str], int]:
        def number(text: str) -> int:
            if not text.isdecimal() or not least <= int(text) < 2**31:
                raise argparse.ArgumentTypeError(f"takes a whole number from {least}, got {text!r}")
            return int(text)

        return number

    parser = _Parser(prog="python -m jaxloss", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the catalogue of losses and stop")
    parser.add_argument("--losses", default=",".join(EXPERIMENTS), metavar="NAME,...", help="default: %(default)s")
    parser.add_argument("--epochs", type=whole(1), default=40, help="default: %(default)s")
    parser.add_argument("--seed", type=whole(0), default=0, help="default: %(default)s")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("jaxloss-demo"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    options.losses = list(dict.fromkeys(options.losses.split(",")))
    for name in options.losses:
        if name not in EXPERIMENTS:
            parser.error(f"argument --losses: there is no {name!r}; it takes {', '.join(EXPERIMENTS)}")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"argument --out: {options.out} is no directory")
    return options


def _is_missing(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except ValueError:  # what a module blocked in sys.modules raises
        return True


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    if options.list:
        print(catalogue())
        return 0
    missing = [name for name in EXTRAS if _is_missing(name)]
    if missing:
        print(f"python -m jaxloss: needs {', '.join(missing)}; pip install 'jaxloss[demo]'", file=sys.stderr)
        return 1
    try:
        results = train_all(options.losses, options.epochs, options.seed)
        print_table(results)
        path = options.out / "learning_curves.png"
        save_plot(results, path)
    except KeyboardInterrupt:
        print("python -m jaxloss: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"python -m jaxloss: {error}", file=sys.stderr)
        return 1
    print(f"learning curves: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
