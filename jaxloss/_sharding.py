"""Device meshes: the axes over which arrays vary from device to device, and explicit sharding.

Inside `shard_map`, an array may be the same on all devices. Where such an array meets one that varies, JAX sums its
gradient over the devices. The place where they meet therefore decides how often gradients are summed: once outside a
loop, or in every step of it.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from jaxloss._arrays import compute_dtype

AxisName = str | tuple[str, ...]
"""A mesh axis over which an array axis is split, or several mesh axes in this order."""


def mesh_axes(axis_name: AxisName | None) -> set[str]:
    """The mesh axes as a set."""
    return {axis_name} if isinstance(axis_name, str) else set(axis_name or ())


def require_split(function: str, axis_name: AxisName | None, what: str) -> None:
    """Raises a ValueError unless `shard_map` maps over the mesh axes, over which `what` is split."""
    # Not the axis of a vmap: there, JAX does not know which values are the same everywhere, and would add up their
    # gradients.
    if not mesh_axes(axis_name) <= set(jax.sharding.get_abstract_mesh().manual_axes):
        raise ValueError(
            f"{function}: axis_name is {axis_name!r} but shard_map maps over no such axis here; give it inside "
            f"shard_map, where {what} split over that axis of the mesh"
        )


def equally_varying(tree: Any) -> Any:
    """Makes every array vary over the axes that any of them varies over."""
    return jax.tree.map(functools.partial(vary_over, axes=varying_axes(tree)), tree)


def vary_over(array: Array, axes: set[Any]) -> Array:
    """Makes the array vary over these axes too."""
    missing = tuple(sorted(axes - varying_axes(array)))
    return lax.pcast(array, missing, to="varying") if missing else array


def varying_axes(tree: Any) -> set[Any]:
    """The axes over which some array varies; none outside `shard_map` or if `check_vma` is off."""
    axes: set[Any] = set()
    return axes.union(*(jax.typeof(leaf).mat.varying for leaf in jax.tree.leaves(tree)))


def wide_zeros(shape: tuple[int, ...], like: Array, axes: set[Any]) -> Array:
    """Zeros in float32 or wider that vary over these mesh axes."""
    return vary_over(jnp.zeros(shape, compute_dtype([like])), axes)


def wide_zeros_like(array: Array, *first: int) -> Array:
    """Zeros in float32 or wider with the sharding of the array; with these axes before its own, without it.

    Inside `shard_map`, they vary over the same mesh axes.
    """
    if first:
        return wide_zeros((*first, *array.shape), array, varying_axes(array))
    return vary_over(jnp.zeros_like(array, compute_dtype([array])), varying_axes(array))


def automatic_mesh(tree: Any) -> AbstractMesh | None:
    """The mesh over whose devices XLA may split the arrays by itself, if any."""
    meshes = [jax.sharding.get_abstract_mesh(), *(jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(tree))]
    return next((mesh for mesh in meshes if mesh.auto_axes), None)


def automatic_devices(tree: Any) -> int:
    """The number of devices over which XLA may split the arrays by itself."""
    mesh = automatic_mesh(tree)
    return 1 if mesh is None else math.prod(mesh.shape[axis] for axis in mesh.auto_axes)


def whole_along(array: Array, axis: int) -> Array:
    """The array, under automatic sharding with this axis whole on every device and the others split as XLA chooses."""
    mesh = automatic_mesh(array)
    if mesh is None:
        return array
    spec: list[Any] = [PartitionSpec.UNCONSTRAINED] * array.ndim
    spec[axis] = None
    return lax.with_sharding_constraint(array, NamedSharding(mesh, PartitionSpec(*spec)))


def explicit_mesh(tree: Any) -> AbstractMesh | None:
    """The mesh with axes of type Explicit on which some array is placed, if any."""
    meshes = (jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(tree))
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def by_automatic_axes(function: Callable[[Any], Any], values: Any, mesh: AbstractMesh, placed: PartitionSpec) -> Any:
    """Computes `function(values)` with automatic sharding inside the function.

    With axes of type Explicit, each gather, product and sort would need a sharding of its own. The results have the
    sharding `placed`.
    """
    with jax.sharding.use_abstract_mesh(mesh):
        return jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=placed)(values)
