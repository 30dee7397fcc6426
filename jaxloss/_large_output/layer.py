"""The inputs of the losses of rows, and where they are placed on a mesh of devices."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _special as special
from jaxloss._arrays import Vector, compute_dtype, product_dtype
from jaxloss._large_output.loops import Span
from jaxloss._sharding import AxisName, mesh_axes, vary_over, varying_axes, whole_along
from jaxloss.options import is_given

Arrays = Mapping[str, Array]


def given(**values: Any) -> Arrays:
    """The values that are arrays. An option left at its default leaves out its term."""
    return {name: value for name, value in values.items() if is_given(value)}


def capped_logits(logits: Array, shared: Arrays, own: Arrays) -> Array:
    """The logits with their bias, below their cap, where these are given."""
    logits = logits + shared["bias"] if "bias" in shared else logits
    return special.soft_cap(logits, own["logit_softcap"]) if "logit_softcap" in own else logits


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layer:
    """The inputs of the losses of rows.

    Args:
      hidden: `(..., d)`, rows along any number of axes.
      kernels: a chain of matrices, of the dtype of `hidden`; the logits are `hidden @ kernels[0] @ kernels[1] ...`.
      shared: named arrays that are the same for every row.
      own: named arrays with one entry per row along their leading axes.
      split: like `own`, for arrays that differ between devices, like the kernels, if the classes are split.
      fixed: like `split`, for arrays without gradient.
      second: `(..., e)` and `(e, c)`, rows and the matrix of a second product, without gradient. A row sees the result
        as the array `second` of its own.
      span: the range of rows, along a single axis, to compute; the losses of other rows are 0. None means all rows.
      bounded: whether no entry of `hidden` or of the one kernel is above 1, so that no product overflows.
      numbers: how many numbers a row returns, as a tuple; None if it returns its loss alone.
      axis_name: the mesh axes over which the classes are split, inside `shard_map`; None means that they are not split.
    """

    hidden: Array
    kernels: tuple[Array, ...]
    shared: Arrays
    own: Arrays
    split: Arrays = dataclasses.field(default_factory=dict)
    fixed: Arrays = dataclasses.field(default_factory=dict)
    second: tuple[Array, Array] | None = None
    span: Span | None = None
    axis_name: AxisName | None = dataclasses.field(default=None, metadata={"static": True})
    bounded: bool = dataclasses.field(default=False, metadata={"static": True})
    numbers: int | None = dataclasses.field(default=None, metadata={"static": True})

    @staticmethod
    def of(hidden: Vector, kernel: Vector, *, shared: Arrays, own: Arrays, **others: Any) -> "Layer":
        """The layer of a single matrix, with its product in the dtype of `product_dtype`."""
        hidden, kernel = jnp.asarray(hidden), jnp.asarray(kernel)
        dtype = product_dtype([hidden, kernel])
        return Layer(hidden.astype(dtype), (kernel.astype(dtype),), shared, own, **others)

    def widened(self) -> "Layer":
        """The layer with its products in float32 or wider."""
        dtype = compute_dtype([self.hidden])
        kernels = tuple(kernel.astype(dtype) for kernel in self.kernels)
        return dataclasses.replace(self, hidden=self.hidden.astype(dtype), kernels=kernels)


def placed(layer: Layer, weights: Array | None = None) -> tuple[Layer, Array | None]:
    """The arrays where the loop needs them, so that nothing is sent in each chunk.

    Under automatic sharding, the features of a kernel may be split, as fully sharded parameters are. They are gathered
    once. Inside `shard_map`, each array is made to vary over the axes of the arrays that it is combined with. Gradients
    with respect to an array that is the same on all devices are then summed over devices once. Losses and per-row
    arrays are the same on all devices over which the classes are split.
    """
    everywhere = varying_axes((_by_device(layer), layer.own, weights))
    by_device = jax.tree.map(functools.partial(vary_over, axes=everywhere), _by_device(layer))
    axes = axes_of_losses(layer) | varying_axes(weights)
    own, weights = jax.tree.map(lambda array: vary_over(array, axes), (layer.own, weights))
    by_device["kernels"] = tuple(whole_along(kernel, 0) for kernel in by_device["kernels"])
    if layer.second is not None:
        rows, kernel = by_device["second"]
        by_device["second"] = rows, whole_along(kernel, 0)
    return dataclasses.replace(layer, **by_device, own=own), weights


def axes_of_losses(layer: Layer) -> set[Any]:
    """The mesh axes over which the losses of rows vary."""
    by_device = varying_axes(_by_device(layer))
    return (by_device - mesh_axes(layer.axis_name)) | varying_axes(layer.own)


def _by_device(layer: Layer) -> dict[str, Any]:
    """What may differ between the devices over which the classes are split."""
    return {name: getattr(layer, name) for name in ("hidden", "kernels", "shared", "split", "fixed", "second")}
