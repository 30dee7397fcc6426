"""Checks of the parameters of an adaptive softmax."""

from __future__ import annotations

import itertools
import operator
import typing
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloss._errors import COUNT, as_integer, require_array, require_number
from jaxloss._sizes import may_be_zero


def check_parameters(head: Array, head_bias: Array | None, tails: tuple[tuple[Array, Array], ...]) -> None:
    """Raises an error if the parts do not fit together."""
    leaves = {"head": head} | ({} if head_bias is None else {"head_bias": head_bias})
    if not isinstance(typing.cast("Any", tails), tuple | list):
        raise TypeError(f"AdaptiveSoftmax: tails is of type {type(tails).__name__} but takes a tuple of pairs")
    for i, tail in enumerate(typing.cast("tuple[Any, ...]", tails)):
        if not isinstance(tail, tuple | list) or len(tail) != 2:
            raise TypeError(f"AdaptiveSoftmax: tails[{i}] is of type {type(tail).__name__} but takes a pair (down, up)")
        leaves |= {f"tails[{i}][{j}]": matrix for j, matrix in enumerate(tail)}
    for name, leaf in leaves.items():
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
            got = f"has dtype {leaf.dtype}" if hasattr(leaf, "dtype") else f"is of type {type(leaf).__name__}"
            raise TypeError(f"AdaptiveSoftmax: {name} {got} but takes a floating array")
        if isinstance(leaf, np.ndarray):
            require_array("AdaptiveSoftmax", name, leaf)
        rank = 1 if name == "head_bias" else 2
        if len(leaf.shape) != rank or any(map(may_be_zero, leaf.shape)):
            takes = "a matrix" if rank == 2 else "a vector"
            raise ValueError(f"AdaptiveSoftmax: {name} has shape {leaf.shape} but takes {takes} that is not empty")
    features, n_head = head.shape
    for n_classes in (n_head, *(up.shape[1] for _, up in tails)):
        require_number("AdaptiveSoftmax", "the number of classes of its head or a tail", n_classes)
    if n_head <= len(tails):
        raise ValueError(
            f"AdaptiveSoftmax: head has shape {head.shape} but takes a column for each of {len(tails)} "
            "tails and for each class before them"
        )
    if head_bias is not None and head_bias.shape != (n_head,):
        raise ValueError(
            f"AdaptiveSoftmax: head_bias has shape {head_bias.shape} but head of shape {head.shape} takes ({n_head},)"
        )
    for i, (down, up) in enumerate(tails):
        if down.shape[0] != features or down.shape[1] != up.shape[0]:
            raise ValueError(
                f"AdaptiveSoftmax: tails[{i}] has shapes {down.shape} and {up.shape} but takes ({features}, e) and "
                "(e, n)"
            )


def class_bounds(function: str, cutoffs: Sequence[int], n_classes: int) -> tuple[int, ...]:
    """The cutoffs followed by the number of classes; raises an error if they are invalid."""
    as_integer(function, "n_classes", n_classes, COUNT)
    try:
        bounds = (*map(operator.index, cutoffs), operator.index(n_classes))
    except TypeError:
        raise TypeError(f"{function}: cutoffs is {cutoffs!r} but takes a sequence of integers") from None
    if any(low >= high for low, high in itertools.pairwise((0, *bounds))):
        raise ValueError(
            f"{function}: cutoffs is {tuple(cutoffs)} but takes integers that increase, above 0 and below n_classes "
            f"{n_classes}"
        )
    return bounds
