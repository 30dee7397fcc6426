"""The largest error of every loss and gradient in units of the last place, beside peers, against mpmath.

The inputs count as exact. One unit is a unit in the last place of the exact result, and what that changes by where each
input changes by a unit in the last place of its vector's largest entry (of all vectors that the loss subtracts),

$$1 = \\operatorname{ulp}(f) + \\sum_i |\\partial f / \\partial x_i| \\operatorname{ulp}(\\max_j |x_j|).$$

"well-conditioned" are the samples whose sum is at most twice the first term; there the error is given in ulp(f) alone.
For a gradient f is each of its entries, and ulp(f) that of the sample's largest entry. Gradients of samples that four
such changes would move over a kink are left out, as they are a convention there; a value may be off by as much as the
kink's argument is. What the dtype would hold as a subnormal may count as zero.
"""

import dataclasses
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
    """Of one sample: the loss, its gradient, and the units of both.

    Args:
      value: the loss.
      unit: of the value.
      last_place: of the value alone.
      gradient: the entries of the differentiated arrays in a row; None where the sample is too close to a kink.
      units: theirs.
    """

    value: Any
    unit: Any
    last_place: Any
    gradient: list[Any] | None
    units: list[Any]


def last_place(x: Any, dtype: str) -> Any:
    """The distance of numbers of that dtype at x."""
    info = jnp.finfo(dtype)
    # float16 is computed as float32, which holds its subnormals; those of the others may be flushed to zero.
    floor = float(info.smallest_subnormal) if dtype == "float16" else float(info.smallest_normal)
    return max(mp.ldexp(1, mp.frexp(x)[1] - info.nmant - 1), mp.mpf(floor)) if x else mp.mpf(floor)


def exact(case: Case, arrays: Arrays, dtype: str) -> Exact:
    """By differences that are far below the last place of any input, in a precision far beyond theirs."""
    step = mp.ldexp(1, -700 if dtype == "float64" else -400)
    with mp.workprec(2600 if dtype == "float64" else 1400):
        # One list of all numbers, of which each argument takes its part.
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

        def moved(*moves: tuple[int, int]) -> Any:
            x = list(numbers)
            for i, sign in moves:
                x[i] += sign * step
            return formula(x)

        def with_kinks(*moves: tuple[int, int]) -> tuple[Any, list[Any]]:
            with formulas.kinks() as distances:
                return moved(*moves), list(distances)

        inputs = widths(case, arrays, dtype)
        value, distances = with_kinks()
        ups, downs = ([with_kinks((i, sign)) for i in range(len(numbers))] for sign in (1, -1))

        def rounding(changes: Iterable[Any]) -> Any:
            """Of what changes by so much over two steps of each input."""
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
        largest = last_place(max(map(abs, gradient)), dtype)
        units = []
        for j in differentiated:
            changes = []
            for i, width in enumerate(inputs):
                if i == j:
                    second = (ups[i][0] - 2 * value + downs[i][0]) / step**2
                else:
                    second = moved((i, 1), (j, 1)) - moved((i, 1), (j, -1)) - moved((i, -1), (j, 1))
                    second = (second + moved((i, -1), (j, -1))) / (4 * step**2)
                changes.append(abs(second) * width)
            units.append(largest + mp.fsum(changes))
        return Exact(value, unit, place, None if on_kink else gradient, units)


def widths(case: Case, arrays: Arrays, dtype: str) -> list[Any]:
    """For each floating number the last place of the largest one that it is measured with."""
    largest = {i: max(abs(a.ravel())) for i, a in enumerate(arrays)}
    together = max(largest[i] for i in case.alike) if case.alike else 0
    places = {i: last_place(mp.mpf(float(together if i in case.alike else size)), dtype) for i, size in largest.items()}
    return [places[i] for i, a in enumerate(arrays) if a.dtype.kind == "f" for _ in range(a.size)]


def nested(x: Sequence[Any], shape: tuple[int, ...]) -> Any:
    if len(shape) < 2:
        return list(x) if shape else x[0]
    width = shape[1]
    return [list(x[i : i + width]) for i in range(0, len(x), width)]


def error(got: float, wanted: Any, unit: Any, largest: float) -> float:
    """In units; infinity and the largest number are right where what is wanted lies beyond it."""
    if math.isnan(got):
        return math.nan
    if abs(wanted) >= largest * 0.99 and abs(got) >= largest * 0.99 and (got > 0) == (wanted > 0):
        return 0.0
    return math.inf if math.isinf(got) else float(abs(mp.mpf(got) - wanted) / unit)


Run = Callable[[Arrays], tuple[list[np.ndarray], float]]
"""Arrays to float64 losses and gradients, and the largest number of the dtype that the losses came in."""


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
    """Quantity to library to its largest error over all families of numbers."""
    generator = np.random.default_rng(0)
    libraries = {"jaxloss": case.call, **case.peers}
    runs = {name: (by_torch if name == "torch" else by_jax)(loss, case, dtype) for name, loss in libraries.items()}
    worst: dict[str, dict[str, float]] = {q: {} for q in ("value (well-conditioned)", "value", "gradient")}
    for family in FAMILIES:
        drawn = case.draw(family(generator, dtype), samples)
        arrays = tuple(a.astype(jnp.dtype(dtype)).astype(float) if a.dtype.kind == "f" else a for a in drawn)
        truths = [
            exact(case, tuple(a if p in case.shared else a[k] for p, a in enumerate(arrays)), dtype)
            for k in range(samples)
        ]
        for library, run in runs.items():
            try:
                (losses, *gradients), largest = run(arrays)
            except (NotImplementedError, RuntimeError):
                if library != "torch" or dtype not in HALF:
                    raise
                continue  # PyTorch lacks some kernels of half precision.
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


def note(worst: dict[str, float], library: str, found: float) -> None:
    """Keep the larger; not a number is the largest of all."""
    before = worst.get(library, 0.0)
    worst[library] = before if math.isnan(before) or found <= before else found


def accuracy(quick: bool) -> Iterator[Row]:
    """Largest error of value and gradient, every loss and dtype.

    A unit is an ulp of the result, and what an ulp of each input moves it by. Where the latter is at most twice the
    former the problem is well-conditioned, and the error is in ulp of the result alone; 0 there says that only losses
    of 0 are so. Gradients at kinks are left out.
    """
    for case in CASES:
        for dtype in ("float32",) if quick else DTYPES:
            with jax.enable_x64(dtype == "float64"):
                for quantity, measured in errors(case, dtype, 6 if quick else 40).items():
                    if measured:
                        yield Row(f"{case.label}, {dtype}, {quantity}", measured, "ulp")
