"""Dataclasses as pytrees."""

import contextlib
import json
from typing import TypeVar

import jax

T = TypeVar("T")


def pytree(of: type[T]) -> type[T]:
    """Registers a dataclass as a pytree, also for programs that are exported and stored."""
    jax.tree_util.register_dataclass(of)
    with contextlib.suppress(ValueError):  # the module was reloaded, and the name is taken
        jax.export.register_pytree_node_serialization(
            of,
            serialized_name=f"jaxloss.{of.__name__}",
            serialize_auxdata=lambda static: json.dumps(static).encode(),
            deserialize_auxdata=lambda static: tuple(json.loads(static)),
        )
    return of
