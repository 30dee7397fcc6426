"""Invalid calls: each gives a result of the right shape, or an error that names the function.

An error raised inside JAX, such as one about incompatible shapes or tracers that it cannot convert, is a bug of ours.
"""

import inspect
import pathlib
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

import jaxloss
from jaxloss import imbalance, kinks, vectors
from tests.drawing import draw, each_declaration

PACKAGE = str(pathlib.Path(jaxloss.__file__).parent)
SHAPE = (2, 3)


class Unhashable:
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __array__(self, *_, **__):
        return np.ones(SHAPE, np.float32)


class AlmostArray:
    shape, dtype, ndim, size = SHAPE, np.dtype(np.float32), 2, 6


DTYPES = ["bool", "int8", "int32", "uint64", "float16", "float32", "float64", "longdouble", "complex64"]
DTYPES += ["datetime64[s]", "timedelta64[s]", ">f4", "S3", "U2", "O"]
SHAPES = ((), (0,), (1,), (3,), (5,), SHAPE, (3, 2), (2, 5), (5, 5), (2, 0), (2, 3, 1), (2, 3, 5), (1, 1, 1, 1, 1))
ARRAYS = st.builds(np.zeros, st.sampled_from(SHAPES), st.sampled_from(DTYPES))
JAX_DTYPES = (jnp.bfloat16, jnp.float8_e4m3fn, jnp.int4, jnp.float32, jnp.int32, jnp.complex64, jnp.bool_)
# Put on the device, which compiles nothing.
JAX_ARRAYS = st.builds(
    lambda *args: jax.device_put(np.zeros(*args)), st.sampled_from(SHAPES), st.sampled_from(JAX_DTYPES)
)
NUMBERS = (0, 1, 3, -1, -7, 0.5, True, 1j, 2**40, 10**400, 1e308, 5e-324, float("nan"), float("inf"))
SCALARS = (np.float64(0.5), np.int64(2**40), np.longdouble(1), np.complex64(1j), np.bool_(True), np.str_("a"))
CALLABLES = (
    jnp.mean,
    np.mean,
    max,
    sum,
    print,
    type,
    float,
    jnp.float32,
    jax.nn.relu,
    lambda: 0,
    lambda *pair: pair[0],
)
OBJECTS = (
    *(None, "text", "mean", "none", "total", b"bytes", ..., NotImplemented, slice(None), range(3), object()),
    *([], [1.0], (), (1.0,), {}, {"a": 1}, {1, 2}, [None], Unhashable(), AlmostArray(), memoryview(b"abc")),
    *(jax.random.key(0), jax.random.split(jax.random.key(0), 2), jax.ShapeDtypeStruct(SHAPE, jnp.float32)),
    *(np.ma.masked_array(np.ones(SHAPE, np.float32), False), np.zeros(2, [("a", "i4"), ("b", "f4")])),
)
# A list of builders keeps examples readable; with sampled_from alone, hypothesis would show the repr of each.
ODD = st.one_of(ARRAYS, JAX_ARRAYS, st.sampled_from((*NUMBERS, *SCALARS, *CALLABLES, *OBJECTS)))


def outcome(names, call):
    """What the call returns, or its error, which must be raised by jaxloss."""
    try:
        return call()
    except (TypeError, ValueError) as caught:
        error = caught
    raised = traceback.extract_tb(error.__traceback__)[-1].filename
    assert raised.startswith(PACKAGE), f"raised in {raised}: {error}"
    assert str(error).startswith(tuple(f"{name}: " for name in names)), error
    return error


def same_outcome(names, function, arguments):
    """The shape and dtype of the result, or the error, which must be the same traced and eager."""

    def traced():
        return outcome(names, lambda: jax.eval_shape(lambda: function(**arguments)))

    result = traced()
    if isinstance(result, Exception):
        eager = outcome(names, lambda: function(**arguments))
        assert (type(eager), str(eager)) == (type(result), str(result))
    return result


def by_name(row, arguments):
    return dict(zip(row.inputs, arguments, strict=True))


def with_some_odd(data, arguments, names):
    """The arguments, with one or two of those named replaced by odd values."""
    for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2), label="odd"):
        arguments[name] = data.draw(ODD, label=name)
    return arguments


@each_declaration
@given(data=st.data())
def test_odd_arguments_of_a_loss(row, data):
    arguments = by_name(row, row.pack(*draw(row, SHAPE)))
    given_names = [*inspect.signature(row.function).parameters, "wieghts"]
    arguments = with_some_odd(data, {**row.options[0], **arguments}, given_names)
    names = (row.name, *(("AdaptiveSoftmax",) if row.name.startswith("adaptive") else ()))
    result = same_outcome(names, row.function, arguments)
    if not isinstance(result, Exception) and not callable(arguments.get("reduction")):
        shapes = [leaf.shape for leaf in jax.tree.leaves(result)]
        assert shapes == [()] * len(shapes) or arguments.get("reduction") == "none"


@each_declaration
@given(data=st.data())
def test_odd_shapes_and_dtypes(row, data):
    """All arguments are arrays, so errors are about how they fit. An accepted call has the shape that NumPy gives."""
    arrays = list(draw(row, SHAPE))
    lengths, dtypes = st.sampled_from([0, 1, 2, 3, 5]), st.sampled_from([jnp.float16, jnp.float32, jnp.int8, jnp.uint8])
    for i in data.draw(st.lists(st.sampled_from(range(len(arrays))), min_size=1, max_size=3, unique=True)):
        shape = data.draw(st.lists(lengths, max_size=4).map(tuple))
        arrays[i] = np.zeros(shape, data.draw(dtypes) if data.draw(st.booleans()) else arrays[i].dtype)
    arguments = by_name(row, row.pack(*arrays)) | dict(row.options[0], reduction="none")
    names = (row.name, "AdaptiveSoftmax")
    result = same_outcome(names, row.function, arguments)
    if not isinstance(result, Exception):
        own = [
            a.shape[: a.ndim - core]
            for i, (a, core) in enumerate(zip(arrays, row.cores, strict=True))
            if i not in row.shared
        ]
        if len(row.declaration.patterns) == 1:  # otherwise the dtype of the target selects one of two notations
            assert result.shape == np.broadcast_shapes(*own)


X = np.ones(SHAPE, np.float32)
KEY = jax.random.key(0)
SOFTMAX = jaxloss.AdaptiveSoftmax(X.T, None, ((X.T, X),))
SAMPLER = imbalance.BalancedSampler.init(KEY, np.array([0, 1, 1]))
LABELS, COUNTS = np.array([0, 1], np.int32), np.array([3.0, 2.0, 1.0], np.float32)


def adaptive_loss(**parts):
    return jaxloss.adaptive_log_softmax_with_loss(X, jaxloss.AdaptiveSoftmax(**parts), LABELS)


def adaptive_loss_of_tail(down, up):
    return adaptive_loss(head=X.T, head_bias=None, tails=((down, up),))


def decorated(**arguments):
    return jaxloss.loss("(),()->()", **arguments)(lambda x, y, *, z=1.0: x) and None


def summed(**parts):
    return jaxloss.Total(**parts) + jaxloss.Total.zero()


def accumulated(loss=lambda slope, batch: jaxloss.mse_loss(X * 1.0, X, reduction="total"), **arguments):
    return jaxloss.accumulated(loss)(**arguments)


PUBLIC = {
    "kinks.abs": (kinks.abs, {"x": X, "kink_width": 0.1}),
    "kinks.positive_part": (kinks.positive_part, {"x": X, "kink_width": 0.1}),
    "kinks.maximum": (kinks.maximum, {"x": X, "y": X, "kink_width": 0.1}),
    "kinks.max": (kinks.max, {"x": X, "kink_width": 0.1}),
    "kinks.ramp": (kinks.ramp, {"x": X, "width": 0.1}),
    "vectors.norm": (vectors.norm, {"x": X, "p": 2.0, "kink_width": 0.1}),
    "vectors.distance": (vectors.distance, {"x": X, "y": X, "p": 2.0, "eps": 0.0, "kink_width": 0.1}),
    "vectors.cosine_similarity": (vectors.cosine_similarity, {"x": X, "y": X}),
    "vectors.cosine_distance": (vectors.cosine_distance, {"x": X, "y": X}),
    "vectors.unit": (vectors.unit, {"dimension": 16, "p": 2.0}),
    "target_score": (jaxloss.target_score, {"logits": X, "target": LABELS, "axis": -1}),
    "highest_wrong_score": (jaxloss.highest_wrong_score, {"logits": X, "target": LABELS, "axis": -1}),
    "class_counts": (imbalance.class_counts, {"target": LABELS, "n_classes": 3}),
    "inverse_frequency_weights": (imbalance.inverse_frequency_weights, {"counts": COUNTS}),
    "effective_number_weights": (imbalance.effective_number_weights, {"counts": COUNTS, "beta": 0.9}),
    "logit_adjustment": (imbalance.logit_adjustment, {"counts": COUNTS, "temperature": 1.0}),
    "BalancedSampler.init": (imbalance.BalancedSampler.init, {"key": KEY, "target": LABELS, "n_classes": 2}),
    "BalancedSampler.draw": (lambda n_rounds: SAMPLER.draw(n_rounds), {"n_rounds": 2}),
    "adaptive_softmax_cutoffs": (
        lambda **arguments: jaxloss.adaptive_softmax_cutoffs(**arguments) and None,
        {"class_counts": COUNTS, "in_features": 4, "batch_size": 3, "n_tails": 1, "div_value": 4.0},
    ),
    "AdaptiveSoftmax.init": (
        jaxloss.AdaptiveSoftmax.init,
        {"key": KEY, "in_features": 4, "n_classes": 9, "cutoffs": (2, 5), "div_value": 2.0, "head_bias": True},
    ),
    "AdaptiveSoftmax.log_prob": (lambda hidden: SOFTMAX.log_prob(hidden), {"hidden": X}),
    "AdaptiveSoftmax.predict": (lambda hidden: SOFTMAX.predict(hidden), {"hidden": X}),
    "AdaptiveSoftmax": (adaptive_loss, {"head": X.T, "head_bias": None, "tails": ()}),
    "AdaptiveSoftmax ": (adaptive_loss_of_tail, {"down": X.T, "up": X}),
    "accumulated": (accumulated, {"parameters": 1.0, "batches": X}),
    "Total.zero": (jaxloss.Total.zero, {"dtype": jnp.float32}),
    "Total.+": (summed, {"loss": np.float32(1), "normaliser": np.float32(1)}),
    "Total.mean": (lambda **parts: jaxloss.Total(**parts).mean(), {"loss": np.float32(1), "normaliser": np.float32(1)}),
    "Total.psum": (lambda axis_name: jaxloss.Total.zero().psum(axis_name), {"axis_name": "data"}),
    "loss": (decorated, {"indices": {}, "domains": {}, "parameters": {}, "static": (), "split": None}),
}


@pytest.mark.nans
@pytest.mark.filterwarnings("ignore:overflow encountered in cast", "ignore:Data type alias")
@pytest.mark.parametrize("name", PUBLIC)
@settings(max_examples=2 * settings.default.max_examples)
@given(data=st.data())
def test_odd_arguments_of_the_other_functions(name, data):
    function, arguments = PUBLIC[name]
    arguments = with_some_odd(data, dict(arguments), list(arguments))
    with jax.numpy_dtype_promotion("standard"):  # a total may have an int and a float
        same_outcome((name.strip(), "AdaptiveSoftmax", "adaptive_log_softmax_with_loss"), function, arguments)


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "Total.psum"])
def test_the_arguments_to_be_replaced_are_valid(name):
    function, arguments = PUBLIC[name]
    jax.eval_shape(lambda: function(**arguments))


def test_accumulated_requires_a_loss_that_returns_a_total():
    for odd in (None, X, "loss", [1.0]):
        with pytest.raises(TypeError, match="accumulated: takes a loss of"):
            jaxloss.accumulated(odd)
        if odd is not None:
            with pytest.raises(TypeError, match="accumulated: the loss returned"):
                jaxloss.accumulated(lambda parameters, batch, odd=odd: odd)(1.0, X)
    with pytest.raises(TypeError, match=r"accumulated: batches\['x'\] is of type str but takes a number or an array"):
        accumulated(parameters=1.0, batches={"x": "text"})


@pytest.mark.parametrize("reduction", [jnp.mean, np.mean, sum, max, jax.nn.relu, lambda losses: losses, float])
def test_a_reduction_must_take_two_arguments(reduction):
    for run in (jaxloss.mse_loss, jax.jit(jaxloss.mse_loss, static_argnames="reduction")):
        with pytest.raises(TypeError, match=r"mse_loss: reduction is .* but takes a callable of the two arguments"):
            run(X, X, reduction=reduction)
    jaxloss.mse_loss(X, X, reduction=lambda losses, normalisers, power=2: losses.sum())
    with pytest.raises(TypeError, match=r"triplet_margin_with_distance_loss: distance_function is .* but takes"):
        jaxloss.triplet_margin_with_distance_loss(X, X, X, distance_function=reduction)


@pytest.mark.parametrize("returned", ["text", None, 1j, [1.0], True, X, X[0], jnp.ones(1)], ids=repr)
def test_a_distance_must_be_a_scalar(returned):
    message = "^triplet_margin_with_distance_loss: what distance_function returned (is|has) .* but takes"
    with pytest.raises(TypeError, match=message):
        jaxloss.triplet_margin_with_distance_loss(X, X, X, distance_function=lambda x, y: returned)
    for number in (1, 2.0, np.float32(3)):
        loss = jaxloss.triplet_margin_with_distance_loss(X, X, X, distance_function=lambda x, y, d=number: d)
        assert loss == 1


def test_keys_of_every_implementation_are_accepted():
    """One after the other, because a program of JAX may be cached for another implementation."""
    for implementation in ("rbg", "threefry2x32", "unsafe_rbg"):
        with jax.default_prng_impl(implementation):
            for key in (jax.random.key(0), jax.random.PRNGKey(0), np.asarray(jax.random.PRNGKey(0))):
                jaxloss.AdaptiveSoftmax.init(key, 4, 9, cutoffs=(2, 5))
                imbalance.BalancedSampler.init(key, LABELS).draw(2)


@pytest.mark.parametrize("key", [0, None, "key", X, jax.random.split(KEY, 2), np.zeros(3, np.uint32), [0, 1]])
def test_an_invalid_key_raises(key):
    for init, arguments in ((jaxloss.AdaptiveSoftmax.init, (4, 9)), (imbalance.BalancedSampler.init, (LABELS,))):
        options = {"cutoffs": (2, 5)} if len(arguments) == 2 else {}
        with pytest.raises(TypeError, match=r"\.init: key .* but takes one key such as jax\.random\.key\(0\)"):
            init(key, *arguments, **options)
        init(jax.random.PRNGKey(0), *arguments, **options)
        jax.eval_shape(lambda key, i=init, a=arguments, o=options: i(key, *a, **o), KEY)


@pytest.mark.cpu
@each_declaration
def test_an_empty_batch_inside_shard_map_has_loss_0_and_gradient_0(row):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    arrays = draw(row, (0, 3))
    specs = tuple(PartitionSpec() if i in row.shared else PartitionSpec("data") for i in range(len(arrays)))

    def mean(*arrays):
        return row.loss(*arrays, reduction="total").psum("data").mean()

    wanted = tuple(i for i, array in enumerate(arrays) if array.dtype.kind == "f")
    sharded = jax.shard_map(mean, mesh=mesh, in_specs=specs, out_specs=PartitionSpec())
    value, gradients = jax.jit(jax.value_and_grad(sharded, wanted))(*arrays)
    assert value == 0
    assert not any(np.any(gradient) for gradient in gradients)
