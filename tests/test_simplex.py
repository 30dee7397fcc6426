"""Tests of sparsemax and Fenchel-Young losses that the registry does not cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss


def test_a_class_that_leads_by_1_has_no_loss_and_no_gradient():
    logits, target = jnp.array([[3.0, 2.0, 1.5], [1e30, -1e30, 0.0]]), jnp.array([0, 0])
    value, slope = jax.value_and_grad(jaxloss.multiclass_sparsemax_loss)(logits, target)
    assert value == 0
    np.testing.assert_array_equal(slope, 0)
    assert jaxloss.sparsemax_loss(1.0, 1) == jaxloss.sparsemax_loss(-1.0, 0) == 0


@pytest.mark.parametrize("gap", [1e-6, 1e-3, 0.1])
def test_a_small_sparsemax_loss_has_its_digits(gap):
    """Of two classes it is a square, as that of one logit."""
    lead = np.float32(1 - gap)
    expected = (np.float64(1) - lead) ** 2 / 4
    logits = jnp.array([lead, 0.0])
    np.testing.assert_allclose(jaxloss.sparsemax_loss(lead, 1), expected, rtol=1e-6)
    # A rounding error of the logits changes it as much.
    np.testing.assert_allclose(jaxloss.multiclass_sparsemax_loss(logits, 0), expected, atol=gap * 1e-7)


def test_two_classes_are_one_logit():
    x = jnp.linspace(-3, 3, 25)
    logits = jnp.stack([jnp.zeros_like(x), x], axis=-1)
    for target in (0, 1):
        labels = jnp.full(len(x), target)
        two = jaxloss.multiclass_sparsemax_loss(logits, labels, reduction="none")
        np.testing.assert_allclose(two, jaxloss.sparsemax_loss(x, labels, reduction="none"), rtol=1e-6)


def test_the_loss_of_an_unlikely_class_does_not_overflow():
    logits = jnp.array([1e38, -1e38, 1e38])
    np.testing.assert_allclose(jaxloss.multiclass_sparsemax_loss(logits, 1), 2e38, rtol=1e-6)


def test_fenchel_young_with_the_default_is_the_cross_entropy_of_a_distribution():
    generator = np.random.default_rng(0)
    scores, target = generator.normal(size=(6, 4)).astype(np.float32), jnp.asarray(generator.dirichlet(np.ones(4), 6))
    target = target.astype(np.float32)
    np.testing.assert_allclose(
        jaxloss.fenchel_young_loss(scores, target), jaxloss.cross_entropy(scores, target), rtol=1e-6
    )


def test_the_gradient_of_fenchel_young_is_what_attains_the_maximum_minus_the_target():
    scores, target = jnp.array([0.5, -2.0, 1.0]), jnp.array([0.0, 1.0, 0.0])
    slope = jax.grad(lambda x: jaxloss.fenchel_young_loss(x, target, max_fun=lambda x: jnp.sum(x * x) / 2))(scores)
    np.testing.assert_array_equal(slope, scores - target)


@pytest.mark.parametrize(
    ("max_fun", "message"),
    [
        (3, "max_fun is compiled into the program and takes a callable, got int"),
        (lambda: 0.0, r"max_fun is <lambda> but takes a callable of one argument \(a vector\)"),
        (lambda x, y: x, r"max_fun is <lambda> but takes a callable of one argument \(a vector\)"),
        (float, r"max_fun is float but takes a callable of one argument \(a vector\)"),
        (jnp.exp, r"max_fun returned shape \(3,\) but takes a callable that returns a real number"),
        (
            lambda x: jax.lax.complex(x[0], x[0]),
            "max_fun returned dtype complex64 but takes",
        ),
        (lambda x: None, "max_fun returned an object of type NoneType but takes"),
        (lambda x: x[0] > 0, "max_fun returned dtype bool but takes"),
    ],
)
def test_a_bad_max_fun_is_reported(max_fun, message):
    with pytest.raises(TypeError, match=f"fenchel_young_loss: {message}"):
        jaxloss.fenchel_young_loss(jnp.zeros((2, 3)), jnp.zeros((2, 3)), max_fun=max_fun)
