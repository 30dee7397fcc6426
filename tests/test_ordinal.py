"""Tests of losses of ordered classes that the registry does not cover."""

import jax.numpy as jnp
import numpy as np

import jaxloss


def test_coral_is_one_binary_decision_for_each_threshold():
    generator = np.random.default_rng(0)
    logits, target = generator.normal(size=(5, 3)).astype(np.float32), np.array([0, 1, 2, 3, 3])
    decisions = (target[:, None] > np.arange(3)).astype(np.float32)
    assert decisions.sum() == target.sum()
    expected = jaxloss.binary_cross_entropy_with_logits(logits, decisions, reduction="none").sum(-1)
    for labels in (target, target.astype(np.uint8), jnp.asarray(target, jnp.int8)):
        np.testing.assert_allclose(jaxloss.coral_loss(logits, labels, reduction="none"), expected, rtol=1e-6)
