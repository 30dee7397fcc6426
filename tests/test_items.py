"""The items of a set: which are positives and negatives of an anchor, and how many there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import _labelled_items as labelled
from jaxloss import _sets as sets
from jaxloss import vectors

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(3, 7, 4)).astype(np.float32)
LABELS = GENERATOR.integers(-2, 2, size=(3, 7)).astype(np.int32)
WHERE = GENERATOR.uniform(size=(3, 7)) < 0.7


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("index", [None, 2])
def test_the_candidates_of_a_row(masked, index):
    exists, labels = (WHERE[0] if masked else np.ones(7, bool)), LABELS[0]
    row = sets.Row(
        jnp.zeros(7),
        None if index is None else jnp.asarray(index),
        jnp.asarray(exists) if masked else None,
        jnp.asarray(labels == 1),
    )
    is_other = np.arange(7) != index
    np.testing.assert_array_equal(row.others, exists & is_other)
    np.testing.assert_array_equal(row.positives, exists & is_other & (labels == 1))
    np.testing.assert_array_equal(row.negatives, exists & (labels != 1))
    if index is not None:
        np.testing.assert_array_equal(row.own, np.arange(7) == index)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int8])
def test_positives_and_negatives_are_counted_per_item(masked, dtype):
    labels, where = jnp.asarray(LABELS.astype(dtype)), WHERE if masked else None
    items = labelled.LabelledItems.of("counts", jnp.asarray(X), labels, where, True, None)
    exists = WHERE if masked else np.ones_like(WHERE)
    same = LABELS[:, :, None] == LABELS[:, None]
    n_same = (same & exists[:, None]).sum(-1)
    np.testing.assert_array_equal(items.n_positives, n_same - 1)
    np.testing.assert_array_equal(items.n_negatives, exists.sum(-1, keepdims=True) - n_same)


@pytest.mark.every_platform
def test_labels_are_counted_equally_by_sorting_and_by_comparing():
    def lowered(platform):
        count = jax.jit(lambda labels: labelled.count_labels(labels, sets.Candidates(labels, None, labels, 0)))
        return count.trace(LABELS[0]).lower(lowering_platforms=(platform,)).as_text()

    assert "sort" in lowered("cpu")
    assert "sort" not in lowered("tpu")
    compared = (LABELS[0][:, None] == LABELS[0][None]).sum(-1)
    count = labelled.count_labels(jnp.asarray(LABELS[0]), sets.Candidates(jnp.asarray(X[0]), None, LABELS[0], 0))
    np.testing.assert_array_equal(count, compared)


def test_prepared_vectors_have_length_1_in_float32_if_normalised():
    half = jnp.asarray(X, jnp.bfloat16)
    assert sets.prepared(half, False).dtype == jnp.bfloat16
    unit = sets.prepared(half, True)
    assert unit.dtype == jnp.float32
    np.testing.assert_allclose(vectors.norm(unit), 1, rtol=1e-6)


def test_the_gradient_of_repeated_vectors_is_their_sum():
    cotangents = np.asarray(GENERATOR.normal(size=(2, 3, 4)), np.float32)
    _, pull = jax.vjp(lambda x: sets.repeated(x, (2,)), jnp.ones((3, 4)))
    np.testing.assert_allclose(pull(jnp.asarray(cotangents))[0], cotangents.sum(0), rtol=1e-6)
    huge = np.full((3, 3, 4), 3e38, np.float32)
    huge[2] *= -1
    _, pull = jax.vjp(lambda x: sets.repeated(x, (3,)), jnp.ones((3, 4)))
    np.testing.assert_allclose(pull(jnp.asarray(huge))[0], 3e38, rtol=1e-5)
