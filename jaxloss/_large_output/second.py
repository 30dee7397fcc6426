"""What rows see beside their logits that has no gradient, such as the logits of another output layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jaxloss._arrays import compute_dtype
from jaxloss._large_output.layer import Arrays, Layer
from jaxloss._large_output.matmul import Chain


@dataclasses.dataclass(frozen=True)
class Second:
    """The fixed arrays of a layer, and its second product, which is computed in the loop.

    Args:
      chain: the second product; None if there is none.
      rows: what the loop divides into chunks: the fixed arrays, and the rows of the product.
      dtypes: those of the fixed arrays.
    """

    chain: Chain | None
    rows: Arrays
    dtypes: Mapping[str, Any]

    @staticmethod
    def of(layer: Layer, as_bits: bool) -> Second:
        fixed = {name: lax.stop_gradient(array) for name, array in layer.fixed.items()}
        dtypes = {name: array.dtype for name, array in layer.fixed.items()}
        if as_bits:
            fixed = {name: _as_bits(array) for name, array in fixed.items()}
        if layer.second is None:
            return Second(None, fixed, dtypes)
        hidden, kernel = map(lax.stop_gradient, layer.second)
        chain = Chain.of(hidden, (kernel,))
        assert chain.row_units is not None
        return Second(chain, {**fixed, "second": hidden, "second_units": chain.row_units}, dtypes)

    def arrays(self, rows: Arrays) -> Arrays:
        """The arrays that rows see, floating ones in float32 or wider, from those of a chunk."""
        own = dict(rows) | {name: _widened(_from_bits(rows[name], dtype)) for name, dtype in self.dtypes.items()}
        if self.chain is None:
            return own
        *_, product = self.chain.factors(own["second"], own.pop("second_units"))
        return {**own, "second": product}


def _as_bits(array: Array) -> Array:
    """Numbers in half precision as integers.

    XLA:CPU would convert all of them to float32 to take a chunk of them (jaxlib 0.10.2).
    """
    is_half = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize == 2
    return lax.bitcast_convert_type(array, jnp.uint16) if is_half else array


def _from_bits(array: Array, dtype: Any) -> Array:
    return array if array.dtype == dtype else lax.bitcast_convert_type(array, dtype)


def _widened(array: Array) -> Array:
    return array.astype(compute_dtype([array])) if jnp.issubdtype(array.dtype, jnp.floating) else array
