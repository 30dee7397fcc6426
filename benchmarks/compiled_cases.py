"""Every loss as programs to compile: value and gradient, with arguments whose shapes follow from its declaration.

A new loss needs nothing here. If it has a line in `benchmarks/by_hand.py`, it is compiled beside that line.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

import jaxloss
from benchmarks import by_hand
from benchmarks.measuring import HAS_OPTAX
from benchmarks.peers import output_layers
from jaxloss._decorator.declaration import Declaration
from jaxloss._decorator.lift import declaration_of
from jaxloss._decorator.notation import Pattern

Sizes = Mapping[str, int]
"""The lengths of core axes by name, and the number of samples as `batch`."""

CUTOFFS = (10_000, 50_000)
SIZES: Mapping[tuple[str, ...], tuple[Sizes, ...]] = {
    (): ({"batch": 2**24},),
    ("c",): ({"batch": 8192, "c": 32_000}, {"batch": 262_144, "c": 10}, {"batch": 4096, "c": 1000}),
    ("d",): ({"batch": 65_536, "d": 256},),
    ("d", "c"): (
        {"batch": 8192, "d": 2048, "c": 128_256},
        {"batch": 4096, "d": 1024, "c": 50_304},
        {"batch": 16_384, "d": 4096, "c": 50_304},
    ),
}
"""Realistic sizes by the core axes of a sample."""

LARGER = ({"batch": 32_768, "d": 4096, "c": 128_256}, {"batch": 32_768, "d": 2560, "c": 262_144})
"""Output layers that need the memory of an H100."""

OF_LOSS: Mapping[str, tuple[Sizes, ...]] = {
    # A target is a list of classes, and the line by hand compares each entry with each class.
    "multilabel_margin_loss": ({"batch": 65_536, "c": 20},),
    # The line by hand has an array with an entry for each pair.
    **dict.fromkeys(("pairwise_logistic_loss", "pairwise_hinge_loss"), ({"batch": 4096, "k": 1000},)),
    "ctc_loss": ({"batch": 32, "t": 500, "c": 80, "s": 60}, {"batch": 32, "t": 500, "c": 5000, "s": 60}),
    "rnnt_loss": ({"batch": 8, "t": 200, "s": 60, "c": 500},),
    "adaptive_log_softmax_with_loss": ({"batch": 8192, "d": 1024, "c": 128_256},),
    "linear_distillation_loss": ({"batch": 8192, "d": 2048, "c": 128_256, "e": 4096},),
    "linear_distillation_loss_from_top_k": ({"batch": 8192, "d": 2048, "c": 128_256, "k": 64},),
}
LENGTHS = {"c": 1000, "d": 256, "k": 128, "n": 2048}
"""Lengths of core axes in other notations, in batches of 16 M numbers."""

Programs = Mapping[str, tuple[Callable[..., Any], tuple[Any, ...]]]
"""By candidate, a function with its arguments."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss of one size and dtype.

    Args:
      loss: its name.
      pattern: its notation.
      label: its name, size and dtype.
      programs: value and gradient by each candidate; jaxloss comes first.
    """

    loss: str
    pattern: Pattern
    label: str
    programs: Programs


def losses() -> list[str]:
    """The public losses, and the functions of a sample that train one."""
    return sorted(name for name, value in vars(jaxloss).items() if hasattr(value, "__declaration__"))


def axes_of(pattern: Pattern) -> tuple[str, ...]:
    """The core axes of a sample whose lengths are to be chosen, each once."""
    axes = dict.fromkeys(axis for core in pattern.cores for axis in core)
    return tuple(axis for axis in axes if not axis.isdigit() and not axis.endswith("+1"))


def length(axis: str, sizes: Sizes) -> int:
    """The length of a core axis."""
    if axis.endswith("+1"):
        return length(axis[:-2], sizes) + 1
    return int(axis) if axis.isdigit() else sizes[axis]


def realistic(name: str, pattern: Pattern, larger: bool = False) -> tuple[Sizes, ...]:
    """The sizes of a loss; with `larger`, also those of `LARGER`."""
    found = OF_LOSS.get(name) or SIZES.get(axes_of(pattern))
    if found:
        # Soft targets of an output layer take the memory of all logits, so only the smallest layer has them.
        if is_layer(pattern) and pattern.cores[-1]:
            return (min(found, key=lambda sizes: math.prod(sizes.values())),)
        return (*found, *LARGER) if larger and is_layer(pattern) and name not in OF_LOSS else found
    sizes = {axis: LENGTHS.get(axis, 128) for axis in axes_of(pattern)}
    largest = max(math.prod(length(axis, sizes) for axis in core) for core in pattern.cores)
    return ({"batch": max(1, 2**24 // largest), **sizes},)


def is_layer(pattern: Pattern) -> bool:
    """Whether it is the notation of an output layer: features and classes, and what a teacher adds."""
    return axes_of(pattern)[:2] == ("d", "c")


def is_in_chunks(pattern: Pattern) -> bool:
    """Whether it is the notation of a loss that loops over rows, which adds kernels for each chunk."""
    return is_layer(pattern) or bool(pattern.output) or len(axes_of(pattern)) > 2


def cases(sizes: Callable[[str, Pattern], tuple[Sizes, ...]] = realistic) -> Iterator[Case]:
    """Each loss with each of its notations, sizes and dtypes.

    Output layers are in bfloat16 alone, and sets in float32, in which their similarities are computed.
    """
    for name in losses():
        for pattern in declaration_of(getattr(jaxloss, name)).patterns:
            for each in sizes(name, pattern):
                for dtype in _dtypes(pattern):
                    yield case(name, pattern, each, dtype)


def _dtypes(pattern: Pattern) -> tuple[str, ...]:
    if is_layer(pattern):
        return ("bfloat16",)
    return ("float32",) if is_in_chunks(pattern) else ("float32", "bfloat16")


def case(name: str, pattern: Pattern, sizes: Sizes, dtype: str) -> Case:
    declaration = declaration_of(getattr(jaxloss, name))
    is_soft = pattern is not declaration.patterns[0]
    lengths = tuple(sizes[axis] for axis in ("batch", *axes_of(pattern)))
    label = f"{name}{', soft targets' if is_soft else ''} {lengths} {dtype}".replace(",)", ")")
    arrays = arguments(declaration, pattern, sizes, dtype)
    ours = getattr(jaxloss, name)
    if "reduction" not in inspect.signature(ours).parameters:
        ours = by_hand.mean(ours)
    programs = {"jaxloss": (differentiated(declaration, ours), arrays)}
    # An adaptive softmax is compared with a layer that has all classes.
    plain = layer(sizes, dtype) if declaration.structures else arrays
    tables = {"by hand": by_hand.SOFT} if is_soft else {"by hand": by_hand.SELECTING, "by hand, lookup": by_hand.LINES}
    if not is_soft and name not in by_hand.SELECTING:
        tables = {"by hand": by_hand.LINES}
    for candidate, lines in tables.items():
        if name in lines:
            line = lines[name] if "kernel" in declaration.inputs or declaration.structures else widened(lines[name])
            programs[candidate] = (differentiated(declaration, by_hand.mean(line)), plain)
    return Case(name, pattern, label, {**programs, **peers(name, is_soft, arrays)})


def arguments(declaration: Declaration, pattern: Pattern, sizes: Sizes, dtype: str) -> tuple[Any, ...]:
    """The shapes and dtypes of valid arguments."""

    def argument(name: str, core: tuple[str, ...]) -> Any:
        if name in declaration.structures:
            return adaptive_softmax(sizes, dtype)
        own = tuple(length(axis, sizes) for axis in core)
        is_integer = name in declaration.labels or (name in declaration.indices and pattern is declaration.patterns[0])
        batch = () if name in declaration.parameters else (sizes["batch"],)
        return jax.ShapeDtypeStruct((*batch, *own), "int32" if is_integer else dtype)

    return tuple(map(argument, declaration.inputs, pattern.cores))


def layer(sizes: Sizes, dtype: str) -> tuple[Any, ...]:
    """The input, the kernel and the targets of an output layer."""
    n, d, c = sizes["batch"], sizes["d"], sizes["c"]
    hidden, kernel = jax.ShapeDtypeStruct((n, d), dtype), jax.ShapeDtypeStruct((d, c), dtype)
    return hidden, kernel, jax.ShapeDtypeStruct((n,), "int32")


def adaptive_softmax(sizes: Sizes, dtype: str) -> Any:
    make = functools.partial(jaxloss.AdaptiveSoftmax.init, cutoffs=CUTOFFS)
    parameters = jax.eval_shape(lambda: make(jax.random.key(0), sizes["d"], sizes["c"]))
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, dtype), parameters)


def differentiated(declaration: Declaration, function: Callable[..., Any]) -> Callable[..., Any]:
    """Value and gradient with respect to all that a model computes or learns. A teacher is not the model."""
    given = ("target", *declaration.indices, *declaration.labels)
    computed = [name not in given and not name.startswith("teacher_") for name in declaration.inputs]
    return jax.value_and_grad(function, tuple(i for i, is_computed in enumerate(computed) if is_computed))


def widened(line: by_hand.Line) -> by_hand.Line:
    """The line in float32."""
    return lambda *arrays: line(*(a.astype("float32") if jnp.issubdtype(a.dtype, jnp.floating) else a for a in arrays))


def peers(name: str, is_soft: bool, arrays: tuple[Any, ...]) -> Programs:
    """The same loss of the peers that are installed."""
    found = {}
    if name == "cross_entropy" and HAS_OPTAX:
        from optax import losses as of_optax

        loss = of_optax.softmax_cross_entropy if is_soft else of_optax.softmax_cross_entropy_with_integer_labels
        found["optax"] = (jax.value_and_grad(by_hand.mean(widened(loss))), arrays)
    if name == "linear_cross_entropy" and not is_soft:
        for peer, layer_of_peer in output_layers().items():
            shapes = jax.eval_shape(layer_of_peer.arguments, *arrays)
            found[peer] = (jax.value_and_grad(layer_of_peer.loss, (0, 1)), shapes)
    return found
