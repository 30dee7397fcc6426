"""The documentation's tables name every criterion of PyTorch, and each documented call is equivalent."""

import importlib.metadata
import inspect
import json
import operator
import pathlib
import re
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import optax.losses
import pytest

import jaxloss
from tests import record_keras, record_metric_learning, record_rax
from tests.migration import LISTS, OF_KERAS, OF_OPTAX, arguments, calls, named, value_and_gradient, value_of_ours
from tests.optax_adapters import ADAPTERS

pytestmark = pytest.mark.every_case
DOCS = pathlib.Path(__file__).parent.parent / "docs"
TABLE = (DOCS / "from_pytorch.md").read_text().partition("## Intentional differences")[0]
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
    assert len(blocks) == 4
    namespace = {}
    for block in blocks:
        exec(block, namespace)


@pytest.mark.parametrize(("mistake", "call", "message"), mistakes(), ids=lambda text: text[:40])
def test_a_mistake_raises_the_documented_error(mistake, call, message):
    given = {"logits": jnp.zeros((32, 10)), "target": jnp.zeros(32, int)}
    with pytest.raises((TypeError, ValueError)) as error:
        eval(call, {"jax": jax, "jnp": jnp, "jaxloss": jaxloss, **given})
    assert f"{error.type.__name__}: {error.value}" == message


@pytest.mark.usefixtures("torch")
def test_every_criterion_of_pytorch_has_a_row():
    import torch.nn.modules.loss as criteria

    classes = {name for name in criteria.__all__ if name != "NLLLoss2d"}  # deprecated, the same as NLLLoss
    assert classes | {"AdaptiveLogSoftmaxWithLoss"} == {cells[0].strip("`") for cells in ROWS} - {""}
    functional = {name for name in dir(criteria.F) if "loss" in name or "entropy" in name or name == "kl_div"}
    assert functional <= {cells[1].strip("`") for cells in ROWS}


def pages_with_examples():
    """The pages whose Python blocks are one program; those of common mistakes raise errors."""
    pages = {path.relative_to(DOCS).as_posix(): path.read_text() for path in sorted(DOCS.rglob("*.md"))}
    return [name for name, text in pages.items() if "```python\n" in text and name != "mistakes.md"]


@pytest.mark.nans
@pytest.mark.parametrize("page", pages_with_examples())
def test_the_examples_of_a_page_run_and_pass_their_assertions(page):
    namespace = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
            exec(block, namespace)


NEEDS = re.compile(r'```python title="needs ([\w-]+)"\n(.*?)```', re.DOTALL)


def pages_with_libraries():
    """The pages with blocks that need another library, each with each of its libraries."""
    pages = {path.relative_to(DOCS).as_posix(): path.read_text() for path in sorted(DOCS.rglob("*.md"))}
    return sorted({(page, library) for page, text in pages.items() for library, _ in NEEDS.findall(text)})


@pytest.mark.parametrize(("page", "library"), pages_with_libraries())
def test_the_examples_with_another_library_run(page, library):
    """They need the first block of the page, and no other. The environment of the notebooks has the libraries."""
    try:
        importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{library} is not installed")
    text, namespace = (DOCS / page).read_text(), {}
    first = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in (first, *(block for name, block in NEEDS.findall(text) if name == library)):
            exec(block, namespace)


def test_the_environment_of_the_notebooks_has_the_libraries_of_the_examples():
    extras = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    has = {re.match(r"[\w-]+", requirement)[0] for requirement in extras["notebooks"]}
    assert {library for _, library in pages_with_libraries()} <= has


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_no_line_of_code_has_to_be_scrolled(path):
    blocks = re.findall(r"```python.*?\n(.*?)```", path.read_text(), re.DOTALL)
    assert not [line for block in blocks for line in block.splitlines() if len(line) > 88]


def test_other_names_lead_to_functions_of_jaxloss():
    rows = re.findall(r"^\| .* \| .* \| (.*) \|$", (DOCS / "names.md").read_text(), re.MULTILINE)[2:]
    for row in rows:
        (first, *rest) = re.findall(r"`([\w.]+)[(`]", row)
        for name in (first, *rest):
            assert callable(operator.attrgetter(name)(jaxloss)), name


def test_every_loss_of_optax_has_a_row():
    if optax.__version__ != "0.2.8":
        pytest.skip("another version may have other losses")
    functions = {name for name, _ in inspect.getmembers(optax.losses, inspect.isfunction)}
    assert named("from_optax.md") == functions - {"convex_kl_divergence"}  # a deprecated name of another


def test_every_loss_with_a_row_has_an_adapter():
    assert {re.match(r"\w+", call)[0] for call, _ in calls("from_optax.md")} == set(ADAPTERS)


@pytest.mark.parametrize(("call", "ours"), calls("from_optax.md"), ids=lambda cell: cell[:30])
def test_the_documented_equivalent_of_an_optax_loss_matches_it(call, ours):
    given = arguments(call, OF_OPTAX)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = eval(call, {**vars(optax.losses), "logsumexp": jax.scipy.special.logsumexp, **given})
    np.testing.assert_allclose(value_of_ours(ours, given), expected, rtol=2e-5, atol=2e-6)


def test_every_loss_of_keras_has_a_row(keras):
    if not keras.__version__.startswith("3.15."):
        pytest.skip("another version may have other losses")
    functions = {name for name, _ in inspect.getmembers(keras.losses, inspect.isfunction)}
    of_objects = {"deserialize", "get", "serialize"}
    rows = {name for name in named("from_keras.md") if name.islower()}  # the others are classes
    assert rows == functions - of_objects


@pytest.mark.parametrize(("call", "ours"), calls("from_keras.md"), ids=lambda cell: cell[:40])
def test_the_documented_equivalent_of_a_keras_loss_matches_the_recorded_value(call, ours):
    recorded = json.loads(record_keras.PATH.read_text())["values"]
    assert call in recorded, "run python -m tests.record_keras"
    np.testing.assert_allclose(value_of_ours(ours, arguments(call, OF_KERAS)), recorded[call], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("call", "ours"), calls("from_keras.md"), ids=lambda cell: cell[:40])
def test_the_documented_equivalent_of_a_keras_loss_matches_it(keras, call, ours):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = record_keras.value_of_keras(call)
    np.testing.assert_allclose(value_of_ours(ours, arguments(call, OF_KERAS)), expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("call", "ours"), calls(record_rax.PAGE), ids=lambda cell: cell[:40])
def test_the_documented_equivalent_of_a_rax_loss_matches_the_recorded_value(call, ours):
    recorded = json.loads(record_rax.PATH.read_text())["values"]
    assert call in recorded, "run python -m tests.record_rax"
    with jax.numpy_dtype_promotion("standard"):
        found = value_and_gradient(lambda **given: value_of_ours(ours, given), LISTS, "x")
    for got, expected in zip(found, recorded[call], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("recorder", [record_rax, record_metric_learning], ids=lambda module: module.__name__)
def test_every_loss_of_the_library_has_a_row_or_is_said_to_have_none(recorder):
    losses = set(json.loads(recorder.PATH.read_text())["losses"])
    lacking = re.search(r"## What has no (?:exact )?equivalent\n(.*)", (DOCS / recorder.PAGE).read_text(), re.DOTALL)[1]
    rows = {name for call, _ in calls(recorder.PAGE) for name in re.findall(r"\w+", call)}
    assert losses - rows == losses & set(re.findall(r"`(\w+)`", lacking))


@pytest.mark.parametrize(("call", "ours"), calls(record_metric_learning.PAGE), ids=lambda cell: cell[:40])
def test_the_documented_equivalent_of_a_loss_of_metric_learning_matches_the_recorded_value(call, ours):
    recorded = json.loads(record_metric_learning.PATH.read_text())["calls"]
    assert call in recorded, "run python -m tests.record_metric_learning"
    given, namespace = record_metric_learning.arguments(), {"jnp": jnp}
    page = (DOCS / record_metric_learning.PAGE).read_text()
    exec(re.search(r"^def mean_of_nonzero.*?\n\n", page, re.DOTALL | re.MULTILINE)[0], namespace)
    given |= {"mean_of_nonzero": namespace["mean_of_nonzero"]}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        found = value_and_gradient(lambda **given: value_of_ours(ours, given), given, "e")
    for got, expected in zip(found, recorded[call], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9)


def test_the_example_of_packed_lists_runs():
    text = (DOCS / "reference/ranking.md").read_text()
    namespace = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], namespace)
    scores, target, at = namespace["scores"], namespace["target"], namespace["segments"]
    losses = [jaxloss.listmle_loss(scores[at == i], target[at == i]) for i in (0, 1)]
    np.testing.assert_allclose(namespace["value"], np.mean(losses), rtol=1e-6)
    gradients = [jax.grad(jaxloss.listmle_loss)(scores[at == i], target[at == i]) / 2 for i in (0, 1)]
    np.testing.assert_allclose(namespace["gradient"], np.concatenate(gradients), rtol=1e-5, atol=1e-7)


def test_the_tables_of_choosing_a_loss_are_those_that_were_measured():
    page = (DOCS / "choosing.md").read_text()
    measured = json.loads((DOCS / "results/choosing/results.json").read_text())["rows"]["choosing"]
    rows = [row for row in measured if "label" in row]
    cells = [f"{row['measured'][loss]:.4g} ± {row['spread'][loss]:.2g}" for row in rows for loss in row["measured"]]
    assert sorted(cells) == sorted(re.findall(r"[\d.]+ ± [\d.]+", page))
    for name in re.findall(r"`(\w+_\w+)`", page):
        assert hasattr(jaxloss, name), name


def test_the_numbers_of_the_accelerators_page_are_those_of_the_results():
    page, numbers = (DOCS / "accelerators.md").read_text(), 0
    compiled = re.split(r"^## one ", (DOCS / "results/compiled/results.md").read_text(), flags=re.MULTILINE)
    of_devices = {text.split()[0]: text for text in compiled}
    measured = (DOCS / "results/h200/results.md").read_text()
    for size, device, ours, lookup in re.findall(r"^\| (\(.*\) \w+) \| (\S+) \| (.*) \| (.*) \|$", page, re.MULTILINE):
        rows = of_devices[device].partition(f"| cross_entropy {size} ")[2].splitlines()
        for row, cell in ((rows[0], ours), (next(row for row in rows if "by hand, lookup" in row), lookup)):
            for number in re.findall(r"[\d.e+]+(?= (?:ms|MiB))", cell):
                numbers += 1
                assert re.search(rf"\| {re.escape(number)} ", row), (size, number)
    for size, *cells in re.findall(r"^\| (\(\d+, \d+\)) \| ([\d.]+) ms \| ([\d.]+) ms \|$", page, re.MULTILINE):
        for dtype, number in zip(("float32", "bfloat16"), cells, strict=True):
            numbers += 1
            assert f"| {size} {dtype}, ms | {number} " in measured
    assert numbers == 12
    row = measured.partition("| (32768, 4096, 128256) bfloat16 | jaxloss |")[2].splitlines()
    ours, full = re.search(r"`linear_cross_entropy` .* has ([\d.e+]+) MiB.* full logits ([\d.e+]+) MiB", page).groups()
    assert f"| {ours} |" in row[0]
    assert f"| {full} (" in row[1]
