"""The cross-entropy of class indices, with the sums of each platform."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxloss
from tests.drawing import derivatives
from tests.references.classification import cross_entropy

LOGITS = np.array([[0, -20, -21, -30], [50, 0, 1, 2], [0, -17, -17, -1000], [3, 0, 1, 2], [0, 0, 0, 0]], np.float32)
CERTAIN, UNLIKELY = np.zeros(5, np.int32), np.ones(5, np.int32)
pytestmark = pytest.mark.usefixtures("each_platform")
each_target = pytest.mark.parametrize("target", [CERTAIN, UNLIKELY], ids=["certain", "unlikely"])


def surprises(logits, target):
    """log(1 + the odds of the other classes), in float64."""
    differences = logits.astype(np.float64) - np.take_along_axis(logits, target[:, None], -1)
    np.put_along_axis(differences, target[:, None], -np.inf, -1)
    return np.log1p(np.exp(differences).sum(-1))


@each_target
def test_a_certain_class_keeps_its_digits_except_on_a_cpu(target, each_platform):
    lost = 1e-7 if each_platform == "cpu" else 0
    losses = jaxloss.cross_entropy(LOGITS, target, reduction="none")
    layer = jaxloss.linear_cross_entropy(jnp.asarray(LOGITS), jnp.eye(4), target, reduction="none")
    expected = surprises(LOGITS, target)
    np.testing.assert_allclose(expected, cross_entropy(LOGITS.astype(np.float64), target)[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(losses, expected, rtol=1e-6, atol=lost)
    np.testing.assert_allclose(layer, expected, rtol=1e-6, atol=lost)


OF_SURPRISE = {
    jaxloss.softmax_focal_loss: lambda s: np.expm1(-s) ** 2 * s,
    jaxloss.poly_loss_cross_entropy: lambda s: s - 2 * np.expm1(-s),
    jaxloss.generalized_cross_entropy: lambda s: -np.expm1(-0.7 * s) / 0.7,
}


@each_target
@pytest.mark.parametrize("loss", OF_SURPRISE, ids=lambda loss: loss.__name__)
def test_functions_of_the_probability_of_a_certain_class_keep_its_digits(loss, target, each_platform):
    lost = 1e-6 if each_platform == "cpu" else 1e-38
    losses = loss(LOGITS, target, reduction="none")
    np.testing.assert_allclose(losses, OF_SURPRISE[loss](surprises(LOGITS, target)), rtol=2e-6, atol=lost)


@each_target
def test_derivatives(target):
    """Against a form without tricks, in float64."""
    with jax.enable_x64(True):
        logits = LOGITS[2:].astype(np.float64)
        direction = np.random.default_rng(0).normal(size=logits.shape)

        def plain(logits):
            return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[np.arange(3), target[:3]])

        results = jax.jit(derivatives, static_argnums=0)
        ours = results(functools.partial(jaxloss.cross_entropy, target=target[:3]), logits, direction)
        for got, expected in zip(ours, results(plain, logits, direction), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.cpu
@pytest.mark.parametrize("right", [0, 1, 2])
def test_the_other_classes_of_all_devices(right, each_platform):
    lost = 1e-7 if each_platform == "cpu" else 0
    mesh = jax.make_mesh((2,), ("classes",), axis_types=(AxisType.Auto,))
    target, columns = np.full(len(LOGITS), right, np.int32), PartitionSpec(None, "classes")

    def losses(logits, target):
        return jaxloss.cross_entropy(logits, target, axis_name="classes", reduction="none")

    split = jax.shard_map(losses, mesh=mesh, in_specs=(columns, PartitionSpec()), out_specs=PartitionSpec())
    np.testing.assert_allclose(split(LOGITS, target), surprises(LOGITS, target), rtol=1e-6, atol=lost)
    gradient = jax.grad(lambda logits: split(logits, target).sum())(LOGITS)
    probabilities = np.exp(LOGITS - np.logaddexp.reduce(LOGITS, -1, keepdims=True))
    np.testing.assert_allclose(gradient, probabilities - np.eye(4)[target], atol=1e-6)
