"""Records what pytorch-metric-learning computes for losses that it has: `python -m tests.record_metric_learning`.

The values are in `metric_learning_values.json`, so that parity can be tested without it.
"""

import json
import math
import pathlib

import numpy as np

from tests.migration import calls

PAGE = "from_metric_learning.md"
PATH = pathlib.Path(__file__).with_name("metric_learning_values.json")
N, D, C = 12, 4, 5
CASES = (
    ("arcface_loss", {}),
    ("arcface_loss", {"margin": 0.25, "scale": 8.0}),
    ("arcface_loss", {"margin": 2.0, "scale": 4.0}),  # most angles are past the jump
    ("cosface_loss", {}),
    ("cosface_loss", {"margin": 0.125, "scale": 8.0}),
)


def arrays():
    """Features, a kernel and classes."""
    generator = np.random.default_rng(0)
    features, kernel = generator.normal(size=(N, D)), generator.normal(size=(D, C))
    return features, kernel, generator.integers(0, C, size=N)


def record(name, options):
    """The losses and the gradients of their sum with respect to the features and the kernel."""
    import torch
    from pytorch_metric_learning import losses, reducers

    kind = {"arcface_loss": losses.ArcFaceLoss, "cosface_loss": losses.CosFaceLoss}[name]
    options = {"margin": 0.5, "scale": 64.0} | options if name == "arcface_loss" else options
    if name == "arcface_loss":  # in degrees
        options = options | {"margin": math.degrees(options["margin"])}
    features, kernel, target = map(torch.tensor, arrays())
    loss = kind(C, D, **options, reducer=reducers.DoNothingReducer())
    loss.W = torch.nn.Parameter(kernel)
    found = loss(features.requires_grad_(), target)["loss"]["losses"]
    found.sum().backward()
    return {"losses": found.tolist(), "gradients": [features.grad.tolist(), loss.W.grad.tolist()]}


SETS = (
    ("ntxent_loss", {}),
    ("supcon_loss", {"temperature": 0.5}),
    ("multi_similarity_loss", {}),
    ("circle_loss", {}),
    ("batch_hard_triplet_loss", {"margin": 0.25}),
    ("proxy_anchor_loss", {}),
)


def sets():
    """Embeddings, labels, and a proxy for each label."""
    generator = np.random.default_rng(1)
    labels = np.repeat(np.arange(C - 1), N // (C - 1))
    return generator.normal(size=(N, D)), generator.permutation(labels), generator.normal(size=(C, D))


def record_set(name, options):
    """The sum of the losses of the items, and its gradient with respect to the embeddings; and to the proxies."""
    import torch
    from pytorch_metric_learning import distances, losses, miners, reducers

    embeddings, labels, proxies = map(torch.tensor, sets())
    added, miner = reducers.SumReducer(), None
    match name:
        case "ntxent_loss":
            loss = losses.NTXentLoss(**options, reducer=added)
        case "supcon_loss":
            loss = losses.SupConLoss(**options, reducer=added)
        case "multi_similarity_loss":
            loss = losses.MultiSimilarityLoss(**options, reducer=added)
        case "circle_loss":
            loss = losses.CircleLoss(**options, reducer=added)
        case "batch_hard_triplet_loss":
            distance = distances.LpDistance(normalize_embeddings=False)
            miner = miners.BatchHardMiner(distance=distance)
            loss = losses.TripletMarginLoss(**options, distance=distance, reducer=added)
        case "proxy_anchor_loss":
            loss = losses.ProxyAnchorLoss(C, D, **options)
            loss.proxies = torch.nn.Parameter(proxies)
    embeddings.requires_grad_()
    found = loss(embeddings, labels, *([] if miner is None else [miner(embeddings, labels)]))
    found.backward()
    gradients = [embeddings.grad, *([loss.proxies.grad] if name == "proxy_anchor_loss" else [])]
    return {"sum": found.item(), "gradients": [gradient.tolist() for gradient in gradients]}


def arguments():
    """The arguments of the calls in the migration table, by name. Some triplets have no loss."""
    generator = np.random.default_rng(2)
    proxies, labels = generator.normal(size=(C, D)), np.arange(N) % (C - 1)
    embeddings, second = proxies[labels] + 0.5 * generator.normal(size=(2, N, D))
    return {"e": embeddings, "f": second, "y": labels, "p": proxies, "k": generator.normal(size=(D, C))}


def record_call(call):
    """The value of a call in the migration table, and its gradient with respect to the embeddings."""
    import torch
    from pytorch_metric_learning import distances, losses, miners, reducers

    given = {name: torch.tensor(array) for name, array in arguments().items()}
    names = {**vars(distances), **vars(losses), **vars(miners), **vars(reducers)}
    kinds = {"ArcFaceLoss": "W", "CosFaceLoss": "W", "NormalizedSoftmaxLoss": "W", "ProxyAnchorLoss": "proxies"}

    def with_parameter(name):
        def make(*args, **options):
            loss = getattr(losses, name)(*args, **options)
            setattr(loss, kinds[name], torch.nn.Parameter(given["k" if kinds[name] == "W" else "p"]))
            return loss

        return make

    given["e"].requires_grad_()
    value = eval(call, {**names, **{name: with_parameter(name) for name in kinds}, **given})
    value.backward()
    return [value.item(), given["e"].grad.numpy().round(12).tolist()]


def main():
    import pytorch_metric_learning
    from pytorch_metric_learning import losses

    rows = [{"loss": name, "options": options, **record(name, options)} for name, options in CASES]
    of_sets = [{"loss": name, "options": options, **record_set(name, options)} for name, options in SETS]
    found = {
        "version": pytorch_metric_learning.__version__,
        "losses": [name for name in vars(losses) if name.endswith("Loss") and not name.startswith("Base")],
        "rows": rows,
        "sets": of_sets,
        "calls": {call: record_call(call) for call, _ in calls(PAGE)},
    }
    PATH.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
