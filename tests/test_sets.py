"""Samples that are sets: a loss for each item, masks among candidates, and labels; by small losses of the tests."""

from typing import Unpack

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss

GENERATOR = np.random.default_rng(0)


@jaxloss.loss("(n,d),(n)->(n)", domains={"scale": "(0, inf)"})
def spread_loss(embeddings, labels, *, where=None, scale=1.0, **options: Unpack[jaxloss.SetOptions]):
    """The mean squared distance of an item to the items with its label, normalised by their number."""
    squared = jnp.sum((embeddings[:, None] - embeddings[None]) ** 2, axis=-1)
    same = (labels[:, None] == labels[None]) & where[None]
    return scale * jnp.sum(jnp.where(same, squared, 0), axis=1), jnp.sum(same, axis=1)


EMBEDDINGS = GENERATOR.normal(size=(2, 5, 3)).astype(np.float32)


LABELS = np.array([[0, 1, 0, 0, 2], [3, 3, 3, 3, 3]], np.int32)


WHERE = np.array([[True, True, True, False, True], [True, False, True, True, True]])


WEIGHTS = GENERATOR.uniform(0.5, 2, size=(2, 5)).astype(np.float32)


def spread(embeddings, labels, where):
    """Losses and normalisers of one set, computed by two loops."""
    losses, counts = np.zeros(len(labels)), np.zeros(len(labels))
    for i in np.flatnonzero(where):
        for j in np.flatnonzero(where & (labels == labels[i])):
            losses[i] += ((np.float64(embeddings[i]) - embeddings[j]) ** 2).sum()
            counts[i] += 1
    return losses, counts


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "weighted_mean", "batchmean", "total"])
def test_a_set_has_a_loss_for_each_item(reduction):
    losses, counts = (np.stack(each) for each in zip(*map(spread, EMBEDDINGS, LABELS, WHERE), strict=True))
    loss_sum, count = (WEIGHTS * losses).sum(), counts.sum()
    expected = {
        "none": WEIGHTS * losses,
        "sum": loss_sum,
        "mean": loss_sum / count,
        "weighted_mean": loss_sum / (WEIGHTS * counts).sum(),
        "batchmean": loss_sum / 2,
        "total": (loss_sum, count),
    }[reduction]
    got = spread_loss(EMBEDDINGS, LABELS, where=WHERE, weights=WEIGHTS, reduction=reduction)
    got = (got.loss, got.normaliser) if reduction == "total" else got
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.nans
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_masked_item_is_neither_anchor_nor_candidate(poison):
    def run(embeddings, weights):
        def loss(embeddings, weights):
            return spread_loss(embeddings, LABELS, where=WHERE, weights=weights)

        return jax.value_and_grad(loss, (0, 1))(embeddings, weights)

    poisoned = np.where(WHERE[..., None], EMBEDDINGS, poison), np.where(WHERE, WEIGHTS, poison)
    got, expected = run(*poisoned), run(EMBEDDINGS, WEIGHTS)
    chex.assert_trees_all_close(got, expected, rtol=1e-6)
    chex.assert_tree_all_finite(got)
    assert not np.any(np.asarray(got[1][0])[~WHERE])
    alone = [spread_loss(x[m], y[m], reduction="sum") for x, y, m in zip(EMBEDDINGS, LABELS, WHERE, strict=True)]
    np.testing.assert_allclose(spread_loss(*poisoned[:1], LABELS, where=WHERE, reduction="sum"), sum(alone), rtol=1e-6)


@pytest.mark.nans
def test_a_set_under_transformations():
    losses = spread_loss(EMBEDDINGS, LABELS, where=WHERE, reduction="none")
    assert losses.shape == (2, 5)
    each = jax.vmap(lambda x, y, m: spread_loss(x, y, where=m, reduction="none"))(EMBEDDINGS, LABELS, WHERE)
    np.testing.assert_allclose(each, losses, rtol=1e-6)
    np.testing.assert_allclose(spread_loss(EMBEDDINGS[0], LABELS[0], where=WHERE[0], reduction="none"), losses[0], 1e-6)
    everywhere = spread_loss(EMBEDDINGS, LABELS, reduction="total")
    one_for_all = spread_loss(EMBEDDINGS, LABELS, where=True, weights=2.0, reduction="total")
    assert (float(one_for_all.normaliser), float(everywhere.normaliser)) == (36.0, 36.0)
    np.testing.assert_allclose(one_for_all.loss, 2 * everywhere.loss, rtol=1e-6)
    mean = spread_loss(EMBEDDINGS, LABELS, weights=2.0, reduction="weighted_mean")
    np.testing.assert_allclose(mean, everywhere.mean(), rtol=1e-6)
    shared = spread_loss(EMBEDDINGS, LABELS[0], where=WHERE[0], reduction="none")
    again = spread_loss(EMBEDDINGS, np.stack([LABELS[0]] * 2), where=np.stack([WHERE[0]] * 2), reduction="none")
    np.testing.assert_array_equal(shared, again)
    scales = spread_loss(EMBEDDINGS, LABELS, scale=np.array([1.0, 3.0]), reduction="none")
    np.testing.assert_allclose(scales[1], 3 * spread_loss(EMBEDDINGS[1], LABELS[1], reduction="none"), rtol=1e-6)
    pair = spread_loss(EMBEDDINGS, LABELS, where=WHERE, reduction=lambda losses, normalisers: (losses, normalisers))
    assert [part.shape for part in pair] == [(2, 5), (2, 5)]
    half = spread_loss(jnp.asarray(EMBEDDINGS, jnp.bfloat16), LABELS, reduction="none")
    assert half.dtype == jnp.float32

    @jax.jit
    def both(embeddings):
        return jax.value_and_grad(lambda x: spread_loss(x, LABELS, where=WHERE))(embeddings)

    exported = jax.export.deserialize(jax.export.export(both)(EMBEDDINGS).serialize())
    chex.assert_trees_all_close(exported.call(EMBEDDINGS), both(EMBEDDINGS), rtol=1e-6)
    with jaxloss.data_checks(True):
        error, _ = checkify.checkify(lambda x: spread_loss(EMBEDDINGS, LABELS, scale=x))(jnp.float32(-1))
    assert "spread_loss: scale is -1.0 but must lie in (0, inf)" in error.get()
    with pytest.raises(ValueError, match=r"spread_loss: axis n has length 4 in labels of shape \(2, 4\) but 5 in"):
        spread_loss(EMBEDDINGS, LABELS[:, :4])
    with pytest.raises(TypeError, match="spread_loss: labels has dtype float32 but takes integer labels"):
        spread_loss(EMBEDDINGS, LABELS.astype(np.float32))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (0, 5, 3)])
def test_an_empty_or_masked_set_has_loss_0_and_gradient_0(shape):
    embeddings, labels = np.zeros(shape, np.float32), np.zeros(shape[:-1], np.int32)
    for reduction in ("sum", "mean", "weighted_mean", "batchmean"):
        value, gradient = jax.value_and_grad(spread_loss)(embeddings, labels, reduction=reduction)
        assert (float(value), gradient.shape) == (0, shape)
    assert spread_loss(embeddings, labels, reduction="none").shape == shape[:-1]
    value, gradient = jax.value_and_grad(spread_loss)(EMBEDDINGS, LABELS, where=False)
    assert value == 0
    assert not np.any(gradient)


@pytest.mark.cpu
def test_sets_on_a_mesh():
    expected = jax.value_and_grad(spread_loss)(EMBEDDINGS, LABELS, where=WHERE)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            placed = [
                jax.device_put(a, NamedSharding(mesh, PartitionSpec("data"))) for a in (EMBEDDINGS, LABELS, WHERE)
            ]
            got = jax.jit(jax.value_and_grad(lambda x, y, m: spread_loss(x, y, where=m)))(*placed)
            losses = jax.jit(lambda x, y, m: spread_loss(x, y, where=m, reduction="none"))(*placed)
        chex.assert_trees_all_close(jax.device_get(got), jax.device_get(expected), rtol=1e-6)
        assert losses.shape == (2, 5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint32, np.int64, np.uint64])
def test_labels_of_any_integer_dtype(dtype):
    expected = spread_loss(EMBEDDINGS, LABELS, reduction="none")
    np.testing.assert_array_equal(spread_loss(EMBEDDINGS, LABELS.astype(dtype), reduction="none"), expected)
    largest = np.iinfo(dtype).max - LABELS.astype(dtype)
    np.testing.assert_array_equal(spread_loss(EMBEDDINGS, largest, reduction="none"), expected)


def test_narrowing_64_bit_labels_preserves_equality():
    expected = spread_loss(EMBEDDINGS, LABELS, reduction="none")
    far = LABELS.astype(np.int64) * 2**32 - 1  # all -1 if they wrapped
    np.testing.assert_array_equal(spread_loss(EMBEDDINGS, far, reduction="none"), expected)
    np.testing.assert_array_equal(jax.jit(lambda x: spread_loss(x, far, reduction="none"))(EMBEDDINGS), expected)
    with jax.enable_x64(True):
        got = jax.jit(lambda x, y: spread_loss(x, y, reduction="none"))(EMBEDDINGS, far)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_two_arrays_of_labels_are_numbered_together():
    @jaxloss.loss("(n),(n),(n)->(n)", labels=("first", "second"))
    def match_loss(scores, first, second, *, where=None, **options):
        return jnp.where(first == second, scores, 0)

    scores, first = np.arange(1, 4, dtype=np.float32), np.array([2**40, 5, 2**33])
    got = match_loss(scores, first, np.array([2**40, 5, 2**33 + 1]), reduction="none")
    np.testing.assert_array_equal(got, [1, 2, 0])
    np.testing.assert_array_equal(match_loss(scores, first, np.array([7, 5, 0], np.int32), reduction="none"), [0, 2, 0])
    with pytest.raises(TypeError, match="match_loss: first and second has 64-bit integers of NumPy beside a traced"):
        jax.jit(lambda second: match_loss(scores, first, second))(np.array([7, 5, 0], np.int32))


def test_labels_of_two_dtypes_are_compared_in_one_that_holds_both():
    @jaxloss.loss("(n),(n),(n)->(n)", labels=("first", "second"))
    def match_loss(scores, first, second, *, where=None, **options):
        return jnp.where(first == second, scores, 0)

    scores, small = np.ones(2, np.float32), np.array([-1, 200], np.int32)
    got = match_loss(scores, np.array([255, 200], np.uint8), small, reduction="none")
    np.testing.assert_array_equal(got, [0, 1])
    with pytest.raises(TypeError, match="first has dtype uint32 and second has dtype int32 but labels take"):
        match_loss(scores, np.array([2**32 - 1, 200], np.uint32), small)
    wide = np.array([2**40, 200])
    for odd, message in (
        ([1, 2], "second is a list but"),
        (None, "second is of type NoneType but"),
        (scores, "float32"),
    ):
        with pytest.raises(TypeError, match=f"match_loss: .*{message}"):
            match_loss(scores, wide, odd)


def test_labels_are_those_of_sets_by_default():
    @jaxloss.loss("(c),(c)->()")
    def loss_by_optax(logits, labels, **options):
        return -jnp.sum(labels * logits)

    assert loss_by_optax(EMBEDDINGS[0], np.asarray(jax.nn.softmax(EMBEDDINGS[0]))).shape == ()


@jaxloss.loss("(n),()->(n)", indices={"target": "[0, n)"})
def below_loss(scores, target, *, ignore_index=-100, where=None, **options: Unpack[jaxloss.SetOptions]):
    """How far each item is below the one that is right."""
    return scores[target] - scores


@pytest.mark.nans
def test_an_index_of_a_whole_set_masks_or_spoils_all_its_items():
    scores, target = EMBEDDINGS[..., 0], np.array([1, -100])
    losses = below_loss(scores, target, reduction="none")
    np.testing.assert_array_equal(losses[1], 0)
    np.testing.assert_allclose(below_loss(scores, target), losses[0].mean(), rtol=1e-6)
    pair = below_loss(scores, target, reduction=lambda losses, normalisers: (losses, normalisers))
    np.testing.assert_array_equal(pair[1], [[1] * 5, [0] * 5])
    assert np.isnan(below_loss(scores, np.array([1, 5]), reduction="none")).tolist() == [[False] * 5, [True] * 5]


@jaxloss.loss("(n,d),(c,d),(n)->(n)", indices={"target": "[0, c)"}, parameters={"proxies": "(c,d)"})
def proxy_loss(embeddings, proxies, target, *, where=None, **options: Unpack[jaxloss.SetOptions]):
    others = jnp.sum(jnp.where(where, embeddings @ embeddings.T, 0), axis=1)
    return others - jnp.sum(embeddings * proxies[target], axis=1)


@pytest.mark.nans
def test_an_item_with_an_index_out_of_range_is_nan_and_no_candidate():
    proxies, target = EMBEDDINGS[1, :3], np.array([0, 1, 2, 9, 0])
    losses = proxy_loss(EMBEDDINGS[0], proxies, target, reduction="none")
    without = proxy_loss(EMBEDDINGS[0], proxies, np.where(target == 9, 0, target), where=target != 9, reduction="none")
    np.testing.assert_array_equal(np.isnan(losses), target == 9)
    np.testing.assert_allclose(losses[target != 9], without[target != 9], rtol=1e-6)
    with jaxloss.data_checks(True):
        check = checkify.checkify(lambda where: proxy_loss(EMBEDDINGS[0], proxies, target, where=where))
        assert "proxy_loss: target is 9 but must lie in [0, 3)" in check(np.ones(5, bool))[0].get()
        assert check(target != 9)[0].get() is None


@jaxloss.loss("(n,d),(d)->(n)", domains={"centre": "[-9, 9]"})
def centre_loss(embeddings, centre, *, scale=1.0, where=None, **options: Unpack[jaxloss.SetOptions]):
    return scale * jnp.sum((embeddings - centre[None]) ** 2, axis=1)


@pytest.mark.nans
def test_nan_beside_a_set_that_is_masked_completely_has_no_effect():
    centre, where = EMBEDDINGS[:, 0].copy(), np.array([[True] * 5, [False] * 5])
    centre[1] = np.nan
    scale = np.array([1.0, np.nan], np.float32)

    def loss(embeddings, centre, scale):
        return centre_loss(embeddings, centre, scale=scale, where=where)

    gradients = jax.grad(loss, (0, 1, 2))(EMBEDDINGS, centre, scale)
    expected = jax.grad(lambda x, c, s: centre_loss(x, c, scale=s), (0, 1, 2))(EMBEDDINGS[0], centre[0], scale[0])
    for gradient, other in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient[0], other, rtol=1e-6)
        np.testing.assert_array_equal(gradient[1], 0)


@pytest.mark.nans
def test_items_are_masked_along_each_axis_that_they_have():
    @jaxloss.loss("(n,n)->(n)")
    def row_loss(similarities, *, where=None, **options: Unpack[jaxloss.SetOptions]):
        return jnp.sum(similarities, axis=1)

    where, similarities = np.array([True, False, True]), np.arange(9, dtype=np.float32).reshape(3, 3)
    poisoned = similarities.copy()
    poisoned[1], poisoned[:, 1] = np.nan, np.nan
    losses = row_loss(poisoned, where=where, reduction="none")
    np.testing.assert_array_equal(losses, [2, 0, 14])
    gradient = jax.grad(lambda x: row_loss(x, where=where, reduction="sum"))(poisoned)
    np.testing.assert_array_equal(gradient, [[1, 0, 1], [0, 0, 0], [1, 0, 1]])


def test_indices_and_labels_may_be_options():
    @jaxloss.loss("(t),(n)->(n)", indices={"length": "[0, t]"}, labels=("groups",), per_sample={"groups": "(n)"})
    def prefix_loss(frames, scores, *, length=None, groups=None, where=None, **options: Unpack[jaxloss.SetOptions]):
        return scores if length is None else scores * length.astype(scores.dtype)

    frames, scores = np.zeros(4, np.float32), np.ones(3, np.float32)
    assert prefix_loss(frames, scores, reduction="sum") == 3
    assert prefix_loss(frames, scores, length=np.array(2), groups=np.array([2**40, 1, 1]), reduction="sum") == 6


def test_a_declaration_of_a_set_that_does_not_fit_raises():
    for message, notation, kernel in (
        ("declares where, which the decorator reads", "(c)->()", lambda logits, *, where=None, **options: logits),
        ("declares valid, but prediction has no core axis", "()->()", lambda prediction, *, valid=None: prediction),
    ):
        with pytest.raises(TypeError, match=f"loss: <lambda> {message}"):
            jaxloss.loss(notation)(kernel)
    with pytest.raises(TypeError, match="has notations whose losses differ in shape"):
        jaxloss.loss("(n),(n)->(n)", "(n),(n)->()")(lambda x, y: x)
    per_set = jaxloss.loss("(n,d)->(n)")(lambda embeddings, **options: jnp.sum(embeddings))
    with pytest.raises(
        TypeError, match=r"the kernel returned shape \(\) for one sample but takes a loss of shape \(5,\)"
    ):
        per_set(EMBEDDINGS)
