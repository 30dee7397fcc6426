"""Mathematical properties of losses: signs, optima, symmetries and limits, with inputs drawn by hypothesis.

A failure prints the inputs and a line that reproduces them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import jaxloss
from tests.drawing import draw
from tests.registry import REGISTRY

N, C = 6, 5
NUMBERS = st.floats(-100, 100, width=32)
COLUMN = arrays(np.float32, N, elements=NUMBERS)
LOGITS = arrays(np.float32, (N, C), elements=NUMBERS)
CLASSES = arrays(np.int32, N, elements=st.integers(0, C - 1))
SIGNS = arrays(np.float32, N, elements=st.sampled_from([-1.0, 1.0]))
PROBABILITIES = arrays(np.float32, N, elements=st.floats(0, 1, width=32))
WEIGHTS = arrays(np.float32, N, elements=st.floats(0, 8, width=32))
SEEDS = st.integers(0, 2**16)

ELEMENTWISE = (jaxloss.mse_loss, jaxloss.l1_loss, jaxloss.smooth_l1_loss, jaxloss.huber_loss, jaxloss.log_cosh)
SOFTMAX = {
    "cross_entropy": jaxloss.cross_entropy,
    "smoothed": lambda x, y, **o: jaxloss.cross_entropy(x, y, label_smoothing=0.3, **o),
    "linear": lambda x, y, **o: jaxloss.linear_cross_entropy(x, jnp.eye(C), y, **o),
}
# Logarithms of densities, terms of a divergence, an advantage, and a distance that may be any number.
OF_EITHER_SIGN = (
    *("poisson_nll_loss", "gaussian_nll_loss", "gamma_nll_loss", "kl_div", "nll_loss"),
    *("negative_binomial_nll_loss", "clipped_policy_loss"),
    *("hinge_embedding_loss", "ensemble_crps", "energy_score"),
)


def each(loss, *arguments, **options):
    return np.asarray(loss(*arguments, reduction="none", **options), np.float64)


def assert_close(one, other, scale=1.0, rtol=2e-6):
    np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * scale)


def size(*arrays):
    return 1 + max(np.abs(array).max() for array in arrays)


@pytest.mark.parametrize("row", [row for row in REGISTRY if row.name not in OF_EITHER_SIGN], ids=lambda row: row.label)
@given(seed=SEEDS)
def test_losses_are_not_negative(full, row, seed):
    drawn = draw(row, (N,), seed=seed)
    for options in row.options[: None if full else 2]:
        options = {name: value for name, value in options.items() if name not in ("class_weights", "bias")}
        assert (np.asarray(row.loss(*drawn, reduction="none", **options)) >= 0).all()


@pytest.mark.parametrize("loss", ELEMENTWISE, ids=lambda loss: loss.__name__)
@given(COLUMN, COLUMN)
def test_elementwise_losses_are_symmetric_and_zero_at_the_target(loss, x, y):
    np.testing.assert_array_equal(each(loss, x, y), each(loss, y, x))
    np.testing.assert_array_equal(each(loss, -x, -y), each(loss, x, y))
    np.testing.assert_array_equal(each(loss, x, x), 0)
    np.testing.assert_array_equal(jax.grad(loss)(x, x), 0)
    assert (each(loss, x, y)[np.abs(x - y) > 1e-3] > 0).all()


@given(COLUMN, SIGNS, CLASSES, st.floats(0, 4, width=32))
def test_confident_right_answers_have_loss_0(x, sign, target, margin):
    right = np.abs(x) + margin
    np.testing.assert_array_equal(each(jaxloss.margin_ranking_loss, right * sign, 0 * right, sign, margin=margin), 0)
    np.testing.assert_array_equal(each(jaxloss.hinge_embedding_loss, right, -np.ones(N, np.float32), margin=margin), 0)
    certain = np.where(np.arange(C) == target[:, None], 0, -np.inf).astype(np.float32)
    np.testing.assert_array_equal(each(jaxloss.cross_entropy, certain, target), 0)
    np.testing.assert_array_equal(each(jaxloss.nll_loss, certain, target), 0)
    scores = np.where(np.arange(C) == target[:, None], margin + 1, 0).astype(np.float32)
    np.testing.assert_array_equal(each(jaxloss.multi_margin_loss, scores, target, margin=margin), 0)
    yes = (sign > 0).astype(np.float32)
    np.testing.assert_array_equal(each(jaxloss.binary_cross_entropy, yes, yes), 0)
    assert (each(jaxloss.soft_margin_loss, sign * (20 + right), sign) < 1e-8).all()


@given(PROBABILITIES)
def test_divergences_are_minimal_at_the_target(p):
    assume(p.sum() > 0.1)
    p = p / p.sum()
    with np.errstate(divide="ignore"):
        assert_close(float(jaxloss.kl_div(np.log(p), p, reduction="sum")), 0, rtol=1e-6)
    q = np.roll(p, 1) * 0.5 + 0.5 / N
    assert jaxloss.kl_div(np.log(q), p, reduction="sum") >= -1e-6
    logits = np.log(np.maximum(p, 1e-6) / np.maximum(1 - p, 1e-6))
    slope = jax.grad(jaxloss.binary_cross_entropy_with_logits)(logits, p)
    assert_close(slope, 0, rtol=1e-5)


@given(LOGITS, LOGITS, SIGNS)
def test_cosines_are_symmetric_and_independent_of_length(x, y, sign):
    loss = jaxloss.cosine_embedding_loss
    assert_close(each(loss, x, y, sign), each(loss, y, x, sign))
    assert_close(each(loss, 8 * x, 64 * y, sign), each(loss, x, y, sign))
    seen = np.abs(x).max(1) > 1e-3
    assert_close(each(loss, x, x, np.ones(N, np.float32))[seen], 0)


@given(LOGITS, LOGITS, LOGITS)
def test_the_losses_of_a_triplet_and_its_reverse_sum_to_twice_the_margin(anchor, positive, negative):
    """The reversed triplet has the opposite difference of distances."""
    margin = 2e3  # no difference of distances is larger
    there = each(jaxloss.triplet_margin_loss, anchor, positive, negative, margin=margin, eps=0.0)
    back = each(jaxloss.triplet_margin_loss, anchor, negative, positive, margin=margin, eps=0.0)
    assert_close(there + back, 2 * margin, scale=0)
    assert (each(jaxloss.triplet_margin_loss, anchor, positive, negative, swap=True) >= 0).all()


@given(COLUMN, COLUMN, SIGNS)
def test_a_reversed_pair_has_the_same_ranking_loss(x, y, sign):
    one = each(jaxloss.margin_ranking_loss, x, y, sign, margin=0.5)
    np.testing.assert_array_equal(one, each(jaxloss.margin_ranking_loss, y, x, -sign, margin=0.5))


@pytest.mark.parametrize("loss", SOFTMAX.values(), ids=SOFTMAX)
@given(LOGITS, CLASSES, st.floats(-50, 50, width=32))
def test_softmax_losses_are_shift_invariant_and_their_gradients_sum_to_zero(loss, x, target, shift):
    assert_close(each(loss, x + shift, target), each(loss, x, target), scale=size(x) + abs(shift))
    gradient = jax.grad(lambda x: loss(x, target, reduction="sum"))(x)
    assert_close(gradient.sum(1), 0)


@pytest.mark.parametrize("loss", SOFTMAX.values(), ids=SOFTMAX)
@given(LOGITS, CLASSES)
def test_a_class_index_gives_the_loss_of_a_one_hot_target(loss, x, target):
    one_hot = np.eye(C, dtype=np.float32)[target]
    assert_close(each(loss, x, one_hot), each(loss, x, target), scale=size(x))
    by_index, by_one_hot = (jax.grad(lambda x, t=t: loss(x, t, reduction="sum"))(x) for t in (target, one_hot))
    assert_close(by_index, by_one_hot)


@pytest.mark.parametrize("loss", SOFTMAX.values(), ids=SOFTMAX)
@given(LOGITS, CLASSES, st.permutations(range(C)), st.permutations(range(N)))
def test_the_order_of_classes_and_samples_does_not_matter(loss, x, target, classes, samples):
    classes, samples = np.array(classes), np.array(samples)
    place = np.argsort(classes).astype(np.int32)
    assert_close(each(loss, x[:, classes], place[target]), each(loss, x, target), scale=size(x))
    assert_close(each(loss, x[samples], target[samples]), each(loss, x, target)[samples], scale=size(x))
    assert_close(float(loss(x[samples], target[samples])), float(loss(x, target)), scale=size(x))


@given(LOGITS, CLASSES, st.permutations(range(C)))
def test_the_order_of_classes_does_not_matter_to_margin_losses(x, target, classes):
    classes = np.array(classes)
    place = np.argsort(classes).astype(np.int32)
    for loss in (jaxloss.multi_margin_loss, jaxloss.nll_loss):
        assert_close(each(loss, x[:, classes], place[target]), each(loss, x, target), scale=size(x))
    labels = np.eye(C, dtype=np.float32)[target]
    moved = each(jaxloss.multilabel_soft_margin_loss, x[:, classes], labels[:, classes])
    assert_close(moved, each(jaxloss.multilabel_soft_margin_loss, x, labels), scale=size(x))


@given(COLUMN, COLUMN)
def test_limits_of_elementwise_losses(x, y):
    error = np.abs(np.float64(x) - y)
    assert_close(each(jaxloss.smooth_l1_loss, x, y, beta=1e-4), error, scale=100)
    assert_close(each(jaxloss.huber_loss, x, y, delta=1e4), each(jaxloss.mse_loss, x, y) / 2)
    assert_close(each(jaxloss.huber_loss, x, y, delta=0.5), 0.5 * each(jaxloss.smooth_l1_loss, x, y, beta=0.5))
    assert (each(jaxloss.huber_loss, x, y) <= each(jaxloss.mse_loss, x, y) / 2 * (1 + 1e-6)).all()
    assert (each(jaxloss.smooth_l1_loss, x, y) <= each(jaxloss.l1_loss, x, y)).all()


@given(LOGITS, CLASSES)
def test_limits_of_cross_entropy(x, target):
    plain = each(jaxloss.cross_entropy, x, target)
    assert_close(each(jaxloss.cross_entropy, x, target, label_smoothing=jnp.float32(0)), plain, scale=size(x))
    log_probabilities = jax.nn.log_softmax(jnp.float32(x))
    assert_close(each(jaxloss.nll_loss, log_probabilities, target), plain, scale=size(x))
    uniform = each(jaxloss.cross_entropy, x, target, label_smoothing=1.0)
    assert_close(uniform, -np.asarray(log_probabilities).mean(1), scale=size(x))
    two = np.stack([x[:, 0], np.zeros(N, np.float32)], axis=1)
    first = np.ones(N, np.float32)
    binary = each(jaxloss.binary_cross_entropy_with_logits, x[:, 0], first)
    assert_close(each(jaxloss.cross_entropy, two, np.zeros(N, np.int32)), binary, scale=size(x))
    assert_close(each(jaxloss.soft_margin_loss, x[:, 0], first), binary, scale=size(x))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "batchmean"])
@given(x=COLUMN, y=COLUMN, weights=WEIGHTS, scale=st.sampled_from([0.25, 2.0, 8.0]))
def test_losses_scale_with_their_weights(reduction, x, y, weights, scale):
    one, other = (jaxloss.l1_loss(x, y, weights=w, reduction=reduction) for w in (weights * scale, weights))
    np.testing.assert_allclose(one, scale * other, rtol=1e-6)


@given(COLUMN, COLUMN, WEIGHTS, st.sampled_from([0.25, 2.0, 8.0]))
def test_a_weighted_mean_ignores_the_scale_of_its_weights_and_lies_within_its_losses(x, y, weights, scale):
    assume(weights.max() > 0.01)
    mean, scaled = (jaxloss.l1_loss(x, y, weights=w, reduction="weighted_mean") for w in (weights, scale * weights))
    assert_close(float(mean), float(scaled))
    losses = each(jaxloss.l1_loss, x, y)[weights > 0]
    assert losses.min() * (1 - 1e-6) <= mean <= losses.max() * (1 + 1e-6)


@given(COLUMN, COLUMN, arrays(np.bool_, N))
def test_the_mean_of_a_sum_of_totals_lies_between_their_means(x, y, where):
    first = np.arange(N) < N // 2
    parts = [jaxloss.mse_loss(x, y, where=where & part, reduction="total") for part in (first, ~first)]
    mean = float((parts[0] + parts[1]).mean())
    assert_close(mean, float(jaxloss.mse_loss(x, y, where=where)))
    means = [float(part.mean()) for part in parts if part.normaliser > 0]
    if means:
        assert min(means) * (1 - 1e-6) <= mean <= max(means) * (1 + 1e-6)
    # Jensen's inequality: the loss of the mean error is at most the mean loss.
    counted = np.float64(x - y)[where]
    if counted.size:
        assert counted.mean() ** 2 <= mean * (1 + 1e-5) + 1e-12


@pytest.mark.parametrize("row", [row for row in REGISTRY if row.convex], ids=lambda row: row.label)
@given(seed=SEEDS, share=st.floats(0, 1, width=32))
def test_convex_losses_lie_below_their_chords(row, seed, share):
    generator = np.random.default_rng(seed)
    one, other = ([np.asarray(array) for array in row.draw(generator, (N,))] for _ in range(2))
    options = {"kink_width": 0.0} if "kink_width" in row.numbers else {}
    between = [share * one[0] + (1 - share) * other[0], *one[1:]]
    with jax.enable_x64(True):
        ends = [each(row.loss, *arrays, **options) for arrays in (one, [other[0], *one[1:]])]
        middle = each(row.loss, *between, **options)
    assert (middle <= share * ends[0] + (1 - share) * ends[1] + 1e-9 * (1 + abs(middle))).all()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_quantiles_and_expectiles_of_the_targets_minimise_their_losses(share):
    target = np.sort(np.random.default_rng(0).normal(size=101)).astype(np.float32)
    candidates = jnp.linspace(-3, 3, 1201)[:, None]
    prediction = jnp.broadcast_to(candidates, (1201, 101))
    quantiles = each(jaxloss.quantile_loss, prediction, target[None], quantile=share).mean(1)
    best = float(candidates[quantiles.argmin(), 0])
    assert abs(best - np.quantile(target, share)) <= 0.02 + np.diff(target).max() * (share != 0.5)
    expectiles = each(jaxloss.expectile_loss, prediction, target[None], expectile=share).mean(1)
    best = float(candidates[expectiles.argmin(), 0])
    balance = share * np.maximum(target - best, 0).sum() - (1 - share) * np.maximum(best - target, 0).sum()
    assert abs(balance) <= 101 * 0.01
