"""Ranges of numbers, in mathematical notation."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array


@dataclasses.dataclass(frozen=True, repr=False)
class Interval:
    """A range of real numbers such as "[0, 1]" or "(0, inf)", or a set such as "{-1, 1}".

    A bound may be the name of an axis, as in "[0, c)". `at` replaces it by the length of the axis.

    Args:
      notation: brackets with bounds or members between them.
      bounds: the numbers and names between the brackets; read from the notation if not given.

    Raises:
      ValueError: the notation is invalid.
    """

    notation: str
    bounds: tuple[float | str, ...] = ()

    def __post_init__(self) -> None:
        if self.bounds:
            return
        brackets = self.notation[:1] + self.notation[-1:]
        try:
            bounds = tuple(_bound(text.strip()) for text in self.notation[1:-1].split(","))
        except ValueError:
            bounds = ()
        if brackets not in ("[]", "()", "[)", "(]", "{}") or not bounds or (brackets != "{}" and len(bounds) != 2):
            takes = "a notation such as '[0, 1]', '(0, inf)' or '{-1, 1}'"
            raise ValueError(f"Interval: takes {takes}, got {self.notation!r}")
        object.__setattr__(self, "bounds", bounds)

    def __repr__(self) -> str:
        return f"Interval({self.notation!r})"

    @property
    def axes(self) -> set[str]:
        """The axes named in the bounds."""
        return {bound for bound in self.bounds if isinstance(bound, str)}

    def at(self, sizes: Mapping[str, int]) -> Interval:
        """The interval with the name of each axis replaced by its length."""
        bounds = tuple([sizes[bound] if isinstance(bound, str) else bound for bound in self.bounds])
        return Interval(self.notation[0] + ", ".join(map(str, bounds)) + self.notation[-1], bounds)

    def contains(self, x: Any) -> Any:
        """Whether each number lies in the interval. NaN does not."""
        if self.notation[0] == "{":
            inside = x == self.bounds[0]
            for member in self.bounds[1:]:
                inside = inside | (x == member)
            return inside
        low, high = self.bounds
        above = x >= low if self.notation[0] == "[" else x > low
        return above & (x <= high if self.notation[-1] == "]" else x < high)

    def clip_index(self, index: Array) -> Array:
        """The nearest member of a range of integers such as "[0, 10)"."""
        low, high = typing.cast("tuple[int, int]", self.bounds)
        return jnp.clip(index, low + (self.notation[0] == "("), high - (self.notation[-1] == ")"))


def _bound(text: str) -> float | str:
    # Integers stay integers. As a float32 in a comparison with integers, a bound above 2^24 would be rounded.
    if text.lstrip("-").isdecimal():
        return int(text)
    is_number = text.lstrip("-") in ("inf", "infinity", "nan") or not text.isidentifier()
    return float(text) if is_number else text
