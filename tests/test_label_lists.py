"""Sums over lists of labels, in the blocks of each platform."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxloss
from jaxloss._label_lists import labels_of, listed_classes, sum_over_labels
from tests.drawing import derivatives
from tests.references.margin import multilabel_margin

C = 70  # several blocks on each platform, and no multiple of their size
LENGTHS = (0, 1, 4, 5, 31, 32, 33, 69, 70)
pytestmark = pytest.mark.usefixtures("each_platform")


def draw(lengths=LENGTHS, dtype=np.float32):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(len(lengths), C)).astype(dtype)
    lists = np.stack([generator.permutation(C) for _ in lengths]).astype(np.int32)
    place = np.arange(C) - np.array(lengths)[:, None]
    return logits, np.where(place == 0, -1, lists)


def cubes(values, labels, constant):
    chosen = jnp.where(labels >= 0, values[jnp.where(labels >= 0, labels, 0)], 0)
    return constant * jnp.sum(chosen**3)


def one_by_one(values, entries):
    labels = entries[: [*entries, -1].index(-1)]
    return 2 * jnp.sum(values[labels] ** 3)


def test_a_list_ends_with_the_first_negative_entry():
    np.testing.assert_array_equal(labels_of(jnp.array([3, 0, -1, 1, -1])), [3, 0, -1, -1, -1])
    np.testing.assert_array_equal(labels_of(jnp.array([3, 0, 1])), [3, 0, 1])


@pytest.mark.parametrize("length", LENGTHS)
def test_listed_classes(length):
    _, (entries,) = draw((length,))
    expected = np.isin(np.arange(C), entries[:length])
    np.testing.assert_array_equal(listed_classes(labels_of(entries), C), expected)
    np.testing.assert_array_equal(listed_classes(jnp.array([3, 0, 3, -1]), 5), [True, False, False, True, False])


def test_values_and_derivatives_of_a_sum():
    direction = np.linspace(-1, 1, C, dtype=np.float32)

    @jax.jit
    def of_blocks(values, entries, constant):
        total = functools.partial(sum_over_labels, cubes, labels_of(entries))
        return derivatives(lambda values: total(values, constant), values, direction)

    for length in LENGTHS:
        (values,), (entries,) = draw((length,))
        plain = jax.jit(
            lambda x, entries=entries: derivatives(functools.partial(one_by_one, entries=entries), x, direction)
        )
        found = of_blocks(values, entries, np.float32(2))
        for got, expected in zip(found, plain(values), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5, err_msg=str(length))


@pytest.mark.usefixtures("each_platform")
def test_the_loss_of_many_classes_matches_the_reference():
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        logits, target = draw(dtype=np.float64)
        loss = functools.partial(jaxloss.multilabel_margin_loss, reduction="none")
        np.testing.assert_allclose(loss(logits, target), multilabel_margin(logits, target)[0], rtol=1e-13)
        np.testing.assert_allclose(jax.vmap(loss)(logits, target), loss(logits, target), rtol=1e-13)
        gradient = jax.grad(lambda logits: loss(logits, target).sum())(logits)
        for place in [(2, 0), (4, 7), (6, C - 1)]:
            step = np.zeros_like(logits)
            step[place] = 1e-6
            up, down = (multilabel_margin(logits + s * step, target)[0].sum() for s in (1, -1))
            np.testing.assert_allclose(gradient[place], (up - down) / 2e-6, atol=1e-8)


@pytest.mark.cpu
@pytest.mark.usefixtures("each_platform")
def test_each_device_ends_its_own_loop():
    logits, target = draw((0, 1, 5, 70))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("data")

    def loss(logits, target):
        return jaxloss.multilabel_margin_loss(logits, target, reduction="total").psum("data").mean()

    split = jax.shard_map(loss, mesh=mesh, in_specs=(rows, rows), out_specs=PartitionSpec())
    value, gradient = jax.jit(jax.value_and_grad(split))(logits, target)
    expected = jax.value_and_grad(jaxloss.multilabel_margin_loss)(logits, target)
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-6, atol=1e-9)
