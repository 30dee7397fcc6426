"""The cases of the accuracy table: each loss with its options, a way to draw its arguments, and its peers."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

import jaxloss
from benchmarks.measuring import HAS_KERAS, HAS_OPTAX, HAS_TORCH
from benchmarks.numbers import Numbers

C = 4

Arrays = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Case:
    """One loss with one set of options.

    Args:
      loss: name in `jaxloss` and in `benchmarks.formulas`.
      draw: maps (numbers, n) to float64 or integer arrays of n samples; those in `shared` have no batch axis.
      options: options of the loss.
      formula_options: options of the formula, if they differ.
      differentiated: positions of the arrays with respect to which the gradient is taken.
      shared: positions of the arrays without a batch axis.
      same_scale: positions of the arrays that are subtracted from each other and therefore share a scale.
      peers: maps the name of a peer to its loss, one per sample; PyTorch's takes tensors.
      ours: the call in `jaxloss`, if its arguments differ from those of the formula.
      variant: what the table adds to the name of the loss, where the loss has several cases.
    """

    loss: str
    draw: Callable[[Numbers, int], Arrays]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    formula_options: Mapping[str, Any] | None = None
    differentiated: tuple[int, ...] = (0,)
    shared: tuple[int, ...] = ()
    same_scale: tuple[int, ...] = ()
    peers: Mapping[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)
    ours: Callable[..., Any] | None = None
    variant: str = ""

    @property
    def label(self) -> str:
        return ", ".join(filter(None, (self.loss, self.variant)))

    def call(self, *arrays: Any) -> Any:
        loss = self.ours or getattr(jaxloss, self.loss)
        return loss(*arrays, **self.options, reduction="none")


def of_set(loss: str) -> Callable[..., Any]:
    """The sum over the items of each set, of which the formula is one."""

    def summed(*arrays: Any, reduction: str, **options: Any) -> Any:
        return getattr(jaxloss, loss)(*arrays, **options, reduction=reduction).sum(axis=-1)

    return summed


def two_views(numbers: Numbers, n: int) -> Arrays:
    """Sets of three queries and keys of two dimensions."""
    x = numbers.real(n, 3, 2)
    return x, numbers.near(x)


def labelled_items(numbers: Numbers, n: int) -> Arrays:
    """Sets of four embeddings with two labels."""
    return numbers.real(n, 4, 2), numbers.generator.permuted(np.tile([0, 0, 1, 1], (n, 1)), axis=1)


def with_proxies(numbers: Numbers, n: int) -> Arrays:
    return numbers.real(n, 3, 2), numbers.real(2, 2), numbers.generator.integers(0, 2, size=(n, 3))


def pair(numbers: Numbers, n: int) -> Arrays:
    x = numbers.real(n)
    return x, numbers.near(x)


def positive_pair(numbers: Numbers, n: int) -> Arrays:
    x, y = pair(numbers, n)
    return abs(x), abs(y)


def soft_regions(numbers: Numbers, n: int) -> Arrays:
    return numbers.probability(n, C), numbers.probability(n, C)


def logits_and_region(numbers: Numbers, n: int) -> Arrays:
    return numbers.real(n, C), numbers.generator.integers(0, 2, size=(n, C))


def probabilities_and_region(numbers: Numbers, n: int) -> Arrays:
    return numbers.probability(n, C), np.eye(C, dtype=int)[numbers.generator.integers(0, C, size=n)]


def scores_and_grades(numbers: Numbers, n: int) -> Arrays:
    return numbers.real(n, C), numbers.generator.integers(0, 3, size=(n, C))


def boxes(numbers: Numbers, n: int) -> Arrays:
    box = np.sort(numbers.real(n, 2, 2), axis=1)
    return box.reshape(n, 4), np.sort(numbers.near(box), axis=1).reshape(n, 4)


def binary(numbers: Numbers, n: int) -> Arrays:
    return numbers.real(n), numbers.probability(n)


def two_probabilities(numbers: Numbers, n: int) -> Arrays:
    """Probabilities away from the range where PyTorch and jaxloss clamp the denominator of the gradient."""
    return numbers.probability(n).clip(1e-11, 1 - 1e-11), numbers.probability(n)


def log_and_probability(numbers: Numbers, n: int) -> Arrays:
    return np.log(numbers.probability(n)), numbers.probability(n)


def two_log_probabilities(numbers: Numbers, n: int) -> Arrays:
    return np.log(numbers.probability(n)), np.log(numbers.probability(n))


def log_rate_and_count(numbers: Numbers, n: int) -> Arrays:
    rate = numbers.generator.choice([3.0, 100.0, 1e4], size=n)
    return numbers.real(n), numbers.generator.poisson(rate).astype(float)


def log_probabilities_of_two(numbers: Numbers, n: int) -> Arrays:
    """No subnormal ones, which may count as 0, whose odds are infinite."""
    x, y = (-np.maximum(abs(each), 1.2e-38) for each in pair(numbers, n))
    return x, y


def likely_two(numbers: Numbers, n: int) -> Arrays:
    """Two log-probabilities, also of answers that are almost certain."""
    return np.log(numbers.probability(n)), np.log(numbers.probability(n))


def log_probabilities_of_four(numbers: Numbers, n: int) -> Arrays:
    x, y = log_probabilities_of_two(numbers, n)
    return x, y, -abs(numbers.near(x)), -abs(numbers.near(y))


def log_ratio_sign_and_baseline(numbers: Numbers, n: int) -> Arrays:
    x, y = pair(numbers, n)
    return x, numbers.generator.choice([-1, 1], size=n), y


def policy_and_advantage(numbers: Numbers, n: int) -> Arrays:
    x, y = log_probabilities_of_two(numbers, n)
    return x, y, numbers.real(n)


def rate_and_count(numbers: Numbers, n: int) -> Arrays:
    x, y = log_rate_and_count(numbers, n)
    return abs(x), y


def likely_rate_and_count(numbers: Numbers, n: int) -> Arrays:
    _, y = log_rate_and_count(numbers, n)
    return abs(y * (1 + numbers.generator.normal(size=n) / 10 ** numbers.generator.uniform(0, 6, size=n))) + 0.1, y


def mean_target_and_variance(numbers: Numbers, n: int) -> Arrays:
    return (*pair(numbers, n), abs(numbers.real(n)).clip(1e-3))


def real_and_positive(numbers: Numbers, n: int) -> Arrays:
    x, y = pair(numbers, n)
    return x, abs(y)


def mean_target_and_scale(numbers: Numbers, n: int) -> Arrays:
    x, y = pair(numbers, n)
    return x, y, abs(numbers.near(x))


def ensemble(numbers: Numbers, n: int) -> Arrays:
    members = numbers.real(n, C)
    return members, numbers.near(members[:, 0])


def ensemble_of_vectors(numbers: Numbers, n: int) -> Arrays:
    members = numbers.real(n, 3, 2)
    return members, numbers.near(members[:, 0])


def log_mean_count_and_concentration(numbers: Numbers, n: int) -> Arrays:
    generator = numbers.generator
    y = generator.poisson(generator.choice([0.5, 3.0, 100.0, 1e4], size=n)).astype(float)
    log_mean = np.log(y + generator.uniform(0.1, 2, size=n)) + generator.normal(size=n)
    return log_mean, y, np.exp(generator.uniform(-3, 30, size=n))


def with_sign(numbers: Numbers, n: int) -> Arrays:
    return numbers.real(n), numbers.generator.choice([-1, 1], size=n)


def pair_with_sign(numbers: Numbers, n: int) -> Arrays:
    return *pair(numbers, n), numbers.generator.choice([-1, 1], size=n)


def indexed(numbers: Numbers, n: int) -> Arrays:
    return numbers.real(n, C), numbers.generator.integers(0, C, size=n)


def labelled(numbers: Numbers, n: int) -> Arrays:
    return numbers.real(n), numbers.generator.integers(0, 2, size=n).astype(float)


def ordinal(numbers: Numbers, n: int) -> Arrays:
    return numbers.real(n, C), numbers.generator.integers(0, C + 1, size=n)


def close(numbers: Numbers, n: int) -> Arrays:
    """Scores between 0 and 1, several of which have a share of the simplex."""
    return numbers.probability(n, C), numbers.generator.integers(0, C, size=n)


def confident(numbers: Numbers, n: int) -> Arrays:
    """The target leads by 5 to 80, so losses are as small as 1e-34."""
    logits, target = numbers.generator.uniform(-1, 1, size=(n, C)), numbers.generator.integers(0, C, size=n)
    logits[np.arange(n), target] += numbers.generator.uniform(5, 80, size=n)
    return logits, target


def log_probabilities(numbers: Numbers, n: int) -> Arrays:
    return np.log(numbers.probability(n, C)), numbers.generator.integers(0, C, size=n)


def class_probabilities(numbers: Numbers, n: int) -> Arrays:
    return numbers.real(n, C), numbers.generator.dirichlet(np.ones(C), size=n)


def multilabel(numbers: Numbers, n: int) -> Arrays:
    return numbers.real(n, C), numbers.probability(n, C)


def label_list(numbers: Numbers, n: int) -> Arrays:
    lists = np.argsort(numbers.generator.uniform(size=(n, C)), axis=-1)
    lists[np.arange(n), numbers.generator.integers(1, C, size=n)] = -1
    return numbers.real(n, C), lists


def vectors(numbers: Numbers, n: int) -> Arrays:
    anchor = numbers.real(n, 3)
    return anchor, numbers.near(anchor), numbers.near(anchor)


def vector_pair(numbers: Numbers, n: int) -> Arrays:
    x, z, _ = vectors(numbers, n)
    return x, z, numbers.generator.choice([-1, 1], size=n)


def layer(numbers: Numbers, n: int) -> Arrays:
    return numbers.real(n, 2), numbers.generator.normal(size=(2, C)), numbers.generator.integers(0, C, size=n)


def angles(numbers: Numbers, n: int) -> Arrays:
    """A layer of two features, at an angle to the right column that its cosine determines to a few units."""
    kernel, target = numbers.generator.normal(size=(2, C)), numbers.generator.integers(0, C, size=n)
    angle = np.arctan2(*kernel[::-1, target]) + numbers.generator.uniform(0.5, 2.5, size=n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1) * abs(numbers.real(n, 1)), kernel, target


def two_logits(numbers: Numbers, n: int) -> Arrays:
    return numbers.real(n, C), numbers.real(n, C)


def frames_and_labels(numbers: Numbers, n: int) -> Arrays:
    """Three frames with the log-probabilities of three classes, and two equal labels."""
    labels = 1 + np.arange(2 * n).reshape(n, 2) // 2 % 2
    return -np.abs(numbers.real(n, 3, 3)), labels


def lattice_and_labels(numbers: Numbers, n: int) -> Arrays:
    """The logits of three classes at two frames after no label and after one."""
    return numbers.real(n, 2, 2, 3), np.arange(n).reshape(n, 1) % 2


def layer_and_logits(numbers: Numbers, n: int) -> Arrays:
    hidden, kernel, _ = layer(numbers, n)
    return hidden, kernel, numbers.real(n, C)


def two_layers(numbers: Numbers, n: int) -> Arrays:
    hidden, kernel, _ = layer(numbers, n)
    return hidden, kernel, numbers.real(n, 2), numbers.generator.normal(size=(2, C))


def layer_and_list(numbers: Numbers, n: int) -> Arrays:
    hidden, kernel, _ = layer(numbers, n)
    probabilities = numbers.generator.dirichlet(np.ones(3), size=n)[:, :2]
    return hidden, kernel, np.log(probabilities), np.argsort(numbers.generator.uniform(size=(n, C)))[:, :2]


def views(numbers: Numbers, n: int) -> Arrays:
    """Two views of items, with a feature whose variance is below 1 and one with a variance above."""
    first = numbers.generator.normal(size=(n, 3, 2)) * [0.25, 2]
    return first, first + numbers.generator.normal(size=(n, 3, 2)) / 2


def adaptive(numbers: Numbers, n: int) -> Arrays:
    matrices = (numbers.generator.normal(size=shape) for shape in ((2, 3), (2, 1), (1, 2)))
    return numbers.real(n, 2), *matrices, numbers.generator.integers(0, C, size=n)


def adaptive_call(hidden: Any, head: Any, down: Any, up: Any, target: Any, **options: Any) -> Any:
    softmax = jaxloss.AdaptiveSoftmax(head, None, ((down, up),))
    return jaxloss.adaptive_log_softmax_with_loss(hidden, softmax, target, **options)


def torch_loss(name: str, **options: Any) -> Mapping[str, Callable[..., Any]]:
    """PyTorch's loss of this name with these options, if PyTorch is installed."""

    def call(*tensors: Any) -> Any:
        import torch

        return getattr(torch.nn.functional, name)(*tensors, **options, reduction="none")

    return {"torch": call} if HAS_TORCH else {}


def torch_linear(hidden: Any, kernel: Any, target: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(hidden @ kernel, target, reduction="none")


def torch_adaptive(hidden: Any, head: Any, down: Any, up: Any, target: Any) -> Any:
    import torch

    module = torch.nn.AdaptiveLogSoftmaxWithLoss(2, C, [2], div_value=2.0, dtype=hidden.dtype)
    matrices = (module.head.weight, module.tail[0][0].weight, module.tail[0][1].weight)
    with torch.no_grad():
        for parameter, matrix in zip(matrices, (head, down, up), strict=True):
            parameter.copy_(matrix.T)
    return -module(hidden, target).output


def optax_loss(name: str, **options: Any) -> Mapping[str, Callable[..., Any]]:
    def call(*arrays: Any) -> Any:
        from optax import losses

        return getattr(losses, name)(*arrays, **options)

    return {"optax": call} if HAS_OPTAX else {}


def optax_with_class_axis(name: str) -> Mapping[str, Callable[..., Any]]:
    """Optax's loss, which sums over the last axis; here that axis has one element."""
    return {k: lambda x, y, f=f: f(x[:, None], y[:, None]) for k, f in optax_loss(name).items()}


def optax_linear(loss: str) -> Mapping[str, Callable[..., Any]]:
    return {k: lambda h, kernel, t, f=f: f(h @ kernel, t) for k, f in optax_loss(loss).items()}


def optax_multilabel() -> Mapping[str, Callable[..., Any]]:
    return {k: lambda x, y, f=f: f(x, y).mean(-1) for k, f in optax_loss("sigmoid_binary_cross_entropy").items()}


def keras_loss(name: str, elementwise: bool = False, **options: Any) -> Mapping[str, Callable[..., Any]]:
    """Keras's loss on JAX; elementwise losses average over the last axis."""

    def call(x: Any, y: Any) -> Any:
        os.environ.setdefault("KERAS_BACKEND", "jax")
        import keras

        loss = getattr(keras.losses, name)
        return loss(y[:, None], x[:, None], **options) if elementwise else loss(y, x, **options)

    return {"keras": call} if HAS_KERAS else {}


def optax_smoothed() -> Mapping[str, Callable[..., Any]]:
    def call(logits: Any, probabilities: Any) -> Any:
        import optax

        smoothed = optax.smooth_labels(probabilities, alpha=SMOOTHED["label_smoothing"])
        return optax.losses.softmax_cross_entropy(logits, smoothed)

    return {"optax": call} if HAS_OPTAX else {}


def optax_fenchel_young() -> Mapping[str, Callable[..., Any]]:
    def call(scores: Any, target: Any) -> Any:
        from optax import losses

        return losses.make_fenchel_young_loss(jax.scipy.special.logsumexp)(scores, target)

    return {"optax": call} if HAS_OPTAX else {}


def from_class_indices(peers: Mapping[str, Callable[..., Any]]) -> Mapping[str, Callable[..., Any]]:
    """Adapts losses of class probabilities to class indices."""
    return {k: lambda x, t, f=f: f(x, jax.nn.one_hot(t, C, dtype=x.dtype)) for k, f in peers.items()}


FOCAL = {"alpha": 0.25, "gamma": 1.5}
SMOOTHED, MARGIN, QUANTILE = {"label_smoothing": 0.125}, {"margin": 0.25}, {"quantile": 0.875}
# The classical sub-gradient, because peers have no kink width.
SHARP = {"kink_width": 0.0}
WITH_INDICES = "softmax_cross_entropy_with_integer_labels"
CLASS_INDEX_PEERS = (
    torch_loss("cross_entropy")
    | optax_loss(WITH_INDICES)
    | keras_loss("sparse_categorical_crossentropy", from_logits=True)
)

CASES = (
    Case(
        "mse_loss",
        pair,
        peers=torch_loss("mse_loss") | optax_loss("squared_error") | keras_loss("mean_squared_error", True),
    ),
    Case(
        "l1_loss",
        pair,
        SHARP,
        {},
        peers=torch_loss("l1_loss") | keras_loss("mean_absolute_error", True),
    ),
    Case(
        "smooth_l1_loss",
        pair,
        peers=torch_loss("smooth_l1_loss") | optax_loss("huber_loss") | keras_loss("huber", True),
    ),
    Case(
        "huber_loss",
        pair,
        {"delta": 0.5},
        peers=torch_loss("huber_loss", delta=0.5)
        | optax_loss("huber_loss", delta=0.5)
        | keras_loss("huber", True, delta=0.5),
        variant="delta=0.5",
    ),
    Case("log_cosh", pair, peers=optax_loss("log_cosh") | keras_loss("log_cosh", True)),
    *(
        Case("general_robust_loss", pair, options, variant=", ".join(f"alpha={each}" for each in options.values()))
        for options in ({}, *({"alpha": alpha} for alpha in (2, 1.96875, 1.5, 0.5, 0, -2, -math.inf)))
    ),
    Case("quantile_loss", pair, QUANTILE | SHARP, QUANTILE, variant="quantile=0.875"),
    Case("expectile_loss", pair, {"expectile": 0.875}, variant="expectile=0.875"),
    Case(
        "absolute_percentage_error",
        pair,
        SHARP,
        {},
        peers=keras_loss("mean_absolute_percentage_error", True),
    ),
    Case(
        "squared_logarithmic_error",
        positive_pair,
        peers=keras_loss("mean_squared_logarithmic_error", True),
    ),
    Case("poisson_nll_loss", log_rate_and_count, peers=torch_loss("poisson_nll_loss")),
    Case(
        "poisson_nll_loss",
        log_rate_and_count,
        {"full": True},
        peers=torch_loss("poisson_nll_loss", full=True),
        variant="full",
    ),
    Case(
        "poisson_nll_loss",
        rate_and_count,
        {"log_input": False, "eps": 1e-7},
        peers=torch_loss("poisson_nll_loss", log_input=False, eps=1e-7) | keras_loss("poisson", True),
        variant="rates",
    ),
    Case(
        "poisson_nll_loss",
        likely_rate_and_count,
        {"log_input": False, "full": True, "eps": 1e-7},
        peers=torch_loss("poisson_nll_loss", log_input=False, full=True, eps=1e-7),
        variant="rates, full",
    ),
    Case(
        "gaussian_nll_loss",
        mean_target_and_variance,
        differentiated=(0, 2),
        peers=torch_loss("gaussian_nll_loss"),
    ),
    Case("gamma_nll_loss", real_and_positive),
    Case("gamma_nll_loss", positive_pair, {"log_input": False}, variant="means"),
    Case(
        "tweedie_nll_loss",
        real_and_positive,
        {"power": 1.25},
        variant="power=1.25",
    ),
    Case("tweedie_nll_loss", positive_pair, {"power": 1.25, "log_input": False}, variant="means, power=1.25"),
    Case(
        "generalized_kl_div",
        log_and_probability,
        peers=optax_with_class_axis("generalized_kl_divergence"),
    ),
    Case("generalized_kl_div", pair, {"log_target": True}, variant="log_target"),
    Case("negative_binomial_nll_loss", log_mean_count_and_concentration, differentiated=(0, 2)),
    Case("negative_binomial_nll_loss", log_mean_count_and_concentration, {"full": True}, None, (0, 2), variant="full"),
    Case("gaussian_crps", mean_target_and_scale, differentiated=(0, 2)),
    Case("ensemble_crps", ensemble, same_scale=(0, 1)),
    Case("ensemble_crps", ensemble, {"fair": True}, same_scale=(0, 1), variant="fair"),
    Case("energy_score", ensemble_of_vectors, same_scale=(0, 1)),
    Case(
        "kl_div",
        log_and_probability,
        peers=torch_loss("kl_div") | optax_with_class_axis("kl_divergence"),
    ),
    Case(
        "kl_div",
        two_log_probabilities,
        {"log_target": True},
        peers=torch_loss("kl_div", log_target=True) | optax_with_class_axis("kl_divergence_with_log_targets"),
        variant="log_target",
    ),
    Case(
        "binary_cross_entropy",
        two_probabilities,
        peers=torch_loss("binary_cross_entropy") | keras_loss("binary_crossentropy", True),
    ),
    Case(
        "binary_cross_entropy_with_logits",
        binary,
        peers=torch_loss("binary_cross_entropy_with_logits")
        | optax_loss("sigmoid_binary_cross_entropy")
        | keras_loss("binary_crossentropy", True, from_logits=True),
    ),
    Case("nll_loss", log_probabilities, peers=torch_loss("nll_loss")),
    Case("cross_entropy", indexed, peers=CLASS_INDEX_PEERS),
    Case("cross_entropy", confident, peers=CLASS_INDEX_PEERS, variant="confident"),
    Case(
        "cross_entropy",
        indexed,
        SMOOTHED,
        peers=torch_loss("cross_entropy", **SMOOTHED)
        | from_class_indices(optax_smoothed() | keras_loss("categorical_crossentropy", from_logits=True, **SMOOTHED)),
        variant="label_smoothing",
    ),
    Case(
        "cross_entropy",
        class_probabilities,
        peers=torch_loss("cross_entropy")
        | optax_loss("softmax_cross_entropy")
        | keras_loss("categorical_crossentropy", from_logits=True),
        variant="probabilities",
    ),
    Case(
        "linear_cross_entropy",
        layer,
        shared=(1,),
        peers=({"torch": torch_linear} if HAS_TORCH else {}) | optax_linear(WITH_INDICES),
    ),
    Case("distillation_loss", two_logits),
    Case("distillation_loss", two_logits, {"temperature": 2.0, "reverse": True}, variant="reverse, temperature=2"),
    *(
        Case(loss, two_logits, {"temperature": temperature}, variant=f"temperature={temperature:.0e}")
        for loss in ("distillation_loss", "jensen_shannon_loss")
        for temperature in (1e3, 1e6)
    ),
    Case("jensen_shannon_loss", two_logits),
    Case("linear_distillation_loss", two_layers, shared=(1, 3)),
    Case("linear_distillation_loss_from_logits", layer_and_logits, shared=(1,)),
    Case("linear_distillation_loss_from_top_k", layer_and_list, shared=(1,)),
    *(Case(loss, angles, shared=(1,)) for loss in ("arcface_loss", "cosface_loss")),
    *(Case(loss, views, differentiated=(0, 1)) for loss in ("barlow_twins_loss", "vicreg_loss")),
    Case(
        "adaptive_log_softmax_with_loss",
        adaptive,
        shared=(1, 2, 3),
        peers={"torch": torch_adaptive} if HAS_TORCH else {},
        ours=adaptive_call,
    ),
    Case("sigmoid_focal_loss", binary, peers=optax_loss("sigmoid_focal_loss")),
    Case(
        "sigmoid_focal_loss",
        labelled,
        FOCAL,
        peers=optax_loss("sigmoid_focal_loss", **FOCAL)
        | keras_loss("binary_focal_crossentropy", True, from_logits=True, apply_class_balancing=True, **FOCAL),
        variant="alpha=0.25, gamma=1.5",
    ),
    Case(
        "softmax_focal_loss",
        indexed,
        peers=from_class_indices(keras_loss("categorical_focal_crossentropy", from_logits=True, alpha=1.0)),
    ),
    Case("softmax_focal_loss", indexed, {"gamma": 0.5}, variant="gamma=0.5"),
    Case(
        "poly_loss_cross_entropy",
        indexed,
        peers=from_class_indices(optax_loss("poly_loss_cross_entropy")),
    ),
    Case(
        "poly_loss_cross_entropy",
        class_probabilities,
        peers=optax_loss("poly_loss_cross_entropy"),
        variant="probabilities",
    ),
    Case("generalized_cross_entropy", indexed),
    Case("generalized_cross_entropy", indexed, {"q": 0.001}, variant="q=0.001"),
    Case("asymmetric_loss", labelled),
    Case("asymmetric_loss", labelled, {"clip": 0.0}, variant="clip=0"),
    Case("sparsemax_loss", labelled, peers=optax_loss("sparsemax_loss")),
    Case("multiclass_sparsemax_loss", indexed, peers=optax_loss("multiclass_sparsemax_loss")),
    Case("multiclass_sparsemax_loss", close, peers=optax_loss("multiclass_sparsemax_loss"), variant="close"),
    Case("fenchel_young_loss", class_probabilities, peers=optax_fenchel_young()),
    Case("coral_loss", ordinal),
    *(
        Case(loss, draw, SHARP, {}, peers=optax_loss(loss))
        for loss, draw in (
            ("perceptron_loss", with_sign),
            ("multiclass_hinge_loss", indexed),
            ("multiclass_perceptron_loss", indexed),
        )
    ),
    Case("hinge_loss", with_sign, SHARP, {}, peers=optax_loss("hinge_loss") | keras_loss("hinge", True)),
    Case("squared_hinge_loss", with_sign, peers=keras_loss("squared_hinge", True)),
    Case(
        "hinge_embedding_loss",
        with_sign,
        SHARP,
        {},
        peers=torch_loss("hinge_embedding_loss"),
    ),
    Case(
        "margin_ranking_loss",
        pair_with_sign,
        MARGIN | SHARP,
        MARGIN,
        (0, 1),
        peers=torch_loss("margin_ranking_loss", **MARGIN),
    ),
    Case("soft_margin_loss", with_sign, peers=torch_loss("soft_margin_loss")),
    Case("multi_margin_loss", indexed, SHARP, {}, peers=torch_loss("multi_margin_loss")),
    Case(
        "multi_margin_loss",
        indexed,
        {"p": 2},
        peers=torch_loss("multi_margin_loss", p=2),
        variant="p=2",
    ),
    Case(
        "multilabel_margin_loss",
        label_list,
        SHARP,
        {},
        peers=torch_loss("multilabel_margin_loss"),
    ),
    Case(
        "multilabel_soft_margin_loss",
        multilabel,
        peers=torch_loss("multilabel_soft_margin_loss") | optax_multilabel(),
    ),
    *(
        Case(
            "triplet_margin_loss",
            vectors,
            ours_options | SHARP,
            formula_options,
            (0, 1, 2),
            same_scale=(0, 1, 2),
            peers=torch_loss("triplet_margin_loss", **ours_options),
            variant=variant,
        )
        for variant, ours_options, formula_options in (
            ("", {}, {}),
            ("swap", {"swap": True}, {"swap": True}),
            ("p=1", {"p": 1.0}, {"norm_degree": 1}),
            ("p=3", {"p": 3.0}, {"norm_degree": 3}),
        )
    ),
    Case(
        "triplet_margin_with_distance_loss",
        vectors,
        SHARP,
        {},
        (0, 1, 2),
        same_scale=(0, 1, 2),
        peers=torch_loss("triplet_margin_with_distance_loss"),
    ),
    Case(
        "cosine_embedding_loss",
        vector_pair,
        MARGIN | SHARP,
        MARGIN,
        (0, 1),
        peers=torch_loss("cosine_embedding_loss", **MARGIN),
    ),
    *(Case(loss, scores_and_grades) for loss in ("ranking_softmax_loss", "listmle_loss", "pairwise_logistic_loss")),
    Case("pairwise_hinge_loss", scores_and_grades, SHARP, {}),
    Case("ctc_loss", frames_and_labels),
    Case("rnnt_loss", lattice_and_labels),
    Case("dpo_loss", log_probabilities_of_four, differentiated=(0, 1), same_scale=(0, 1, 2, 3)),
    Case(
        "dpo_loss",
        log_probabilities_of_four,
        SMOOTHED,
        differentiated=(0, 1),
        same_scale=(0, 1, 2, 3),
        variant="label_smoothing",
    ),
    Case("ipo_loss", log_probabilities_of_four, differentiated=(0, 1), same_scale=(0, 1, 2, 3)),
    Case("simpo_loss", log_probabilities_of_two, differentiated=(0, 1), same_scale=(0, 1)),
    Case("orpo_loss", log_probabilities_of_two, differentiated=(0, 1), same_scale=(0, 1)),
    Case("orpo_loss", likely_two, differentiated=(0, 1), variant="likely"),
    Case("kto_loss", log_ratio_sign_and_baseline, same_scale=(0, 2)),
    Case("bradley_terry_loss", pair, MARGIN, differentiated=(0, 1), same_scale=(0, 1)),
    Case("clipped_policy_loss", policy_and_advantage, same_scale=(0, 1)),
    Case("clipped_policy_loss", policy_and_advantage, {"dual_clip": 3.0}, same_scale=(0, 1), variant="dual_clip=3"),
    *(Case(loss, soft_regions) for loss in ("tversky_loss", "dice_loss", "jaccard_loss")),
    Case("lovasz_hinge_loss", logits_and_region),
    Case("lovasz_softmax_loss", probabilities_and_region),
    *(
        Case(loss, boxes, differentiated=differentiated, same_scale=(0, 1))
        for loss, differentiated in (
            ("box_iou_loss", (0, 1)),
            ("generalized_box_iou_loss", (0, 1)),
            ("distance_box_iou_loss", (0, 1)),
            ("complete_box_iou_loss", ()),  # its gradient is not the derivative of its value
        )
    ),
    *(
        Case(loss, two_views, options, differentiated=(0, 1), ours=of_set(loss), variant=variant)
        for loss, options, variant in (
            ("info_nce_loss", {}, ""),
            ("info_nce_loss", {"symmetric": True}, "symmetric"),
            ("siglip_loss", {}, ""),
        )
    ),
    *(
        Case(loss, labelled_items, ours=of_set(loss))
        for loss in ("ntxent_loss", "supcon_loss", "multi_similarity_loss")
    ),
    Case(
        "circle_loss", labelled_items, differentiated=(), ours=of_set("circle_loss")
    ),  # as for `complete_box_iou_loss`
    Case("batch_hard_triplet_loss", labelled_items, SHARP, {}, same_scale=(0,), ours=of_set("batch_hard_triplet_loss")),
    Case(
        "semi_hard_triplet_loss",
        labelled_items,
        SHARP,
        {},
        (),  # its gradient is a product of matrices, whose rounding errors are those of the largest embedding
        same_scale=(0,),
        ours=of_set("semi_hard_triplet_loss"),
    ),
    Case("proxy_anchor_loss", with_proxies, shared=(1,)),
)
