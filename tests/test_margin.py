"""Scores for ranking losses, and tests of margin losses that the registry does not cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

SCORES = {
    "target_score": (jaxloss.target_score, lambda x, y: x[y]),
    "highest_wrong_score": (jaxloss.highest_wrong_score, lambda x, y: np.delete(x, y).max()),
}
each_score = pytest.mark.parametrize(("function", "reference"), SCORES.values(), ids=SCORES)


def draw(dtype=np.float32):
    generator = np.random.default_rng(0)
    return generator.normal(size=(3, 4, 5)).astype(dtype), generator.integers(0, 5, size=(3, 4))


@each_score
def test_scores_match_the_reference(function, reference):
    logits, target = draw()
    expected = np.array(
        [[reference(x, y) for x, y in zip(*row, strict=True)] for row in zip(logits, target, strict=True)]
    )
    np.testing.assert_array_equal(function(logits, target), expected)
    np.testing.assert_array_equal(function(np.moveaxis(logits, -1, 0), target, axis=0), expected)
    np.testing.assert_array_equal(jax.jit(jax.vmap(function))(logits, target), expected)
    half = function(logits.astype(jnp.bfloat16), target)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, expected, rtol=1e-2)


@pytest.mark.nans
@each_score
def test_a_target_out_of_range_gives_nan_for_its_sample_only(function, reference):
    del reference
    logits, target = draw()
    clean = function(logits, target)
    for bad in (-1, 5, -100):
        labels = target.copy()
        labels[1, 2] = bad
        scores = np.array(function(logits, labels))
        assert np.isnan(scores[1, 2])
        scores[1, 2] = clean[1, 2]
        np.testing.assert_array_equal(scores, clean)


@each_score
def test_score_errors(function, reference):
    del reference
    logits, target = draw()
    name = function.__name__
    for error, message, call in (
        (TypeError, "logits has dtype int32", lambda: function(target, target)),
        (
            TypeError,
            "target has dtype float32 but takes integer class indices",
            lambda: function(logits, logits[..., 0]),
        ),
        (TypeError, "there is no option weights", lambda: function(logits, target, weights=1.0)),
        (
            ValueError,
            r"target has shape \(3, 4, 1\).*use target\[:, :, 0\]",
            lambda: function(logits, target[..., None]),
        ),
    ):
        with pytest.raises(error, match=f"{name}: {message}"):
            call()


def test_the_highest_wrong_score_shares_its_derivative_within_the_width_of_the_kink():
    logits, target = jnp.array([2.0, 5.0, 1.9]), jnp.array(1)
    slope = jax.grad(jaxloss.highest_wrong_score)
    np.testing.assert_array_equal(slope(logits, target), [1, 0, 0])
    np.testing.assert_allclose(slope(logits, target, kink_width=0.2), [0.84375, 0, 0.15625], rtol=1e-5)
    with pytest.raises(ValueError, match=r"highest_wrong_score: kink_width is -1 but must lie in \[0, inf\)"):
        jaxloss.highest_wrong_score(logits, target, kink_width=-1)


def test_with_one_class_the_highest_wrong_score_is_minus_infinity():
    logits, target = jnp.array([[3.0]]), jnp.array([0])
    assert jaxloss.highest_wrong_score(logits, target) == -jnp.inf

    def loss(logits):
        wrong = jaxloss.highest_wrong_score(logits, target)
        return jaxloss.margin_ranking_loss(jaxloss.target_score(logits, target), wrong, 1, margin=1.0)

    value, gradient = jax.value_and_grad(loss)(logits)
    assert value == 0
    assert gradient == 0


@pytest.mark.nans
def test_masked_samples_may_have_any_target():
    logits, target = draw()
    where = np.arange(12).reshape(3, 4) != 5
    target[1, 1] = -100

    def loss(logits):
        right, wrong = jaxloss.target_score(logits, target), jaxloss.highest_wrong_score(logits, target)
        return jaxloss.margin_ranking_loss(right, wrong, 1, margin=1.0, where=where)

    value, gradient = jax.value_and_grad(loss)(logits)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert not gradient[1, 1].any()


def test_a_squared_hinge_has_no_kink_to_smooth():
    slope = jax.grad(jaxloss.multi_margin_loss)
    logits, target = jnp.array([1.0, 0.25, -0.5]), jnp.array(0)
    np.testing.assert_allclose(slope(logits, target, p=2, kink_width=1.0), [-1 / 6, 1 / 6, 0], rtol=1e-6)


def test_a_squared_margin_overflows_only_where_its_mean_does():
    logits = jnp.zeros(4).at[1].set(3e19)  # its square is beyond float32, but a quarter of the square is not
    value, gradient = jax.value_and_grad(jaxloss.multi_margin_loss)(logits, jnp.array(0), p=2)
    np.testing.assert_allclose(value, 9e38 / 4, rtol=1e-6)
    np.testing.assert_allclose(gradient, [-1.5e19, 1.5e19, 0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3, 4, 5, 8, 9, 16, 17, 33, 257])
@pytest.mark.parametrize("size", [3.3e38, 1e-34])
def test_squared_hinges_neither_overflow_nor_underflow_where_their_mean_does_not(n_classes, size):
    violation = np.sqrt(size * n_classes / (n_classes - 1))
    logits = np.full(n_classes, 0, np.float32)
    logits[0] = -np.float32(violation)
    loss = jaxloss.multi_margin_loss(logits, jnp.int32(0), p=2, margin=0.0)
    np.testing.assert_allclose(loss, size, rtol=2e-6)


@pytest.mark.nans
@pytest.mark.parametrize("target", [0, 2, 0.5])
def test_a_target_that_is_neither_case_of_a_hinge_gives_nan(target):
    losses = jaxloss.hinge_embedding_loss(jnp.array([0.25, 0.25]), jnp.array([1.0, target]), reduction="none")
    np.testing.assert_array_equal(losses, [0.25, np.nan])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_hinge_is_right_at_extreme_distances(dtype):
    largest = float(jnp.finfo(dtype).max)
    x = jnp.array([jnp.inf, largest, 2, 1, 0, -largest, -jnp.inf], dtype)
    alike, unlike = (jaxloss.hinge_embedding_loss(x, sign, reduction="none") for sign in (1, -1))
    np.testing.assert_array_equal(alike, x)
    np.testing.assert_array_equal(unlike, np.float32([0, 0, 0, 0, 1, 1 + largest, np.inf]))
