"""Alignments and decoded labels, against a search through all of them."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxloss import decoding

N_FRAMES, N_CLASSES = 6, 4
GENERATOR = np.random.default_rng(0)
LOG_P = np.log(GENERATOR.dirichlet(np.ones(N_CLASSES), size=(5, N_FRAMES))).astype(np.float32)
TARGET = np.array([[1, 2], [1, 1], [3, 2], [2, 3], [2, 2]])


def best_path(log_p, target, blank=0):
    """The best of all sequences of classes that become the target."""

    def becomes_target(path):
        return [label for label, _ in itertools.groupby(path) if label != blank] == list(target)

    paths = filter(becomes_target, itertools.product(range(N_CLASSES), repeat=len(log_p)))
    return max(paths, key=lambda path: sum(log_p[t, label] for t, label in enumerate(path)))


def places(path, blank=0):
    """The index of its label for each frame of a path, -1 at blanks."""
    runs = [[label, len(list(run))] for label, run in itertools.groupby(path)]
    index = itertools.count()
    return [i for label, n in runs for i in [-1 if label == blank else next(index)] * n]


@pytest.mark.parametrize("blank", [0, -1])
def test_the_alignment_is_the_best_of_all_paths(blank):
    target = TARGET if blank == 0 else TARGET - 1
    found = jax.jit(decoding.ctc_alignment, static_argnames="blank")(LOG_P, target, blank=blank)
    expected = [
        places(best_path(log_p, labels, blank % N_CLASSES), blank % N_CLASSES)
        for log_p, labels in zip(LOG_P, target, strict=True)
    ]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int32


@pytest.mark.nans  # in frames that do not exist
def test_lengths_of_alignments():
    n_frames, n_labels = np.array([6, 4, 3, 2, 1]), np.array([1, 2, 0, 2, 2])
    poisoned = np.where((np.arange(N_FRAMES) < n_frames[:, None])[..., None], LOG_P, np.nan)
    found = decoding.ctc_alignment(poisoned, TARGET, input_lengths=n_frames, target_lengths=n_labels)
    for i, (t, s) in enumerate(zip(n_frames[:4], n_labels[:4], strict=True)):
        expected = places(best_path(LOG_P[i, :t], TARGET[i, :s]))
        np.testing.assert_array_equal(found[i], [*expected, *[-1] * (N_FRAMES - t)])
    np.testing.assert_array_equal(found[4], -1)  # one frame is too few for two labels


def test_one_target_for_all_and_single_sequences():
    all_at_once = decoding.ctc_alignment(LOG_P, TARGET[0])
    np.testing.assert_array_equal(all_at_once[3], decoding.ctc_alignment(LOG_P[3], TARGET[0]))
    np.testing.assert_array_equal(decoding.ctc_alignment(LOG_P[0], TARGET[0, :0]), -1)
    assert decoding.ctc_alignment(LOG_P[:, :0], TARGET).shape == (5, 0)


@pytest.mark.parametrize("blank", [0, 2, -1])
def test_greedy_labels(blank):
    n_frames = np.array([6, 5, 1, 0, 6])
    found = decoding.ctc_greedy(LOG_P, input_lengths=n_frames, blank=blank)
    for labels, length, log_p, t in zip(*found, LOG_P, n_frames, strict=True):
        best = log_p[:t].argmax(-1)
        expected = [label for label, _ in itertools.groupby(best) if label != blank % N_CLASSES]
        assert length == len(expected)
        np.testing.assert_array_equal(labels, [*expected, *[-1] * (N_FRAMES - len(expected))])
    np.testing.assert_array_equal(decoding.ctc_greedy(LOG_P)[0][0], decoding.ctc_greedy(LOG_P[0]).labels)


BOTH = {
    "alignment": lambda log_p: decoding.ctc_alignment(log_p, jnp.array([1, 2]), input_lengths=5),
    "greedy": lambda log_p: decoding.ctc_greedy(log_p).labels,
    "alignment, the blank last": lambda log_p: decoding.ctc_alignment(log_p, jnp.array([1, 2]), blank=-1),
    "greedy, the blank last": lambda log_p: decoding.ctc_greedy(log_p, blank=-1).labels,
}


@pytest.mark.cpu
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_many_devices(name, axis_type):
    log_p = jnp.tile(LOG_P, (8, 1, 1))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    split = jax.device_put(log_p, NamedSharding(mesh, PartitionSpec("data")))
    expected = BOTH[name](log_p)
    np.testing.assert_array_equal(jax.jit(BOTH[name])(split), expected)
    mapped = jax.shard_map(BOTH[name], mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data"))
    np.testing.assert_array_equal(jax.jit(mapped)(split), expected)


@pytest.mark.parametrize("name", BOTH)
def test_programs_of_any_size(name):
    sizes = jax.export.symbolic_shape("b, t, c")
    program = jax.export.export(jax.jit(BOTH[name]))(jax.ShapeDtypeStruct(sizes, jnp.float32))
    np.testing.assert_array_equal(program.call(LOG_P), BOTH[name](LOG_P))


@pytest.mark.parametrize(
    "given",
    [
        {"target": TARGET + 9},
        {"target": TARGET + 2**32},
        {"target": -TARGET},
        {"target": TARGET * 0},
        {"target": np.where(np.arange(TARGET.shape[-1]) == 1, 9, TARGET)},
        {"input_lengths": 7},
        {"input_lengths": np.full(5, 2**32 + 2)},
        {"input_lengths": -1},
        {"target_lengths": 3},
    ],
    ids=str,
)
def test_what_is_out_of_range_has_no_alignment(given):
    np.testing.assert_array_equal(decoding.ctc_alignment(LOG_P, **{"target": TARGET, **given}), -1)


@pytest.mark.nans
def test_what_is_out_of_range_has_no_labels():
    for scores, lengths in ((LOG_P, 7), (LOG_P * np.nan, None)):
        labels, counts = decoding.ctc_greedy(scores, input_lengths=lengths)
        np.testing.assert_array_equal(labels, -1)
        np.testing.assert_array_equal(counts, 0)


def test_they_have_no_gradient():
    def total(log_p):
        return jnp.sum(decoding.ctc_alignment(log_p, TARGET).astype(jnp.float32))

    np.testing.assert_array_equal(jax.grad(total)(LOG_P), 0)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: decoding.ctc_alignment(TARGET, TARGET), TypeError, "log_probabilities has dtype int"),
        (lambda: decoding.ctc_alignment(LOG_P, LOG_P[..., 0]), TypeError, "target has dtype float32"),
        (lambda: decoding.ctc_alignment(LOG_P, TARGET[:3]), ValueError, "target has shape (3, 2)"),
        (lambda: decoding.ctc_alignment(LOG_P, TARGET, input_lengths=1.0), TypeError, "takes integer lengths"),
        (lambda: decoding.ctc_alignment(LOG_P, TARGET, blank=4), ValueError, "blank is 4 but must lie in [-4, 4)"),
        (lambda: decoding.ctc_greedy(LOG_P[0, 0]), ValueError, "log_probabilities has shape (4,)"),
    ],
)
def test_errors(call, kind, message):
    with pytest.raises(kind, match=r"decoding\.ctc_\w+: .*" + re.escape(message)):
        call()
