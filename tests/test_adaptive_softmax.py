"""Tests of the adaptive softmax that the registry does not cover."""

import functools
import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxloss
from jaxloss import AdaptiveSoftmax, adaptive_log_softmax_with_loss, adaptive_softmax_cutoffs
from tests import compiling
from tests.drawing import full_only

D, C, CUTOFFS = 8, 40, (5, 17, 30)


def softmax(head_bias=True, dtype=np.float32):
    drawn = AdaptiveSoftmax.init(jax.random.key(0), D, C, cutoffs=CUTOFFS, div_value=2.0, head_bias=head_bias)
    return jax.tree.map(lambda leaf: np.asarray(4 * leaf, dtype), drawn)


def rows(n=300, dtype=np.float32, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, D)).astype(dtype), generator.integers(0, C, size=n).astype(np.int32)


def plain(hidden, parameters, target, where=True):
    """The loss with all log-probabilities in memory."""
    picked = jnp.take_along_axis(parameters.log_prob(hidden), jnp.clip(target, 0, C - 1)[:, None], 1)[:, 0]
    return jnp.where(where, -picked, 0)


def assert_close(got, expected, rtol=1e-5, atol=1e-6):
    chex.assert_trees_all_close(got, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("cutoffs", "head_bias", "dtype"),
    [
        ((5, 17, 30), True, "float64"),
        ((5, 17, 30), False, "float32"),
        ((39,), False, "float64"),
        ((1, 2), True, "float64"),
    ],
)
def test_matches_pytorch(torch, cutoffs, head_bias, dtype):
    torch.manual_seed(0)
    module = torch.nn.AdaptiveLogSoftmaxWithLoss(D, C, list(cutoffs), 2.0, head_bias)
    module = module.to(getattr(torch, dtype))

    def as_ours(of):
        tails = tuple((of(first.weight).T, of(second.weight).T) for first, second in module.tail)
        return AdaptiveSoftmax(of(module.head.weight).T, of(module.head.bias) if head_bias else None, tails)

    hidden, target = rows(dtype=dtype)
    tensor = torch.tensor(hidden, requires_grad=True)
    output, mean = module(tensor, torch.tensor(target).long())
    mean.backward()
    rtol, atol = (1e-12, 1e-14) if dtype == "float64" else (1e-5, 1e-6)
    with jax.enable_x64(dtype == "float64"):
        ours = as_ours(lambda parameter: parameter.detach().numpy())
        losses = adaptive_log_softmax_with_loss(hidden, ours, target, reduction="none")
        np.testing.assert_allclose(losses, -output.detach().numpy(), rtol=rtol, atol=atol)
        got = jax.value_and_grad(adaptive_log_softmax_with_loss, (0, 1))(hidden, ours, target)
        expected = mean.item(), (tensor.grad.numpy(), as_ours(lambda parameter: parameter.grad.numpy()))
        assert_close(got, expected, rtol, atol)
        np.testing.assert_allclose(
            ours.log_prob(hidden), module.log_prob(tensor).detach().numpy(), rtol=rtol, atol=1e-5
        )
        np.testing.assert_array_equal(ours.predict(hidden), module.predict(tensor).numpy())


def test_log_probabilities_match_the_loss():
    with jax.enable_x64(True):
        hidden, target = rows(dtype=np.float64)
        parameters = softmax(dtype=np.float64)
        log_probabilities = parameters.log_prob(hidden.reshape(3, 100, D))
        assert log_probabilities.shape == (3, 100, C)
        np.testing.assert_allclose(np.exp(log_probabilities).sum(-1), 1, rtol=1e-13)
        losses = adaptive_log_softmax_with_loss(hidden, parameters, target, reduction="none")
        np.testing.assert_allclose(losses, plain(hidden, parameters, target), rtol=1e-12)
        predicted = parameters.predict(hidden.reshape(3, 100, D))
        np.testing.assert_array_equal(predicted, np.argmax(log_probabilities, axis=-1))
        assert len(set(np.searchsorted(CUTOFFS, predicted.ravel(), side="right"))) == 4  # the head and every tail
        assert parameters.predict(hidden[0]).shape == parameters.predict(hidden[:0]).shape[1:] == ()


SPREADS = {
    "all in the head": lambda target: target % 5,
    "all in the last tail": lambda target: 30 + target % 10,
    "none in the middle tail": lambda target: np.where((target >= 17) & (target < 30), 0, target),
    "one row per tail": lambda target: np.where(np.arange(len(target)) < 4, 10 * np.arange(len(target)), 0),
    "as drawn": lambda target: target,
}


@functools.cache
def both_ways(reduction):
    """Values and gradients of a sum over rows, ours and with all log-probabilities in memory."""

    def ours(arrays, target, where, by):
        return jnp.sum(by * adaptive_log_softmax_with_loss(*arrays, target, where=where, reduction=reduction))

    def theirs(arrays, target, where, by):
        return jnp.sum(by * plain(*arrays, target, where))

    return jax.jit(lambda *a: [jax.value_and_grad(function)(*a) for function in (ours, theirs)])


@pytest.mark.parametrize("reduction", ["sum", "none"])
@pytest.mark.parametrize("n", [1, 300])
def test_any_distribution_of_rows_over_tails(n, reduction):
    with jax.enable_x64(True):
        hidden, target = rows(n, np.float64)
        where = np.arange(n) % 4 != 1
        by = 1.0 if reduction == "sum" else np.linspace(-1, 1, n)
        for spread in SPREADS.values():
            spread_target = np.asarray(spread(target), np.int32)
            arrays = (hidden, softmax(dtype=np.float64))
            assert_close(*both_ways(reduction)(arrays, spread_target, where, by), rtol=1e-11, atol=1e-12)


def test_unused_tails_are_not_computed():
    """NaN in their parameters has no effect, although any product with them would be NaN."""
    hidden, target = rows()
    target[:3] = [-100, 40, 39]
    parameters, where = softmax(), np.arange(300) > 2  # ignored, out-of-range and masked rows need no tail
    target[3:] %= 17
    hidden[0] = np.nan
    others = tuple((down * np.nan, up * np.nan) for down, up in parameters.tails[1:])
    poisoned = AdaptiveSoftmax(parameters.head, parameters.head_bias, (parameters.tails[0], *others))
    run = jax.value_and_grad(lambda *a: adaptive_log_softmax_with_loss(*a, target, where=where), (0, 1))
    got, expected = run(hidden, poisoned), run(hidden, parameters)
    assert_close(got, expected, rtol=0, atol=0)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(got[1][1].tails[1:]))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.__name__)
def test_half_precision(dtype):
    """Against float64 on the same rounded inputs."""
    hidden, target = rows()
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (hidden, softmax()))
    value, gradients = jax.value_and_grad(lambda pair: adaptive_log_softmax_with_loss(*pair, target))(half)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype(dtype)}
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), half)
        expected, wide_gradients = jax.value_and_grad(lambda pair: plain(*pair, target).mean())(wide)
    np.testing.assert_allclose(value, expected, rtol=2e-6)
    for got, wanted in zip(jax.tree.leaves(gradients), jax.tree.leaves(wide_gradients), strict=True):
        error = np.abs(np.asarray(got, np.float64) - np.asarray(wanted)).max()
        assert error <= 2 * float(jnp.finfo(dtype).eps) * np.abs(np.asarray(wanted)).max()


def test_parts_may_differ_in_dtype():
    hidden, target = rows()
    parameters = softmax()
    expected = adaptive_log_softmax_with_loss(hidden, parameters, target)
    half = jnp.asarray(hidden, jnp.bfloat16)
    got = adaptive_log_softmax_with_loss(half, parameters, target)
    np.testing.assert_allclose(got, adaptive_log_softmax_with_loss(half.astype(jnp.float32), parameters, target))
    np.testing.assert_allclose(got, expected, rtol=0.01)


@full_only
@pytest.mark.cpu
def test_transformations():
    hidden, target = rows(24)
    parameters = softmax()
    expected = jax.value_and_grad(adaptive_log_softmax_with_loss, 1)(hidden, parameters, target)

    @jax.jit
    def scanned(hidden, parameters, target):
        def total(parameters):
            def step(total, batch):
                part = jax.checkpoint(lambda h, t: adaptive_log_softmax_with_loss(h, parameters, t, reduction="total"))(
                    *batch
                )
                return total + part, None

            batches = (hidden.reshape(4, 6, D), target.reshape(4, 6))
            return jax.lax.scan(step, jaxloss.Total.zero(), batches)[0].mean()

        return jax.value_and_grad(total)(parameters)

    assert_close(scanned(hidden, parameters, target), expected)
    many = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), parameters)
    together = jax.vmap(jax.value_and_grad(adaptive_log_softmax_with_loss, 1), (None, 0, None))(hidden, many, target)
    assert_close(jax.tree.map(lambda leaf: leaf[0], together), expected)
    assert (many.in_features, many.cutoffs) == (D, CUTOFFS)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))

    def mean(hidden, parameters, target):
        return adaptive_log_softmax_with_loss(hidden, parameters, target, reduction="total").psum("data").mean()

    data, same = PartitionSpec("data"), PartitionSpec()
    sharded = jax.shard_map(mean, mesh=mesh, in_specs=(data, same, data), out_specs=same)
    assert_close(jax.jit(jax.value_and_grad(sharded, 1))(hidden, parameters, target), expected)


def test_intermediate_overflow_does_not_give_nan():
    hidden, target = rows(50)
    huge = jax.tree.map(lambda leaf: leaf * np.float32(1e20), softmax())
    assert not np.isnan(huge.log_prob(hidden * np.float32(1e20))).any()
    assert not np.isnan(adaptive_log_softmax_with_loss(hidden * np.float32(1e20), huge, target)).any()


def test_without_tails_it_is_a_full_softmax():
    hidden, target = rows()
    full = AdaptiveSoftmax.init(jax.random.key(1), D, C, cutoffs=(), head_bias=True)
    got = adaptive_log_softmax_with_loss(hidden, full, target)
    logits = hidden @ full.head + full.head_bias[None]
    np.testing.assert_allclose(got, jaxloss.cross_entropy(logits, target), rtol=1e-6)
    np.testing.assert_array_equal(full.predict(hidden), np.argmax(logits, axis=1))


def test_initial_values():
    drawn = AdaptiveSoftmax.init(jax.random.key(3), 256, 1000, cutoffs=(100, 300), head_bias=True)
    assert (drawn.shape, drawn.cutoffs, drawn.dtype) == ((256, 1000), (100, 300), jnp.float32)
    shapes = [leaf.shape for leaf in jax.tree.leaves(drawn)]
    assert shapes == [(256, 102), (102,), (256, 64), (64, 200), (256, 16), (16, 700)]
    for matrix in (drawn.head, *itertools.chain(*drawn.tails)):
        bound = matrix.shape[0] ** -0.5
        assert 0.98 * bound < np.abs(matrix).max() <= bound
        np.testing.assert_allclose(np.std(matrix), bound / 3**0.5, rtol=0.05)
    assert AdaptiveSoftmax.init(jax.random.key(3), 8, 30, cutoffs=(1, 2, 3)).tails[2][0].shape == (8, 1)


def temporaries(function, parameters, n=2048):
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), parameters)
    hidden = jax.ShapeDtypeStruct((n, 64), jnp.float32)
    target = jax.ShapeDtypeStruct((n,), jnp.int32)
    return compiling.temporaries(jax.value_and_grad(function, (0, 1)), hidden, shapes, target)


@pytest.mark.cpu
def test_temporaries_grow_more_slowly_with_rows_than_logits(full):
    parameters = AdaptiveSoftmax.init(jax.random.key(0), 64, 20000, cutoffs=(500, 4000))
    ours = temporaries(adaptive_log_softmax_with_loss, parameters)
    assert ours < temporaries(lambda h, p, t: plain_mean(h, p, t), parameters) / 8
    if full:
        assert temporaries(adaptive_log_softmax_with_loss, parameters, 8192) - ours < 6144 * 4 * (8 * 64 + 64)


def plain_mean(hidden, parameters, target):
    return -jnp.take_along_axis(parameters.log_prob(hidden), target[:, None], 1).mean()


def modelled_cost(counts, in_features, batch_size, div_value, cutoffs):
    """The formula of the docstring."""
    bounds = (0, *cutoffs, len(counts))
    cost = batch_size * (bounds[1] + len(cutoffs)) * (in_features + 50)
    for i, (low, high) in enumerate(itertools.pairwise(bounds[1:])):
        features = max(int(in_features // div_value ** (i + 1)), 1)
        expected = batch_size * sum(counts[low:high]) / sum(counts)
        cost += max(expected, min(128, batch_size)) * (in_features * features + (high - low) * (features + 50))
    return cost


@pytest.mark.parametrize(
    ("n_tails", "div_value", "batch_size"), [(1, 4.0, 4096), (2, 4.0, 4096), (2, 2.0, 10**5), (2, 4.0, 8)]
)
def test_cutoffs_are_the_cheapest(n_tails, div_value, batch_size):
    counts = 1 / np.arange(1, 61) ** 1.5
    best = min(
        itertools.combinations(range(1, 60), n_tails),
        key=lambda cutoffs: modelled_cost(counts, 256, batch_size, div_value, cutoffs),
    )
    chosen = adaptive_softmax_cutoffs(counts, 256, batch_size=batch_size, n_tails=n_tails, div_value=div_value)
    assert chosen == best
    assert all(type(cutoff) is int for cutoff in chosen)


def test_cutoffs_at_the_edges():
    assert adaptive_softmax_cutoffs([3, 2, 1], 8, batch_size=10, n_tails=0) == ()
    assert adaptive_softmax_cutoffs([3, 2, 1], 8, batch_size=10, n_tails=2) == (1, 2)
    assert adaptive_softmax_cutoffs(np.ones(300), 8, batch_size=4, n_tails=299) == tuple(range(1, 300))
    flat = adaptive_softmax_cutoffs(np.ones(100_000), 64, batch_size=1024)
    assert 0 < flat[0] < flat[1] < 100_000


@pytest.mark.parametrize(
    ("div_value", "features"), [(4.0, [4, 1, 1]), (2, [8, 4, 2]), (1, [16, 16, 16]), (1e200, [1, 1, 1])]
)
def test_cutoffs_divide_the_features_by_powers_of_div_value(div_value, features):
    key = jax.random.key(0)
    tails = AdaptiveSoftmax.init(key, 16, 9, cutoffs=(2, 4, 6), div_value=div_value).tails
    assert [down.shape for down, _ in tails] == [(16, n) for n in features]
    assert [up.shape for _, up in tails] == list(zip(features, (2, 2, 3), strict=True))


def test_errors():
    hidden, target = rows(4)
    good = softmax()
    down, up = good.tails[0]

    def init(**changes):
        return AdaptiveSoftmax.init(
            jax.random.key(0), **({"in_features": D, "n_classes": C, "cutoffs": CUTOFFS} | changes)
        )

    def cut(counts=(3, 2, 1), **changes):
        return adaptive_softmax_cutoffs(counts, **({"in_features": 8, "batch_size": 4, "n_tails": 1} | changes))

    def of(parameters, hidden=hidden):
        return adaptive_log_softmax_with_loss(hidden, parameters, target)

    name, where, cutoffs = "adaptive_log_softmax_with_loss", "AdaptiveSoftmax", "adaptive_softmax_cutoffs"
    for error, message, call in (
        (TypeError, f"{name}: parameters is of type ndarray but takes an AdaptiveSoftmax", lambda: of(good.head)),
        (ValueError, rf"{name}: axis d has length 8 in parameters of shape \(8, 40\) but 7 in hidden of shape \(4, 7\)",
         lambda: of(good, hidden[:, :7])),
        (TypeError, f"{where}: head has dtype int32 but takes a floating array",
         lambda: of(AdaptiveSoftmax(np.ones((D, 3), np.int32), None, ()))),
        (TypeError, f"{where}: head has dtype >f4 but takes numbers in a dtype that JAX has",
         lambda: of(AdaptiveSoftmax(np.ones((D, 3), ">f4"), None, ()))),
        (TypeError, f"{where}: head is of type str but takes a floating array",
         lambda: of(AdaptiveSoftmax("head", None, ()))),
        (TypeError, rf"{where}: tails\[0\] is of type ndarray but takes a pair",
         lambda: of(AdaptiveSoftmax(good.head, None, (up,)))),
        (ValueError, rf"{where}: head has shape \(8,\) but takes a matrix",
         lambda: of(AdaptiveSoftmax(good.head[:, 0], None, ()))),
        (ValueError, rf"{where}: head has shape \(8, 1\) but takes a column for each of 1 tails",
         lambda: of(AdaptiveSoftmax(good.head[:, :1], None, ((down, up),)))),
        (ValueError, rf"{where}: head_bias has shape \(3,\) but head of shape \(8, 8\) takes \(8,\)",
         lambda: of(AdaptiveSoftmax(good.head, good.head_bias[:3], good.tails))),
        (ValueError, rf"{where}: tails\[0\] has shapes \(4, 12\) and \(8, 4\) but takes \(8, e\) and \(e, n\)",
         lambda: of(AdaptiveSoftmax(good.head, None, ((up, down),)))),
        (ValueError, rf"{where}.log_prob: hidden has shape \(4,\) but takes 8", lambda: good.log_prob(hidden[:, 0])),
        (TypeError, f"{where}.predict: hidden has dtype int32", lambda: good.predict(target)),
        (ValueError, rf"{where}.init: cutoffs is \(17, 5\) but takes integers that increase",
         lambda: init(cutoffs=(17, 5))),
        (ValueError, rf"{where}.init: cutoffs is \(5, 40\)", lambda: init(cutoffs=[5, 40])),
        (ValueError, rf"{where}.init: cutoffs is \(0, 5\)", lambda: init(cutoffs=(0, 5))),
        (ValueError, rf"{where}.init: cutoffs is \(5, 5\)", lambda: init(cutoffs=(5, 5))),
        (TypeError, f"{where}.init: cutoffs is 5 but takes a sequence of integers", lambda: init(cutoffs=5)),
        (TypeError, f"{where}.init: cutoffs is .* but takes a sequence of integers", lambda: init(cutoffs=(5.5,))),
        (ValueError, f"{where}.init: in_features is 0 but must lie in", lambda: init(in_features=0)),
        (TypeError, f"{where}.init: n_classes is of type float but takes an integer", lambda: init(n_classes=40.0)),
        (ValueError, f"{where}.init: div_value is 0 but must lie in", lambda: init(div_value=0)),
        (ValueError, f"{cutoffs}: class_counts rises from class 1 to 2", lambda: cut((3, 1, 2))),
        (ValueError, f"{cutoffs}: class_counts is .* none negative or infinite", lambda: cut((3, 1, -2))),
        (ValueError, f"{cutoffs}: class_counts is .* none negative or infinite", lambda: cut((math.inf, 2, 1))),
        (ValueError, f"{cutoffs}: class_counts is .* one above 0", lambda: cut((0, 0))),
        (ValueError, rf"{cutoffs}: class_counts has shape \(2, 2\) but takes a vector", lambda: cut(np.ones((2, 2)))),
        (TypeError, f"{cutoffs}: class_counts is .* but takes a vector", lambda: cut({"a": 1})),
        (TypeError, f"{cutoffs}: class_counts is traced but takes a vector",
         lambda: jax.jit(cut)(np.ones(3, np.float32))),
        (TypeError, f"{cutoffs}: n_tails is of type float but takes an integer", lambda: cut(n_tails=2.0)),
        (TypeError, f"{cutoffs}: div_value is of type str but takes a real number", lambda: cut(div_value="a")),
        (TypeError, f"{where}.predict: hidden is a list", lambda: good.predict([1.0])),
        (TypeError, f"{where}: tails is of type NoneType but takes a tuple of pairs",
         lambda: of(AdaptiveSoftmax(good.head, None, None))),
        (ValueError, f"{cutoffs}: n_tails is 3 but must lie in", lambda: cut(n_tails=3)),
        (ValueError, f"{cutoffs}: batch_size is 0 but must lie in", lambda: cut(batch_size=0)),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()
