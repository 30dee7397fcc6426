"""Losses of angles: parity, classes split over devices, angles near 0 and pi, zero vectors, and half precision."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import jaxloss
from jaxloss import _angles as angles
from tests.collectives import sent
from tests.compiling import temporaries
from tests.record_metric_learning import PATH, arrays
from tests.test_sharding import SAME, assert_same, mesh

ROWS = json.loads(PATH.read_text())["rows"]
LOSSES = {"arcface": jaxloss.arcface_loss, "cosface": jaxloss.cosface_loss}
each_loss = pytest.mark.parametrize("name", LOSSES)
GENERATOR = np.random.default_rng(0)
N, D, C = 16, 6, 11
FEATURES, KERNEL = GENERATOR.normal(size=(N, D)), GENERATOR.normal(size=(D, C))
TARGET = np.where(np.arange(N) == 3, -100, GENERATOR.integers(0, C, N))
CLASS_WEIGHTS, WEIGHTS = GENERATOR.uniform(0.5, 2, C), GENERATOR.uniform(0.5, 2, N)
MARGINS, SCALES = np.linspace(0, 2, N), np.linspace(4, 32, N)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join([row["loss"], *map(str, row["options"].values())]))
def test_parity_with_pytorch_metric_learning(row):
    """Its margin of ArcFace is in degrees."""
    with jax.enable_x64(True):
        features, kernel, target = arrays()

        def losses(features, kernel):
            return getattr(jaxloss, row["loss"])(features, kernel, target, **row["options"], reduction="none")

        np.testing.assert_allclose(losses(features, kernel), row["losses"], rtol=1e-9, atol=1e-12)
        gradients = jax.grad(lambda *x: losses(*x).sum(), (0, 1))(features, kernel)
        for got, expected in zip(gradients, row["gradients"], strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-10)


@each_loss
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.cpu
def test_classes_split_over_devices(name, reduction, check_vma):
    """The right class is on one of four devices, and the last column of all is padding."""
    cotangent = 1.0 if reduction == "mean" else np.linspace(-1, 1, N)
    with jax.enable_x64(True):

        def loss(features, kernel, class_weights, weights, margin, scale, **options):
            found = LOSSES[name](
                *(features, kernel, TARGET),
                **{"class_weights": class_weights, "weights": weights, "margin": margin, "scale": scale},
                **{"chunk_size": 5, "reduction": reduction, **options},
            )
            return found

        def total(*arguments, of=loss):
            return (cotangent * of(*arguments)).sum()

        arguments = (FEATURES, KERNEL, CLASS_WEIGHTS, WEIGHTS, MARGINS, SCALES)
        expected = jax.value_and_grad(total, tuple(range(6)))(*arguments)
        split = jax.shard_map(
            lambda *arguments: loss(*arguments, axis_name="classes", n_classes=C),
            mesh=mesh(4, names=("classes",)),
            in_specs=(SAME, PartitionSpec(None, "classes"), PartitionSpec("classes"), SAME, SAME, SAME),
            out_specs=SAME,
            check_vma=check_vma,
        )
        padded = [
            np.pad(each, [(0, 0)] * (each.ndim - 1) + [(0, 1)], constant_values=np.nan) for each in arguments[1:3]
        ]
        value, gradients = jax.jit(jax.value_and_grad(lambda *x: total(*x, of=split), tuple(range(6))))(
            FEATURES, *padded, *arguments[3:]
        )
        gradients = list(gradients)
        for i in (1, 2):
            np.testing.assert_array_equal(gradients[i][..., C:], 0)
            gradients[i] = gradients[i][..., :C]
        assert_same((value, gradients), (expected[0], list(expected[1])), rtol=1e-11)


@each_loss
@pytest.mark.parametrize("c", [64, 1024])
@pytest.mark.cpu
def test_split_classes_send_as_much_as_linear_cross_entropy(name, c):
    n, d = 64, 16
    split = jax.shard_map(
        lambda *arguments: LOSSES[name](*arguments, axis_name="classes", chunk_size=16),
        mesh=mesh(4, names=("classes",)),
        in_specs=(SAME, PartitionSpec(None, "classes"), SAME),
        out_specs=SAME,
    )
    shapes = ((n, d), jnp.float32), ((d, c), jnp.float32), ((n,), jnp.int32)
    arguments = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    compiled = jax.jit(jax.value_and_grad(split, (0, 1))).lower(*arguments).compile()
    assert sent(compiled) == {"all-reduce": n * (4 + 8 + 4 * d)}


@each_loss
@pytest.mark.cpu
def test_temporaries_are_those_of_linear_cross_entropy_and_the_unit_columns(name):
    n, d, c = 1024, 64, 16_384
    shapes = ((n, d), jnp.float32), ((d, c), jnp.float32), ((n,), jnp.int32)
    shapes = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    ours, plain = (
        temporaries(jax.value_and_grad(loss, (0, 1)), *shapes) for loss in (LOSSES[name], jaxloss.linear_cross_entropy)
    )
    assert ours <= plain + 1.2 * 4 * d * c


def wide_cosine(cosine, margin):
    """In float64."""
    angle = np.arccos(np.clip(cosine, -1, 1))
    return np.where(angle + margin < np.pi, np.cos(angle + margin), cosine - margin * np.sin(margin))


@pytest.mark.parametrize("margin", [-0.5, 0.0, 0.5, 2.0, 3.5])
def test_the_cosine_of_a_sum(margin):
    cosine = np.concatenate([np.linspace(-1, 1, 1001), [np.float32(1) - np.float32(6e-8), -1, 1]]).astype(np.float32)
    with jax.enable_x64(True):
        exact = np.asarray(cosine, np.float64)
        expected = wide_cosine(exact, margin)
        got = angles.cosine_of_sum(exact, jnp.float64(margin))
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)
        # Not at the ends, where the slope is bounded, and not across the jump.
        inside, step = exact[3:-5], 1e-6
        smooth = np.abs(np.arccos(inside) + margin - np.pi) > 1e-2
        slopes = (wide_cosine(inside + step, margin) - wide_cosine(inside - step, margin)) / (2 * step)
        by_cosine, by_margin = jax.vmap(jax.grad(angles.cosine_of_sum, (0, 1)), (0, None))(inside, jnp.float64(margin))
        np.testing.assert_allclose(by_cosine[smooth], slopes[smooth], rtol=1e-5, atol=1e-7)
        slopes = (wide_cosine(inside, margin + step) - wide_cosine(inside, margin - step)) / (2 * step)
        smooth &= margin not in (0.0, 3.5)
        np.testing.assert_allclose(by_margin[smooth], slopes[smooth], rtol=1e-5, atol=1e-8)
    got = angles.cosine_of_sum(jnp.asarray(cosine), jnp.float32(margin))
    away = np.abs(np.arccos(exact) + margin - np.pi) > 1e-3
    np.testing.assert_allclose(got[away], expected[away], rtol=3e-6, atol=3e-7)
    beyond = np.float32([1 + 2e-7, -1 - 2e-7])
    slopes = jax.vmap(jax.grad(angles.cosine_of_sum), (0, None))(jnp.concatenate([beyond, cosine]), jnp.float32(margin))
    assert np.abs(slopes).max() <= 1 + 1.01 / np.sqrt(np.finfo(np.float32).eps)


def test_the_margin_keeps_its_gradient_where_features_are_almost_at_their_class():
    """To the precision of an angle, the root of one machine epsilon; and finite where they are there."""
    features = np.array([[1.0, tilt, 0.0] for tilt in (0.5, 0.1, 0.01, 1e-3)], np.float32)
    kernel, target = np.eye(3, dtype=np.float32), np.zeros(4, np.int32)

    def loss(features):
        return jaxloss.arcface_loss(features, kernel.astype(features.dtype), target, scale=8.0, reduction="sum")

    value, gradient = jax.value_and_grad(loss)(features)
    with jax.enable_x64(True):
        expected = jax.value_and_grad(loss)(features.astype(float))
    np.testing.assert_allclose(value, expected[0], rtol=1e-3)
    np.testing.assert_allclose(gradient[:2], expected[1][:2], rtol=1e-5, atol=1e-5)
    for tilt, got, other in zip((0.01, 1e-3), gradient[2:], expected[1][2:], strict=True):
        error = 4 * np.finfo(np.float32).eps / tilt**2
        np.testing.assert_allclose(got, other, atol=error * np.abs(other).max())
    at_class, away = jax.grad(loss)(np.eye(3, dtype=np.float32)[[0, 0, 0, 0]]), -np.eye(3, dtype=np.float32)
    chex.assert_tree_all_finite((at_class, jax.grad(loss)(away[[0, 0, 1, 2]])))
    assert np.abs(at_class).max() < 1


@each_loss
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_only_directions_matter(name, scale):
    features, kernel = FEATURES.astype(np.float32), KERNEL.astype(np.float32)
    scales = np.where(np.arange(C) % 2, 1, np.float32(scale)).astype(np.float32)

    def loss(features, kernel):
        return LOSSES[name](features, kernel, TARGET)

    value, gradients = jax.value_and_grad(loss, (0, 1))(features, kernel)
    scaled, of_scaled = jax.value_and_grad(loss, (0, 1))(features * np.float32(scale), kernel * scales)
    np.testing.assert_allclose(scaled, value, rtol=1e-5)
    for got, factor, expected in zip(of_scaled, (np.float32(scale), scales), gradients, strict=True):
        np.testing.assert_allclose(np.asarray(got) * factor, expected, rtol=1e-3, atol=1e-5)


@each_loss
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.float16])
def test_zero_vectors_have_cosine_0_and_gradient_0(name, dtype):
    features, kernel = FEATURES.astype(dtype), KERNEL.astype(dtype)
    features[5], kernel[:, 2] = 0, 0
    losses = LOSSES[name](features, kernel, TARGET, scale=8.0, reduction="none")
    target_cosine = np.cos(np.pi / 2 + 0.5) if name == "arcface" else -0.35
    expected = np.log(np.exp(8 * target_cosine) + C - 1) - 8 * target_cosine
    np.testing.assert_allclose(losses[5], expected, rtol=1e-6)
    gradients = jax.grad(lambda *x: LOSSES[name](*x, TARGET, scale=8.0), (0, 1))(features, kernel)
    chex.assert_tree_all_finite(jax.tree.map(lambda x: x.astype(np.float32), gradients))
    np.testing.assert_array_equal(gradients[0][5].astype(np.float32), 0)
    np.testing.assert_array_equal(gradients[1][:, 2].astype(np.float32), 0)
    assert np.count_nonzero(gradients[0].astype(np.float32)) == (N - 2) * D  # one is ignored


@each_loss
def test_cosines_in_half_precision_are_those_of_the_vectors_as_given(name):
    """Not of unit vectors that were rounded to half precision, with which losses would be off by a tenth."""
    for dtype in (jnp.bfloat16, np.float16):
        features, kernel = FEATURES.astype(dtype), KERNEL.astype(dtype)
        expected = LOSSES[name](features.astype(np.float32), kernel.astype(np.float32), TARGET, reduction="none")
        got = LOSSES[name](features, kernel, TARGET, reduction="none")
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)


@each_loss
def test_a_single_class_has_loss_0(name):
    value, gradients = jax.value_and_grad(LOSSES[name], (0, 1))(
        FEATURES.astype(np.float32), KERNEL[:, :1].astype(np.float32), np.zeros(N, np.int32)
    )
    assert value == 0
    chex.assert_trees_all_equal(jax.tree.map(np.any, gradients), (np.False_, np.False_))


@each_loss
def test_an_almost_certain_class_keeps_its_digits(name):
    with jax.enable_x64(True):
        features, kernel = np.array([[1.0, 0.02]]), np.array([[1.0, -1.0], [0.0, 0.1]])
        exact = float(LOSSES[name](features, kernel, np.array([0]), scale=40.0))
    got = LOSSES[name](features.astype(np.float32), kernel.astype(np.float32), np.array([0]), scale=40.0)
    assert 0 < exact < 1e-28
    np.testing.assert_allclose(got, exact, rtol=1e-3 if name == "arcface" else 1e-5)


@pytest.mark.nans
def test_errors():
    features, kernel = FEATURES.astype(np.float32), KERNEL.astype(np.float32)
    with pytest.raises(ValueError, match="arcface_loss: scale is -1"):
        jaxloss.arcface_loss(features, kernel, TARGET, scale=-1)
    with pytest.raises(ValueError, match="cosface_loss: axis_name is 'classes' but shard_map maps over no such axis"):
        jaxloss.cosface_loss(features, kernel, TARGET, axis_name="classes")
    losses = jaxloss.arcface_loss(features, kernel, np.where(np.arange(N) == 4, C, TARGET), reduction="none")
    np.testing.assert_array_equal(np.isnan(losses), np.arange(N) == 4)
