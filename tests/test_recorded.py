"""Parity with recorded values of PyTorch, which need not be installed."""

import functools
import json

import jax
import numpy as np
import pytest

import jaxloss
from tests.drawing import full_only
from tests.record_reference import PACK, PATH, differentiated

RECORDED = json.loads(PATH.read_text())
ARRAYS = {key: np.asarray(array) for key, array in RECORDED["arrays"].items()}


def identity(row):
    options = "-".join(f"{name}={value}" for name, value in row["options"].items())
    return f"{row['loss']}{[ARRAYS[key].shape for key in row['arrays']]}-{options}"


@functools.cache
def program(name, static, reductions, positions):
    """Values and gradients of every reduction in one program, shared by rows that differ only in numbers."""
    loss = functools.partial(getattr(jaxloss, name), **dict(static))
    pack = PACK.get(name, lambda *arrays: arrays)

    def value_and_gradients(arrays, traced, reduction):
        def total(*arrays):
            losses = loss(*pack(*arrays), **traced, reduction=reduction)
            return losses.sum(), losses

        (_, value), gradients = jax.value_and_grad(total, positions, has_aux=True)(*arrays)
        return value, gradients

    return jax.jit(lambda arrays, traced: {r: value_and_gradients(arrays, traced, r) for r in reductions})


def takes_long(row):
    """Output layers take a second each. The default run has options alone and three or more at once, but no pairs."""
    return row["loss"] == "linear_cross_entropy" and len(row["options"]) == 2


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=[full_only] if takes_long(row) else [], id=identity(row)) for row in RECORDED["rows"]],
)
def test_matches_pytorch(row):
    with jax.enable_x64(True):
        traced = {k: np.asarray(v) for k, v in row["options"].items() if k != "p" and isinstance(v, float | list)}
        static = tuple((k, v) for k, v in row["options"].items() if k not in traced)
        arrays = [ARRAYS[key] for key in row["arrays"]]
        run = program(row["loss"], static, tuple(row["results"]), tuple(differentiated(row["loss"], arrays)))
        for reduction, (value, gradients) in run(arrays, traced).items():
            expected = row["results"][reduction]
            np.testing.assert_allclose(value, expected["value"], rtol=1e-12, atol=1e-13)
            for got, wanted in zip(gradients, expected["gradients"], strict=True):
                np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)
