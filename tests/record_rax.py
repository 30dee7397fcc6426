"""Records what Rax computes for each row of its migration table: `python -m tests.record_rax`.

The values and gradients are in `rax_values.json`, so that the rows can be tested without Rax.
"""

import functools
import json
import pathlib

import jax.numpy as jnp

from tests.migration import LISTS, calls, value_and_gradient

PAGE = "from_rax.md"
PATH = pathlib.Path(__file__).with_name("rax_values.json")


def value_of_rax(call, **given):
    import rax

    return eval(call, {**vars(rax), **given})


def main():
    import rax

    ndcg = functools.partial(rax.dcg_lambdaweight, normalize=True)
    values = {}
    for call, _ in calls(PAGE):
        function = functools.partial(value_of_rax, call, ndcg=ndcg, jnp=jnp)
        values[call] = [array.round(12).tolist() for array in value_and_gradient(function, LISTS, "x")]
    lines = ",\n".join(f"{json.dumps(call)}: {json.dumps(value)}" for call, value in values.items())
    losses = json.dumps([name for name in rax.__all__ if name.endswith("_loss")])
    PATH.write_text(f'{{"rax": "{rax.__version__}",\n"losses": {losses},\n"values": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
