"""Losses of lists with padding, and lists without a relevant item."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

import jaxloss
from jaxloss import _few_at_once, _ordered
from tests.compiling import temporaries

PAIRWISE = (jaxloss.pairwise_logistic_loss, jaxloss.pairwise_hinge_loss)
OF_SUMS = (
    jaxloss.ranking_softmax_loss,
    jaxloss.listmle_loss,
    *PAIRWISE,
    *(functools.partial(loss, pair_weights=jaxloss.ndcg_pair_weights) for loss in PAIRWISE),
)
LOSSES = tuple(functools.partial(loss, reduction="sum") for loss in OF_SUMS)


def name_of(loss):
    return f"{loss.func.__name__}-{'-'.join(loss.keywords)}"


each_loss = pytest.mark.parametrize("loss", LOSSES, ids=name_of)
each_pairwise = pytest.mark.parametrize("loss", LOSSES[2:], ids=name_of)
SCORES = np.array([[0.5, -1.0, 2.0, 0.0], [1.0, 3.0, -2.0, 0.5]], np.float32)
TARGET = np.array([[0, 2, 1, 1], [1, 0, 0, 3]])
VALID = np.array([[True, True, False, True], [True, False, True, True]])


@pytest.mark.nans
@each_loss
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 0.0])
def test_a_padded_list_is_the_list_without_its_padding(loss, poison):
    padded = np.where(VALID, SCORES, poison)
    losses, pull = jax.vjp(lambda scores: loss(scores, TARGET, valid=VALID, reduction="none"), jnp.asarray(padded))
    (gradient,) = pull(jnp.ones(2))
    for i, there in enumerate(VALID):
        alone = jax.value_and_grad(loss)(SCORES[i, there], TARGET[i, there])
        np.testing.assert_allclose(losses[i], alone[0], rtol=1e-6)
        np.testing.assert_allclose(gradient[i, there], alone[1], rtol=1e-6, atol=1e-7)
    assert not np.asarray(gradient)[~VALID].any()


@each_loss
def test_a_list_without_a_relevant_item_does_not_count(loss):
    target = np.where(np.array([[True], [False]]), TARGET, 0)
    both, alone = loss(SCORES, target, reduction="mean"), loss(SCORES[0], TARGET[0], reduction="mean")
    np.testing.assert_allclose(both, alone, rtol=1e-6)
    # Where the relevant items are padding, and where all items are.
    for valid in (TARGET[1] == 0, np.zeros(4, bool)):
        value, gradient = jax.value_and_grad(lambda scores, valid=valid: loss(scores, TARGET[1], valid=valid))(
            SCORES[1]
        )
        assert value == 0
        assert not np.any(gradient)


def test_item_weights_weigh_each_item():
    weights = np.array([1.0, 0.5, 2.0, 0.0])
    weighted = jaxloss.ranking_softmax_loss(SCORES, TARGET, item_weights=weights, reduction="none")
    np.testing.assert_allclose(
        weighted, jaxloss.ranking_softmax_loss(SCORES, weights * TARGET, reduction="none"), rtol=1e-6
    )


def test_equal_grades_stay_in_the_order_given():
    scores = jnp.array([3.0, 1.0, 2.0])
    in_order = jaxloss.listmle_loss(scores, np.array([1, 1, 1]))
    np.testing.assert_allclose(in_order, np.log1p(np.exp([-2.0, -1.0]).sum()) + np.log1p(np.exp(1.0)), rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4, 1e30])
def test_listmle_of_scores_far_apart(scale):
    scores = np.linspace(-1, 1, 300, dtype=np.float32) * np.float32(scale)
    value, gradient = jax.value_and_grad(jaxloss.listmle_loss)(scores, np.arange(300) + 1)
    wide = scores.astype(np.float64)[::-1]
    rest = np.logaddexp.accumulate(wide[::-1])[::-1]
    np.testing.assert_allclose(value, np.logaddexp(0, rest[1:] - wide[:-1]).sum(), rtol=1e-5)
    shares = [np.exp(wide[i] - rest[: i + 1]).sum() - 1 for i in range(300)]
    np.testing.assert_allclose(gradient[::-1], shares, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", [1, 2, 7, 300])
def test_sums_by_doubling_are_the_sums_of_scores_up_to_each(size, reverse):
    scores = jnp.asarray(30 * np.random.default_rng(0).normal(size=size), jnp.float32)
    expected = jax.lax.cumlogsumexp(scores, reverse=reverse)
    np.testing.assert_allclose(_ordered.doubled(scores, reverse=reverse), expected, rtol=1e-6)


@pytest.mark.nans
@each_loss
def test_nan_in_a_list_is_nan_in_its_loss(loss):
    for scores, target in ((SCORES.copy(), TARGET.astype(float)) for _ in range(2)):
        for array in (scores, target):
            array[1, 2] = np.nan
            losses = loss(scores, target, reduction="none")
            assert np.isfinite(losses[0])
            assert np.isnan(losses[1])
            array[1, 2] = 0
            assert np.isfinite(loss(scores, target))


@pytest.mark.nans
def test_nan_in_an_item_without_a_pair():
    scores = np.array([1.0, np.nan])
    assert np.isnan(jaxloss.pairwise_hinge_loss(scores, np.ones(2)))
    assert jaxloss.pairwise_hinge_loss(scores, np.ones(2), valid=np.array([True, False])) == 0


def many_lists(shape, dtype=np.float32, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape).astype(dtype), generator.integers(0, 3, size=shape).astype(np.int32)


@each_pairwise
@pytest.mark.parametrize("shape", [(7, 3, 12), (1, 5), (2, 1, 301)])
def test_lists_in_a_loop_have_the_losses_of_each_list(loss, shape, monkeypatch):
    monkeypatch.setattr(_few_at_once, "_PAIRS_ON_CPU", 4 * 12**2)  # 4 of the 21 lists of 12 items at a time
    scores, target = many_lists(shape)
    jax.clear_caches()
    # One axis of the target is shared by lists.
    target = target[:1]
    losses, pull = jax.vjp(lambda scores: loss(scores, target, reduction="none"), scores)
    (gradient,) = pull(jnp.ones_like(losses))
    lists, targets = scores.reshape(-1, shape[-1]), np.broadcast_to(target, shape).reshape(-1, shape[-1])
    for i in range(len(lists)):
        value, slope = jax.value_and_grad(loss)(lists[i], targets[i])
        np.testing.assert_allclose(losses.ravel()[i], value, rtol=2e-6)
        np.testing.assert_allclose(gradient.reshape(lists.shape)[i], slope, rtol=1e-5, atol=1e-5)
    jax.clear_caches()


@each_pairwise
def test_memory_of_long_lists(loss):
    shapes = [jax.ShapeDtypeStruct((64, 1000), dtype) for dtype in ("float32", "int32")]
    held = temporaries(jax.value_and_grad(loss), *shapes)
    # An array with an entry for each pair of one list has 4 MB. Those of all lists have 256 MB.
    assert held < (16e6 if "pair_weights" in loss.keywords else 4e6)


@each_pairwise
def test_lists_split_over_devices_stay_where_they_are(loss):
    scores, target = many_lists((16, 40))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.NamedSharding(mesh, jax.P("data"))
    step = jax.jit(jax.value_and_grad(loss), in_shardings=(split, split))
    text = step.lower(scores, target).compile().as_text()
    assert "all-gather" not in text
    assert "all-to-all" not in text
    for got, expected in zip(step(scores, target), jax.value_and_grad(loss)(scores, target), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@each_pairwise
def test_equal_scores_share_the_derivative_of_the_kink(loss):
    gradient = jax.grad(loss)(jnp.zeros(2), np.array([1, 0]), **({"margin": 0.0} if "hinge" in name_of(loss) else {}))
    np.testing.assert_allclose(gradient[0], -gradient[1])
    assert gradient[0] < 0


@each_pairwise
@pytest.mark.parametrize("size", [1e30, 3.4e38])
def test_scores_far_apart_have_no_nan(loss, size):
    scores = np.array([size, -size, size, 0], np.float32)
    for valid in (np.ones(4, bool), np.array([True, True, False, True])):
        value, gradient = jax.value_and_grad(loss)(scores, TARGET[0], valid=valid)
        assert not np.isnan(value)
        assert np.isfinite(gradient).all()
    hessian = jax.hessian(loss)(jnp.asarray(scores), TARGET[0])
    assert np.isfinite(hessian).all()


def test_a_pair_of_weight_0_has_no_loss_even_where_that_is_infinite():
    weights = functools.partial(jnp.zeros_like, shape=(2, 2))
    value = jaxloss.pairwise_logistic_loss(
        np.array([-3e38, 3e38], np.float32), np.array([1, 0]), pair_weights=lambda scores, target: weights(scores)
    )
    assert value == 0


def test_the_derivative_with_respect_to_the_margin_is_the_number_of_pairs_within_it():
    slope = jax.grad(lambda margin: jaxloss.pairwise_hinge_loss(SCORES, TARGET, margin=margin, reduction="sum"))(1.0)
    pairs = (TARGET[:, :, None] > TARGET[:, None]) & (SCORES[:, :, None] - SCORES[:, None] < 1)
    assert float(slope) == pairs.sum()


def test_no_gradient_goes_through_weights_of_pairs():
    def changing(scores, target):
        return jnp.exp(scores)[:, None] + 0 * target[None]

    gradient = jax.grad(lambda x: jaxloss.pairwise_hinge_loss(x, TARGET, pair_weights=changing, reduction="sum"))(
        SCORES
    )
    for i, scores in enumerate(SCORES):
        is_pair = (TARGET[i][:, None] > TARGET[i]) & (scores[:, None] - scores < 1)
        slopes = np.exp(scores)[:, None] * is_pair
        np.testing.assert_allclose(gradient[i], slopes.sum(0) - slopes.sum(1), rtol=1e-5, atol=1e-5)


def test_what_weights_of_pairs_see_of_padding():
    seen = []

    def seeing(scores, target):
        jax.debug.callback(lambda *arrays: seen.append(arrays), scores, target)
        return jnp.ones((4, 4))

    jaxloss.pairwise_logistic_loss(SCORES[0], 1 + TARGET[0], valid=VALID[0], pair_weights=seeing).block_until_ready()
    jax.effects_barrier()
    np.testing.assert_array_equal(np.squeeze(seen[0][0]), np.where(VALID[0], SCORES[0], -np.inf))
    np.testing.assert_array_equal(np.squeeze(seen[0][1]), np.where(VALID[0], 1 + TARGET[0], 0))


@pytest.mark.parametrize(
    ("pair_weights", "error", "message"),
    [
        (
            lambda x, y: x,
            ValueError,
            "what pair_weights returned has shape (4,) but takes shape (4, 4) for scores (4,)",
        ),
        (lambda x, y: None, TypeError, "what pair_weights returned is of type NoneType but takes a number or an array"),
        (lambda x: x, TypeError, "pair_weights is <lambda> but takes a callable of the two arguments (the scores and"),
        (1.0, TypeError, "pair_weights is compiled into the program and takes Callable, got float"),
    ],
)
def test_weights_of_pairs_that_do_not_fit(pair_weights, error, message):
    with pytest.raises(error) as raised:
        jaxloss.pairwise_hinge_loss(SCORES, TARGET, pair_weights=pair_weights)
    assert message in str(raised.value)


def exact_weights(scores, target):
    """The weights by mpmath, of which each digit counts."""
    with mp.workdps(400):
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        discount = dict(zip(order, [1 / mp.log(2 + i, 2) for i in range(len(scores))], strict=True))
        gains = [mp.mpf(2) ** mp.mpf(float(y)) - 1 for y in target]
        best = mp.fsum(g / mp.log(2 + i, 2) for i, g in enumerate(sorted(gains, reverse=True)))
        k = range(len(scores))
        weights = [[abs((gains[i] - gains[j]) * (discount[i] - discount[j])) / best for j in k] for i in k]
    return np.array(weights, float)


# A grade of 500 has a rounding error of 3e-5, as its power of 2 has.
RTOL = {1e-30: 2e-6, 1.0: 2e-6, 3.0: 2e-6, 60.0: 1e-5, 66.0: 1e-5, 500.0: 1e-4}


@pytest.mark.parametrize("largest", RTOL)
def test_ndcg_weights_keep_their_digits(largest):
    generator = np.random.default_rng(0)
    scores = generator.normal(size=80).astype(np.float32)
    scores[5] = scores[9]
    target = (largest * np.linspace(0, 1, 4, dtype=np.float32))[generator.integers(0, 4, size=80)].astype(np.float32)
    expected = exact_weights(scores, target)
    np.testing.assert_allclose(jaxloss.ndcg_pair_weights(scores, target), expected, rtol=RTOL[largest], atol=1e-37)
    by_two = jaxloss.ndcg_pair_weights(np.stack([scores, -scores]), np.stack([target, 0 * target]))
    np.testing.assert_allclose(by_two[0], expected, rtol=RTOL[largest], atol=1e-37)
    assert not by_two[1].any()


def test_ndcg_weights_of_late_ranks():
    scores = -np.arange(3000, dtype=np.float32)
    weights = jaxloss.ndcg_pair_weights(scores, np.arange(3000) % 2)
    discounts = 1 / np.log2(2 + np.arange(3000.0))
    best = discounts[:1500].sum()
    np.testing.assert_allclose(weights[np.arange(2999), np.arange(1, 3000)], -np.diff(discounts) / best, rtol=2e-6)
    assert jax.eval_shape(jaxloss.ndcg_pair_weights, scores.astype(jnp.bfloat16), scores).dtype == jnp.float32


def test_ndcg_weights_take_arrays_that_fit():
    with pytest.raises(
        ValueError, match=r"ndcg_pair_weights: target has shape \(4,\) but takes shape \(3,\), as scores"
    ):
        jaxloss.ndcg_pair_weights(np.zeros(3), np.zeros(4))
    with pytest.raises(TypeError, match="ndcg_pair_weights: scores has dtype int"):
        jaxloss.ndcg_pair_weights(np.zeros(3, int), np.zeros(3))
