"""Records what PyTorch computes for each loss and combination of options: `python -m tests.record_reference`.

The values are in `reference_values.json`, so that parity is tested where PyTorch is not installed.
"""

import itertools
import json
import pathlib

import numpy as np

PATH = pathlib.Path(__file__).with_name("reference_values.json")
REDUCTIONS = ("none", "mean")
C = 4


def cases():
    """(name, arrays, options in our spelling), the class axis second as in PyTorch."""
    generator = np.random.default_rng(20)
    x, y = generator.normal(size=(2, 3)) * 2, generator.normal(size=(2, 3))
    y[0, 0] = x[0, 0]
    probability = generator.uniform(size=(2, 3))
    weights = [0.5, 2.0, 0.25, 1.0]
    for name in ("mse_loss", "l1_loss"):
        yield name, (x, y), {}
    for beta in (0.0, 0.3, 1.0, 2.5):
        yield "smooth_l1_loss", (x, y), {"beta": beta}
    for delta in (0.3, 1.0, 2.5):
        yield "huber_loss", (x, y), {"delta": delta}
    for pos_weight in (None, 3.0, [[0.5, 1.0, 4.0]]):
        yield "binary_cross_entropy_with_logits", (x, probability), {"pos_weight": pos_weight}
    for shape in ((), (5,), (3, 2)):
        logits = generator.normal(size=(*shape[:1], C, *shape[1:])) * 2
        axis = min(1, logits.ndim - 1)
        index = generator.integers(0, C, size=shape)
        distribution = np.moveaxis(generator.dirichlet(np.ones(C), size=shape), -1, axis)
        for class_weights, ignore_index in itertools.product((None, weights), (-100, 1)):
            options = {"class_weights": class_weights, "ignore_index": ignore_index, "axis": axis}
            yield "nll_loss", (logits - 3, index), options
            for smoothing in (0.0, 0.3, 1.0):
                yield "cross_entropy", (logits, index), options | {"label_smoothing": smoothing}
        for class_weights, smoothing in itertools.product((None, weights), (0.0, 0.3)):
            options = {"class_weights": class_weights, "label_smoothing": smoothing, "axis": axis}
            yield "cross_entropy", (logits, distribution), options


def torch_options(options):
    """The options in PyTorch's spelling."""
    import torch

    spelling = {"class_weights": "weight"}
    kept = {spelling.get(name, name): value for name, value in options.items() if name != "axis" and value is not None}
    tensors = {"weight", "pos_weight"}
    return {name: torch.tensor(value).double() if name in tensors else value for name, value in kept.items()}


def record(name, arrays, options, reduction):
    import torch

    first, second = (torch.tensor(array) for array in arrays)
    first.requires_grad_()
    loss = getattr(torch.nn.functional, name)(first, second, reduction=reduction, **torch_options(options))
    loss.sum().backward()
    return {
        "loss": name,
        "arrays": [np.asarray(array).tolist() for array in arrays],
        "options": options | {"reduction": reduction},
        "value": loss.detach().numpy().tolist(),
        "gradient": first.grad.numpy().tolist(),
    }


def main():
    rows = [record(*case, reduction) for case in cases() for reduction in REDUCTIONS]
    # A mean in which nothing is counted is NaN in PyTorch and 0 here: no value to hold anyone to.
    rows = [row for row in rows if np.isfinite(row["value"]).all()]
    PATH.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
