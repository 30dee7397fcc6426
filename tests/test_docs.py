"""The documentation's tables name every criterion of PyTorch, and only functions that exist."""

import inspect
import pathlib
import re

import jax
import pytest

import jaxloss
from jaxloss import imbalance
from tests.registry import REGISTRY

DOCS = pathlib.Path(__file__).parent.parent / "docs"
TABLE = (DOCS / "from_pytorch.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| .*\|$", TABLE, re.MULTILINE)]
ROWS = ROWS[2:]
SECTIONS = ("Args", "Returns", "Raises", "Reference", "Example")


def test_every_loss_has_a_row_and_every_row_a_function_that_exists():
    calls = [re.match(r"`([\w.]+)\(", ours) for _, _, ours, _ in ROWS]
    named = [match[1] for match in calls if match]
    for name in named:
        value = jaxloss
        for part in name.split("."):
            value = getattr(value, part)
        assert callable(value)
    assert {row.name for row in REGISTRY if row.in_torch} <= set(named)


def public():
    """Every public function and class, by its full name."""
    modules = {name: value for name, value in vars(jaxloss).items() if name in ("kinks", "vectors", "imbalance")}
    found = {name: value for name, value in vars(jaxloss).items() if callable(value) and not name.startswith("_")}
    for name, module in modules.items():
        here = {
            key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
        }
        found |= {f"{name}.{key}": value for key, value in here.items() if callable(value) and key[0] != "_"}
    methods = {
        "BalancedSampler.init": imbalance.BalancedSampler.init,
        "BalancedSampler.draw": imbalance.BalancedSampler.draw,
        "AdaptiveSoftmax.init": jaxloss.AdaptiveSoftmax.init,
        "AdaptiveSoftmax.log_prob": jaxloss.AdaptiveSoftmax.log_prob,
        "AdaptiveSoftmax.predict": jaxloss.AdaptiveSoftmax.predict,
    }
    return found | methods


def test_docstrings_have_all_their_sections():
    assert len(public()) > 40
    for name, value in public().items():
        text = inspect.getdoc(value) or ""
        if name.endswith("Options"):
            assert "Args:" in text, name
            continue
        missing = [section for section in SECTIONS if f"{section}:\n" not in text]
        assert not missing, f"{name} lacks {missing}"
        assert ">>>" in text or "As the class" in text, name


def test_every_criterion_of_pytorch_has_a_row():
    pytest.importorskip("torch")
    import torch.nn.modules.loss as criteria

    classes = {name for name in criteria.__all__ if name != "NLLLoss2d"}  # deprecated, the same as NLLLoss
    assert classes | {"AdaptiveLogSoftmaxWithLoss"} == {cells[0].strip("`") for cells in ROWS} - {""}
    functional = {name for name in dir(criteria.F) if "loss" in name or "entropy" in name or name == "kl_div"}
    assert functional <= {cells[1].strip("`") for cells in ROWS}


def test_examples_of_scaling_run_and_give_what_they_say():
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "scaling.md").read_text(), re.DOTALL)
    assert len(blocks) == 7
    namespace = {}
    with jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            exec(block, namespace)
