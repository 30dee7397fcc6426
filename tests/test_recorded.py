"""Parity with PyTorch's recorded values, which needs no PyTorch."""

import json

import jax
import numpy as np
import pytest

import jaxloss
from tests.record_reference import PATH, differentiated
from tests.registry import REGISTRY

RECORDED = json.loads(PATH.read_text())
ARRAYS = {key: np.asarray(array) for key, array in RECORDED["arrays"].items()}


def identity(row):
    options = "-".join(f"{name}={value}" for name, value in row["options"].items())
    return f"{row['loss']}{[ARRAYS[key].shape for key in row['arrays']]}-{options}"


@pytest.mark.parametrize("row", RECORDED["rows"], ids=identity)
def test_as_pytorch(row):
    with jax.enable_x64(True):
        options = {k: np.asarray(v) if isinstance(v, list) else v for k, v in row["options"].items()}
        arrays = [ARRAYS[key] for key in row["arrays"]]
        positions = differentiated(row["loss"], arrays)

        @jax.jit
        def run(*arrays):
            return {reduction: value_and_gradients(arrays, reduction) for reduction in row["results"]}

        def value_and_gradients(arrays, reduction):
            def total(*arrays):
                losses = getattr(jaxloss, row["loss"])(*arrays, **options, reduction=reduction)
                return losses.sum(), losses

            (_, value), gradients = jax.value_and_grad(total, positions, has_aux=True)(*arrays)
            return value, gradients

        for reduction, (value, gradients) in run(*arrays).items():
            expected = row["results"][reduction]
            np.testing.assert_allclose(value, expected["value"], rtol=1e-12, atol=1e-13)
            for got, wanted in zip(gradients, expected["gradients"], strict=True):
                np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)


def test_every_loss_is_recorded():
    assert {row["loss"] for row in RECORDED["rows"]} == {row.name for row in REGISTRY if row.in_torch}
