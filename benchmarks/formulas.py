"""The formula of each loss for one sample in mpmath, as its paper or PyTorch's documentation states it.

Scalars are `mpf`, vectors are lists, matrices are lists of rows, and class indices are `int`. The precision is so high
that no formula needs a trick against overflow or cancellation. Each kink reports its distance to `kinks`.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mpmath import mp

Number = Any
Vector = Sequence[Any]
Matrix = Sequence[Vector]


_distances: list[Any] = []


@contextlib.contextmanager
def kinks() -> Iterator[list[Any]]:
    """Records the arguments of all kinks evaluated inside the context; each argument is 0 at its kink."""
    _distances.clear()
    yield _distances


def absolute(x: Number) -> Number:
    _distances.append(x)
    return abs(x)


def positive_part(x: Number) -> Number:
    _distances.append(x)
    return max(x, mp.zero)


def minimum(x: Number, y: Number) -> Number:
    _distances.append(x - y)
    return min(x, y)


def maximum(x: Number, y: Number) -> Number:
    _distances.append(x - y)
    return max(x, y)


def softplus(x: Number) -> Number:
    return mp.log(1 + mp.exp(x))


def log_sum_exp(x: Vector) -> Number:
    return mp.log(mp.fsum(mp.exp(each) for each in x))


def product(vector: Vector, matrix: Matrix) -> Vector:
    return [mp.fsum(v * m for v, m in zip(vector, column, strict=True)) for column in zip(*matrix, strict=True)]


def norm(x: Vector, p: float) -> Number:
    return mp.fsum((absolute(each) if p == 1 else abs(each)) ** p for each in x) ** (mp.one / p)


def mse_loss(x: Number, y: Number) -> Number:
    return (x - y) ** 2


def l1_loss(x: Number, y: Number) -> Number:
    return absolute(x - y)


def smooth_l1_loss(x: Number, y: Number, beta: float = 1) -> Number:
    d = abs(x - y)
    return d**2 / (2 * beta) if d < beta else d - mp.mpf(beta) / 2


def huber_loss(x: Number, y: Number, delta: float = 1) -> Number:
    d = abs(x - y)
    return d**2 / 2 if d < delta else delta * (d - mp.mpf(delta) / 2)


def log_cosh(x: Number, y: Number) -> Number:
    return mp.log(mp.cosh(x - y))


def general_robust_loss(x: Number, y: Number, alpha: float = 1) -> Number:
    z = (x - y) ** 2
    if alpha == 2:
        return z / 2
    if alpha == 0:
        return mp.log(1 + z / 2)
    b, alpha = abs(mp.mpf(alpha) - 2), mp.mpf(alpha)
    return 1 - mp.exp(-z / 2) if mp.isinf(alpha) else b / alpha * ((z / b + 1) ** (alpha / 2) - 1)


def quantile_loss(x: Number, y: Number, quantile: float = 0.5) -> Number:
    tau = mp.mpf(quantile)
    return tau * positive_part(y - x) + (1 - tau) * positive_part(x - y)


def expectile_loss(x: Number, y: Number, expectile: float = 0.5) -> Number:
    tau = mp.mpf(expectile)
    return (1 - tau if y < x else tau) * (y - x) ** 2


def absolute_percentage_error(x: Number, y: Number, eps: float = 1e-7) -> Number:
    return 100 * absolute(x - y) / max(abs(y), mp.mpf(eps))


def squared_logarithmic_error(x: Number, y: Number) -> Number:
    return (mp.log(1 + x) - mp.log(1 + y)) ** 2


def poisson_nll_loss(x: Number, y: Number, log_input: bool = True, eps: float = 1e-8, full: bool = False) -> Number:
    stirling = y * mp.log(y) - y + mp.log(2 * mp.pi * y) / 2 if full and y > 1 else 0
    return (mp.exp(x) - y * x if log_input else x - y * mp.log(x + eps)) + stirling


def gaussian_nll_loss(x: Number, y: Number, v: Number, full: bool = False) -> Number:
    return (mp.log(v) + (x - y) ** 2 / v + (mp.log(2 * mp.pi) if full else 0)) / 2


def gamma_nll_loss(x: Number, y: Number, log_input: bool = True) -> Number:
    return y * mp.exp(-x) + x if log_input else y / x + mp.log(x)


def tweedie_nll_loss(x: Number, y: Number, power: float = 1.5, log_input: bool = True) -> Number:
    p, log_mean = mp.mpf(power), x if log_input else mp.log(x)
    return mp.exp((2 - p) * log_mean) / (2 - p) - y * mp.exp((1 - p) * log_mean) / (1 - p)


def generalized_kl_div(x: Number, y: Number, log_target: bool = False) -> Number:
    p, log_p = (mp.exp(y), y) if log_target else (y, mp.log(y) if y else mp.zero)
    return p * (log_p - x) + mp.exp(x) - p


def gaussian_crps(x: Number, y: Number, scale: Number) -> Number:
    z = (y - x) / scale
    density = mp.exp(-(z**2) / 2) / mp.sqrt(2 * mp.pi)
    return scale * (z * mp.erf(z / mp.sqrt(2)) + 2 * density - 1 / mp.sqrt(mp.pi))


def ensemble_crps(x: Vector, y: Number, fair: bool = False) -> Number:
    m, between = len(x), mp.fsum(absolute(one - other) for i, one in enumerate(x) for other in x[:i])
    return mp.fsum(absolute(each - y) for each in x) / m - between / (m * (m - fair))


def energy_score(x: Matrix, y: Vector, fair: bool = False) -> Number:
    def distance(one: Vector, other: Vector) -> Number:
        return norm([u - v for u, v in zip(one, other, strict=True)], 2)

    m, between = len(x), mp.fsum(distance(one, other) for i, one in enumerate(x) for other in x[:i])
    return mp.fsum(distance(each, y) for each in x) / m - between / (m * (m - fair))


def negative_binomial_nll_loss(x: Number, y: Number, r: Number, log_input: bool = True, full: bool = False) -> Number:
    mean = mp.exp(x) if log_input else x
    gammas = mp.loggamma(r) - mp.loggamma(r + y) + (mp.loggamma(y + 1) if full else 0)
    return (r + y) * mp.log(r + mean) - r * mp.log(r) - y * mp.log(mean) + gammas


def kl_div(x: Number, y: Number, log_target: bool = False) -> Number:
    if log_target:
        return mp.exp(y) * (y - x)
    return y * (mp.log(y) - x) if y else mp.zero


def binary_cross_entropy(x: Number, y: Number) -> Number:
    return -(y * max(mp.log(x), -100) + (1 - y) * max(mp.log(1 - x), -100))


def binary_cross_entropy_with_logits(x: Number, y: Number, pos_weight: float = 1) -> Number:
    return (1 - y) * softplus(x) + pos_weight * y * softplus(-x)


def nll_loss(x: Vector, t: int) -> Number:
    return -x[t]


def cross_entropy(x: Vector, t: Any, label_smoothing: float = 0) -> Number:
    probabilities = t if isinstance(t, list) else [mp.mpf(j == t) for j in range(len(x))]
    share = mp.mpf(label_smoothing) / len(x)
    normaliser = log_sum_exp(x)
    return mp.fsum(
        ((1 - mp.mpf(label_smoothing)) * q + share) * (normaliser - each)
        for q, each in zip(probabilities, x, strict=True)
    )


def linear_cross_entropy(h: Vector, kernel: Matrix, t: int) -> Number:
    return cross_entropy(product(h, kernel), t)


def angular(h: Vector, kernel: Matrix, t: int, scale: float, with_margin: Callable[[Number], Number]) -> Number:
    """The cross-entropy of scaled cosines, with a margin for the right class."""
    columns = list(zip(*kernel, strict=True))
    cosines = [x / norm(h, 2) / norm(w, 2) for x, w in zip(product(h, kernel), columns, strict=True)]
    return cross_entropy([scale * (with_margin(x) if i == t else x) for i, x in enumerate(cosines)], t)


def arcface_loss(h: Vector, kernel: Matrix, t: int, margin: float = 0.5, scale: float = 64) -> Number:
    margin = mp.mpf(margin)

    def with_margin(cosine: Number) -> Number:
        angle = mp.acos(cosine)
        return mp.cos(angle + margin) if angle + margin < mp.pi else cosine - margin * mp.sin(margin)

    return angular(h, kernel, t, scale, with_margin)


def cosface_loss(h: Vector, kernel: Matrix, t: int, margin: float = 0.35, scale: float = 64) -> Number:
    return angular(h, kernel, t, scale, lambda cosine: cosine - mp.mpf(margin))


def adaptive_log_softmax_with_loss(h: Vector, head: Matrix, down: Matrix, up: Matrix, t: int) -> Number:
    """With a single tail, which the last column of the head represents."""
    scores, frequent = product(h, head), len(head[0]) - 1
    if t < frequent:
        return cross_entropy(scores, t)
    return cross_entropy(scores, frequent) + cross_entropy(product(product(h, down), up), t - frequent)


def logistic(x: Number) -> Number:
    return 1 / (1 + mp.exp(-x))


def sigmoid_focal_loss(x: Number, y: Number, alpha: float | None = None, gamma: float = 2) -> Number:
    share = 1 if alpha is None else alpha * y + (1 - mp.mpf(alpha)) * (1 - y)
    right = y * logistic(x) + (1 - y) * logistic(-x)
    return share * (1 - right) ** gamma * binary_cross_entropy_with_logits(x, y)


def log_softmax(x: Vector) -> Vector:
    normaliser = log_sum_exp(x)
    return [each - normaliser for each in x]


def softmax_focal_loss(x: Vector, t: int, gamma: float = 2) -> Number:
    log_p = log_softmax(x)[t]
    return -((1 - mp.exp(log_p)) ** gamma) * log_p


def poly_loss_cross_entropy(x: Vector, t: Any, epsilon: float = 2) -> Number:
    probabilities = t if isinstance(t, list) else [mp.mpf(j == t) for j in range(len(x))]
    terms = (
        (epsilon * (1 - mp.exp(log_p)) - log_p) * p for p, log_p in zip(probabilities, log_softmax(x), strict=True)
    )
    return mp.fsum(terms)


def generalized_cross_entropy(x: Vector, t: int, q: float = 0.7) -> Number:
    log_p, q = log_softmax(x)[t], mp.mpf(q)
    return (1 - mp.exp(q * log_p)) / q if q else -log_p


def asymmetric_loss(x: Number, y: Number, clip: float = 0.05) -> Number:
    shifted = positive_part(logistic(x) - mp.mpf(clip))
    complement = min(logistic(-x) + mp.mpf(clip), mp.one)
    return -y * logistic(-x) * mp.log(logistic(x)) - (1 - y) * shifted**4 * mp.log(complement)


def sparsemax_loss(x: Number, y: int) -> Number:
    s = x * (1 - 2 * y)
    return mp.zero if s <= -1 else s if s >= 1 else (s + 1) ** 2 / 4


def multiclass_sparsemax_loss(x: Vector, t: int) -> Number:
    falling = sorted(x, reverse=True)
    thresholds = [(mp.fsum(falling[: k + 1]) - 1) / (k + 1) for k in range(len(x))]
    threshold = next(u for k, u in reversed(list(enumerate(thresholds))) if falling[k] > u)
    p = [max(each - threshold, mp.zero) for each in x]
    return (1 - mp.fsum(u**2 for u in p)) / 2 + mp.fsum(u * v for u, v in zip(p, x, strict=True)) - x[t]


def fenchel_young_loss(x: Vector, y: Vector) -> Number:
    return log_sum_exp(x) - mp.fsum(u * v for u, v in zip(x, y, strict=True))


def coral_loss(x: Vector, t: int) -> Number:
    return mp.fsum(softplus(-each) if t > k else softplus(each) for k, each in enumerate(x))


def hinge_loss(x: Number, y: Number) -> Number:
    return positive_part(1 - x * y)


def squared_hinge_loss(x: Number, y: Number) -> Number:
    return max(1 - x * y, mp.zero) ** 2


def perceptron_loss(x: Number, y: Number) -> Number:
    return positive_part(-x * y)


def multiclass_hinge_loss(x: Vector, t: int, margin: int = 1) -> Number:
    highest, *others = [each for j, each in enumerate(x) if j != t]
    for each in others:
        highest = maximum(highest, each)
    return positive_part(margin + highest - x[t])


def multiclass_perceptron_loss(x: Vector, t: int) -> Number:
    return multiclass_hinge_loss(x, t, 0)


def hinge_embedding_loss(x: Number, y: Number, margin: float = 1) -> Number:
    return x if y == 1 else positive_part(margin - x)


def margin_ranking_loss(x: Number, z: Number, y: Number, margin: float = 0) -> Number:
    return positive_part(margin - y * (x - z))


def soft_margin_loss(x: Number, y: Number) -> Number:
    return softplus(-y * x)


def multi_margin_loss(x: Vector, t: int, p: int = 1, margin: float = 1) -> Number:
    return mp.fsum(positive_part(margin - x[t] + each) ** p for j, each in enumerate(x) if j != t) / len(x)


def multilabel_margin_loss(x: Vector, t: Sequence[int]) -> Number:
    labels = t[: t.index(-1)] if -1 in t else t
    wrong = [j for j in range(len(x)) if j not in labels]
    return mp.fsum(positive_part(1 - (x[i] - x[j])) for i in labels for j in wrong) / len(x)


def multilabel_soft_margin_loss(x: Vector, y: Vector) -> Number:
    return mp.fsum(map(binary_cross_entropy_with_logits, x, y)) / len(x)


def triplet_margin_loss(
    a: Vector, p: Vector, n: Vector, margin: float = 1, norm_degree: float = 2, eps: float = 1e-6, swap: bool = False
) -> Number:
    def distance(x: Vector, y: Vector) -> Number:
        return norm([u - v + mp.mpf(eps) for u, v in zip(x, y, strict=True)], norm_degree)

    farther = minimum(distance(a, n), distance(p, n)) if swap else distance(a, n)
    return positive_part(distance(a, p) - farther + margin)


def triplet_margin_with_distance_loss(a: Vector, p: Vector, n: Vector) -> Number:
    """With the default distance."""
    return triplet_margin_loss(a, p, n)


def cosine_embedding_loss(x: Vector, z: Vector, y: Number, margin: float = 0) -> Number:
    cosine = mp.fsum(u * v for u, v in zip(x, z, strict=True)) / (norm(x, 2) * norm(z, 2))
    return 1 - cosine if y == 1 else positive_part(cosine - margin)


def ranking_softmax_loss(x: Vector, y: Vector) -> Number:
    return -mp.fsum(grade * log_p for grade, log_p in zip(y, log_softmax(x), strict=True))


def listmle_loss(x: Vector, y: Vector) -> Number:
    ordered = [x[i] for i in sorted(range(len(x)), key=lambda i: -y[i])]
    return -mp.fsum(log_softmax(ordered[i:])[0] for i in range(len(x))) if any(y) else mp.mpf(0)


def ctc_loss(x: Matrix, y: Vector) -> Number:
    states = [0]
    for label in y:
        states += [int(label), 0]
    sums = [mp.mpf(1)] + [mp.mpf(0)] * (len(states) - 1)
    for frame in x:
        sums = [
            mp.exp(frame[state])
            * mp.fsum(sums[s - back] for back in range(3) if back <= s and (back < 2 or state != states[s - 2]))
            for s, state in enumerate(states)
        ]
    return -mp.log(mp.fsum(sums[-2:]))


def rnnt_loss(x: Sequence[Matrix], y: Vector) -> Number:
    log_p = [[log_softmax(node) for node in frame] for frame in x]
    sums: dict[tuple[int, int], Number] = {(0, 0): mp.mpf(1)}
    for t, frame in enumerate(log_p):
        for u, node in enumerate(frame):
            for step, class_ in (((t + 1, u), -1), *([((t, u + 1), int(y[u]))] if u < len(y) else [])):
                sums[step] = sums.get(step, mp.mpf(0)) + sums[t, u] * mp.exp(node[class_])
    return -mp.log(sums[len(x), len(y)])


def pairs(x: Vector, y: Vector) -> Iterator[tuple[Number, Number]]:
    """The scores of the more and of the less relevant item of each pair."""
    for i, high in enumerate(x):
        yield from ((high, low) for j, low in enumerate(x) if y[i] > y[j])


def pairwise_logistic_loss(x: Vector, y: Vector) -> Number:
    return mp.fsum(softplus(low - high) for high, low in pairs(x, y))


def pairwise_hinge_loss(x: Vector, y: Vector, margin: float = 1) -> Number:
    return mp.fsum(positive_part(margin - high + low) for high, low in pairs(x, y))


def divergence(log_p: Vector, log_q: Vector) -> Number:
    return mp.fsum(mp.exp(u) * (u - v) for u, v in zip(log_p, log_q, strict=True))


def distillation_loss(x: Vector, t: Vector, temperature: float = 1.0, reverse: bool = False) -> Number:
    student, teacher = (log_softmax([each / temperature for each in logits]) for logits in (x, t))
    return temperature**2 * (divergence(student, teacher) if reverse else divergence(teacher, student))


def jensen_shannon_loss(x: Vector, t: Vector, beta: float = 0.5, temperature: float = 1.0) -> Number:
    student, teacher = (log_softmax([each / temperature for each in logits]) for logits in (x, t))
    mixture = [mp.log(beta * mp.exp(v) + (1 - beta) * mp.exp(u)) for u, v in zip(student, teacher, strict=True)]
    return beta * divergence(teacher, mixture) + (1 - beta) * divergence(student, mixture)


def linear_distillation_loss(h: Vector, kernel: Matrix, teacher: Vector, teacher_kernel: Matrix) -> Number:
    return distillation_loss(product(h, kernel), product(teacher, teacher_kernel))


def linear_distillation_loss_from_logits(h: Vector, kernel: Matrix, t: Vector) -> Number:
    return distillation_loss(product(h, kernel), t)


def linear_distillation_loss_from_top_k(h: Vector, kernel: Matrix, log_p: Vector, classes: Sequence[int]) -> Number:
    log_q = log_softmax(product(h, kernel))
    rest = 1 - mp.fsum(map(mp.exp, log_p))
    others = mp.fsum(mp.exp(v) for i, v in enumerate(log_q) if i not in classes)
    return divergence(log_p, [log_q[i] for i in classes]) + rest * (mp.log(rest) - mp.log(others))


def lead(c: Number, r: Number, c_reference: Number, r_reference: Number) -> Number:
    return (c - c_reference) - (r - r_reference)


def dpo_loss(c: Number, r: Number, u: Number, v: Number, beta: float = 0.1, label_smoothing: float = 0.0) -> Number:
    x, smoothing = mp.mpf(beta) * lead(c, r, u, v), mp.mpf(label_smoothing)
    return (1 - smoothing) * softplus(-x) + smoothing * softplus(x)


def ipo_loss(c: Number, r: Number, u: Number, v: Number, beta: float = 0.1) -> Number:
    return (lead(c, r, u, v) - 1 / (2 * mp.mpf(beta))) ** 2


def simpo_loss(c: Number, r: Number, beta: float = 2.0, gamma: float = 0.5) -> Number:
    return softplus(mp.mpf(gamma) - mp.mpf(beta) * (c - r))


def orpo_loss(c: Number, r: Number, beta: float = 0.1) -> Number:
    def log_odds(x: Number) -> Number:
        return x - mp.log(-mp.expm1(x))

    return -c + mp.mpf(beta) * softplus(log_odds(r) - log_odds(c))


def kto_loss(x: Number, y: Number, baseline: Number, beta: float = 0.1) -> Number:
    return logistic(-y * mp.mpf(beta) * (x - baseline))


def bradley_terry_loss(c: Number, r: Number, margin: float = 0.0) -> Number:
    return softplus(mp.mpf(margin) - (c - r))


def clipped_policy_loss(
    x: Number,
    old: Number,
    advantage: Number,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> Number:
    ratio = mp.exp(x - old)
    if advantage > 0:
        return -advantage * minimum(ratio, 1 + mp.mpf(clip_high))
    bounded = maximum(ratio, 1 - mp.mpf(clip_low))
    return -advantage * (bounded if dual_clip is None else minimum(bounded, mp.mpf(dual_clip)))


def tversky_loss(p: Vector, t: Vector, alpha: float = 0.5, beta: float = 0.5, smooth: float = 1) -> Number:
    found = mp.fsum(u * v for u, v in zip(p, t, strict=True))
    false = alpha * mp.fsum(u * (1 - v) for u, v in zip(p, t, strict=True))
    missed = beta * mp.fsum((1 - u) * v for u, v in zip(p, t, strict=True))
    return 1 - (found + smooth) / (found + false + missed + smooth)


def dice_loss(p: Vector, t: Vector) -> Number:
    return tversky_loss(p, t)


def jaccard_loss(p: Vector, t: Vector) -> Number:
    return tversky_loss(p, t, 1, 1)


def lovasz_extension(errors: Vector, target: Sequence[int]) -> Number:
    loss, before, wrong, extra, whole = mp.mpf(0), mp.mpf(0), 0, 0, sum(target)
    for i in sorted(range(len(errors)), key=lambda i: -errors[i]):
        wrong, extra = wrong + target[i], extra + (1 - target[i])
        after = 1 - (whole - wrong) / mp.mpf(whole + extra)
        loss, before = loss + positive_part(errors[i]) * (after - before), after
    return loss


def lovasz_hinge_loss(x: Vector, t: Sequence[int]) -> Number:
    return lovasz_extension([1 - u * (2 * v - 1) for u, v in zip(x, t, strict=True)], t)


def lovasz_softmax_loss(p: Vector, t: Sequence[int]) -> Number:
    return lovasz_extension([abs(v - u) for u, v in zip(p, t, strict=True)], t)


def box_iou_loss(a: Vector, b: Vector, eps: float = 1e-7) -> Number:
    shared, union = areas(a, b)
    return 1 - shared / (union + mp.mpf(eps))


def areas(a: Vector, b: Vector) -> tuple[Number, Number]:
    """The areas of the intersection and of the union."""
    width, height = (positive_part(minimum(a[i + 2], b[i + 2]) - maximum(a[i], b[i])) for i in (0, 1))
    first, second = ((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    return width * height, first + second - width * height


def hull(a: Vector, b: Vector) -> tuple[Number, Number]:
    """The sides of the smallest box around both."""
    width, height = (maximum(a[i + 2], b[i + 2]) - minimum(a[i], b[i]) for i in (0, 1))
    return width, height


def generalized_box_iou_loss(a: Vector, b: Vector, eps: float = 1e-7) -> Number:
    whole = hull(a, b)[0] * hull(a, b)[1]
    return box_iou_loss(a, b, eps) + (whole - areas(a, b)[1]) / (whole + mp.mpf(eps))


def distance_box_iou_loss(a: Vector, b: Vector, eps: float = 1e-7) -> Number:
    between = [(a[i] + a[i + 2] - b[i] - b[i + 2]) / 2 for i in (0, 1)]
    return box_iou_loss(a, b, eps) + mp.fsum(u**2 for u in between) / (mp.fsum(u**2 for u in hull(a, b)) + mp.mpf(eps))


def complete_box_iou_loss(a: Vector, b: Vector, eps: float = 1e-7) -> Number:
    first, second = (mp.atan2(x[2] - x[0], x[3] - x[1]) for x in (a, b))
    v = 4 / mp.pi**2 * (second - first) ** 2
    return distance_box_iou_loss(a, b, eps) + v * v / (box_iou_loss(a, b, eps) + v + mp.mpf(eps))


# Losses of sets: the sum over the items.


def unit(x: Vector) -> Vector:
    length = norm(x, 2)
    return [entry / length if length else entry for entry in x]


def cosines(first: Matrix, second: Matrix) -> Matrix:
    rows, columns = [unit(x) for x in first], [unit(x) for x in second]
    return [[mp.fsum(u * v for u, v in zip(row, column, strict=True)) for column in columns] for row in rows]


def distances(x: Matrix) -> Matrix:
    return [[norm([u - v for u, v in zip(one, other, strict=True)], 2) for other in x] for one in x]


def with_labels(values: Matrix, labels: Sequence[int]) -> Iterator[tuple[Vector, Vector]]:
    """The values of each item with its positives, and with its negatives."""
    places = range(len(labels))
    for i in places:
        positives = [values[i][j] for j in places if j != i and labels[j] == labels[i]]
        yield positives, [values[i][j] for j in places if labels[j] != labels[i]]


def log_sum_exp_or_none(x: Vector) -> Number:
    return log_sum_exp(x) if x else -mp.inf


def info_nce_loss(queries: Matrix, keys: Matrix, temperature: float = 0.07, symmetric: bool = False) -> Number:
    logits = [[s / temperature for s in row] for row in cosines(queries, keys)]
    total = mp.fsum(log_sum_exp(row) - row[i] for i, row in enumerate(logits))
    if not symmetric:
        return total
    columns = list(zip(*logits, strict=True))
    return (total + mp.fsum(log_sum_exp(column) - column[i] for i, column in enumerate(columns))) / 2


def siglip_loss(queries: Matrix, keys: Matrix, scale: float = 10.0, bias: float = -10.0) -> Number:
    logits = [[scale * s + bias for s in row] for row in cosines(queries, keys)]
    return mp.fsum(softplus(-z if i == j else z) for i, row in enumerate(logits) for j, z in enumerate(row))


def ntxent_loss(x: Matrix, labels: Sequence[int], temperature: float = 0.07) -> Number:
    return mp.fsum(
        softplus(log_sum_exp_or_none([s / temperature for s in negatives]) - s / temperature)
        for positives, negatives in with_labels(cosines(x, x), labels)
        for s in positives
    )


def supcon_loss(x: Matrix, labels: Sequence[int], temperature: float = 0.07) -> Number:
    return mp.fsum(
        (log_sum_exp([t / temperature for t in positives + negatives]) - s / temperature) / len(positives)
        for positives, negatives in with_labels(cosines(x, x), labels)
        for s in positives
    )


def multi_similarity_loss(
    x: Matrix, labels: Sequence[int], alpha: float = 2.0, beta: float = 50.0, base: float = 0.5
) -> Number:
    def part(values: Vector, steepness: float) -> Number:
        return softplus(log_sum_exp_or_none([steepness * (s - base) for s in values])) / abs(steepness)

    pairs = with_labels(cosines(x, x), labels)
    return mp.fsum(part(positives, -alpha) + part(negatives, beta) for positives, negatives in pairs)


def circle_loss(x: Matrix, labels: Sequence[int], margin: float = 0.4, gamma: float = 80.0) -> Number:
    def of_item(positives: Vector, negatives: Vector) -> Number:
        pull = [-gamma * positive_part(1 + margin - s) * (s - 1 + margin) for s in positives]
        push = [gamma * positive_part(s + margin) * (s - margin) for s in negatives]
        return softplus(log_sum_exp(pull) + log_sum_exp(push)) if pull and push else mp.zero

    return mp.fsum(of_item(*pair) for pair in with_labels(cosines(x, x), labels))


def batch_hard_triplet_loss(x: Matrix, labels: Sequence[int], margin: float = 1.0, soft: bool = False) -> Number:
    def of_item(positives: Vector, negatives: Vector) -> Number:
        if not (positives and negatives):
            return mp.zero
        gap = functools.reduce(maximum, positives) - functools.reduce(minimum, negatives)
        return softplus(gap) if soft else positive_part(gap + margin)

    return mp.fsum(of_item(*pair) for pair in with_labels(distances(x), labels))


def semi_hard_triplet_loss(x: Matrix, labels: Sequence[int], margin: float = 1.0) -> Number:
    def of_pair(d: Number, negatives: Vector) -> Number:
        farther = [positive_part(n - d) + d for n in negatives if n > d]
        return positive_part(d - min(farther, default=max(negatives)) + margin) if negatives else mp.zero

    return mp.fsum(
        of_pair(d, negatives) for positives, negatives in with_labels(distances(x), labels) for d in positives
    )


def proxy_anchor_loss(
    x: Matrix, proxies: Matrix, target: Sequence[int], margin: float = 0.1, alpha: float = 32.0
) -> Number:
    pulls, pushes = [], []
    for c, row in enumerate(cosines(proxies, x)):
        pull = [-alpha * (s - margin) for s, y in zip(row, target, strict=True) if y == c]
        pulls += [softplus(log_sum_exp(pull))] if pull else []
        push = [alpha * (s + margin) for s, y in zip(row, target, strict=True) if y != c]
        pushes.append(softplus(log_sum_exp_or_none(push)))
    return mp.fsum(pulls) / len(pulls) + mp.fsum(pushes) / len(pushes)


def centred(x: Matrix) -> Matrix:
    """The features of the items, each about its mean."""
    columns = zip(*x, strict=True)
    return [[each - mp.fsum(column) / len(x) for each in column] for column in columns]


def dot(x: Vector, y: Vector) -> Number:
    return mp.fsum(u * v for u, v in zip(x, y, strict=True))


def barlow_twins_loss(x: Matrix, y: Matrix, off_diagonal: float = 5e-3) -> Number:
    correlations = [[dot(u, v) / norm(u, 2) / norm(v, 2) for v in centred(y)] for u in centred(x)]
    return mp.fsum(
        (1 - c) ** 2 if i == j else mp.mpf(off_diagonal) * c * c
        for i, row in enumerate(correlations)
        for j, c in enumerate(row)
    )


def vicreg_loss(x: Matrix, y: Matrix, eps: float = 1e-4) -> Number:
    n, d = len(x), len(x[0])
    loss = 25 * mp.fsum((u - v) ** 2 for a, b in zip(x, y, strict=True) for u, v in zip(a, b, strict=True)) / (n * d)
    for features in (centred(x), centred(y)):
        covariances = [[dot(u, v) / (n - 1) for v in features] for u in features]
        hinges = (positive_part(1 - mp.sqrt(covariances[i][i] + mp.mpf(eps))) for i in range(d))
        loss += 25 * mp.fsum(hinges) / (2 * d)
        loss += mp.fsum(covariances[i][j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    return loss
