"""The documentation's tables name every criterion of PyTorch, and only functions that exist."""

import pathlib
import re

import pytest

import jaxloss
from tests.registry import REGISTRY

TABLE = (pathlib.Path(__file__).parent.parent / "docs" / "from_pytorch.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| .*\|$", TABLE, re.MULTILINE)]
ROWS = ROWS[2:]


def test_every_loss_has_a_row_and_every_row_a_function_that_exists():
    calls = [re.match(r"`([\w.]+)\(", ours) for _, _, ours, _ in ROWS]
    named = [match[1] for match in calls if match]
    for name in named:
        value = jaxloss
        for part in name.split("."):
            value = getattr(value, part)
        assert callable(value)
    assert {row.name for row in REGISTRY} <= set(named)


def test_every_criterion_of_pytorch_has_a_row():
    pytest.importorskip("torch")
    import torch.nn.modules.loss as criteria

    classes = {name for name in criteria.__all__ if name != "NLLLoss2d"}  # deprecated, the same as NLLLoss
    assert classes | {"AdaptiveLogSoftmaxWithLoss"} == {cells[0].strip("`") for cells in ROWS} - {""}
    functional = {name for name in dir(criteria.F) if "loss" in name or "entropy" in name or name == "kl_div"}
    assert functional <= {cells[1].strip("`") for cells in ROWS}
