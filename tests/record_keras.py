"""Records what Keras computes for each row of its migration table: `KERAS_BACKEND=jax python -m tests.record_keras`.

The values are in `keras_values.json`, so that the rows can be tested without Keras.
"""

import json
import pathlib

import numpy as np

from tests.migration import OF_KERAS, arguments, calls

PATH = pathlib.Path(__file__).with_name("keras_values.json")


def value_of_keras(call):
    import keras

    return np.asarray(eval(call, {**vars(keras.losses), **arguments(call, OF_KERAS)}))


def main():
    import keras

    values = {call: np.round(value_of_keras(call).astype(np.float64), 7) for call, _ in calls("from_keras.md")}
    lines = ",\n".join(f"{json.dumps(call)}: {json.dumps(value.tolist())}" for call, value in values.items())
    PATH.write_text(f'{{"keras": "{keras.__version__}",\n"values": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
