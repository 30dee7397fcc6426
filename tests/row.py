"""What the generic tests need to know about a loss. The rows themselves are in `tests/rows`."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jaxloss._decorator.lift import declaration_of
from tests.references import N_CLASSES, Arrays, extremes


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A loss and what its tests need to know beyond its declaration.

    Args:
      function: the loss.
      draw: maps (generator, batch shape) to valid float64 or integer arrays.
      reference: maps (arrays, options) to the losses and their normalisers, in NumPy, with the class axis last.
      options: sets of options that compile to different programs, the default first. They fit any batch shape.
      numbers: names of the options that are traced numbers. Their domains hold all numbers up to 1 above the lower end.
      domains: by name, the domains of arrays that depend on the first set of options; the declaration has the others.
      extremes: maps (first numbers, second numbers, options) to arrays in the domain that hold the numbers, one sample
        per pair; by default derived from the declaration.
      pack: makes the arguments of the loss from the drawn arrays; by default these are the arguments.
      detached: maps (arrays, options) to what the loss cuts off from differentiation; the reference takes it as `held`.
      constant: names of the arrays that have no gradient.
      infinities: by name, the signs of the infinite numbers of which the loss is the limit, for arrays of which it is
        not that of all that their domain allows.
      kinked: options with which the loss has kinks along its first array.
      convex: whether it is convex in that array.
      forward_mode: whether it can be differentiated in forward mode.
      in_torch: whether PyTorch has it, and its values are recorded.
      scale: the scale of the inputs below which rounding errors no longer shrink with them.
    """

    function: Callable[..., Any]
    _: dataclasses.KW_ONLY
    draw: Callable[[np.random.Generator, tuple[int, ...]], Arrays]
    reference: Callable[..., tuple[np.ndarray, np.ndarray]]
    options: tuple[Mapping[str, Any], ...] = ({},)
    numbers: tuple[str, ...] = ()
    domains: Mapping[str, str] = dataclasses.field(default_factory=dict)
    extremes: Callable[[np.ndarray, np.ndarray, Mapping[str, Any]], Arrays] | None = None
    pack: Callable[..., tuple[Any, ...]] = lambda *arrays: arrays
    detached: Callable[..., np.ndarray] | None = None
    constant: tuple[str, ...] = ()
    infinities: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    kinked: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    convex: bool = True
    forward_mode: bool = True
    in_torch: bool = True
    scale: float = 0.0

    @property
    def name(self) -> str:
        return self.function.__name__

    @functools.cached_property
    def label(self) -> str:
        """The name of the loss, with the kind of target and the first options of this row."""
        kind = "index" if self.has_indices else "soft" if len(self.declaration.patterns) > 1 else ""
        return "-".join([self.name, *filter(None, [kind]), *self.options[0]])

    @property
    def declaration(self):
        return declaration_of(self.function)

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.declaration.inputs

    @property
    def has_axis(self) -> bool:
        return "axis" in inspect.signature(self.function).parameters

    @functools.cached_property
    def _sample(self) -> Arrays:
        """A single sample, without batch axes."""
        return tuple(map(np.asarray, self.draw(np.random.default_rng(0), ())))

    @functools.cached_property
    def cores(self) -> tuple[int, ...]:
        """The number of core axes of each array that is drawn."""
        return tuple(array.ndim for array in self._sample)

    @functools.cached_property
    def shared(self) -> tuple[int, ...]:
        """The positions of arrays without batch axes."""
        batch = self.draw(np.random.default_rng(0), (1,))
        return tuple(i for i, core in enumerate(self.cores) if np.ndim(batch[i]) == core)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """For each array, the name of the argument that it is or belongs to."""
        arguments = zip(self.inputs, self.pack(*self._sample), strict=True)
        return tuple(name for name, argument in arguments for _ in jax.tree.leaves(argument))

    @functools.cached_property
    def indexed(self) -> tuple[bool, ...]:
        """Whether each array holds indices."""
        of_integers = [array.dtype.kind == "i" for array in self._sample]
        return tuple(i and name in self.declaration.indices for i, name in zip(of_integers, self.names, strict=True))

    @property
    def has_indices(self) -> bool:
        """Whether the last array has one class index per sample."""
        return self.indexed[-1] and self.cores[-1] == 0

    def domain(self, name: str) -> str:
        """The domain of an array or option in mathematical notation; "" if any number is allowed."""
        if name in self.names and self.indexed[self.names.index(name)]:
            index = self.declaration.indices[name]
            return index.at(dict.fromkeys(index.axes, N_CLASSES)).notation
        declared = self.declaration.domains.get(name)
        return self.domains.get(name, "" if declared is None else declared.notation)

    def number(self, option: str, share: Any) -> Any:
        """A number in the domain of an option, for a share between 0 and 1: that far above the lower end."""
        low = lowest(self.domain(option))
        return share + low if math.isfinite(low) else share

    def integers(self) -> dict[str, int]:
        """An integer in the domain of each option, other than its default, for the options that take one."""
        defaults = inspect.signature(self.function).parameters
        found = {}
        for name in self.numbers:
            domain = self.declaration.domains.get(name)
            fits = (n for n in (1, 2) if n != defaults[name].default and (domain is None or domain.contains(n)))
            found[name] = next(fits, None)
        return {name: number for name, number in found.items() if number is not None}

    @property
    def bad_data(self) -> dict[str, tuple[float, ...]]:
        """Numbers outside the domain of each array that has one, by name; finite ones if it holds integers."""
        kinds = {name: array.dtype.kind for name, array in zip(self.names, self._sample, strict=True)}
        found = {name: outside(self.domain(name)) for name in self.names if self.domain(name)}
        return {
            name: tuple(x for x in numbers if kinds[name] == "f" or math.isfinite(x)) for name, numbers in found.items()
        }

    @property
    def bad_numbers(self) -> dict[str, tuple[float, ...]]:
        """The same for options that are traced numbers."""
        found = {name: outside(self.domain(name)) for name in self.numbers if self.domain(name)}
        return {name: (*numbers, math.nan) for name, numbers in found.items()}

    @property
    def bad_static(self) -> dict[str, tuple[float, ...]]:
        """The same for the other options."""
        names = [name for name in self.declaration.domains if name not in (*self.inputs, *self.numbers)]
        return {name: tuple(filter(math.isfinite, outside(self.domain(name)))) for name in names}

    def extreme_arrays(self, first: np.ndarray, second: np.ndarray, options: Mapping[str, Any]) -> Arrays:
        """Arrays that hold the numbers, one sample for each pair."""
        if self.extremes:
            return self.extremes(first, second, {**self.options[0], **options})
        kinds = zip(self.cores, map(self.domain, self.names), self.indexed, strict=True)
        return extremes.of_pairs(first, second, list(kinds))

    def batched(self, function: Callable[[Any], Any], arrays: Iterable[Any]) -> tuple[Any, ...]:
        """Applies the function to the arrays that have batch axes; the others stay as they are."""
        return tuple(a if i in self.shared else function(a) for i, a in enumerate(arrays))

    def loss(self, *arrays, **options):
        """The loss of drawn arrays. The first set of options applies unless overridden."""
        return self.call(*self.pack(*arrays), **options)

    def call(self, *arguments, **options):
        """The same for the arguments of the loss itself."""
        return self.function(*arguments, **{**self.options[0], **options})

    def held(self, *arrays, **options) -> dict[str, Any]:
        """What derivatives at these arrays hold constant, as an option of the reference."""
        return {"held": self.detached(*arrays, **{**self.options[0], **options})} if self.detached else {}

    def expected(self, *arrays, **options):
        """The reference with the same options."""
        return self.reference(*arrays, **{**self.options[0], **options})


def lowest(domain: str) -> float:
    """The lower end of a domain; -inf if any number is allowed."""
    return float(domain[1:-1].split(",")[0]) if domain else -math.inf


def outside(domain: str) -> tuple[float, ...]:
    """Numbers outside a domain: beyond its ends, on its open ends, and between the members of a set."""
    low, *_, high = bounds = [float(text) if "inf" in text else int(text) for text in domain[1:-1].split(",")]
    if domain[0] == "{":
        return tuple(x for x in range(low - 1, high + 2) if x not in bounds)
    on_ends = [end for end, bracket in ((low, domain[0]), (high, domain[-1])) if bracket in "()"]
    return (*on_ends, *(beyond for beyond in (low - 1, high + 1) if math.isfinite(beyond)))


@dataclasses.dataclass(frozen=True, eq=False)
class SetRow:
    """A loss of sets, in which each item has a loss of its own, and what its tests need to know.

    Args:
      function: the loss.
      draw: maps (generator, shape) to arrays of sets, with the items along the last axis of the shape.
      reference: maps (arrays of one set, which items count, options) to the losses and normalisers of its items.
      held: the same for a loss with parts that are cut off from differentiation; it takes the first array in them too.
      options: sets of options that compile to different programs, the default first.
      numbers: names of the options that are traced numbers.
      forward_mode: whether it can be differentiated in forward mode.
    """

    function: Callable[..., Any]
    _: dataclasses.KW_ONLY
    draw: Callable[[np.random.Generator, tuple[int, ...]], Arrays]
    reference: Callable[..., tuple[np.ndarray, np.ndarray]]
    held: Callable[..., tuple[np.ndarray, None]] | None = None
    options: tuple[Mapping[str, Any], ...] = ({},)
    numbers: tuple[str, ...] = ()
    forward_mode: bool = False

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def has_labels(self) -> bool:
        return "labels" in declaration_of(self.function).inputs

    def expected(self, first, second, where, **options):
        """The losses and normalisers of a batch of sets."""
        places = list(np.ndindex(*where.shape[:-1]))
        results = [self.reference(first[at], second[at], where[at], **options) for at in places]
        return tuple(np.reshape(part, where.shape) for part in zip(*results, strict=True))
