"""Imbalance: samplers and weights on their own, and their effect on a network trained on imbalanced digits."""

import collections
import functools
import itertools
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec
from sklearn.datasets import load_digits

import jaxloss
from jaxloss.imbalance import (
    BalancedSampler,
    class_counts,
    effective_number_weights,
    inverse_frequency_weights,
    logit_adjustment,
)
from tests.drawing import full_only, traces

TARGET = np.array([2, 0, 1, 1, 0, 1, 1, 1, 0, 1])  # classes of 3, 6 and 1 samples


def test_an_epoch_passes_once_through_the_largest_class_and_each_pass_is_a_permutation():
    sampler = BalancedSampler.init(jax.random.key(3), TARGET)
    assert sampler.epoch_rounds == 6
    indices, _ = sampler.draw(5 * sampler.epoch_rounds)
    np.testing.assert_array_equal(TARGET[indices], np.tile([0, 1, 2], (30, 1)))
    for c, size in enumerate((3, 6, 1)):
        passes = np.asarray(indices[:, c]).reshape(-1, size)
        np.testing.assert_array_equal(np.sort(passes, axis=1), np.tile(np.flatnonzero(c == TARGET), (len(passes), 1)))


def test_without_jit_valid_counts_are_no_error():
    """There, jax_debug_nans makes an error of a constant that is not selected."""
    with jax.disable_jit():
        counts = class_counts(TARGET, 3)
        for function in (inverse_frequency_weights, effective_number_weights, logit_adjustment):
            assert np.isfinite(function(counts)).all()


@pytest.mark.cpu
def test_labels_on_a_mesh_with_explicit_axes_are_counted():
    mesh = jax.make_mesh((5,), ("data",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:5])
    with jax.set_mesh(mesh):
        target = jax.device_put(TARGET, PartitionSpec("data"))
        for counted in (class_counts, jax.jit(class_counts, static_argnums=1)):
            np.testing.assert_array_equal(counted(target, 3), class_counts(TARGET, 3))
        indices, _ = BalancedSampler.init(jax.random.key(0), target).draw(6)
        assert indices.shape == (6, 3)


def test_passes_are_reshuffled_uniformly():
    indices, _ = BalancedSampler.init(jax.random.key(0), TARGET).draw(3 * 1200)
    orders = collections.Counter(map(tuple, np.asarray(indices[:, 0]).reshape(-1, 3).tolist()))
    assert set(orders) == set(itertools.permutations(np.flatnonzero(TARGET == 0).tolist()))
    deviations = (np.array(list(orders.values())) - 200) / np.sqrt(200 * 5 / 6)
    assert np.abs(deviations).max() < 4


def test_draws_are_resumable_and_determined_by_the_key():
    start = BalancedSampler.init(jax.random.key(7), TARGET, 3)
    whole, end = start.draw(7)
    first, between = start.draw(3)
    leaves, structure = jax.tree.flatten(between)
    key, *arrays = leaves
    saved = pickle.dumps((np.asarray(jax.random.key_data(key)), [np.asarray(array) for array in arrays]))
    data, arrays = pickle.loads(saved)
    restored = jax.tree.unflatten(structure, [jax.random.wrap_key_data(data), *map(jnp.asarray, arrays)])
    second, also_end = jax.jit(lambda sampler: sampler.draw(4))(restored)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    np.testing.assert_array_equal(also_end.order, end.order)
    assert also_end.n_drawn == end.n_drawn == 7
    assert not np.array_equal(BalancedSampler.init(jax.random.key(8), TARGET).draw(7)[0], whole)
    assert start.draw(0)[0].shape == (0, 3)


def test_a_second_draw_does_not_recompile():
    sampler = BalancedSampler.init(jax.random.key(0), TARGET)
    _, sampler = sampler.draw(5)
    with traces() as seen:
        sampler.draw(5)
    assert not seen


def test_a_sampler_can_be_a_scan_carry():
    start = BalancedSampler.init(jax.random.key(1), jnp.asarray(TARGET))
    _, batches = jax.lax.scan(lambda sampler, _: sampler.draw(2)[::-1], start, length=4)
    np.testing.assert_array_equal(batches.reshape(8, 3), start.draw(8)[0])
    assert start in {start}  # compared and hashed by identity


def test_sampler_errors():
    key = jax.random.key(0)
    for error, message, call in (
        (ValueError, "target has no sample of class 1", lambda: BalancedSampler.init(key, np.array([0, 2]))),
        (
            ValueError,
            r"target has 3 but must lie in \[0, 3\)",
            lambda: BalancedSampler.init(key, np.array([0, 3]), 3),
        ),
        (ValueError, r"target has shape \(2, 1\)", lambda: BalancedSampler.init(key, np.zeros((2, 1), int))),
        (TypeError, "target has dtype float64", lambda: BalancedSampler.init(key, np.zeros(2))),
        (TypeError, "target is a list", lambda: BalancedSampler.init(key, [0, 1])),
        (TypeError, "target is traced", lambda: jax.jit(lambda t: BalancedSampler.init(key, t))(jnp.array([0]))),
        (
            TypeError,
            "n_rounds is of type float but takes an integer",
            lambda: BalancedSampler.init(key, TARGET).draw(1.5),
        ),
        (
            ValueError,
            r"n_rounds is -1 but must lie in \[0, 2",
            lambda: BalancedSampler.init(key, TARGET).draw(-1),
        ),
    ):
        with pytest.raises(error, match=rf"BalancedSampler\.\w+: {message}"):
            call()


def test_class_counts_ignore_indices_out_of_range():
    np.testing.assert_array_equal(class_counts(jnp.array([[0, 2], [2, -100], [-1, 3]]), 3), [1, 0, 2])
    bytes_ = np.array([0, 255, 255], np.uint8)
    np.testing.assert_array_equal(class_counts(bytes_, 256)[np.array([0, 254, 255])], [1, 0, 2])
    np.testing.assert_array_equal(class_counts(jnp.asarray(bytes_), 300)[np.array([0, 255])], [1, 2])
    np.testing.assert_array_equal(class_counts(np.array([2**32, 1]), 3), [0, 1, 0])
    np.testing.assert_array_equal(class_counts(np.array([0, 1, 0]), 1), [2])
    with pytest.raises(TypeError, match="class_counts: n_classes is of type float but takes an integer"):
        class_counts(bytes_, 3.0)
    with pytest.raises(ValueError, match="class_counts: n_classes is 0"):
        class_counts(bytes_, 0)
    with pytest.raises(TypeError, match="class_counts: target has dtype float32"):
        class_counts(jnp.zeros(3), 3)


@pytest.mark.nans
def test_weights_and_adjustments_match_the_papers():
    with jax.enable_x64(True):
        counts = np.array([900.0, 90.0, 9.0, 0.0, 1.0])
        present = counts > 0
        inverse = np.asarray(inverse_frequency_weights(counts))
        np.testing.assert_allclose(inverse[present], counts.sum() / (4 * counts[present]))
        np.testing.assert_allclose((inverse * counts).sum(), counts.sum())  # 1 on average over the samples
        for beta in (0.0, 0.9, 0.999, 1 - 1e-9):
            effective = (1 - beta ** counts[present]) / (1 - beta)
            expected = 1 / effective * 4 / (1 / effective).sum()
            for got in (
                effective_number_weights(counts, beta=beta),
                effective_number_weights(counts, beta=jnp.float64(beta)),
            ):
                np.testing.assert_allclose(got[present], expected, rtol=1e-6)
                assert got[3] == 0
        limit = effective_number_weights(counts, beta=1 - 1e-12)
        np.testing.assert_allclose(limit / limit[0], inverse / inverse[0], rtol=1e-6)
        assert not np.any(inverse_frequency_weights(np.zeros(3)) + effective_number_weights(np.zeros(3)))
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(logit_adjustment(counts, temperature=0.5), 0.5 * np.log(counts / 1000))
        slopes = jax.grad(lambda counts: effective_number_weights(counts)[0])(jnp.asarray(counts))
        assert np.isfinite(slopes).all()
        assert slopes[3] == 0
    half = np.array([60000, 10000], np.float16)
    np.testing.assert_allclose(inverse_frequency_weights(half), [70 / 120, 3.5], rtol=1e-3)
    for function in (inverse_frequency_weights, effective_number_weights, logit_adjustment):
        assert np.isnan(function(jnp.array([1, -1, 3]))).any()
        with pytest.raises(TypeError, match=f"{function.__name__}: counts has dtype complex64"):
            function(jnp.ones(2, jnp.complex64))
        with pytest.raises(ValueError, match=rf"{function.__name__}: counts has shape \(2, 2\)"):
            function(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"effective_number_weights: beta is 1 but must lie in \[0, 1\)"):
        effective_number_weights(counts, beta=1)


def test_subtracting_the_adjustment_leaves_the_likelihoods():
    """If logits are log posteriors, subtracting the adjustment gives log likelihoods, up to a constant per sample."""
    generator = np.random.default_rng(0)
    counts = np.array([70.0, 20.0, 10.0], np.float32)
    log_likelihoods = generator.normal(size=(50, 3)).astype(np.float32)
    log_posteriors = jax.nn.log_softmax(log_likelihoods + np.log(counts / 100))
    adjusted = log_posteriors - logit_adjustment(counts)[None]
    np.testing.assert_allclose(adjusted - adjusted[:, :1], log_likelihoods - log_likelihoods[:, :1], atol=1e-5)


BALANCED, NATURAL, LOG_LOSS = range(3)
N_CLASSES, N_RARE, N_FREQUENT, SEEDS, BATCH, NOISE = 10, 8, 110, 8, 60, 0.3
COUNTS = np.array([N_RARE] * 5 + [N_FREQUENT] * 5)


@functools.cache
def digits():
    """For each seed, training images and targets with five rare classes, and a balanced test set."""
    images, targets = load_digits(return_X_y=True)
    sets = []
    for seed in range(SEEDS):
        generator = np.random.default_rng(seed)
        by_class = [generator.permutation(np.flatnonzero(targets == c)) for c in range(N_CLASSES)]
        train = np.concatenate([rows[:n] for rows, n in zip(by_class, COUNTS, strict=True)])
        test = np.concatenate([rows[N_FREQUENT : N_FREQUENT + 60] for rows in by_class])
        sets.append((images[train] / 16, targets[train], images[test] / 16, targets[test]))
    train_images, train_targets, test_images, test_targets = (np.stack(part) for part in zip(*sets, strict=True))
    return jnp.float32(train_images), jnp.int32(train_targets), jnp.float32(test_images), jnp.int32(test_targets)


def logits_of(parameters, images):
    return jax.nn.relu(images @ parameters["hidden"]) @ parameters["output"] + parameters["bias"][None]


def with_noise(key, images):
    """The images with enough noise that classes overlap. Otherwise the network would memorise all training data."""
    return images + NOISE * jax.random.normal(key, images.shape)


def train(key, parameters, images, targets, batches, loss):
    optimiser = optax.adam(3e-3)

    def step(carry, numbered):
        (parameters, state), (i, batch) = carry, numbered
        noisy = with_noise(jax.random.fold_in(key, i), images[batch])
        gradient = jax.grad(lambda p: loss(logits_of(p, noisy), targets[batch]))(parameters)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(parameters, updates), state), None

    (parameters, _), _ = jax.lax.scan(
        step, (parameters, optimiser.init(parameters)), (jnp.arange(len(batches)), batches)
    )
    return parameters


def natural_batches(key, n, epochs):
    orders = jax.vmap(lambda k: jax.random.permutation(k, n))(jax.random.split(key, epochs))
    return orders[:, : n // BATCH * BATCH].reshape(-1, BATCH)


def scores(logits, targets):
    """From a balanced test set: balanced accuracy, and accuracy and cross-entropy at the training frequencies."""
    by_class = len(targets) // N_CLASSES
    right = jnp.argmax(logits, -1) == targets
    recall = jax.ops.segment_sum(right.astype(jnp.float32), targets, N_CLASSES) / by_class
    frequencies = jnp.float32(COUNTS / COUNTS.sum())
    log_loss = jaxloss.cross_entropy(logits, targets, weights=frequencies[targets], reduction="weighted_mean")
    return 100 * recall.mean(), 100 * (recall * frequencies).sum(), log_loss


@functools.cache
def results():
    """The scores of each training method, one row per seed."""
    images, targets, test_images, test_targets = digits()
    weights = inverse_frequency_weights(jnp.asarray(COUNTS))
    effective = effective_number_weights(jnp.asarray(COUNTS), beta=0.99)
    adjustment = logit_adjustment(jnp.asarray(COUNTS))
    plain = jaxloss.cross_entropy

    def ranking(logits, target):
        right, wrong = jaxloss.target_score(logits, target), jaxloss.highest_wrong_score(logits, target)
        return jaxloss.margin_ranking_loss(right, wrong, 1, margin=1.0)

    losses = {
        "cross-entropy": plain,
        "ranking": ranking,
        "inverse frequency weights": lambda x, y: plain(x, y, class_weights=weights),
        "effective number weights, β 0.99": lambda x, y: plain(x, y, class_weights=effective),
        "logit adjustment": lambda x, y: plain(x + adjustment[None], y),
    }

    def one_seed(key, images, targets, rounds, test_images, test_targets):
        hidden, output, order, late_order, noise = jax.random.split(key, 5)
        parameters = {
            "hidden": jax.random.normal(hidden, (64, 64)) * jnp.sqrt(2 / 64),
            "output": jax.random.normal(output, (64, N_CLASSES)) / 8,
            "bias": jnp.zeros(N_CLASSES),
        }
        run = functools.partial(train, noise, images=images, targets=targets)
        batches = natural_batches(order, len(targets), 60)
        trained = {name: run(parameters, batches=batches, loss=loss) for name, loss in losses.items()}
        balanced = run(parameters, batches=rounds.reshape(-1, BATCH), loss=plain)
        tuned = run(balanced, batches=natural_batches(late_order, len(targets), 10), loss=plain)
        trained |= {"balanced sampling": balanced, "balanced, then true frequencies": tuned}
        test_images = with_noise(noise, test_images)
        return {name: scores(logits_of(p, test_images), test_targets) for name, p in trained.items()}

    keys = jax.random.split(jax.random.key(0), SEEDS)
    rounds = jnp.stack(
        [BalancedSampler.init(k, t).draw(60 * len(t) // N_CLASSES)[0] for k, t in zip(keys, targets, strict=True)]
    )
    n_steps = len(targets[0]) // BATCH * 60 * BATCH // N_CLASSES
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes dtypes
        measured = jax.jit(jax.vmap(one_seed))(keys, images, targets, rounds[:, :n_steps], test_images, test_targets)
    return {name: np.stack(columns, -1) for name, columns in measured.items()}


def excess(one, other, column):
    """How much higher one method scores than another on the same seeds, in standard errors of the difference."""
    difference = results()[one][:, column] - results()[other][:, column]
    return difference.mean() / standard_error(difference)


def standard_error(column):
    return column.std(axis=0, ddof=1) / np.sqrt(SEEDS)


@full_only
def test_every_remedy_improves_balanced_accuracy():
    remedies = set(results()) - {"cross-entropy", "ranking", "balanced, then true frequencies"}
    assert len(remedies) == 4
    for remedy in remedies:
        assert excess(remedy, "cross-entropy", BALANCED) > 4


@full_only
def test_fine_tuning_on_true_frequencies_recovers_accuracy_and_calibration():
    tuned = "balanced, then true frequencies"
    assert excess(tuned, "balanced sampling", NATURAL) > 2.5
    assert excess(tuned, "balanced sampling", LOG_LOSS) < -2.5
    assert excess(tuned, "cross-entropy", BALANCED) > 0
    assert excess("balanced sampling", tuned, BALANCED) > 4


@full_only
def test_a_ranking_loss_trains_a_classifier():
    assert results()["ranking"][:, NATURAL].mean() > 85


@full_only
def test_the_documented_table_matches_the_results():
    rows = re.findall(r"^\| ([\w ,.-]+) \| ([\d.]+) ± [\d.]+ \| ([\d.]+) ± [\d.]+ \| ([\d.]+) ± [\d.]+ \|$",
                      jaxloss.imbalance.__doc__, re.MULTILINE)  # fmt: skip
    assert {name for name, *_ in rows} == set(results())
    for name, *documented in rows:
        measured = results()[name]
        assert np.all(np.abs(np.float64(documented) - measured.mean(axis=0)) < 3 * standard_error(measured) + 0.05), (
            name
        )
        columns = zip(measured.mean(axis=0), standard_error(measured), (1, 1, 3), strict=True)
        print(f"| {name} | {' | '.join(f'{mean:.{d}f} ± {error:.{d}f}' for mean, error, d in columns)} |")
