"""The README: its Python blocks run, its numbers and plots are right, and it has two commands to install."""

import inspect
import math
import pathlib
import re
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import pyplot as plt

import jaxloss
from benchmarks.results import Results

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PERFORMANCE = (ROOT / "docs/performance.md").read_text()


@pytest.mark.nans
def test_python_blocks_run():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 3
    namespace = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in blocks:
            exec(block, namespace)
    assert namespace["value"].shape == ()


@pytest.mark.usefixtures("torch")
def test_the_pytorch_example_gives_the_same_value():
    blocks = re.search(r"```python torch\n(.*?)```\s*```python\n(.*?)```", README, re.DOTALL).groups()
    values = []
    for block in blocks:
        *lines, call = block.strip().splitlines()
        namespace = {"jaxloss": jaxloss, "jnp": jnp}
        exec("\n".join(lines), namespace)
        values.append(float(eval(call, namespace)))
    np.testing.assert_allclose(*values, rtol=1e-6)


def test_pictures_match_their_captions():
    """Except the plot of memory, which takes a minute to compile; tests/test_large_output.py checks the memory."""
    plt.switch_backend("agg")
    draw = runpy.run_path(str(ROOT / "docs/pictures.py"))
    with jax.numpy_dtype_promotion("standard"):
        exact, wrong = (line.get_ydata() for line in draw["means"]().axes[0].lines)
        default, narrow, wide = (line.get_ydata() for line in draw["kink"]().axes[0].lines)
    plt.close("all")
    assert max(exact) < 1e-6
    assert wrong[-1] > 0.1
    for slope in (default, narrow, wide):
        assert (slope[0], slope[200], slope[-1]) == (-1, 0, 1)
    assert np.max(np.diff(default)) == 1 > 10 * np.max(np.diff(narrow)) > 20 * np.max(np.diff(wide))


def test_the_numbers_of_the_front_page():
    functions = filter(inspect.isfunction, vars(jaxloss).values())
    losses = [function for function in functions if "reduction" in inspect.signature(function).parameters]
    assert f"in all {len(losses)} losses" in README
    lines = re.findall(r"^\| (\w+)[ .\d]*" + 3 * r" \| (\d+ of \d+)" + r" \|$", PERFORMANCE, re.MULTILINE)
    wrong = {name: counts for name, *_, counts in lines}
    assert f"{wrong['jaxloss']} results are wrongly NaN or infinite, and {wrong['PyTorch']} in PyTorch" in README


def test_two_install_commands():
    commands = re.findall(r"^pip install.*", README, re.MULTILINE)
    assert commands == ["pip install -e '.[demo]' && python -m jaxloss", "pip install -e '.[test]' && pytest"]


def test_the_numbers_match_the_accuracy_table():
    rows = Results.load(ROOT / "docs/results/accuracy/results.json").measured("accuracy")
    names = {"jaxloss": "jaxloss", "PyTorch": "torch", "Optax": "optax", "Keras": "keras"}
    lines = re.findall(r"^\| (\w+)[ .\d]*" + 3 * r" \| (\d+) of (\d+)" + r" \|$", PERFORMANCE, re.MULTILINE)
    assert [name for name, *_ in lines] == list(names)
    for name, *counts in lines:
        errors = {row.label: row.measured[names[name]] for row in rows if names[name] in row.measured}
        values, gradients = (
            [error for label, error in errors.items() if label.endswith(f", {what}")] for what in ("value", "gradient")
        )
        right = [[error <= 4 for error in values], [error <= 4 for error in gradients]]
        right.append([not math.isfinite(error) for error in errors.values()])
        assert [int(count) for count in counts] == [n for each in right for n in (sum(each), len(each))], name
    for row in rows:
        peers = [error for name, error in row.measured.items() if name != "jaxloss" and math.isfinite(error)]
        if row.label != "linear_cross_entropy, float32, value":
            assert row.measured["jaxloss"] <= min(peers, default=math.inf) + 2.0001, row.label
    assert all(row.measured["jaxloss"] < 5 for row in rows if row.label.endswith(" (well-conditioned)"))


def test_how_many_programs_take_as_long_as_handwritten_lines():
    results = Results.load(ROOT / "docs/results/compiled/results.json")
    for device, sentence in (
        ("h100", r"(\d+) of (\d+) take at most 1.15 times"),
        ("tpu-v5e", r"(\d+) of\s(\d+) on a TPU v5e"),
    ):
        compared = [row.measured for row in results.measured(f"one {device}") if row.unit == "ms"]
        ratios = [times["jaxloss"] / times["by hand"] for times in compared if "by hand" in times]
        found = np.sum(np.less_equal(ratios, 1.15)), len(ratios)
        assert found == tuple(map(int, re.search(sentence, PERFORMANCE).groups()))
        assert round(float(np.median(ratios)), 2) == 1
