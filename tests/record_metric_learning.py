"""Records what pytorch-metric-learning computes for losses that it has: `python -m tests.record_metric_learning`.

The values are in `metric_learning_values.json`, so that parity can be tested without it.
"""

import json
import math
import pathlib

import numpy as np

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


def main():
    rows = [{"loss": name, "options": options, **record(name, options)} for name, options in CASES]
    PATH.write_text(json.dumps({"rows": rows}) + "\n")


if __name__ == "__main__":
    main()
