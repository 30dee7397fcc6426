"""The three plots of the README: `python docs/pictures.py` saves them to docs/assets."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import jaxloss
import jaxloss.plot

SIZE = (4.2, 3.2)


def means() -> Figure:
    """The relative error of a mean over words: averaging the means of micro-batches, or adding their totals."""
    generator = np.random.default_rng(0)
    lengths = np.minimum(generator.geometric(1 / 20, size=256), 128)
    words = np.arange(128) < lengths[:, None]
    losses = jnp.asarray(generator.exponential(size=words.shape) * (1 + 10 / lengths[:, None]), jnp.float32)
    whole = jaxloss.l1_loss(losses, 0.0, where=words)
    counts = [2, 4, 8, 16, 32, 64, 128, 256]
    errors = {"adding totals": [], "averaging means": []}
    for count in counts:
        batches = losses.reshape(count, -1), words.reshape(count, -1)
        totals = jax.vmap(lambda x, where: jaxloss.l1_loss(x, 0.0, where=where, reduction="total"))(*batches)
        total = jax.tree.map(jnp.sum, totals)
        errors["adding totals"].append(abs(total.mean() / whole - 1))
        errors["averaging means"].append(abs(jnp.mean(totals.loss / totals.normaliser) / whole - 1))
    figure, axes = plt.subplots(figsize=SIZE)
    for (label, values), marker in zip(errors.items(), "os", strict=True):
        axes.loglog(counts, np.maximum(values, 2e-8), marker=marker, markersize=4, label=label)
    axes.set(xlabel="micro-batches", ylabel="relative error", title="Mean over micro-batches", ylim=(1e-8, 10))
    axes.set_xticks(counts[::2], counts[::2])
    axes.minorticks_off()
    axes.legend(loc="center right")
    return figure


def memory() -> Figure:
    """The temporary memory of value and gradients that XLA reports, without arguments and results."""
    rows, features = 1024, 128
    plain = jax.value_and_grad(lambda h, k, t: jaxloss.cross_entropy(h @ k, t), argnums=(0, 1))
    linear = jax.value_and_grad(jaxloss.linear_cross_entropy, argnums=(0, 1))
    sizes = [2**i for i in range(11, 19)]

    def megabytes(function, classes):
        shapes = ((rows, features), jnp.float32), ((features, classes), jnp.float32), ((rows,), jnp.int32)
        arguments = [jax.ShapeDtypeStruct(*each) for each in shapes]
        return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes / 1e6

    figure, axes = plt.subplots(figsize=SIZE)
    for label, function, marker in (("linear_cross_entropy", linear, "o"), ("cross_entropy(h @ k)", plain, "s")):
        axes.loglog(sizes, [megabytes(function, n) for n in sizes], marker=marker, markersize=4, label=label)
    axes.set(xlabel="classes", ylabel="memory of a step (MB)", title=f"Memory of an output layer, {rows} rows")
    axes.legend(loc="upper left")
    return figure


def kink() -> Figure:
    """The derivative of an absolute value for three kink widths."""
    figure, axes = plt.subplots(figsize=SIZE)
    x = jnp.asarray(np.linspace(-1, 1, 401), jnp.float32)  # contains 0 exactly, unlike jnp.linspace
    for label, width in (("default", None), ("kink_width=0.2", 0.2), ("kink_width=0.6", 0.6)):
        gradient = jax.grad(lambda x, width=width: jaxloss.l1_loss(x, 0.0, kink_width=width))
        axes.plot(x, jax.vmap(gradient)(x), label=label)
    axes.set(xlabel="prediction - target", ylabel="gradient of l1_loss", title="Smooth derivative at a kink")
    axes.legend(loc="upper left")
    return figure


def main(folder: pathlib.Path) -> None:
    plt.switch_backend("agg")
    with plt.rc_context(jaxloss.plot.STYLE):
        for name, draw in (("means", means), ("memory", memory), ("kink", kink)):
            figure = draw()
            figure.savefig(folder / f"{name}.png", dpi=120)
            plt.close(figure)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "assets")
