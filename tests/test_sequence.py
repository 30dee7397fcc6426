"""CTC and RNN-T beyond what the registry tests: all paths, PyTorch, lengths, long sequences, extremes and memory."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

import jaxloss
from tests.compiling import temporaries
from tests.references import sequence
from tests.test_torch_samples import sample_inputs

N_CLASSES = 3


def log_softmax(x):
    return x - np.logaddexp.reduce(x, axis=-1, keepdims=True)


def ctc_of_all_paths(log_p, target):
    """The sum over every sequence of classes that becomes the target."""
    total = -np.inf
    for path in itertools.product(range(log_p.shape[1]), repeat=len(log_p)):
        merged = [label for label, _ in itertools.groupby(path) if label]
        if merged == list(target):
            total = np.logaddexp(total, sum(log_p[t, label] for t, label in enumerate(path)))
    return -total


def rnnt_of_all_paths(logits, target):
    """The sum over every order of blanks and labels that ends with a blank."""
    log_p, total, n_steps = log_softmax(logits), -np.inf, len(logits) - 1 + len(target)
    for places in itertools.combinations(range(n_steps), len(target)):
        t = u = 0
        score = 0.0
        for step in range(n_steps):
            score += log_p[t, u, target[u]] if step in places else log_p[t, u, -1]
            t, u = (t, u + 1) if step in places else (t + 1, u)
        total = np.logaddexp(total, score + log_p[t, u, -1])
    return -total


@pytest.mark.nans
@pytest.mark.parametrize("n_frames", [1, 2, 5])
@pytest.mark.parametrize("target", [[], [1], [1, 1], [1, 2], [2, 1, 2]], ids=str)
def test_the_sum_over_all_paths(target, n_frames):
    generator = np.random.default_rng(n_frames)
    scores = generator.normal(size=(n_frames, len(target) + 1, N_CLASSES)) * 2
    with jax.enable_x64(True):
        labels = np.array(target, np.int32)
        log_p = log_softmax(scores[:, 0])
        expected = ctc_of_all_paths(log_p, target)
        np.testing.assert_allclose(jaxloss.ctc_loss(log_p, labels, reduction="sum"), expected, rtol=1e-12)
        expected = rnnt_of_all_paths(scores, labels - 1)
        np.testing.assert_allclose(jaxloss.rnnt_loss(scores, labels - 1, reduction="sum"), expected, rtol=1e-12)


def torch_ctc(torch, logits, target, n_frames, n_labels, **options):
    """PyTorch's losses, and their gradient with respect to the logits."""
    x = torch.tensor(logits, requires_grad=True)
    log_p = x.log_softmax(-1).transpose(0, 1)
    lengths = torch.tensor(n_frames), torch.tensor(n_labels)
    losses = torch.nn.functional.ctc_loss(log_p, torch.tensor(target), *lengths, reduction="none", **options)
    losses.sum().backward()
    return losses.detach().numpy(), x.grad.numpy()


def ours(logits, target, n_frames, n_labels, **options):
    def total(logits):
        lengths = {"input_lengths": n_frames, "target_lengths": n_labels}
        losses = jaxloss.ctc_loss(jax.nn.log_softmax(logits), target, **lengths, reduction="none", **options)
        return losses.sum(), losses

    (_, losses), gradient = jax.value_and_grad(total, has_aux=True)(jnp.asarray(logits))
    return losses, gradient


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_matches_pytorch_for_lengths_of_every_kind(torch, zero_infinity):
    generator = np.random.default_rng(0)
    lengths = [(t, s) for t in (1, 2, 7, 12) for s in (0, 1, 2, 5) if zero_infinity or t >= 2 * s]
    n_frames, n_labels = np.array(lengths).T
    logits = 2 * generator.normal(size=(len(lengths), 12, 6))
    target = generator.integers(1, 6, size=(len(lengths), 5))
    with jax.enable_x64(True):
        arguments = logits, target, n_frames, n_labels
        expected, slope = torch_ctc(torch, *arguments, zero_infinity=zero_infinity)
        losses, gradient = ours(*arguments, zero_infinity=zero_infinity)
        np.testing.assert_allclose(losses, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(gradient, slope, rtol=1e-10, atol=1e-12)
        last = {"blank": 5}
        arguments = logits, target - 1, n_frames, n_labels
        expected, slope = torch_ctc(torch, *arguments, zero_infinity=zero_infinity, **last)
        for blank in (5, -1):
            losses, gradient = ours(*arguments, zero_infinity=zero_infinity, blank=blank)
            np.testing.assert_allclose(losses, expected, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(gradient, slope, rtol=1e-10, atol=1e-12)


def test_sample_inputs_of_pytorch(torch):
    """PyTorch takes frames before the batch, and targets one after the other in one array, too."""
    samples = sample_inputs(torch, "ctc_loss", torch.float64)
    for sample in samples:
        log_p, (target, n_frames, n_labels) = sample.input.detach().numpy(), sample.args
        n_frames, n_labels = np.asarray(n_frames), np.asarray(n_labels)
        target = np.asarray(target)
        if target.ndim == 1 and log_p.ndim == 3:
            rows = np.split(target, np.cumsum(n_labels)[:-1])
            target = np.array([np.pad(row, (0, n_labels.max() - len(row)), constant_values=-1) for row in rows])
        reduction = sample.kwargs.get("reduction", "mean")
        options = {key: value for key, value in sample.kwargs.items() if key != "reduction"}
        if reduction == "mean":
            options |= {"reduction": "weighted_mean", "weights": 1 / np.maximum(n_labels, 1)}
        else:
            options["reduction"] = reduction
        with jax.enable_x64(True):
            log_p = np.moveaxis(log_p, 0, -2)
            lengths = {"input_lengths": n_frames, "target_lengths": n_labels}
            expected = torch.nn.functional.ctc_loss(sample.input, *sample.args, **sample.kwargs).detach().numpy()
            np.testing.assert_allclose(jaxloss.ctc_loss(log_p, target, **lengths, **options), expected, rtol=1e-12)
    assert len(samples) > 5


def test_the_mean_of_pytorch():
    """It is the mean over sequences of the loss per label; ours is the loss per label of the whole batch."""
    generator = np.random.default_rng(0)
    log_p, target = log_softmax(generator.normal(size=(3, 9, 4))).astype(np.float32), np.array([[1, 2, 3]] * 3)
    n_labels = np.array([3, 1, 0])
    loss = functools.partial(jaxloss.ctc_loss, log_p, target, target_lengths=n_labels)
    losses, counts = np.asarray(loss(reduction="none")), np.maximum(n_labels, 1)
    spelled = loss(weights=1 / counts.astype(np.float32), reduction="weighted_mean")
    np.testing.assert_allclose(spelled, np.mean(losses / counts), rtol=1e-6)
    np.testing.assert_allclose(loss(), losses.sum() / counts.sum(), rtol=1e-6)


LENGTHS = {
    jaxloss.ctc_loss: ("input_lengths", "target_lengths"),
    jaxloss.rnnt_loss: ("logit_lengths", "target_lengths"),
}
DRAWN = {jaxloss.ctc_loss: sequence.draw_ctc, jaxloss.rnnt_loss: sequence.draw_rnnt}
each_loss = pytest.mark.parametrize("loss", DRAWN, ids=lambda loss: loss.__name__)


def drawn(loss, *shape, dtype=np.float32):
    scores, target = DRAWN[loss](np.random.default_rng(3), shape)
    return jnp.asarray(scores, dtype), jnp.asarray(target)


@pytest.mark.nans
@each_loss
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_what_lies_beyond_a_length_has_no_effect(loss, poison):
    scores, target = drawn(loss, 4)
    n_frames, n_labels = np.array([14, 9, 5, 12]), np.array([7, 3, 0, 1])
    lengths = dict(zip(LENGTHS[loss], (n_frames, n_labels), strict=True))

    @jax.jit
    def run(scores, target):
        return jax.value_and_grad(lambda x: loss(x, target, **lengths, reduction="sum"))(scores)

    beyond = np.arange(14) >= n_frames[:, None]
    poisoned = jnp.where(np.expand_dims(beyond, tuple(range(2, scores.ndim))), poison, scores)
    if loss is jaxloss.rnnt_loss:
        poisoned = jnp.where((np.arange(8) > n_labels[:, None])[:, None, :, None], poison, poisoned)
    hostile = np.where(np.arange(7) >= n_labels[:, None], -(2**30), target)
    (value, gradient), (expected, slope) = run(poisoned, hostile), run(scores, target)
    assert np.isfinite(value)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(gradient, slope)
    cut = [
        loss(
            scores[i : i + 1, :t, ..., : s + 1, :] if scores.ndim == 4 else scores[i : i + 1, :t], target[i : i + 1, :s]
        )
        for i, (t, s) in enumerate(zip(n_frames, n_labels, strict=True))
    ]
    np.testing.assert_allclose(value, np.dot(cut, np.maximum(n_labels, 1)), rtol=1e-5)


@pytest.mark.nans
@each_loss
def test_no_frames(loss):
    scores, target = drawn(loss, 3)
    lengths = dict(zip(LENGTHS[loss], (np.array([0, 0, 14]), np.array([0, 2, 1])), strict=True))
    losses, pullback = jax.vjp(lambda x: loss(x, target, **lengths, reduction="none"), scores)
    assert losses[0] == 0
    assert losses[1] == np.inf
    assert np.isfinite(losses[2])
    (gradient,) = pullback(jnp.ones(3))
    np.testing.assert_array_equal(gradient[:2], 0)
    empty = scores[:, :0]
    np.testing.assert_array_equal(loss(empty, target, reduction="none"), np.inf)
    no_label = empty[..., :1, :] if loss is jaxloss.rnnt_loss else empty
    np.testing.assert_array_equal(loss(no_label, target[:, :0], reduction="none"), 0)


@pytest.mark.nans
@each_loss
def test_lengths_out_of_range_and_blanks_among_labels_are_nan(loss):
    scores, target = drawn(loss, 2)
    frames, labels = LENGTHS[loss]
    for options in ({frames: np.array([15, 14])}, {labels: np.array([8, 7])}, {frames: np.array([-1, 2], np.int8)}):
        losses = loss(scores, target, **options, reduction="none")
        np.testing.assert_array_equal(np.isnan(losses), [True, False])
    blank = 0 if loss is jaxloss.ctc_loss else 4
    with_blank = target.at[0, 3].set(blank)
    np.testing.assert_array_equal(np.isnan(loss(scores, with_blank, reduction="none")), [True, False])
    assert np.isfinite(loss(scores, with_blank, **{labels: 3}, reduction="none")).all()
    for options, labels_given, message in (
        ({frames: np.array([15, 14])}, target, f"{frames} is 15 but must lie in [0, 14]"),
        ({}, with_blank, f"target has the blank, class {blank}, among its labels"),
    ):
        with jaxloss.data_checks(True):
            error, _ = checkify.checkify(jax.jit(functools.partial(loss, **options)))(scores, labels_given)
        assert message in error.get()


def test_logits_in_place_of_log_probabilities_are_found_by_data_checks():
    scores, target = np.zeros((2, 4, 5), np.float32), np.ones((2, 2), np.int32)
    scores[1, :3] = np.log(0.2)
    scores[0, 3:] = np.log(0.2)
    check = checkify.checkify(jax.jit(jaxloss.ctc_loss))
    with jaxloss.data_checks(True):
        found = check(scores, target, input_lengths=3)[0].get()
        takes = "takes probabilities that sum to 1; take the log_softmax of logits"
        assert found.startswith(f"ctc_loss: exp(log_probabilities) sums to 5.0 over the classes but {takes}")
        assert check(scores[1:], target[1:], input_lengths=3)[0].get() is None


@each_loss
def test_errors_of_lengths_and_blanks(loss):
    scores, target = drawn(loss, 2)
    frames, labels = LENGTHS[loss]
    name = loss.__name__
    for options, kind, message in (
        ({frames: np.float32([1, 2])}, TypeError, f"{name}: {frames} has dtype float32 but takes integer lengths"),
        ({frames: np.ones((2, 1), int)}, ValueError, f"{name}: {frames} has shape (2, 1) but one length per row of"),
        ({labels: np.ones(3, int)}, ValueError, f"{name}: {labels} has shape (3,)"),
        ({"blank": 5}, ValueError, f"{name}: blank is 5 but must lie in [-5, 5)"),
        ({"blank": 1.5}, TypeError, f"{name}: blank is compiled into the program and takes int"),
    ):
        with pytest.raises(kind, match=re.escape(message)):
            loss(scores, target, **options)
    with pytest.raises(
        ValueError, match=re.escape("axis s+1 has length 7 in logits of shape (2, 14, 7, 5) but takes 8")
    ):
        jaxloss.rnnt_loss(jnp.zeros((2, 14, 7, 5)), target)


def aligned(generator, n_frames, n_labels, certainty):
    """Log-probabilities of a network that has learned the target, up to small errors."""
    target = generator.integers(1, 20, n_labels)
    path = np.zeros(n_frames, int)
    path[np.sort(generator.choice(np.arange(0, n_frames, 2), n_labels, replace=False))] = target
    scores = generator.normal(size=(n_frames, 20))
    scores[np.arange(n_frames), path] += certainty
    return log_softmax(scores), target


LONG = {
    "random": lambda g: (log_softmax(3 * g.normal(size=(5000, 20))), g.integers(1, 20, 300)),
    "learned": lambda g: aligned(g, 5000, 300, 14.0),
    "certain": lambda g: aligned(g, 5000, 5, 40.0),
    "as many labels as frames": lambda g: (log_softmax(g.normal(size=(5000, 20))), 1 + np.arange(5000) % 19),
}


# The last takes as many steps over as many labels: 25 seconds.
@pytest.mark.parametrize("name", [*[*LONG][:-1], pytest.param([*LONG][-1], marks=pytest.mark.full)])
def test_5000_frames_in_float32(name):
    log_p, target = LONG[name](np.random.default_rng(0))
    log_p = log_p.astype(np.float32)
    run = jax.jit(jax.value_and_grad(lambda log_p: jaxloss.ctc_loss(log_p, target, reduction="sum")))
    with jax.enable_x64(True):
        expected, posterior = run(log_p.astype(np.float64))
    value, gradient = run(log_p)
    assert value >= 0
    # A probability that rounds to 1 has lost up to half a unit in the last place at each frame.
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=5000 * 2.0**-25)
    np.testing.assert_allclose(np.sum(gradient, axis=-1), -1, rtol=1e-5)
    np.testing.assert_allclose(gradient, posterior, atol=2e-3)


def test_a_long_transducer_in_float32():
    generator = np.random.default_rng(0)
    logits, target = 3 * generator.normal(size=(1000, 41, 8)).astype(np.float32), generator.integers(0, 7, 40)
    run = jax.jit(jax.value_and_grad(lambda x: jaxloss.rnnt_loss(x, target, reduction="sum")))
    with jax.enable_x64(True):
        expected, slope = run(logits.astype(np.float64))
    value, gradient = run(logits)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, slope, atol=1e-3)


EXTREMES = (0.0, -0.0, 1e-40, 30.0, 3e4, 1e30, 3e38, np.inf)


@pytest.mark.nans
@each_loss
def test_extreme_scores_have_no_nan(loss):
    """One extreme number, a frame of them, or all of them; the gradient is finite even where the loss is not."""
    scores, target = drawn(loss, 1)
    run = jax.jit(jax.value_and_grad(lambda x: loss(x, target, reduction="sum")))
    for size, sign in itertools.product(EXTREMES, (1, -1)):
        everywhere = jnp.full_like(scores, sign * size)
        for extreme in (everywhere.at[:, 1:].set(scores[:, 1:]), scores.at[0, 3, ..., 1].set(sign * size), everywhere):
            value, gradient = run(extreme)
            all_impossible = np.isneginf(np.asarray(extreme)).all(-1).any()
            assert not np.isnan(value) or (loss is jaxloss.rnnt_loss and all_impossible), (size, sign)
            assert np.isfinite(gradient).all(), (size, sign)


@pytest.mark.parametrize("offset", [0.0, 1e4, 2.0**20, -(2.0**20)])
def test_an_offset_of_all_logits_changes_nothing(offset):
    """Integers, of which float32 holds all digits."""
    logits = np.random.default_rng(0).integers(-3, 4, size=(20, 6, 8)).astype(np.float32)
    run = jax.jit(jax.value_and_grad(lambda x: jaxloss.rnnt_loss(x, jnp.arange(5), reduction="sum")))
    (value, gradient), (expected, slope) = run(logits + np.float32(offset)), run(logits)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope, atol=1e-6)
    np.testing.assert_allclose(np.sum(gradient, axis=-1), 0, atol=1e-6)
    np.testing.assert_allclose(jaxloss.rnnt_loss(jnp.full((1, 1, 3), 3e38), jnp.zeros(0, int)), np.log(3), rtol=1e-6)


def test_a_confident_transducer():
    """A softmax rounds each of five terms that it adds to 1 by half a unit in the last place; no more is lost."""
    logits = np.zeros((500, 11, 6), np.float32)
    path = np.repeat(np.arange(11), 46)[:500]
    for t, u in enumerate(path):
        logits[t, u, 5] = 12
        if t + 1 < 500 and path[t + 1] > u:
            logits[t + 1, u, u % 5] = 12
    labels = np.arange(10) % 5
    with jax.enable_x64(True):
        expected = jaxloss.rnnt_loss(logits.astype(np.float64), labels, reduction="sum")
    np.testing.assert_allclose(jaxloss.rnnt_loss(logits, labels, reduction="sum"), expected, atol=510 * 5 * 2.0**-24)


@pytest.mark.nans
def test_infinite_scores_are_limits():
    log_p, target = jnp.zeros((3, 3)), jnp.array([1])
    # Only the blank is possible at each frame.
    assert jaxloss.ctc_loss(log_p.at[:, 1:].set(-jnp.inf), target) == np.inf
    assert jaxloss.ctc_loss(log_p.at[:, 1:].set(-jnp.inf), target, target_lengths=0) == 0
    assert jaxloss.ctc_loss(log_p.at[1, 1].set(jnp.inf), target) == -np.inf
    logits, labels = jnp.zeros((2, 2, 3)), jnp.array([0])
    # The blank is certain before the label: no path emits it.
    assert jaxloss.rnnt_loss(logits.at[:, 0, 2].set(jnp.inf), labels) == np.inf
    # At frame 0 the label is impossible, so there is one path: blank, label, blank.
    one_path = jaxloss.rnnt_loss(logits.at[0, 0, 0].set(-jnp.inf), labels)
    np.testing.assert_allclose(one_path, np.log(2) + 2 * np.log(3), rtol=1e-6)


@each_loss
def test_second_derivatives(loss):
    with jax.enable_x64(True):
        scores, target = drawn(loss, 1, dtype=np.float64)
        scores, target = scores[:, :5, ..., :3], target[:, :2] % 2
        if loss is jaxloss.rnnt_loss:
            scores = scores[:, :, :3]
        else:
            target = target + 1
        for options in ({}, dict(zip(LENGTHS[loss], (4, 1), strict=True))):
            function = functools.partial(loss, target=target, **options)
            forward, backward, twice = (
                jax.jit(each)(scores)
                for each in (
                    jax.jacfwd(jax.grad(function)),
                    jax.jacrev(jax.grad(function)),
                    jax.jacfwd(jax.jacfwd(function)),
                )
            )
            np.testing.assert_allclose(backward, forward, atol=1e-13)
            np.testing.assert_allclose(twice, forward, atol=1e-13)
            direction = np.random.default_rng(0).normal(size=scores.shape)
            ahead, behind = (jax.grad(function)(scores + step * direction) for step in (1e-5, -1e-5))
            np.testing.assert_allclose(
                np.tensordot(forward, direction, scores.ndim), (ahead - behind) / 2e-5, atol=1e-8
            )


@pytest.mark.cpu
def test_the_transducer_needs_no_second_array_of_its_logits():
    shape = (8, 200, 61, 500)
    arguments = jax.ShapeDtypeStruct(shape, np.float32), jax.ShapeDtypeStruct((8, 60), np.int32)
    of_lattice = 4 * np.prod(shape[:3])
    assert temporaries(jax.value_and_grad(jaxloss.rnnt_loss), *arguments) <= 20 * of_lattice


def test_the_transducer_takes_as_many_steps_as_it_has_diagonals():
    arguments = jax.ShapeDtypeStruct((2, 50, 11, 4), np.float32), jax.ShapeDtypeStruct((2, 10), np.int32)
    program = str(jax.make_jaxpr(jax.value_and_grad(jaxloss.rnnt_loss))(*arguments))
    assert set(re.findall(r"length=(\d+)", program)) == {"60"}
