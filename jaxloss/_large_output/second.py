"""What rows see beside their logits that has no gradient, such as the logits of another output layer."""

from __future__ import annotations

import dataclasses

import jax
from jax import lax

from jaxloss._large_output.layer import Arrays, Layer
from jaxloss._large_output.matmul import Chain


@dataclasses.dataclass(frozen=True)
class Second:
    """The fixed arrays of a layer, and its second product, which is computed in the loop.

    Args:
      chain: the second product; None if there is none.
      rows: what the loop divides into chunks: the fixed arrays, and the rows of the product.
    """

    chain: Chain | None
    rows: Arrays

    @staticmethod
    def of(layer: Layer) -> Second:
        fixed = jax.tree.map(lax.stop_gradient, layer.fixed)
        if layer.second is None:
            return Second(None, fixed)
        hidden, kernel = map(lax.stop_gradient, layer.second)
        chain = Chain.of(hidden, (kernel,))
        return Second(chain, {**fixed, "second": hidden, "second_units": chain.row_units})

    def arrays(self, rows: Arrays) -> Arrays:
        """The arrays that rows see, from those of a chunk."""
        if self.chain is None:
            return rows
        own = dict(rows)
        *_, product = self.chain.factors(own["second"], own.pop("second_units"))
        return {**own, "second": product}
