"""Families of test inputs, rounded to a dtype: random, structured and adversarial numbers."""

import dataclasses
from typing import Protocol

import jax.numpy as jnp
import numpy as np


class Numbers(Protocol):
    """Draws float64 arrays of numbers of one dtype, from which the arguments of a loss are made."""

    generator: np.random.Generator

    def real(self, *shape: int) -> np.ndarray:
        """Real numbers."""
        ...

    def near(self, x: np.ndarray) -> np.ndarray:
        """Numbers to compare with x, such as targets."""
        ...

    def probability(self, *shape: int) -> np.ndarray:
        """Numbers in (0, 1)."""
        ...


@dataclasses.dataclass
class Random:
    """Normally and uniformly distributed numbers."""

    generator: np.random.Generator
    dtype: str

    def real(self, *shape: int) -> np.ndarray:
        return self.generator.normal(size=shape) * 3

    def near(self, x: np.ndarray) -> np.ndarray:
        return self.real(*x.shape)

    def probability(self, *shape: int) -> np.ndarray:
        return self.generator.uniform(size=shape).clip(1e-3, 1 - 1e-2)


@dataclasses.dataclass
class Structured:
    """Quarters, near-ties (cancellation), and probabilities very close to 0, 1/2 or 1."""

    generator: np.random.Generator
    dtype: str

    def real(self, *shape: int) -> np.ndarray:
        quarters = self.generator.integers(1, 40, size=shape) / 4
        return quarters * self.generator.choice([-1, 1], size=shape)

    def near(self, x: np.ndarray) -> np.ndarray:
        steps = self.generator.choice([-3, -2, -1, 1, 2, 3], size=x.shape)
        return x * (1 + steps * float(jnp.finfo(self.dtype).eps))

    def probability(self, *shape: int) -> np.ndarray:
        eps = float(jnp.finfo(self.dtype).eps)
        k = self.generator.integers(1, 8, size=shape)
        choices = np.stack([k / 8, 1 - k * eps, 0.5 + k * eps, k * eps**2])
        return np.take_along_axis(choices, self.generator.integers(0, 4, size=(1, *shape)), 0)[0]


@dataclasses.dataclass
class Adversarial:
    """Log-uniform magnitudes, from subnormals to a sixteenth of the largest number; in float64, only the middle."""

    generator: np.random.Generator
    dtype: str

    def real(self, *shape: int) -> np.ndarray:
        info = jnp.finfo(self.dtype)
        low, high = lowest_exponent(self.dtype), min(info.maxexp - 5, 330)
        signs = self.generator.choice([-1, 1], size=shape)
        # A quarter of the numbers saturates an exponential, which few log-uniform numbers do.
        saturating = self.generator.uniform(8, 120 if info.maxexp < 1024 else 800, size=shape)
        magnitudes = np.exp2(self.generator.uniform(low, high, size=shape))
        return signs * np.where(self.generator.integers(0, 4, size=shape) == 0, saturating, magnitudes)

    def near(self, x: np.ndarray) -> np.ndarray:
        return self.real(*x.shape)

    def probability(self, *shape: int) -> np.ndarray:
        info = jnp.finfo(self.dtype)
        small = np.exp2(self.generator.uniform(lowest_exponent(self.dtype), -1, size=shape))
        large = 1 - np.maximum(small, float(info.epsneg))
        return np.where(self.generator.integers(0, 2, size=shape) == 0, small, large)


def lowest_exponent(dtype: str) -> float:
    return max(float(np.log2(float(jnp.finfo(dtype).smallest_subnormal))), -330)


FAMILIES = (Random, Structured, Adversarial)
