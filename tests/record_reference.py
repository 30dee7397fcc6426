"""Records what PyTorch computes for each loss and combination of options: `python -m tests.record_reference`.

The values are in `reference_values.json`, so that parity can be tested without PyTorch.
"""

import inspect
import itertools
import json
import math
import pathlib

import jax
import numpy as np

import jaxloss
from tests.references.large_output import draw_adaptive, pack_adaptive

PATH = pathlib.Path(__file__).with_name("reference_values.json")
C, D = 4, 3
WEIGHTS = [0.5, 2.0, 0.25, 1.0]


def pack_ctc(logits, target):
    # PyTorch's derivative with respect to log-probabilities has the derivative of the softmax in it.
    return jax.nn.log_softmax(logits), target


PACK = {"adaptive_log_softmax_with_loss": pack_adaptive, "ctc_loss": pack_ctc}
"""Functions that make the arguments of a loss from its arrays; for other losses these are the same."""


def product(**choices):
    """A dictionary for each combination of choices. None means that the option is not given."""
    for values in itertools.product(*choices.values()):
        yield {name: value for name, value in zip(choices, values, strict=True) if value is not None}


def cases():
    """Yields (name, arrays, options in our spelling), with the class axis second as in PyTorch."""
    generator = np.random.default_rng(20)
    for family in (
        elementwise,
        likelihoods,
        decisions,
        of_classes,
        of_layers,
        of_labels,
        of_vectors,
        of_clusters,
        of_sequences,
    ):
        yield from family(generator)


def elementwise(generator):
    x, y = generator.normal(size=(2, 3)) * 2, generator.normal(size=(2, 3))
    y[0, 0] = x[0, 0]
    weights = (None, [[0.5, 1.0, 4.0], [2.0, 0.25, 1.0]])
    for name in ("mse_loss", "l1_loss"):
        for options in product(weights=weights):
            yield name, (x, y), options
    for options in product(beta=(0.0, 0.3, 1.0, 2.5)):
        yield "smooth_l1_loss", (x, y), options
    for options in product(delta=(0.3, 1.0, 2.5), weights=weights):
        yield "huber_loss", (x, y), options


def likelihoods(generator):
    x, y = generator.normal(size=(2, 3)) * 2, generator.normal(size=(2, 3))
    count = np.array([[0.0, 1.0, 2.0], [5.0, 0.5, 30.0]])
    for options in product(full=(False, True)):
        yield "poisson_nll_loss", (x, count), options
    for options in product(log_input=(False,), full=(False, True), eps=(None, 0.1)):
        yield "poisson_nll_loss", (np.exp(x), count), options
    variance = np.array([[0.3, 1.0, 2.5], [1e-9, 0.01, 0.0]])
    for options in product(full=(False, True), eps=(None, 0.1)):
        yield "gaussian_nll_loss", (x, y, variance), options
    probability, target = generator.dirichlet(np.ones(3), size=2), generator.dirichlet(np.ones(3), size=2)
    target[0] = [0.0, 1.0, 0.0]
    yield "kl_div", (np.log(probability), target), {}
    yield "kl_div", (np.log(probability), np.log(probability[::-1])), {"log_target": True}


def decisions(generator):
    x, y = generator.normal(size=(2, 3)) * 2, generator.normal(size=(2, 3)) * 2
    probability = generator.uniform(size=(2, 3))
    for options in product(pos_weight=(None, 3.0, [[0.5, 1.0, 4.0]]), weights=(None, [[0.5, 1.0, 4.0]])):
        yield "binary_cross_entropy_with_logits", (x, probability), options
    predicted = generator.uniform(size=(2, 3))
    predicted[0, :2] = 0.0, 1.0
    for options in product(weights=(None, [[0.5, 1.0, 4.0]])):
        yield "binary_cross_entropy", (predicted, probability), options
    sign = np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]])
    yield "soft_margin_loss", (x * 30, sign), {}
    for options in product(margin=(None, 0.3, -1.0)):
        yield "hinge_embedding_loss", (x, sign), options
        yield "margin_ranking_loss", (x, y, sign), options


def of_classes(generator):
    for shape in ((), (5,), (3, 2)):
        logits = generator.normal(size=(*shape[:1], C, *shape[1:])) * 2
        axis = min(1, logits.ndim - 1)
        index = generator.integers(0, C, size=shape)
        distribution = np.moveaxis(generator.dirichlet(np.ones(C), size=shape), -1, axis)
        for options in product(class_weights=(None, WEIGHTS), ignore_index=(None, 1), axis=(axis,)):
            yield "nll_loss", (logits - 3, index), options
            for smoothing in (0.0, 0.3, 1.0):
                yield "cross_entropy", (logits, index), options | {"label_smoothing": smoothing}
        for options in product(class_weights=(None, WEIGHTS), label_smoothing=(0.0, 0.3), axis=(axis,)):
            yield "cross_entropy", (logits, distribution), options
        if axis == logits.ndim - 1:
            for options in product(p=(1, 2), margin=(None, 0.4), class_weights=(None, WEIGHTS)):
                yield "multi_margin_loss", (logits, index), options


def of_layers(generator):
    hidden, kernel = generator.normal(size=(5, D)), generator.normal(size=(D, C))
    index, distribution = generator.integers(0, C, size=5), generator.dirichlet(np.ones(C), size=5)
    bias = [0.125, -0.5, 0.0, 0.75]
    choices = {"bias": (None, bias), "class_weights": (None, WEIGHTS), "label_smoothing": (None, 0.3)}
    for options in product(**choices, ignore_index=(None, 1)):
        yield "linear_cross_entropy", (hidden, kernel, index), options
    for options in product(**choices):
        yield "linear_cross_entropy", (hidden, kernel, distribution), options


def of_labels(generator):
    logits = generator.normal(size=(3, C)) * 2
    yield "multilabel_margin_loss", (logits, np.array([[2, 0, -1, 1], [3, 2, 1, 0], [-1, -1, 2, 3]])), {}
    for options in product(class_weights=(None, WEIGHTS)):
        yield "multilabel_soft_margin_loss", (logits, generator.uniform(size=(3, C))), options


def of_vectors(generator):
    anchor, positive, negative = (generator.normal(size=(4, D)) for _ in range(3))
    for options in product(p=(1.0, 1.5, None, 3.0, math.inf), swap=(False, True), margin=(None, 0.2), eps=(None, 0.1)):
        yield "triplet_margin_loss", (anchor, positive, negative), options
    for options in product(swap=(False, True), margin=(None, 0.2)):
        yield "triplet_margin_with_distance_loss", (anchor, positive, negative), options
    # Long vectors, because PyTorch adds 1e-12 to their squared lengths.
    for options in product(margin=(None, 0.3, -0.5)):
        yield "cosine_embedding_loss", (100 * anchor, 100 * positive, np.array([1.0, -1.0, -1.0, 1.0])), options


def of_clusters(generator):
    *arrays, _ = draw_adaptive(generator, (8,))
    for target in (np.arange(8) % 5, np.zeros(8, int), np.full(8, 4)):
        yield "adaptive_log_softmax_with_loss", (*arrays, target), {}


def of_sequences(generator):
    logits, target = generator.normal(size=(3, 7, C)) * 2, np.array([[1, 2, 3], [1, 1, 2], [3, 2, 2]])
    lengths = ({}, {"input_lengths": [7, 5, 4]}, {"target_lengths": [3, 2, 0]})
    both = {"input_lengths": [7, 6, 3], "target_lengths": [1, 2, 3], "zero_infinity": True}
    for options in (*lengths, lengths[1] | lengths[2], both):
        yield "ctc_loss", (logits, target), options
    yield "ctc_loss", (logits, target % 3), {"blank": 3, "target_lengths": [3, 3, 1]}


def torch_options(options):
    """The options in PyTorch's spelling."""
    import torch

    spelling = {"class_weights": "weight", "weights": "weight", "bias": "linear_bias"}
    kept = {spelling.get(name, name): value for name, value in options.items() if name != "axis"}
    tensors = {"weight", "pos_weight", "linear_bias"}
    return {name: torch.tensor(value).double() if name in tensors else value for name, value in kept.items()}


def reductions(name, options):
    """Our reductions with PyTorch's. Two losses of PyTorch divide a weighted mean by the sum of the weights."""
    mean = "weighted_mean" if name in ("mse_loss", "l1_loss") and "weights" in options else "mean"
    pairs = {"none": "none", mean: "mean"} if name != "ctc_loss" else {"none": "none", "sum": "sum"}
    return pairs | {"batchmean": "batchmean"} if name == "kl_div" else pairs


def differentiated(name, arrays):
    """The positions of the arrays whose gradients are recorded: all floating arrays but the target."""
    names = inspect.signature(PACK.get(name, getattr(jaxloss, name))).parameters
    return [i for i, (a, n) in enumerate(zip(arrays, names, strict=False)) if n != "target" and a.dtype.kind == "f"]


def record(name, arrays, options):
    """{reduction: {"value": …, "gradients": …}}, without means over no samples: NaN in PyTorch and 0 here."""
    import torch

    recorded = {}
    for ours, reduction in reductions(name, options).items():
        tensors = [torch.tensor(array) for array in arrays]
        if name == "linear_cross_entropy":  # PyTorch's kernel is (C, D)
            tensors[1] = tensors[1].T.contiguous()
        inputs = [tensors[i].requires_grad_() for i in differentiated(name, arrays)]
        if name == "adaptive_log_softmax_with_loss":
            loss = torch_adaptive(*tensors, reduction)
        elif name == "ctc_loss":
            loss = torch_ctc(*tensors, reduction, **options)
        else:
            loss = getattr(torch.nn.functional, name)(*tensors, reduction=reduction, **torch_options(options))
        if not torch.isfinite(loss).all():
            continue
        loss.sum().backward()
        # The weights of an unused tail have no gradient.
        gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in inputs]
        if name == "linear_cross_entropy":
            gradients[1] = gradients[1].T
        recorded[ours] = {"value": loss.tolist(), "gradients": [gradient.tolist() for gradient in gradients]}
    return recorded


def torch_adaptive(hidden, head, head_bias, down, up, rarer_down, rarer_up, target, reduction):
    """PyTorch's module with parameters made from these tensors, so that the tensors get gradients."""
    import torch

    module = torch.nn.AdaptiveLogSoftmaxWithLoss(D, 5, [2, 3], 1.0, head_bias=True).double()
    parameters = {"head.weight": head.T, "head.bias": head_bias}
    for i, (first, second) in enumerate(((down, up), (rarer_down, rarer_up))):
        parameters |= {f"tail.{i}.0.weight": first.T, f"tail.{i}.1.weight": second.T}
    output, loss = torch.func.functional_call(module, parameters, (hidden, target))
    return loss if reduction == "mean" else -output


def torch_ctc(logits, target, reduction, input_lengths=None, target_lengths=None, **options):
    """PyTorch's loss, which takes time first, and all lengths."""
    import torch

    n, n_frames, _ = logits.shape
    lengths = torch.tensor(input_lengths or [n_frames] * n), torch.tensor(target_lengths or [target.shape[1]] * n)
    log_probabilities = logits.log_softmax(-1).transpose(0, 1)
    return torch.nn.functional.ctc_loss(log_probabilities, target, *lengths, reduction=reduction, **options)


def main():
    import torch

    pool, rows = {}, []
    for name, arrays, options in cases():
        keys = [pool.setdefault(json.dumps(array.tolist()), f"a{len(pool)}") for array in arrays]
        rows.append({"loss": name, "arrays": keys, "options": options, "results": record(name, arrays, options)})
    arrays = ",\n".join(f'"{key}": {text}' for text, key in pool.items())
    lines = ",\n".join(json.dumps(row) for row in rows)
    PATH.write_text(f'{{"torch": "{torch.__version__}",\n"arrays": {{\n{arrays}\n}},\n"rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
