"""For every row of the registry: NaN in one sample is NaN in the mean, in programs as users compile them.

From some thousand numbers on, XLA:CPU sums with instructions that take the maximum of NaN and 0 as 0.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss
from jaxloss import kinks, vectors
from tests.compiling import OPTIMISED
from tests.drawing import draw, each_variant
from tests.registry import REGISTRY

SHAPE = (64, 64)
# One row of each loss; the options of other rows are the same.
WITHOUT_EFFECT = (("poisson_nll_loss", "eps"),)  # unless the prediction is a rate
ROWS = tuple({row.name: row for row in reversed(REGISTRY)}.values())
WEIGHTS = np.full(SHAPE, 0.5, np.float32)


@pytest.mark.nans
@each_variant(1)
def test_nan_in_one_sample_is_nan_in_the_mean(row, variant):
    arrays = draw(row, SHAPE)

    @functools.partial(jax.jit, compiler_options=OPTIMISED)
    def means(*arrays):
        def mean(first, *rest, **weights):
            return row.loss(first, *rest, **row.options[variant], **weights)

        plain, weighted = mean(*arrays), mean(*arrays, weights=WEIGHTS)
        return plain, weighted, jax.value_and_grad(mean)(*arrays)[0]

    assert np.isfinite(means(*arrays)).all()
    for i, array in enumerate(arrays):
        if array.dtype.kind != "f" or i in row.shared:
            continue
        changed = array.copy()
        changed[3, 5] = np.nan
        found = means(*arrays[:i], changed, *arrays[i + 1 :])
        assert np.isnan(found).all(), (row.names[i], found)


@pytest.mark.nans
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_traced_option_that_is_nan_is_nan_in_the_loss(row):
    arrays, declaration = draw(row, (64,)), row.declaration
    for name, default in declaration.defaults.items():
        if isinstance(default, float) and name not in declaration.static and (row.name, name) not in WITHOUT_EFFECT:
            mean = jax.jit(lambda *arrays, name=name, **value: row.loss(*arrays, **value))
            assert np.isnan(mean(*arrays, **{name: np.float32(np.nan)})), name


LABELS = np.zeros(SHAPE, np.int32)
OF_VECTORS = {
    "kinks.abs": lambda x, y: kinks.abs(x),
    "kinks.positive_part": lambda x, y: kinks.positive_part(x),
    "kinks.maximum": lambda x, y: kinks.maximum(x, y),
    "kinks.maximum, second": lambda x, y: kinks.maximum(y, x),
    "kinks.max": lambda x, y: kinks.max(x),
    "highest_wrong_score": lambda x, y: jaxloss.highest_wrong_score(x, LABELS),
    **{f"vectors.norm, p={p}": lambda x, y, p=p: vectors.norm(x, p) for p in (1.0, 1.5, 2.0, np.inf)},
    "vectors.distance": lambda x, y: vectors.distance(x, y),
    "vectors.cosine_similarity": lambda x, y: vectors.cosine_similarity(x, y),
    "vectors.cosine_distance": lambda x, y: vectors.cosine_distance(x, y),
}


@pytest.mark.nans
@pytest.mark.parametrize("name", OF_VECTORS)
def test_nan_in_one_vector_is_nan_in_the_sum(name):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, *SHAPE, 5)).astype(np.float32)
    total = jax.jit(lambda x, y: jnp.sum(OF_VECTORS[name](x, y)), compiler_options=OPTIMISED)
    assert np.isfinite(total(x, y))
    x[3, 5, 2] = np.nan
    assert np.isnan(total(x, y))
