"""For every row of the registry: memory in proportion to the inputs, and not to their square."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.compiled_cases import arguments, axes_of
from tests.compiling import temporaries
from tests.drawing import each_variant

# At these sizes, an array with an entry for each pair of classes would be hundreds of times as large as the inputs.
SIZES = {
    (): {"batch": 2**20},
    ("c",): {"batch": 64, "c": 4096},
    **{(axis,): {"batch": 64, axis: 4096} for axis in "dpkm"},
    ("t", "c", "s"): {"batch": 4, "t": 200, "c": 500, "s": 40},
    ("n", "d"): {"batch": 2, "n": 8192, "d": 64},
    ("m", "d"): {"batch": 16, "m": 256, "d": 64},
    ("n", "d", "c"): {"batch": 1, "n": 4096, "d": 128, "c": 60_000},
    ("d", "c"): {"batch": 256, "d": 64, "c": 60_000},
    ("d", "c", "e"): {"batch": 256, "d": 256, "c": 60_000, "e": 32},
    ("d", "c", "k"): {"batch": 256, "d": 256, "c": 60_000, "k": 32},
}
MOST = 6


def sized(row, variant):
    """The loss with these options as a function of its floating arguments, and the shapes of all arguments."""
    patterns = row.declaration.patterns
    pattern = patterns[0] if row.has_indices else patterns[-1]
    sizes = SIZES[axes_of(pattern)]
    shapes = arguments(row.declaration, pattern, sizes, "float32")
    options = {
        name: np.resize(value, sizes["c"]) if np.ndim(value) else value for name, value in row.options[variant].items()
    }
    wanted = tuple(
        i for i, each in enumerate(shapes) if all(jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(each))
    )
    return lambda *values: row.call(*values, **options), shapes, wanted


def size_of(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.mark.cpu
@each_variant(1)
def test_temporaries_of_value_and_gradient(row, variant):
    loss, shapes, wanted = sized(row, variant)
    # The weights of pairs are arrays with an entry for each pair, of one list at a time.
    pairs = 4 * shapes[0].shape[-1] ** 2 if "pair_weights" in row.options[variant] else 0
    assert temporaries(jax.value_and_grad(loss, wanted), *shapes) <= MOST * (size_of(shapes) + pairs)


@each_variant(1)
def test_what_the_gradient_keeps_outside_of_jit(row, variant):
    loss, shapes, wanted = sized(row, variant)

    def pullback(*arguments):
        def of_floats(*floats):
            values = list(arguments)
            for i, value in zip(wanted, floats, strict=True):
                values[i] = value
            return loss(*values)

        return jax.vjp(of_floats, *(arguments[i] for i in wanted))[1]

    assert size_of(jax.eval_shape(pullback, *shapes)) <= MOST * size_of(shapes)
