"""The axes of a device mesh: over which arrays differ from device to device, and which of them JAX has to be told of.

Inside `shard_map`, JAX sums the gradient by an array that is the same on all devices over them where that array meets
one that is not. To say where it meets them is to say how often gradients are summed: once around a loop, or in every
step of it.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AbstractMesh, PartitionSpec

from jaxloss._arrays import compute_dtype

AxisName = str | tuple[str, ...]
"""An axis of a device mesh, or several that an array axis is split over in this order."""


def mesh_axes(axis_name: AxisName | None) -> set[str]:
    """Each of the axes by itself."""
    return {axis_name} if isinstance(axis_name, str) else set(axis_name or ())


def equally_varying(tree: Any) -> Any:
    """Every array varies over the axes that any of them varies over."""
    return jax.tree.map(functools.partial(vary_over, axes=varying_axes(tree)), tree)


def vary_over(array: Array, axes: set[Any]) -> Array:
    """The array, which varies over these axes as well."""
    missing = tuple(sorted(axes - varying_axes(array)))
    return lax.pcast(array, missing, to="varying") if missing else array


def varying_axes(tree: Any) -> set[Any]:
    """The axes over which some array varies; none outside `shard_map`, or where that does not keep track."""
    axes: set[Any] = set()
    return axes.union(*(jax.typeof(leaf).mat.varying for leaf in jax.tree.leaves(tree)))


def wide_zeros(shape: tuple[int, ...], like: Array, axes: set[Any]) -> Array:
    """Zeros in float32 or wider, for what varies over these axes of a mesh."""
    return vary_over(jnp.zeros(shape, compute_dtype([like])), axes)


def wide_zeros_like(array: Array) -> Array:
    """Zeros in float32 or wider, which vary over the axes that the array varies over."""
    return wide_zeros(array.shape, array, varying_axes(array))


def explicit_mesh(tree: Any) -> AbstractMesh | None:
    """The mesh with axes of type Explicit that some array lies on."""
    meshes = (jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(tree))
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def by_automatic_axes(function: Callable[[Any], Any], values: Any, mesh: AbstractMesh, placed: PartitionSpec) -> Any:
    """`function(values)`, inside of which XLA alone decides how arrays lie on the mesh.

    Axes of type Explicit ask for the sharding of each gather, product and sort by itself. What comes out lies as
    `placed` says.
    """
    with jax.sharding.use_abstract_mesh(mesh):
        return jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=placed)(values)
