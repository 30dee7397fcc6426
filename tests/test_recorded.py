"""Parity with PyTorch's recorded values, which needs no PyTorch."""

import json

import jax
import numpy as np
import pytest

import jaxloss
from tests.record_reference import PATH

ROWS = json.loads(PATH.read_text())


def identity(row):
    options = "-".join(f"{name}={value}" for name, value in row["options"].items() if value is not None)
    return f"{row['loss']}{np.shape(row['arrays'][0])}{np.shape(row['arrays'][1])}-{options}"


@pytest.mark.parametrize("row", ROWS, ids=identity)
def test_as_pytorch(row):
    with jax.enable_x64(True):
        options = {k: np.asarray(v) if isinstance(v, list) else v for k, v in row["options"].items() if v is not None}
        first, second = map(np.asarray, row["arrays"])

        def total(x):
            losses = getattr(jaxloss, row["loss"])(x, second, **options)
            return losses.sum(), losses

        (_, value), gradient = jax.value_and_grad(total, has_aux=True)(first)
        np.testing.assert_allclose(value, row["value"], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(gradient, row["gradient"], rtol=1e-10, atol=1e-12)


def test_every_loss_is_recorded():
    from tests.registry import REGISTRY

    assert {row["loss"] for row in ROWS} == {row.name for row in REGISTRY}
