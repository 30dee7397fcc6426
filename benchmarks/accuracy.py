"""The largest error of every loss and gradient, in units in the last place, of jaxloss and its peers, against mpmath.

Inputs count as exact. One unit of error is one unit in the last place of the exact result, plus the change of the
result when each input changes by one unit in the last place of the largest entry of its vector (or, if the loss
subtracts several vectors, the largest entry of all of them),

$$1 = \\operatorname{ulp}(f) + \\sum_i |\\partial f / \\partial x_i| \\operatorname{ulp}(\\max_j |x_j|).$$

A sample is "well-conditioned" if the second term is at most twice the first. Its error is then given in ulp(f) alone.
For a gradient, f is each of its entries, and ulp(f) is that of the largest entry of the sample. If four such changes
could move a sample across a kink, its gradient is a matter of convention and is left out, and its value may be off by
as much as the argument of the kink. A result that would be subnormal in the dtype may count as zero.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from mpmath import mp

from benchmarks import formulas
from benchmarks.accuracy_cases import CASES, Arrays, Case
from benchmarks.numbers import FAMILIES
from benchmarks.results import Row

HALF = ("bfloat16", "float16")
DTYPES = ("float64", "float32", *HALF)
WELL_CONDITIONED = 2.0


@dataclasses.dataclass(frozen=True)
class Exact:
    """The loss of one sample, its gradient, and the units of error of both.

    Args:
      value: the loss.
      unit: unit of error of the value.
      last_place: unit in the last place of the value alone.
      gradient: concatenated entries for the differentiated arrays; None if the sample is too close to a kink.
      units: units of error of the gradient entries.
    """

    value: Any
    unit: Any
    last_place: Any
    gradient: list[Any] | None
    units: list[Any]


def last_place(x: Any, dtype: str) -> Any:
    """The spacing of the numbers of this dtype at x."""
    info = jnp.finfo(dtype)
    # float16 is computed in float32, which represents its subnormals. Other subnormals may be flushed to zero.
    floor = float(info.smallest_subnormal) if dtype == "float16" else float(info.smallest_normal)
    return max(mp.ldexp(1, mp.frexp(x)[1] - info.nmant - 1), mp.mpf(floor)) if x else mp.mpf(floor)


def exact(case: Case, arrays: Arrays, dtype: str) -> Exact:
    """Finite differences with steps far below the last place of any input, in sufficient precision."""
    step = mp.ldexp(1, -700 if dtype == "float64" else -400)
    with mp.workprec(2600 if dtype == "float64" else 1400):
        # One flat list of all numbers; each argument is a slice of it.
        places, numbers, differentiated = [], [], []
        for position, array in enumerate(arrays):
            floating = array.dtype.kind == "f"
            places.append((len(numbers), array) if floating else (None, array))
            if floating:
                if position in case.differentiated:
                    differentiated += range(len(numbers), len(numbers) + array.size)
                numbers += [mp.mpf(float(each)) for each in array.ravel()]
        options = case.options if case.formula_options is None else case.formula_options

        def formula(x: Sequence[Any]) -> Any:
            arguments = (a.tolist() if at is None else nested(x[at : at + a.size], a.shape) for at, a in places)
            return getattr(formulas, case.loss)(*arguments, **options)

        def shifted(*shifts: tuple[int, int]) -> Any:
            x = list(numbers)
            for i, sign in shifts:
                x[i] += sign * step
            return formula(x)

        def with_kinks(*shifts: tuple[int, int]) -> tuple[Any, list[Any]]:
            with formulas.kinks() as distances:
                return shifted(*shifts), list(distances)

        inputs = widths(case, arrays, dtype)
        value, distances = with_kinks()
        ups, downs = ([with_kinks((i, sign)) for i in range(len(numbers))] for sign in (1, -1))

        def rounding(changes: Iterable[Any]) -> Any:
            """The rounding unit of a quantity, given its change over two steps of each input."""
            return mp.fsum(abs(change) * place for change, place in zip(changes, inputs, strict=True)) / (2 * step)

        slopes = [(up - down) / (2 * step) for (up, _), (down, _) in zip(ups, downs, strict=True)]
        place = last_place(value, dtype)
        unit = place + rounding(up - down for (up, _), (down, _) in zip(ups, downs, strict=True))
        on_kink = False
        for k, distance in enumerate(distances):
            blur = rounding(up[k] - down[k] for (_, up), (_, down) in zip(ups, downs, strict=True))
            if abs(distance) <= 4 * blur:
                unit, on_kink = unit + blur, True
        gradient = [slopes[j] for j in differentiated]
        largest = last_place(max(map(abs, gradient), default=mp.zero), dtype)
        units = []

        @functools.cache
        def second(i: int, j: int) -> Any:
            """The size of the second derivative by two different numbers, i < j."""
            ends = (
                shifted((i, 1), (j, 1))
                + shifted((i, -1), (j, -1))
                - shifted((i, 1), (j, -1))
                - shifted((i, -1), (j, 1))
            )
            return abs(ends) / (4 * step**2)

        for j in differentiated:
            changes = []
            for i, width in enumerate(inputs):
                if i == j:
                    changes.append(abs(ups[i][0] - 2 * value + downs[i][0]) / step**2 * width)
                else:
                    changes.append(second(*sorted((i, j))) * width)
            units.append(largest + mp.fsum(changes))
        return Exact(value, unit, place, None if on_kink or not gradient else gradient, units)


def widths(case: Case, arrays: Arrays, dtype: str) -> list[Any]:
    """For each floating input, the last place of the largest number on its scale."""
    largest = {i: max(abs(a.ravel())) for i, a in enumerate(arrays)}
    together = max(largest[i] for i in case.same_scale) if case.same_scale else 0
    places = {
        i: last_place(mp.mpf(float(together if i in case.same_scale else size)), dtype) for i, size in largest.items()
    }
    return [places[i] for i, a in enumerate(arrays) if a.dtype.kind == "f" for _ in range(a.size)]


def nested(x: Sequence[Any], shape: tuple[int, ...]) -> Any:
    if len(shape) < 2:
        return list(x) if shape else x[0]
    width = math.prod(shape[1:])
    return [nested(x[i : i + width], shape[1:]) for i in range(0, len(x), width)]


def error(got: float, wanted: Any, unit: Any, largest: float) -> float:
    """The error in units; infinity and the largest number are right if the exact result is beyond it."""
    if math.isnan(got):
        return math.nan
    if abs(wanted) >= largest * 0.99 and abs(got) >= largest * 0.99 and (got > 0) == (wanted > 0):
        return 0.0
    return math.inf if math.isinf(got) else float(abs(mp.mpf(got) - wanted) / unit)


Run = Callable[[Arrays], tuple[list[np.ndarray], float]]
"""Maps arrays to float64 losses and gradients, and the largest number of the dtype of the losses."""


def by_jax(loss: Callable[..., Any], case: Case, dtype: str) -> Run:
    @jax.jit
    def both(*x: Any) -> Any:
        losses, pull = jax.vjp(loss, *x)
        return losses, pull(jnp.ones_like(losses))

    def run(arrays: Arrays) -> tuple[list[np.ndarray], float]:
        losses, gradients = both(*(jnp.asarray(a, dtype if a.dtype.kind == "f" else jnp.int32) for a in arrays))
        taken = [gradients[i] for i in case.differentiated]
        wide = [np.asarray(a.astype(jnp.promote_types(a.dtype, jnp.float32)), np.float64) for a in (losses, *taken)]
        return wide, float(jnp.finfo(losses.dtype).max)

    return run


def by_torch(loss: Callable[..., Any], case: Case, dtype: str) -> Run:
    import torch

    def run(arrays: Arrays) -> tuple[list[np.ndarray], float]:
        kind = getattr(torch, dtype)
        inputs = [torch.tensor(a).to(kind if a.dtype.kind == "f" else torch.int64) for a in arrays]
        for i in case.differentiated:
            inputs[i].requires_grad_()
        losses = loss(*inputs)
        losses.sum().backward()
        taken = [inputs[i].grad for i in case.differentiated]
        return [a.detach().double().numpy() for a in (losses, *taken)], float(torch.finfo(losses.dtype).max)

    return run


def errors(case: Case, dtype: str, samples: int) -> dict[str, dict[str, float]]:
    """For each quantity and library, the largest error over all families of numbers."""
    generator = np.random.default_rng(0)
    libraries = {"jaxloss": case.call, **case.peers}
    runs = {name: (by_torch if name == "torch" else by_jax)(loss, case, dtype) for name, loss in libraries.items()}
    worst: dict[str, dict[str, float]] = {q: {} for q in ("value (well-conditioned)", "value", "gradient")}
    for family in FAMILIES:
        drawn = case.draw(family(generator, dtype), samples)
        arrays = tuple(rounded(a, dtype) if a.dtype.kind == "f" else a for a in drawn)
        truths = [
            exact(case, tuple(a if p in case.shared else a[k] for p, a in enumerate(arrays)), dtype)
            for k in range(samples)
        ]
        for library, run in runs.items():
            try:
                (losses, *gradients), largest = run(arrays)
            except (NotImplementedError, RuntimeError, TypeError):
                if library == "jaxloss" or dtype not in HALF:
                    raise
                continue  # PyTorch lacks some kernels in half precision, and Optax some dtypes of derivatives.
            rows = [g.reshape(samples, -1) for g in gradients]
            largest_gradient = float(jnp.finfo(dtype).max)
            for k, truth in enumerate(truths):
                found = error(float(losses[k]), truth.value, truth.unit, largest)
                note(worst["value"], library, found)
                if truth.unit <= (1 + WELL_CONDITIONED) * truth.last_place:
                    found = error(float(losses[k]), truth.value, truth.last_place, largest)
                    note(worst["value (well-conditioned)"], library, found)
                if truth.gradient is not None:
                    entries = np.concatenate([r[k] for r in rows])
                    for got, wanted, unit in zip(entries, truth.gradient, truth.units, strict=True):
                        note(worst["gradient"], library, error(float(got), wanted, unit, largest_gradient))
    return worst


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """The nearest numbers that the dtype holds."""
    largest = float(jnp.finfo(dtype).max)
    return np.clip(array, -largest, largest).astype(jnp.dtype(dtype)).astype(float)


def note(worst: dict[str, float], library: str, found: float) -> None:
    """Keeps the larger error; NaN counts as the largest."""
    before = worst.get(library, 0.0)
    worst[library] = before if math.isnan(before) or found <= before else found


def accuracy(quick: bool) -> Iterator[Row]:
    """Largest error of value and gradient, for every loss and dtype.

    One unit is one ulp of the result, plus the change of the result when each input changes by one ulp. If the second
    term is at most twice the first, the problem is well-conditioned, and the error is in ulp of the result alone. An
    error of 0 in that column means that only losses of 0 are well-conditioned. Gradients at kinks are left out.
    """
    for case in CASES:
        for dtype in ("float32",) if quick else DTYPES:
            with jax.enable_x64(dtype == "float64"):
                for quantity, measured in errors(case, dtype, 6 if quick else 40).items():
                    if measured:
                        yield Row(f"{case.label}, {dtype}, {quantity}", measured, "ulp")
