"""How many rows and columns of the logits are computed at a time, for the platform that a program is compiled for.

On a CPU, the arrays of a chunk should stay in its caches, and below 32 MiB in total, from which on the C library maps
new memory for each call: chunks of 2²¹ logits, but at least 128 rows, and blocks of 4096 columns when gradients are
added to those of other chunks. With all columns at once, this addition takes 15 % of the time at 32,000 classes and
40 % at 1,000,000.

On a GPU or TPU, the products must be bound by arithmetic. A chunk of r rows reads and writes the gradient of a kernel
`(d, c)` in float32, 8 d c bytes, while it does 2 r d c multiply-adds for it. This takes equally long at

                                  H100    TPU v5e    TPU v6e
    TFLOP/s in bfloat16, GB/s     650, 2900   180, 750   470, 1450
    r = 4 · FLOP/s ÷ (B/s)        900        960       1300

rows. A chunk has 2048. It has fewer where there would be more than 2²⁹ logits, and more where there would be less than
2²⁴, for which a step of the loop takes longer than its work. What is then in memory is the gradient of the kernel in
float32, and on a

- GPU, a quarter of the logits in float32, and the gradient of all logits of the chunk in the kernel's dtype. With all
  logits in float32, a step takes 1 to 4 % less on an H200, and twice the memory.
- TPU, the logits in float32. Their gradient is computed inside of both products, from the logits. A chunk has no more
  rows than make the logits as large as the kernel's gradient in its own dtype, d/2 in bfloat16, but at least 512. XLA
  then puts the logits where the result will be.

There, the default counts the rows of each device. On a CPU, it counts those of all, as a user's `chunk_size` does.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

from jax import Array, lax
from jax.core import max_dim, min_dim

_CPU_LOGITS, _COLUMNS = 2**21, 4096
_ROWS, _LEAST_LOGITS, _MOST_LOGITS = 2048, 2**24, 2**29
_SIMILARITIES = 8 * 2**20


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How a loop over an output layer is divided.

    Args:
      rows: the rows of a chunk, whose gradients are added to those of other chunks at a time.
      per_device: whether a chunk has this many rows for each device over which XLA may split them.
      parts: the parts of a chunk whose logits are in memory at a time.
      columns: the columns of a block in the products of the backward pass; None means all columns.
      wide: whether only the first of several products in a row is in half precision.
      peeled: whether the first chunk is compiled on its own, outside the loop.
      as_bits: whether arrays in half precision without gradient are divided into chunks as integers, see `Second`.
      scanned: whether a loop over a span can be differentiated, see `over_blocks`.
    """

    rows: int
    per_device: bool = False
    parts: int = 1
    columns: int | None = None
    wide: bool = False
    peeled: bool = False
    as_bits: bool = False
    scanned: bool = False

    def parts_of(self, rows: int) -> int:
        return self.parts if rows % self.parts == 0 else 1


@dataclasses.dataclass(frozen=True)
class Tilings:
    """The tiling on a CPU, on a TPU, and on other platforms."""

    cpu: Tiling
    tpu: Tiling
    other: Tiling

    @staticmethod
    def of(kernel: Array, chunk_size: int | None = None) -> Tilings:
        """The tilings of a kernel `(d, c)`, with chunks of at most `chunk_size` rows if it is given."""
        d, c = kernel.shape
        # At least 128 rows on a CPU: with fewer, products are slow.
        on_cpu = max_dim(_CPU_LOGITS // c, 128)
        elsewhere = max_dim(max_dim(min_dim(_ROWS, _MOST_LOGITS // c), _LEAST_LOGITS // c), 128)
        on_tpu = min_dim(elsewhere, max_dim(d * kernel.dtype.itemsize // 4, 512))
        per_device = chunk_size is None
        return Tilings(
            cpu=Tiling(chunk_size or on_cpu, columns=_COLUMNS, as_bits=True),
            tpu=Tiling(chunk_size or on_tpu, per_device=per_device, peeled=True),
            other=Tiling(chunk_size or elsewhere, per_device=per_device, parts=4, peeled=True),
        )

    @staticmethod
    def of_tail(n_classes: int) -> Tilings:
        """The tilings of a kernel with few features, whose rows are a part of the batch that is known at run time.

        On average, the last block is half empty.
        """
        cpu = min(max(_CPU_LOGITS // n_classes, 64), 128)
        other = Tiling(min(_ROWS, max(_MOST_LOGITS // n_classes, 128)))
        return Tilings(cpu=Tiling(cpu, columns=_COLUMNS, wide=True), tpu=other, other=other)

    @staticmethod
    def of_set(candidates: Array, chunk_size: int | None) -> Tilings:
        """The tilings of sets with candidates `(..., m, d)`, whose loops run beside each other.

        There are as many columns as rows, and few features. So the temporaries are to be a small part of the
        similarities of a whole set, and an accelerator has no more rows in a chunk than make its products efficient.
        """
        m = max_dim(math.prod(candidates.shape[:-1]), 1)
        on_cpu, elsewhere = max_dim(_CPU_LOGITS // m, 128), max_dim(_SIMILARITIES // m, 512)
        tiling = Tiling(chunk_size or elsewhere, per_device=chunk_size is None, peeled=True)
        return Tilings(cpu=Tiling(chunk_size or on_cpu, columns=_COLUMNS), tpu=tiling, other=tiling)

    def per_platform(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(tiling, *arguments)`, with the tiling of the platform that the program is lowered for."""
        own = {platform: tiling for platform in ("cpu", "tpu") if (tiling := getattr(self, platform)) != self.other}
        tilings = {**own, "default": self.other}  # each is traced, so no tiling twice
        return lax.platform_dependent(
            *arguments, **{platform: functools.partial(function, tiling) for platform, tiling in tilings.items()}
        )
