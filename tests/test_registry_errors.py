"""For every row of the registry: errors raised at the call, and errors in the data under `data_checks`."""

import re

import jax
import numpy as np
import pytest
from jax.experimental import checkify

import jaxloss
from tests.drawing import SHAPE, draw, each_declaration
from tests.registry import REGISTRY

WITH_AN_ENTRY_PER_CLASS = {
    row.name: row for row in REGISTRY if "target" in row.declaration.probabilities - row.declaration.indices.keys()
}


@pytest.mark.nans
@each_declaration
def test_data_checks(row, full):
    arrays, everything = draw(row), np.ones(SHAPE, bool)
    numbers_inside = {name: np.float32(row.number(name, 0.3)) for name in row.numbers}
    for numbers in [numbers_inside, {}] if full else [numbers_inside]:
        checked = jax.jit(checkify.checkify(lambda arrays, where, numbers: row.loss(*arrays, **numbers, where=where)))

        def error(arrays, where=everything, numbers=numbers, checked=checked):
            with jaxloss.data_checks(True):
                return checked(arrays, where, numbers)[0].get()

        assert error(arrays) is None
        with jaxloss.data_checks(True):
            jax.eval_shape(checked, row.batched(lambda x: x[:0], arrays), everything[:0], numbers)
        for name, values in row.bad_data.items():
            i, domain = row.names.index(name), row.domain(name)
            for value in values:
                bad = [np.array(array) for array in arrays]
                bad[i][(0, 1, min(2, bad[i].shape[-1] - 1))[: bad[i].ndim]] = value
                shown = value if row.indexed[i] else float(value)
                assert f"{row.name}: {name} is {shown} but must lie in {domain}" in error(bad)
                assert error(bad, np.arange(24).reshape(SHAPE) != 1) is None
        for option, values in row.bad_numbers.items():
            for value in values if option in numbers else ():
                found = error(arrays, numbers={**numbers, option: np.float32(value)})
                assert f"{row.name}: {option} is " in found
    clean = str(jax.make_jaxpr(row.loss)(*arrays))
    assert "check" not in clean
    assert "debug" not in clean


@each_declaration
def test_errors_name_the_function_the_argument_and_its_value(row):
    names, arrays, name = row.inputs, row.pack(*draw(row)), row.name
    first, ones = arrays[0], np.ones(SHAPE, np.float32)
    a, b = names[0], names[-1]
    listed = ", ".join(names)

    def f(**changes):
        return row.call(**(dict(zip(names, arrays, strict=True)) | changes))

    cases = [
        (TypeError, f"{name}: {a} is a list", lambda: f(**{a: first.tolist()})),
        (TypeError, f"{name}: {a} is of type str but takes a number or an array", lambda: f(**{a: "abc"})),
        (TypeError, f"{name}: {b} is of type NoneType but takes a number or an array", lambda: f(**{b: None})),
        (TypeError, f"{name}: {a} has dtype int32", lambda: f(**{a: np.ones_like(first, np.int32)})),
        (TypeError, f"{name}: {a} has dtype int32.*; write a Python integer as a float", lambda: f(**{a: 0})),
        (TypeError, f"{name}: {a} has dtype complex64", lambda: f(**{a: first.astype(np.complex64)})),
        (TypeError, f"{name}: where has dtype float32", lambda: f(where=ones)),
        (TypeError, f"{name}: weights has dtype complex64", lambda: f(weights=ones.astype(np.complex64))),
        (ValueError, f"{name}: reduction is 'average' but takes 'none'", lambda: f(reduction="average")),
        (TypeError, f"{name}: reduction is of type NoneType but takes a name", lambda: f(reduction=None)),
        (TypeError, f"{name}: there is no option wieghts; did you mean weights", lambda: f(wieghts=1.0)),
        (TypeError, f"{name}: takes the arrays {listed}, got no {b}", lambda: row.call(*arrays[:-1])),
        (TypeError, f"{name}: takes the arrays {listed}, got {len(arrays) + 1}", lambda: row.call(*arrays, first)),
        (TypeError, f"{name}: {a} is given twice", lambda: row.call(*arrays, **{a: first})),
        (ValueError, rf"{name}: weights has shape \(4, 5\)", lambda: f(weights=np.ones((4, 5), np.float32))),
        (ValueError, rf"{name}: weights has shape \(4,\)", lambda: f(weights=np.ones(4, np.float32))),
        (
            ValueError,
            rf"{name}: where has shape \(4, 6, 1\).*use where\[:, :, 0\]",
            lambda: f(where=np.ones((4, 6, 1), bool)),
        ),
    ]
    for option, numbers in {**row.bad_numbers, **row.bad_static}.items():
        cases += [
            (ValueError, rf"{name}: {option} is {number}(\.0)? but must lie in", lambda o=option, n=number: f(**{o: n}))
            for number in numbers
        ]
        message = f"{name}: {option} is (a list|compiled into the program)"
        cases.append((TypeError, message, lambda o=option: f(**{o: [1.0]})))
    for error, message, call in cases:
        for run in (call, lambda c=call: jax.jit(lambda: c())()):
            with pytest.raises(error, match=message):
                run()


@each_declaration
def test_a_number_may_leave_its_domain_when_it_is_rounded_to_float32(row):
    arrays = draw(row)
    rounded = {name: row.domain(name) for name in row.numbers}
    for number, held, end in ((1e300, "inf", "inf)"), (1e-300, "0.0", "(0"), (1e-38, "0.0", "(0")):
        for name in (name for name, domain in rounded.items() if end in domain):
            message = f"{row.name}: {name} is {number}, in float32 {held}, but must lie in"
            with pytest.raises(ValueError, match=re.escape(message)):
                row.loss(*arrays, **{name: number})
            with jax.enable_x64(True):
                row.loss(*draw(row, dtype=np.float64), **{name: number})


@pytest.mark.parametrize("row", WITH_AN_ENTRY_PER_CLASS.values(), ids=WITH_AN_ENTRY_PER_CLASS.keys())
def test_an_error_tells_how_to_encode_class_indices(row):
    images, labels = np.zeros((2, 3, 4, 5), np.float32), np.zeros((2, 4, 5), np.int32)
    message = "; for class indices use jax.nn.one_hot(target, 3, axis=1)"
    with pytest.raises(ValueError, match=f"{row.name}: .*target.*{re.escape(message)}"):
        row.loss(images, labels)
    with pytest.raises(ValueError, match=rf"{row.name}: (?!.*one_hot)"):
        row.loss(images, labels.astype(np.float32))
