"""The decorator on its own: declarations, matching, promotion, and introspection of a lifted function."""

import copy
import inspect
import pickle
import pydoc
import subprocess
import sys
import textwrap
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.experimental import checkify

import jaxloss
from jaxloss._decorator.notation import Operand, Pattern, match
from jaxloss._interval import Interval


def squared(prediction, target, *, power=2.0, **options: Unpack[jaxloss.ReductionOptions]):
    """Doc."""
    return jnp.abs(prediction - target) ** power


@pytest.mark.parametrize(
    "text", ["", "()", "(),()", "(c)->(d)", "(c)->(c,c)", "c,()->()", "(0)->()", "(C),()->()", "(c)()->()"]
)
def test_an_invalid_notation_raises(text):
    with pytest.raises(ValueError, match="loss: takes a notation such as"):
        jaxloss.loss(text)


def test_parsing_of_notations():
    assert Pattern.parse("(d), (d,c),()->()").cores == (("d",), ("d", "c"), ())
    assert not Pattern.parse("(),()->()").has_axis


def test_a_declaration_that_does_not_fit_the_kernel_raises():
    with pytest.raises(TypeError, match="loss: squared takes the arrays prediction, target but its notation is"):
        jaxloss.loss("()->()")(squared)
    with pytest.raises(TypeError, match="loss: squared has no argument margin"):
        jaxloss.loss("(),()->()", domains={"margin": "[0, 1]"})(squared)
    with pytest.raises(TypeError, match=r"loss: .* has no default for the option power"):
        jaxloss.loss("()->()")(lambda prediction, *, power: prediction)
    with pytest.raises(ValueError, match="Interval: takes a notation"):
        jaxloss.loss("(),()->()", domains={"power": "0..1"})(squared)
    vector = jaxloss.loss("(c)->()")(lambda prediction, **options: prediction)
    with pytest.raises(TypeError, match=r"the kernel returned shape \(3,\) for one sample"):
        vector(jnp.ones((2, 3)))


def test_an_interval_contains_its_members():
    assert [Interval("[0, 1)").contains(x) for x in (-1, 0, 0.5, 1, float("nan"))] == [False, True, True, False, False]
    assert [Interval("{-1, 1}").contains(x) for x in (-1, 0, 1)] == [True, False, True]
    assert not Interval("(-inf, inf)").contains(float("inf"))


def operand(name, shape, core=(), **options):
    return Operand.of("f", name, shape, core, **options)


def test_errors_of_matching_name_both_shapes():
    logits, index = operand("logits", (2, 5, 3), ("c",)), operand("target", (2, 1))
    assert match("f", [logits, index]).batch_shape == (2, 5)
    assert match("f", [operand("logits", (2, 5, 3), ("c",), axis=1), operand("target", ())]).core_sizes == {"c": 5}
    with pytest.raises(ValueError, match=r"f: class_weights has shape \(2, 3\) but takes shape \(c\) exactly"):
        operand("class_weights", (2, 3), ("c",), role="parameter")
    with pytest.raises(ValueError, match=r"f: axis c has length 4 in class_weights of shape \(4,\) but 3 in logits"):
        match("f", [logits, operand("class_weights", (4,), ("c",), role="parameter")])
    with pytest.raises(ValueError, match=r"f: target has shape \(4, 5\) beside logits of shape \(2, 5, 3\)"):
        match("f", [logits, operand("target", (4, 5))])
    with pytest.raises(ValueError, match=r"f: axis c of logits of shape .* is empty"):
        match("f", [operand("logits", (2, 0), ("c",))])
    with pytest.raises(ValueError, match=r"f: logits has shape \(\) but one sample of it alone has shape"):
        operand("logits", (), ("c",))


def test_a_prediction_and_an_index_are_never_repeated():
    prediction = operand("prediction", (1, 3), role="prediction")
    with pytest.raises(
        ValueError, match=r"prediction has shape \(1, 3\) but target has shape \(4, 3\), and prediction is"
    ):
        match("f", [prediction, operand("target", (4, 3))])
    logits = operand("logits", (4, 3), ("c",), role="prediction")
    with pytest.raises(ValueError, match=r"target has shape \(1,\) but one class index per row of logits \(4, 3\) has"):
        match("f", [logits, operand("target", (1,), role="index", unit="class index")])
    assert match("f", [logits, operand("target", (), role="index")]).batch_shape == (4,)
    assert match("f", [operand("anchor", (1, 3), ("d",)), operand("positive", (4, 3), ("d",))]).batch_shape == (4,)


def test_several_axes_are_flattened_into_one_core_axis():
    image = operand("image", (2, 3, 4), ("p",), axis=(-2, -1))
    assert (image.batch_shape, image.core_shape) == ((2,), (12,))
    apart = operand("image", (3, 2, 4), ("p",), axis=(2, 0))
    assert (apart.core_axes, apart.batch_shape, apart.core_shape) == ((2, 0), (2,), (12,))
    assert operand("image", (3, 4), ("p",), axis=(2, 1), full_rank=3).core_axes == (1, 0)  # one sample, shared by all
    for axis, message in (
        ((0, 0), "once"),
        ((0, 3), "has 3 axes"),
        ((), "an integer or a tuple"),
        ((0, "1"), "integer"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            operand("image", (2, 3, 4), ("p",), axis=axis)
    with pytest.raises(
        ValueError, match=r"f: image has shape \(3,\) but one sample of it alone has the 2 axes of axis"
    ):
        operand("image", (3,), ("p",), axis=(0, 1))


@given(st.lists(st.lists(st.sampled_from([1, 2, 3]), max_size=3), min_size=1, max_size=4))
def test_batch_axes_of_equal_rank_broadcast_as_in_numpy(shapes):
    operands = [operand(f"array{i}", tuple(shape)) for i, shape in enumerate(shapes)]
    ranks = {len(shape) for shape in shapes if shape}
    try:
        expected = np.broadcast_shapes(*map(tuple, shapes)) if len(ranks) <= 1 else None
    except ValueError:
        expected = None
    if expected is None:
        with pytest.raises(ValueError, match="f: array"):
            match("f", operands)
    else:
        assert match("f", operands).batch_shape == expected


def test_errors_help_with_common_mistakes():
    logits = jnp.zeros((32, 10))
    with pytest.raises(ValueError, match=r"index per row of logits \(32, 10\) has shape \(32,\); use target\[:, 0\]"):
        jaxloss.cross_entropy(logits, jnp.zeros((32, 1), int))
    with pytest.raises(ValueError, match="a floating target means class probabilities, class indices are integers"):
        jaxloss.cross_entropy(logits, jnp.zeros(32))
    with pytest.raises(ValueError, match=r"mse_loss: target has shape \(32, 1\) but prediction has shape \(32,\)"):
        jaxloss.mse_loss(jnp.zeros(32), jnp.zeros((32, 1)))
    with pytest.raises(
        ValueError, match=r"pos_weight has shape \(10,\) .*for one value per column use pos_weight\[None\]"
    ):
        jaxloss.binary_cross_entropy_with_logits(logits, logits, pos_weight=np.ones(10))
    with pytest.raises(ValueError, match="ignore_index is 3 but is for integer class indices"):
        jaxloss.cross_entropy(logits, logits, ignore_index=3)
    with pytest.raises(TypeError, match="nll_loss: target has dtype float32 but takes integer class indices"):
        jaxloss.nll_loss(logits, jnp.zeros(32))
    with pytest.raises(TypeError, match="no option weight; did you mean class_weights, one per class, or weights, one"):
        jaxloss.cross_entropy(logits, jnp.zeros(32, int), weight=logits[0])
    with pytest.raises(TypeError, match="mse_loss: prediction has dtype <U1 but takes numbers in a dtype that JAX has"):
        jaxloss.mse_loss(np.array(["a"]), 0.0)
    with pytest.raises(TypeError, match="mse_loss: prediction is a MaskedArray but takes an array; give its data"):
        jaxloss.mse_loss(np.ma.masked_array([1.0], [True]), 0.0)
    with pytest.raises(ValueError, match=r"mse_loss: target is 1099511627776 but takes an integer that JAX holds"):
        jaxloss.mse_loss(logits, 2**40)
    with pytest.raises(TypeError, match="axis is compiled into the program and takes int or tuple, got float"):
        jaxloss.cross_entropy(logits, logits, axis=1.0)


def test_dtype_promotion():
    with jax.enable_x64(True):
        assert jaxloss.mse_loss(np.ones(2), jnp.ones(2, jnp.float32)).dtype == jnp.float64
        assert jaxloss.mse_loss(jnp.ones(2, jnp.float16), 0).dtype == jnp.float32
    assert jaxloss.mse_loss(1.0, 2).dtype == jnp.float32


@pytest.mark.nans
def test_a_large_label_does_not_wrap_to_a_class():
    for label in (np.uint32(2**32 - 100), np.int64(2**32 + 1), np.int64(2**32 - 100), np.uint64(2**63)):
        assert np.isnan(jaxloss.cross_entropy(jnp.zeros((1, 3)), np.array([label])))


def test_a_users_loss_with_a_normaliser():
    @jaxloss.loss("(),()->()")
    def per_length(prediction, length, **options):
        return prediction, length

    x, n = jnp.array([6.0, 3.0]), jnp.array([2.0, 1.0])
    assert per_length(x, n) == 3
    assert per_length(x, n, weights=jnp.array([1.0, 0.0]), reduction="weighted_mean") == 3
    assert per_length(x, n, where=jnp.array([True, False]), reduction="total").normaliser == 2


@pytest.mark.nans
def test_a_users_loss_with_an_ignore_index():
    @jaxloss.loss("(c),()->()", indices={"target": "[0, c)"})
    def score(logits, target, *, ignore_index=-1, **options):
        return logits[target]

    logits, target = jnp.arange(12.0).reshape(4, 3), jnp.array([0, 1, -1, 2])
    np.testing.assert_array_equal(score(logits, target, reduction="none"), [0, 4, 0, 11])
    np.testing.assert_array_equal(score(logits, target, ignore_index=2, reduction="none"), [0, 4, np.nan, 0])


def test_static_options_may_have_any_hashable_type():
    @jaxloss.loss("()->()", static=("powers", "name", "factor"))
    def polynomial(prediction, *, powers=(1, 2), name=None, factor=2.0, **options):
        return factor * sum(prediction**power for power in powers) * (1 if name is None else len(name))

    assert polynomial(3.0) == 24
    assert polynomial(3.0, powers=(1,), name="ab", factor=np.int64(1)) == 6
    with pytest.raises(TypeError, match=r"polynomial: powers is compiled into the program and takes tuple, got list"):
        polynomial(3.0, powers=[1])
    with pytest.raises(TypeError, match=r"polynomial: name is compiled into .* takes what can be hashed, got list"):
        polynomial(3.0, name=[1])
    assert jaxloss.poisson_nll_loss(0.0, 2.0, full=np.bool_(True)) == jaxloss.poisson_nll_loss(0.0, 2.0, full=True)


def test_a_declaration_of_options_that_does_not_fit_raises():
    def with_weights(prediction, *, weights=None, **options):
        return prediction

    def with_any(prediction, **options: int):
        return prediction

    def with_default(prediction=0.0):
        return prediction

    for message, kernel in (
        ("with_weights declares weights, which the decorator reads", with_weights),
        (r"with_any has \*\*options of type .* but takes Unpack", with_any),
        ("with_default has a default for the array prediction", with_default),
    ):
        with pytest.raises(TypeError, match=f"loss: {message}"):
            jaxloss.loss("()->()")(kernel)
    with pytest.raises(TypeError, match=r"loss: squared has target in \[0, k\), but no axis is called k"):
        jaxloss.loss("(c),()->()", indices={"target": "[0, k)"})(squared)
    with pytest.raises(TypeError, match=r"loss: takes notations such as .* write @loss"):
        jaxloss.loss(squared)


def test_losses_run_without_jit():
    logits, target = np.arange(12, dtype=np.float32).reshape(4, 3), np.array([0, 1, 2, 0])
    expected = jaxloss.cross_entropy(logits, target, label_smoothing=0.1), jaxloss.huber_loss(2.0, 0, delta=1.5)
    with jax.disable_jit():
        got = jaxloss.cross_entropy(logits, target, label_smoothing=0.1), jaxloss.huber_loss(2.0, 0, delta=1.5)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_masks_and_weights_need_no_more_temporaries_than_a_handwritten_line():
    x, weights, where = jnp.ones((512, 256)), jnp.ones((512, 1)), jnp.ones((512, 1), bool)

    def by_hand(x, w, m):
        return jnp.sum(jnp.where(m, w * (x - 1.0) ** 2, 0)) / jnp.sum(jnp.broadcast_to(m, x.shape)).astype(x.dtype)

    functions = (lambda x, w, m: jaxloss.mse_loss(x, 1.0, weights=w, where=m), by_hand)
    ours, hand = (
        jax.jit(jax.value_and_grad(f)).lower(x, weights, where).compile().memory_analysis().temp_size_in_bytes
        for f in functions
    )
    assert ours <= hand + 2**14


def test_checks_inside_a_kernel_skip_masked_samples():
    @jaxloss.loss("()->()")
    def positive(prediction, **options):
        jaxloss.require(prediction > 0, "positive: prediction is {value}", value=prediction)
        return prediction

    def error(x, **options):
        with jaxloss.data_checks(True):
            return checkify.checkify(lambda: positive(x, **options))()[0].get()

    x = jnp.array([1.0, -2.0])
    assert "positive: prediction is -2.0" in error(x)
    assert error(x, where=jnp.array([True, False])) is None
    with jaxloss.data_checks(True), jaxloss.data_checks(False):
        assert "check" not in str(jax.make_jaxpr(positive)(x))
    with pytest.raises(TypeError, match="data_checks: takes True or False, got 'yes'"), jaxloss.data_checks("yes"):
        pass


def test_introspection_and_pickling_of_a_loss():
    f = jaxloss.cross_entropy
    assert (f.__name__, f.__module__) == ("cross_entropy", "jaxloss.losses.classification")
    defaults = {p.name: p.default for p in inspect.signature(f).parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert defaults == {
        "class_weights": None, "ignore_index": -100, "label_smoothing": 0.0,
        "z_loss": 0.0, "logit_softcap": None, "valid": None, "axis_name": None, "n_classes": None,
        "weights": None, "where": None, "reduction": "mean", "axis": -1,
    }  # fmt: skip
    page = pydoc.plain(pydoc.render_doc(f))
    assert "axis: 'int | tuple[int, ...]' = -1" in page
    assert "Cross-entropy between the softmax" in page
    assert pickle.loads(pickle.dumps(f)) is f
    assert copy.deepcopy(f) is f


def test_import_loads_no_optional_package():
    optional = ("optax", "chex", "torch", "matplotlib", "rich", "sklearn")
    script = f"import sys, jaxloss; print([name for name in {optional} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"


@pytest.mark.usefixtures("pyright")
def test_static_types_of_calls(tmp_path):
    """If pyright is installed: a misspelt option is a type error, and a documented call is not."""
    calls = """
    import jax.numpy as jnp, numpy as np, jaxloss
    x, t = jnp.zeros((2, 3)), np.zeros(2, int)
    jaxloss.cross_entropy(x, t, label_smoothing=0.1, weights=jnp.ones(2), where=t >= 0, reduction="none", axis=-1)
    jaxloss.mse_loss(1.0, np.ones(3), reduction=lambda losses, normalisers: losses)
    jaxloss.mse_loss(x, x, reduction="total").mean()
    jaxloss.mse_loss(prediction=x, target=x)
    jaxloss.mse_loss(x, x, axis=0)  # wrong
    jaxloss.mse_loss(x, x, wieghts=x)  # wrong
    jaxloss.mse_loss(x, x, reduction="average")  # wrong
    jaxloss.cross_entropy(x, "t")  # wrong
    jaxloss.huber_loss(x, x, delta="1")  # wrong
    """
    script = tmp_path / "calls.py"
    script.write_text(textwrap.dedent(calls).lstrip())
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(script)]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    wrong = [i for i, line in enumerate(script.read_text().splitlines(), 1) if line.endswith("# wrong")]
    assert wrong == sorted({int(line.split(":")[1]) for line in output.splitlines() if " - error" in line})
