"""Records what Rax computes for each row of its migration table: `python -m tests.record_rax`.

The values and gradients are in `rax_values.json`, so that the rows can be tested without Rax.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from tests.migration import LISTS, calls

PAGE = "reference/ranking.md"
PATH = pathlib.Path(__file__).with_name("rax_values.json")


def value_and_gradient(function, **given):
    """What a function of the scores `x` and of other arguments gives, and the gradient of its sum, in float64."""

    def total(x):
        value = function(**{**given, "x": x})
        return jnp.sum(value), value

    with jax.enable_x64(True):
        (_, value), gradient = jax.value_and_grad(total, has_aux=True)(jnp.asarray(given["x"]))
        return np.asarray(value), np.asarray(gradient)


def main():
    import rax

    ndcg = functools.partial(rax.dcg_lambdaweight, normalize=True)
    values = {}
    for call, _ in calls(PAGE):
        compiled = compile(call, call, "eval")
        names = {**vars(rax), "ndcg": ndcg, "jnp": jnp}
        pair = value_and_gradient(
            lambda compiled=compiled, names=names, **given: eval(compiled, {**names, **given}), **LISTS
        )
        values[call] = [array.round(12).tolist() for array in pair]
    lines = ",\n".join(f"{json.dumps(call)}: {json.dumps(value)}" for call, value in values.items())
    PATH.write_text(f'{{"rax": "{rax.__version__}",\n"values": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
