"""The documentation's tables name every criterion of PyTorch, and each documented call is equivalent."""

import functools
import inspect
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax.losses
import pytest

import jaxloss

DOCS = pathlib.Path(__file__).parent.parent / "docs"
TABLE = (DOCS / "from_pytorch.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| .*\|$", TABLE, re.MULTILINE)]
ROWS = ROWS[2:]


def test_every_function_in_the_table_exists():
    calls = [re.match(r"`([\w.]+)\(", ours) for _, _, ours, _ in ROWS]
    named = [match[1] for match in calls if match]
    for name in named:
        value = jaxloss
        for part in name.split("."):
            value = getattr(value, part)
        assert callable(value)


def mistakes():
    text = (DOCS / "mistakes.md").read_text()
    pairs = re.findall(r"^([^\n]+)\n\n```python\n([^\n]+)\n```\n\n```pytb\n([^\n]+)\n```", text, re.MULTILINE)
    assert len(pairs) == text.count("```pytb") >= 20
    return pairs


@pytest.mark.nans
def test_the_code_of_the_mistakes_page_runs():
    blocks = re.findall(r"```python\n((?:(?!```).)*)```\n(?!\n```pytb)", (DOCS / "mistakes.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    namespace = {}
    for block in blocks:
        exec(block, namespace)


@pytest.mark.parametrize(("mistake", "call", "message"), mistakes(), ids=lambda text: text[:40])
def test_a_mistake_raises_the_documented_error(mistake, call, message):
    given = {"logits": jnp.zeros((32, 10)), "target": jnp.zeros(32, int)}
    with pytest.raises((TypeError, ValueError)) as error:
        eval(call, {"jax": jax, "jnp": jnp, "jaxloss": jaxloss, **given})
    assert f"{error.type.__name__}: {error.value}" == message


def test_every_criterion_of_pytorch_has_a_row():
    pytest.importorskip("torch")
    import torch.nn.modules.loss as criteria

    classes = {name for name in criteria.__all__ if name != "NLLLoss2d"}  # deprecated, the same as NLLLoss
    assert classes | {"AdaptiveLogSoftmaxWithLoss"} == {cells[0].strip("`") for cells in ROWS} - {""}
    functional = {name for name in dir(criteria.F) if "loss" in name or "entropy" in name or name == "kl_div"}
    assert functional <= {cells[1].strip("`") for cells in ROWS}


def test_the_scaling_examples_run_and_pass_their_assertions():
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "scaling.md").read_text(), re.DOTALL)
    assert len(blocks) == 8
    namespace = {}
    with jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            exec(block, namespace)


def optax_rows():
    table = (DOCS / "from_optax.md").read_text()
    rows = re.findall(r"^\| `(\w+)\((.*?)\)` \| `(.*?)` \|", table, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| `\w+\(", table, re.MULTILINE))
    return [row for row in rows if row[0] != "smooth_labels"]  # it makes a target


@pytest.mark.parametrize(("name", "arguments", "ours"), optax_rows(), ids=lambda cell: cell[:30])
def test_the_documented_equivalent_of_an_optax_loss_matches_it(name, arguments, ours):
    generator = np.random.default_rng(0)
    logits, signs = generator.normal(size=(6, 4)).astype(np.float32), generator.choice([-1.0, 1.0], size=(6, 4))
    soft = np.asarray(jax.nn.softmax(generator.normal(size=(6, 4)).astype(np.float32)))
    indices = generator.integers(0, 4, size=6).astype(np.int32)
    x, y = logits, generator.normal(size=(6, 4)).astype(np.float32)
    if "integer" in name or "multiclass" in name:
        y = indices
    elif "entropy" in name:
        y = soft
    elif "kl" in name:
        x, y = np.asarray(jax.nn.log_softmax(logits)), np.log(soft) if "log" in name else soft
    elif name == "sparsemax_loss":
        y = (signs > 0).astype(np.int32)
    elif name in ("sigmoid_focal_loss", "make_fenchel_young_loss"):
        y = soft
    elif name in ("hinge_loss", "perceptron_loss"):
        y = signs.astype(np.float32)
    values = {"logsumexp": jax.scipy.special.logsumexp, "x": x, "y": y, "a": x, "p": y, "n": np.roll(x, 1, axis=0)}
    losses = {
        key: functools.partial(function, reduction="none")
        if "reduction" in inspect.signature(function).parameters
        else function
        for key, function in vars(jaxloss).items()
        if inspect.isfunction(function)
    }
    got = eval(ours, {**values, **losses, "vectors": jaxloss.vectors})
    with jax.numpy_dtype_promotion("standard"):
        expected = eval(f"{name}({arguments})", {**values, **vars(optax.losses)})
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)
