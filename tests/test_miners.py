"""Choosing positives and negatives in a set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloss import miners

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(3, 9, 4)).astype(np.float32)
LABELS = GENERATOR.integers(0, 3, size=(3, 9))
WHERE = GENERATOR.uniform(size=(3, 9)) < 0.8


def chosen(x, labels, where):
    """The choices of one set, by loops; -1 for none."""
    distances = np.linalg.norm(x[:, None].astype(float) - x[None], axis=-1)
    found = np.full((2, len(x)), -1)
    for i in np.flatnonzero(where):
        positives = [j for j in np.flatnonzero(where) if j != i and labels[j] == labels[i]]
        negatives = [j for j in np.flatnonzero(where) if labels[j] != labels[i]]
        if positives and negatives:
            found[:, i] = max(positives, key=lambda j: distances[i, j]), min(negatives, key=lambda j: distances[i, j])
    return found


@pytest.mark.parametrize("shift", [0.0, 1000.0])
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30])
def test_batch_hard_chooses_as_loops_do(scale, shift):
    x = (X + np.float32(shift)) * np.float32(scale)
    pairs = miners.batch_hard(x, LABELS, where=WHERE)
    for i, each in enumerate(x):
        positive, negative = chosen(each / np.float32(scale), LABELS[i], WHERE[i])
        np.testing.assert_array_equal(pairs.exist[i], positive >= 0)
        if not shift:  # with which float32 does not tell all distances apart
            np.testing.assert_array_equal(np.where(pairs.exist[i], pairs.positive[i], -1), positive)
            np.testing.assert_array_equal(np.where(pairs.exist[i], pairs.negative[i], -1), negative)
        there = np.flatnonzero(pairs.exist[i])
        assert (LABELS[i][np.asarray(pairs.positive[i])] == LABELS[i])[there].all()
        assert (LABELS[i][np.asarray(pairs.negative[i])] != LABELS[i])[there].all()


@pytest.mark.nans
def test_what_is_masked_is_not_chosen():
    poisoned = np.where(WHERE[..., None], X, np.nan)
    pairs, clean = (miners.batch_hard(x, LABELS, where=WHERE) for x in (poisoned, X))
    for got, expected in zip(pairs, clean, strict=True):
        np.testing.assert_array_equal(got, expected)
    jitted = jax.jit(miners.batch_hard)(X[0], jnp.asarray(LABELS[0]))
    np.testing.assert_array_equal(jitted.positive, miners.batch_hard(X[0], LABELS[0]).positive)


def test_pair_masks():
    masks = miners.pair_masks(LABELS, where=WHERE)
    for i in range(3):
        both = WHERE[i][:, None] & WHERE[i][None]
        same = LABELS[i][:, None] == LABELS[i][None]
        np.testing.assert_array_equal(masks.positives[i], same & both & ~np.eye(9, dtype=bool))
        np.testing.assert_array_equal(masks.negatives[i], ~same & both)
    np.testing.assert_array_equal(miners.pair_masks(LABELS).negatives[0], LABELS[0][:, None] != LABELS[0][None])
    np.testing.assert_array_equal(miners.pair_masks(LABELS[0], where=False).positives, False)


def test_errors_name_the_argument():
    with pytest.raises(TypeError, match=r"miners\.batch_hard: embeddings has dtype int32 but takes floating numbers"):
        miners.batch_hard(LABELS.astype(np.int32), LABELS)
    with pytest.raises(TypeError, match=r"miners\.batch_hard: labels has dtype float32 but takes integer labels"):
        miners.batch_hard(X, X[..., 0])
    with pytest.raises(ValueError, match=r"miners\.batch_hard: labels has shape \(9,\) but one label per row"):
        miners.batch_hard(X, LABELS[0])
    with pytest.raises(ValueError, match=r"miners\.pair_masks: where has shape \(3, 8\) but labels has shape \(3, 9\)"):
        miners.pair_masks(LABELS, where=WHERE[:, :8])
    with pytest.raises(TypeError, match=r"miners\.pair_masks: where has dtype float32 but takes booleans"):
        miners.pair_masks(LABELS, where=np.ones((3, 9), np.float32))
    with pytest.raises(ValueError, match=r"miners\.pair_masks: labels has shape \(\)"):
        miners.pair_masks(3)
