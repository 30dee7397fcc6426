"""A handwritten version of each loss, one number per sample, and its mean with weights and a mask."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss
from benchmarks import by_hand_sets
from jaxloss._decorator.lift import declaration_of

C = 16
Line = Callable[..., Any]


def mean(line: Line) -> Line:
    """The mean over all samples."""
    return lambda *arrays: jnp.mean(line(*arrays))


def weighted_mean(line: Line) -> Line:
    """The weighted mean over the samples that the mask selects."""

    def reduced(weights: Any, where: Any, *arrays: Any) -> Any:
        return jnp.sum(jnp.where(where, weights * line(*arrays), 0)) / jnp.maximum(jnp.sum(where), 1)

    return reduced


def huber(x: Any, y: Any) -> Any:
    size = jnp.abs(x - y)
    return jnp.where(size < 1, size * size / 2, size - 0.5)


def take(x: Any, t: Any) -> Any:
    return jnp.take_along_axis(x, t[:, None], axis=-1)[:, 0]


def distance(x: Any, y: Any) -> Any:
    return jnp.sqrt(jnp.sum((x - y + 1e-6) ** 2, axis=-1))


def triplet(a: Any, p: Any, n: Any) -> Any:
    return jnp.maximum(distance(a, p) - distance(a, n) + 1, 0)


def cosine(x: Any, z: Any, y: Any) -> Any:
    lengths = jnp.linalg.norm(x, axis=-1) * jnp.linalg.norm(z, axis=-1)
    cosines = jnp.sum(x * z, axis=-1) / lengths
    return jnp.where(y == 1, 1 - cosines, jnp.maximum(cosines, 0))


def multi_margin(x: Any, t: Any) -> Any:
    margins = jnp.maximum(1 - take(x, t)[:, None] + x, 0)
    return jnp.mean(jnp.where(jnp.arange(x.shape[-1])[None] == t[:, None], 0, margins), axis=-1)


def highest_lead(x: Any, t: Any, margin: float) -> Any:
    return jnp.max(jnp.where(jnp.arange(x.shape[-1])[None] == t[:, None], x, x + margin), axis=-1) - take(x, t)


def multilabel_margin(x: Any, t: Any) -> Any:
    counted = jnp.cumprod(t >= 0, axis=-1) == 1
    listed = jnp.any((t[:, :, None] == jnp.arange(x.shape[-1])[None, None]) & counted[:, :, None], axis=1)
    scores = jnp.take_along_axis(x, jnp.maximum(t, 0), axis=-1)
    terms = jnp.maximum(1 - scores[:, :, None] + x[:, None, :], 0)
    return jnp.sum(jnp.where(counted[:, :, None] & ~listed[:, None, :], terms, 0), axis=(1, 2)) / x.shape[-1]


def sigmoid_cross_entropy(x: Any, y: Any) -> Any:
    return jnp.maximum(x, 0) - x * y + jnp.log1p(jnp.exp(-jnp.abs(x)))


def cross_entropy(x: Any, t: Any) -> Any:
    return jax.nn.logsumexp(x, axis=-1) - take(x, t)


def sigmoid_focal(x: Any, y: Any) -> Any:
    p = jax.nn.sigmoid(x)
    return (1 - (y * p + (1 - y) * (1 - p))) ** 2 * sigmoid_cross_entropy(x, y)


def softmax_focal(log_p: Any) -> Any:
    return -((1 - jnp.exp(log_p)) ** 2) * log_p


def poly(log_p: Any) -> Any:
    return 2 * (1 - jnp.exp(log_p)) - log_p


def asymmetric(x: Any, y: Any) -> Any:
    p = jax.nn.sigmoid(x)
    shifted = jnp.maximum(p - 0.05, 0)
    return -y * (1 - p) * jnp.log(p + 1e-8) - (1 - y) * shifted**4 * jnp.log(1 - shifted)


def logits(hidden: Any, kernel: Any) -> Any:
    return (hidden @ kernel).astype(jnp.float32)


def gaussian_crps(x: Any, y: Any, s: Any) -> Any:
    z = (y - x) / s
    density = jnp.exp(-z * z / 2) / jnp.sqrt(2 * jnp.pi)
    return s * (z * jax.lax.erf(z / jnp.sqrt(2.0)) + 2 * density - 1 / jnp.sqrt(jnp.pi))


def ensemble_crps(x: Any, y: Any) -> Any:
    m = x.shape[-1]
    ranks = 2 * jnp.arange(1, m + 1) - m - 1
    between = jnp.sum(jnp.sort(x, axis=-1) * ranks.astype(x.dtype)[None], axis=-1)
    return jnp.mean(jnp.abs(x - y[:, None]), axis=-1) - between / m**2


def energy_score(x: Any, y: Any) -> Any:
    m = x.shape[-2]
    squares = jnp.sum((x[:, :, None] - x[:, None]) ** 2, axis=-1)
    between = jnp.sum(jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0), axis=(-2, -1))
    return jnp.mean(jnp.linalg.norm(x - y[:, None], axis=-1), axis=-1) - between / (2 * m**2)


def negative_binomial(x: Any, y: Any, r: Any) -> Any:
    gammas = jax.lax.lgamma(r) - jax.lax.lgamma(r + y)
    return (r + y) * jnp.log(r + jnp.exp(x)) - r * jnp.log(r) - y * x + gammas


def orpo(c: Any, r: Any) -> Any:
    log_odds_ratio = (c - r) - (jnp.log1p(-jnp.exp(c)) - jnp.log1p(-jnp.exp(r)))
    return -c - 0.1 * jax.nn.log_sigmoid(log_odds_ratio)


def divergence(log_p: Any, log_q: Any) -> Any:
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def distillation(x: Any, t: Any) -> Any:
    return divergence(jax.nn.log_softmax(t), jax.nn.log_softmax(x))


def jensen_shannon(x: Any, t: Any) -> Any:
    student, teacher = jax.nn.log_softmax(x), jax.nn.log_softmax(t)
    mixture = jnp.log((jnp.exp(student) + jnp.exp(teacher)) / 2)
    return (divergence(student, mixture) + divergence(teacher, mixture)) / 2


def linear_distillation(h: Any, kernel: Any, e: Any, teacher_kernel: Any) -> Any:
    return distillation(logits(h, kernel), jax.lax.stop_gradient(logits(e, teacher_kernel)))


def clipped_policy(x: Any, old: Any, advantage: Any) -> Any:
    ratio = jnp.exp(x - old)
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage)


SIGNED = ("hinge_loss", "squared_hinge_loss", "perceptron_loss", "soft_margin_loss")
INDEXED = (
    *("cross_entropy", "softmax_focal_loss", "poly_loss_cross_entropy", "generalized_cross_entropy", "coral_loss"),
    "multi_margin_loss",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
)
BOXES = ("box_iou_loss", "generalized_box_iou_loss", "distance_box_iou_loss", "complete_box_iou_loss")


def pairwise(x: Any, y: Any, loss: Callable[[Any], Any]) -> Any:
    losses = loss(x[:, :, None] - x[:, None])
    return jnp.sum(jnp.where(y[:, :, None] > y[:, None], losses, 0), axis=(-2, -1))


def cosines(features: Any, kernel: Any) -> Any:
    """Of unit vectors in float32, multiplied in the dtype of the kernel."""
    wide = features.astype(jnp.float32), kernel.astype(jnp.float32)
    rows, columns = (x / jnp.linalg.norm(x, axis=i, keepdims=True) for x, i in zip(wide, (-1, 0), strict=True))
    return jnp.matmul(rows.astype(kernel.dtype), columns.astype(kernel.dtype), preferred_element_type=jnp.float32)


def cross_entropy_with_margin(cosines: Any, t: Any, with_margin: Line, scale: float = 64.0) -> Any:
    is_class = jnp.arange(cosines.shape[1])[None] == t[:, None]
    cosine = with_margin(jnp.sum(jnp.where(is_class, cosines, 0), axis=-1))
    x = scale * jnp.where(is_class, cosine[:, None], cosines)
    return jax.nn.logsumexp(x, axis=-1) - scale * cosine


def add_to_angle(cosine: Any, margin: float = 0.5) -> Any:
    sine = jnp.sqrt(jnp.maximum(1 - cosine * cosine, 1e-7))
    past = cosine - margin * np.sin(margin)
    return jnp.where(cosine > -np.cos(margin), cosine * np.cos(margin) - sine * np.sin(margin), past)


def standardised(x: Any) -> Any:
    return (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)


def off_diagonal_squares(matrix: Any) -> Any:
    return jnp.sum(jnp.where(jnp.eye(matrix.shape[-1], dtype=bool)[None], 0, matrix) ** 2, axis=(-2, -1))


def barlow_twins(x: Any, y: Any) -> Any:
    c = jnp.swapaxes(standardised(x), 1, 2) @ standardised(y) / x.shape[1]
    on_diagonal = jnp.sum((1 - jnp.diagonal(c, axis1=1, axis2=2)) ** 2, axis=-1)
    return on_diagonal + 5e-3 * off_diagonal_squares(c)


def vicreg(x: Any, y: Any) -> Any:
    loss, (_, n, d) = 25 * jnp.mean((x - y) ** 2, axis=(1, 2)), x.shape
    for each in (x, y):
        each = each - each.mean(axis=1, keepdims=True)
        deviation = jnp.sqrt(jnp.sum(each**2, axis=1) / (n - 1) + 1e-4)
        covariance = jnp.swapaxes(each, 1, 2) @ each / (n - 1)
        loss += 12.5 * jnp.mean(jax.nn.relu(1 - deviation), axis=-1) + off_diagonal_squares(covariance) / d
    return loss


def tversky(p: Any, t: Any, alpha: float) -> Any:
    found, either = jnp.sum(p * t, axis=-1), jnp.sum(p, axis=-1) + jnp.sum(t, axis=-1)
    return 1 - (found + 1) / (found + alpha * (either - 2 * found) + 1)


def coral(x: Any, t: Any) -> Any:
    is_above = t[:, None] > jnp.arange(x.shape[-1])[None]
    return jnp.sum(sigmoid_cross_entropy(x, is_above.astype(x.dtype)), axis=-1)


def sparsemax(x: Any, t: Any) -> Any:
    falling, places = jnp.flip(jnp.sort(x, axis=-1), axis=-1), jnp.arange(1, x.shape[-1] + 1)[None]
    sums = jnp.cumsum(falling, axis=-1)
    size = jnp.sum(1 + places.astype(x.dtype) * falling > sums, axis=-1, keepdims=True)
    threshold = (jnp.take_along_axis(sums, size - 1, axis=-1) - 1) / size.astype(x.dtype)
    p = jnp.maximum(x - threshold, 0)
    return (1 - jnp.sum(p * p, axis=-1)) / 2 + jnp.sum(p * x, axis=-1) - take(x, t)


def overlap(a: Any, b: Any) -> tuple[Any, Any]:
    low, high = jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])
    shared = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    union = jnp.prod(a[..., 2:] - a[..., :2], axis=-1) + jnp.prod(b[..., 2:] - b[..., :2], axis=-1) - shared
    return shared / (union + 1e-7), union


def hull(a: Any, b: Any) -> Any:
    return jnp.maximum(a[..., 2:], b[..., 2:]) - jnp.minimum(a[..., :2], b[..., :2])


def generalized_box_iou(a: Any, b: Any) -> Any:
    (iou, union), around = overlap(a, b), jnp.prod(hull(a, b), axis=-1)
    return 1 - iou + (around - union) / (around + 1e-7)


def distance_box_iou(a: Any, b: Any) -> Any:
    between = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    return 1 - overlap(a, b)[0] + jnp.sum(between**2, axis=-1) / (jnp.sum(hull(a, b) ** 2, axis=-1) + 1e-7)


def complete_box_iou(a: Any, b: Any) -> Any:
    angles = [jnp.arctan2(box[..., 2] - box[..., 0], box[..., 3] - box[..., 1]) for box in (a, b)]
    v = (2 / jnp.pi * (angles[1] - angles[0])) ** 2
    alpha = jax.lax.stop_gradient(v / (1 - overlap(a, b)[0] + v + 1e-7))
    return distance_box_iou(a, b) + alpha * v


LINES: dict[str, Line] = {
    "mse_loss": lambda x, y: (x - y) ** 2,
    "l1_loss": lambda x, y: jnp.abs(x - y),
    "smooth_l1_loss": huber,
    "huber_loss": huber,
    "log_cosh": lambda x, y: jnp.logaddexp(x - y, y - x) - jnp.log(2.0),
    "general_robust_loss": lambda x, y: jnp.sqrt((x - y) ** 2 + 1) - 1,
    "quantile_loss": lambda x, y: jnp.maximum(0.5 * (y - x), -0.5 * (y - x)),
    "expectile_loss": lambda x, y: jnp.where(y < x, 0.5, 0.5) * (y - x) ** 2,
    "absolute_percentage_error": lambda x, y: 100 * jnp.abs(x - y) / jnp.maximum(jnp.abs(y), 1e-7),
    "squared_logarithmic_error": lambda x, y: (jnp.log1p(x) - jnp.log1p(y)) ** 2,
    "poisson_nll_loss": lambda x, y: jnp.exp(x) - y * x,
    "gaussian_nll_loss": lambda x, y, v: (jnp.log(jnp.maximum(v, 1e-6)) + (x - y) ** 2 / jnp.maximum(v, 1e-6)) / 2,
    "gamma_nll_loss": lambda x, y: y * jnp.exp(-x) + x,
    "tweedie_nll_loss": lambda x, y: 2 * jnp.exp(x / 2) + 2 * y * jnp.exp(-x / 2),
    "generalized_kl_div": lambda x, y: jax.scipy.special.xlogy(y, y) - y * x + jnp.exp(x) - y,
    "negative_binomial_nll_loss": negative_binomial,
    "gaussian_crps": gaussian_crps,
    "ensemble_crps": ensemble_crps,
    "energy_score": energy_score,
    "kl_div": lambda x, y: jax.scipy.special.xlogy(y, y) - y * x,
    "binary_cross_entropy": lambda x, y: (
        -(y * jnp.maximum(jnp.log(x), -100) + (1 - y) * jnp.maximum(jnp.log1p(-x), -100))
    ),
    "binary_cross_entropy_with_logits": sigmoid_cross_entropy,
    "nll_loss": lambda x, t: -take(x, t),
    "cross_entropy": cross_entropy,
    "linear_cross_entropy": lambda h, kernel, t: cross_entropy(logits(h, kernel), t),
    "linear_log_probability": lambda h, kernel, t: -cross_entropy(logits(h, kernel), t),
    "sigmoid_focal_loss": sigmoid_focal,
    "softmax_focal_loss": lambda x, t: softmax_focal(-cross_entropy(x, t)),
    "poly_loss_cross_entropy": lambda x, t: poly(-cross_entropy(x, t)),
    "generalized_cross_entropy": lambda x, t: (1 - jnp.exp(-0.7 * cross_entropy(x, t))) / 0.7,
    "asymmetric_loss": asymmetric,
    "sparsemax_loss": lambda x, y: jax.nn.sparse_plus(x * (1 - 2 * y)),
    "fenchel_young_loss": lambda x, y: jax.nn.logsumexp(x, axis=-1) - jnp.sum(x * y, axis=-1),
    "coral_loss": coral,
    "hinge_loss": lambda x, y: jnp.maximum(1 - x * y, 0),
    "squared_hinge_loss": lambda x, y: jnp.maximum(1 - x * y, 0) ** 2,
    "perceptron_loss": lambda x, y: jnp.maximum(-x * y, 0),
    "multiclass_hinge_loss": lambda x, t: highest_lead(x, t, 1),
    "multiclass_perceptron_loss": lambda x, t: jnp.max(x, axis=-1) - take(x, t),
    "hinge_embedding_loss": lambda x, y: jnp.where(y == 1, x, jnp.maximum(1 - x, 0)),
    "margin_ranking_loss": lambda x, z, y: jnp.maximum(-y * (x - z), 0),
    "soft_margin_loss": lambda x, y: jax.nn.softplus(-y * x),
    "multi_margin_loss": multi_margin,
    "multilabel_margin_loss": multilabel_margin,
    "multilabel_soft_margin_loss": lambda x, y: jnp.mean(sigmoid_cross_entropy(x, y), axis=-1),
    "triplet_margin_loss": triplet,
    "barlow_twins_loss": barlow_twins,
    "vicreg_loss": vicreg,
    "arcface_loss": lambda h, kernel, t: cross_entropy_with_margin(cosines(h, kernel), t, add_to_angle),
    "cosface_loss": lambda h, kernel, t: cross_entropy_with_margin(cosines(h, kernel), t, lambda each: each - 0.35),
    "dpo_loss": lambda c, r, u, v: -jax.nn.log_sigmoid(0.1 * ((c - u) - (r - v))),
    "ipo_loss": lambda c, r, u, v: ((c - u) - (r - v) - 5) ** 2,
    "simpo_loss": lambda c, r: -jax.nn.log_sigmoid(2 * (c - r) - 0.5),
    "orpo_loss": orpo,
    "kto_loss": lambda x, y, baseline: 1 - jax.nn.sigmoid(0.1 * y * (x - baseline)),
    "bradley_terry_loss": lambda c, r: -jax.nn.log_sigmoid(c - r),
    "clipped_policy_loss": clipped_policy,
    "distillation_loss": distillation,
    "jensen_shannon_loss": jensen_shannon,
    "linear_distillation_loss": linear_distillation,
    "linear_distillation_loss_from_logits": lambda h, kernel, t: distillation(logits(h, kernel), t.astype(jnp.float32)),
    "tversky_loss": lambda p, t: tversky(p, t, 0.5),
    "pairwise_logistic_loss": lambda x, y: pairwise(x, y, lambda ahead: jax.nn.softplus(-ahead)),
    "pairwise_hinge_loss": lambda x, y: pairwise(x, y, lambda ahead: jnp.maximum(1 - ahead, 0)),
    "dice_loss": lambda p, t: tversky(p, t, 0.5),
    "jaccard_loss": lambda p, t: tversky(p, t, 1.0),
    "box_iou_loss": lambda a, b: 1 - overlap(a, b)[0],
    "generalized_box_iou_loss": generalized_box_iou,
    "distance_box_iou_loss": distance_box_iou,
    "complete_box_iou_loss": complete_box_iou,
    "multiclass_sparsemax_loss": sparsemax,
    "triplet_margin_with_distance_loss": triplet,
    "cosine_embedding_loss": cosine,
    **by_hand_sets.LINES,
}


def select(x: Any, t: Any) -> Any:
    return jnp.sum(jnp.where(jnp.arange(x.shape[-1])[None] == t[:, None], x, 0), axis=-1)


def highest_wrong(x: Any, t: Any) -> Any:
    return jnp.max(jnp.where(jnp.arange(x.shape[-1])[None] == t[:, None], -jnp.inf, x), axis=-1)


def select_cross_entropy(x: Any, t: Any) -> Any:
    return jax.nn.logsumexp(x, axis=-1) - select(x, t)


def select_multi_margin(x: Any, t: Any) -> Any:
    margins = jnp.maximum(1 - select(x, t)[:, None] + x, 0)
    return jnp.mean(jnp.where(jnp.arange(x.shape[-1])[None] == t[:, None], 0, margins), axis=-1)


SELECTING: dict[str, Line] = {
    "nll_loss": lambda x, t: -select(x, t),
    "cross_entropy": select_cross_entropy,
    "linear_cross_entropy": lambda h, kernel, t: select_cross_entropy(logits(h, kernel), t),
    "linear_log_probability": lambda h, kernel, t: -select_cross_entropy(logits(h, kernel), t),
    "adaptive_log_softmax_with_loss": lambda h, kernel, t: select_cross_entropy(logits(h, kernel), t),
    "multi_margin_loss": select_multi_margin,
    "softmax_focal_loss": lambda x, t: softmax_focal(-select_cross_entropy(x, t)),
    "poly_loss_cross_entropy": lambda x, t: poly(-select_cross_entropy(x, t)),
    "generalized_cross_entropy": lambda x, t: (1 - jnp.exp(-0.7 * select_cross_entropy(x, t))) / 0.7,
    "multiclass_hinge_loss": lambda x, t: jnp.maximum(1 + highest_wrong(x, t) - select(x, t), 0),
    "multiclass_perceptron_loss": lambda x, t: jnp.maximum(highest_wrong(x, t) - select(x, t), 0),
    "target_score": select,
    "highest_wrong_score": highest_wrong,
}
"""Lines that select the score of a class by comparison. Accelerators compute this faster than a lookup."""


def soft_cross_entropy(x: Any, y: Any) -> Any:
    y = y.astype(x.dtype)
    return jnp.sum(y, axis=-1) * jax.nn.logsumexp(x, axis=-1) - jnp.sum(x * y, axis=-1)


SOFT: dict[str, Line] = {
    "softmax_focal_loss": lambda x, y: jnp.sum(y.astype(x.dtype) * softmax_focal(jax.nn.log_softmax(x)), axis=-1),
    "poly_loss_cross_entropy": lambda x, y: jnp.sum(y.astype(x.dtype) * poly(jax.nn.log_softmax(x)), axis=-1),
    "cross_entropy": soft_cross_entropy,
    "linear_cross_entropy": lambda h, kernel, y: soft_cross_entropy(logits(h, kernel), y),
}
"""Lines for targets that are the probability of each class."""


def _is_elementwise(name: str) -> bool:
    patterns = declaration_of(getattr(jaxloss, name)).patterns
    return not any(core for pattern in patterns for core in pattern.cores)


ELEMENTWISE = tuple(filter(_is_elementwise, LINES))


def arguments(name: str, n: int) -> tuple[Any, ...]:
    """Valid float32 arguments for n samples; vectors and rows of scores have C entries."""
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return jnp.asarray(generator.normal(size=shape), jnp.float32)

    def uniform(*shape: int) -> Any:
        return jnp.asarray(generator.uniform(0.01, 0.99, size=shape), jnp.float32)

    def signs() -> Any:
        return jnp.asarray(generator.choice([-1, 1], size=n), jnp.float32)

    def classes(*shape: int) -> Any:
        return jnp.asarray(generator.integers(0, C, size=shape), jnp.int32)

    def box() -> Any:
        low = normal(n, 2)
        return jnp.concatenate([low, low + 3 * uniform(n, 2)], axis=-1)

    makers: dict[str, Callable[[], tuple[Any, ...]]] = {
        "squared_logarithmic_error": lambda: (uniform(n), uniform(n)),
        "gamma_nll_loss": lambda: (normal(n), uniform(n)),
        "tweedie_nll_loss": lambda: (normal(n), uniform(n)),
        "generalized_kl_div": lambda: (normal(n), uniform(n)),
        "negative_binomial_nll_loss": lambda: (normal(n), jnp.round(3 * uniform(n)), uniform(n)),
        "gaussian_crps": lambda: (normal(n), normal(n), uniform(n)),
        "ensemble_crps": lambda: (normal(n, C), normal(n)),
        "energy_score": lambda: (normal(n, C, C), normal(n, C)),
        "poisson_nll_loss": lambda: (normal(n), jnp.round(3 * uniform(n))),
        "gaussian_nll_loss": lambda: (normal(n), normal(n), uniform(n)),
        "kl_div": lambda: (jnp.log(uniform(n)), uniform(n)),
        **dict.fromkeys(("dpo_loss", "ipo_loss"), lambda: tuple(jnp.log(uniform(n)) for _ in range(4))),
        **dict.fromkeys(("simpo_loss", "orpo_loss"), lambda: (jnp.log(uniform(n)), jnp.log(uniform(n)))),
        "kto_loss": lambda: (normal(n), signs(), normal(n)),
        "clipped_policy_loss": lambda: (jnp.log(uniform(n)), jnp.log(uniform(n)), normal(n)),
        **dict.fromkeys(("distillation_loss", "jensen_shannon_loss"), lambda: (normal(n, C), normal(n, C))),
        "linear_distillation_loss_from_logits": lambda: (normal(n, 8), normal(8, C), normal(n, C)),
        "linear_distillation_loss": lambda: (normal(n, 8), normal(8, C), normal(n, 4), normal(4, C)),
        "binary_cross_entropy": lambda: (uniform(n), uniform(n)),
        "binary_cross_entropy_with_logits": lambda: (normal(n), uniform(n)),
        "sigmoid_focal_loss": lambda: (normal(n), uniform(n)),
        **dict.fromkeys(("asymmetric_loss", "sparsemax_loss"), lambda: (normal(n), jnp.round(uniform(n)))),
        "fenchel_young_loss": lambda: (normal(n, C), jax.nn.softmax(normal(n, C))),
        "nll_loss": lambda: (jax.nn.log_softmax(normal(n, C)), classes(n)),
        **dict.fromkeys(
            ("linear_cross_entropy", "linear_log_probability", "arcface_loss", "cosface_loss"),
            lambda: (normal(n, 8), normal(8, C), classes(n)),
        ),
        **dict.fromkeys(("barlow_twins_loss", "vicreg_loss"), lambda: (normal(n, 8, C), normal(n, 8, C))),
        "hinge_embedding_loss": lambda: (normal(n), signs()),
        "margin_ranking_loss": lambda: (normal(n), normal(n), signs()),
        **dict.fromkeys(SIGNED, lambda: (normal(n), signs())),
        **dict.fromkeys(INDEXED, lambda: (normal(n, C), classes(n))),
        "multilabel_margin_loss": lambda: (normal(n, C), classes(n, C).at[:, 3:].set(-1)),
        "multilabel_soft_margin_loss": lambda: (normal(n, C), uniform(n, C)),
        "triplet_margin_loss": lambda: (normal(n, C), normal(n, C), normal(n, C)),
        "triplet_margin_with_distance_loss": lambda: (normal(n, C), normal(n, C), normal(n, C)),
        "cosine_embedding_loss": lambda: (normal(n, C), normal(n, C), signs()),
        **dict.fromkeys(("tversky_loss", "dice_loss", "jaccard_loss"), lambda: (uniform(n, C), uniform(n, C))),
        **dict.fromkeys(
            ("pairwise_logistic_loss", "pairwise_hinge_loss"), lambda: (normal(n, C), jnp.round(3 * uniform(n, C)))
        ),
        "lovasz_hinge_loss": lambda: (normal(n, C), jnp.minimum(classes(n, C), 1)),
        "lovasz_softmax_loss": lambda: (uniform(n, C), jnp.minimum(classes(n, C), 1)),
        **dict.fromkeys(BOXES, lambda: (box(), box())),
        **dict.fromkeys(by_hand_sets.PAIRED, lambda: (normal(n, 8, C), normal(n, 8, C))),
        **dict.fromkeys(by_hand_sets.LABELLED, lambda: (normal(n, 8, C), classes(n, 8) % 3)),
    }
    return makers.get(name, lambda: (normal(n), normal(n)))()
