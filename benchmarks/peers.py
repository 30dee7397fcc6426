"""The losses of other packages that are installed, called as those of jaxloss are."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from benchmarks.measuring import HAS_CCE, HAS_EJKERNEL, HAS_LEVANTER, HAS_TOKAMAX

BLOCK = 4096
"""Classes per block where a peer has no default: as many as jax-cce takes by default."""


class OutputLayer(NamedTuple):
    """A mean loss of (hidden, kernel, target), and whether its kernel is transposed: classes before features."""

    loss: Callable[..., Any]
    is_transposed: bool = False

    def arguments(self, hidden: Any, kernel: Any, target: Any) -> tuple[Any, Any, Any]:
        return hidden, kernel.T if self.is_transposed else kernel, target


def output_layers() -> dict[str, OutputLayer]:
    """The cross-entropy of an output layer by each installed peer."""
    found = {}
    if HAS_CCE:
        import jax_cce

        found["jax-cce"] = OutputLayer(jax_cce.linear_cross_entropy, is_transposed=True)
    if HAS_EJKERNEL:
        from ejkernel.modules.operations import fused_cross_entropy as fused

        def ejkernel(hidden: Any, kernel: Any, target: Any) -> Any:
            layer = {"hidden": hidden, "lm_head_weight": kernel, "targets": target}
            return fused(**layer, platform="xla", compute_dtype=jnp.float32).loss

        found["ejkernel"] = OutputLayer(ejkernel)
    if HAS_TOKAMAX:
        import tokamax

        for implementation in ("xla", "chunked_xla"):

            def of_tokamax(hidden: Any, kernel: Any, target: Any, implementation: str = implementation) -> Any:
                options = {"reduction": "mean", "implementation": implementation}
                return tokamax.linear_softmax_cross_entropy_loss(hidden, target, kernel, **options)

            found[f"tokamax, {implementation}"] = OutputLayer(of_tokamax)
    if HAS_LEVANTER:
        import haliax
        from levanter.models.loss import fused_cross_entropy_loss_and_logsumexp_penalty as blockwise

        def levanter(hidden: Any, kernel: Any, target: Any) -> Any:
            (n, d), c = hidden.shape, kernel.shape[1]
            rows, features, classes = haliax.Axis("rows", n), haliax.Axis("features", d), haliax.Axis("classes", c)
            layer = haliax.named(hidden, (rows, features)), haliax.named(kernel, (features, classes))
            labels = haliax.named(target, (rows,))
            return blockwise(*layer, features, classes, labels, block_size=min(c, BLOCK)).array

        found["levanter"] = OutputLayer(levanter)
    return found
