"""The adaptive softmax: frequent classes need one small product, and rare ones cost another only where they occur."""

from __future__ import annotations

import dataclasses
import itertools
import math
import typing
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import max_dim, min_dim

from jaxloss._arrays import Vector, product_dtype
from jaxloss._errors import COUNT, as_floating, as_integer, as_number, require_key, require_samples
from jaxloss._large_output.cutoffs import tail_features
from jaxloss._large_output.matmul import Chain
from jaxloss._large_output.parameter_checks import check_parameters, class_bounds
from jaxloss._large_output.tiling import Tiling, Tilings
from jaxloss._pytree import pytree
from jaxloss._sharding import equally_varying


@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class AdaptiveSoftmax:
    r"""The parameters of an output layer whose classes are ordered by frequency and divided into a head and tails.

    The head scores the most frequent classes and each tail as a whole. A tail scores its classes from fewer features.

    $$\log p_y = \begin{cases} \log \operatorname{softmax}(h H + b)_y & \text{in the head} \\
    \log \operatorname{softmax}(h H + b)_{c_0 + i} + \log \operatorname{softmax}(h D_i U_i)_{y - c_i} &
    \text{in tail } i \end{cases}$$

    It is a pytree, so you can differentiate with respect to it and update it with Optax like any other parameters.

    Args:
      head: floating `(D, C0 + K)`: $H$, with one column for each of the C0 classes of the head and of the K tails.
      head_bias: floating `(C0 + K,)`: $b$, or None.
      tails: a pair `(down, up)` for each tail, floating `(D, Di)` and `(Di, Ni)`: $D_i$ and $U_i$, where Ni is the
        number of classes of the tail.

    Returns:
      A pytree with the properties `cutoffs` (where each tail begins), `n_classes` and `in_features`.

    Raises:
      ValueError, TypeError: when it is used, if shapes do not fit together or an array is not floating.

    Reference:
      Grave et al., Efficient softmax approximation for GPUs, ICML 2017.

    Example:
      >>> import jax, jax.numpy as jnp, jaxloss
      >>> softmax = jaxloss.AdaptiveSoftmax.init(jax.random.key(0), 8, 100, cutoffs=(10, 30), div_value=2.0)
      >>> print(softmax.head.shape, [(down.shape, up.shape) for down, up in softmax.tails])
      (8, 12) [((8, 4), (4, 20)), ((8, 2), (2, 70))]
      >>> hidden = jnp.ones((5, 8))
      >>> print(softmax.log_prob(hidden).shape, softmax.predict(hidden).shape)
      (5, 100) (5,)
    """

    head: Array
    head_bias: Array | None
    tails: tuple[tuple[Array, Array], ...]

    @staticmethod
    def init(
        key: Array,
        in_features: int,
        n_classes: int,
        *,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
    ) -> AdaptiveSoftmax:
        r"""Draws parameters from $U(-1/\sqrt{D}, 1/\sqrt{D})$, where D is the number of rows, as PyTorch does.

        Args:
          key: a key of `jax.random`.
          in_features: D, at least 1.
          n_classes: C, the number of classes, which are ordered from the most frequent to the rarest.
          cutoffs: the first class of each tail, increasing, in (0, C). `adaptive_softmax_cutoffs` chooses them.
          div_value: at least 1. Tail i has D / div_value^(i + 1) features, rounded down, but at least 1.
          head_bias: whether the head has a bias.

        Returns:
          An `AdaptiveSoftmax` in JAX's default floating dtype.

        Raises:
          ValueError: a number is out of its range, or the cutoffs are out of order.
          TypeError: a cutoff is not an integer, or `key` is not a random key.

        Reference:
          PyTorch documentation, `torch.nn.AdaptiveLogSoftmaxWithLoss`.

        Example:
          As the class.
        """
        require_key("AdaptiveSoftmax.init", key)
        bounds = class_bounds("AdaptiveSoftmax.init", cutoffs, n_classes)
        as_integer("AdaptiveSoftmax.init", "in_features", in_features, COUNT)
        as_number("AdaptiveSoftmax.init", "div_value", div_value, COUNT)
        if not isinstance(typing.cast("Any", head_bias), bool | np.bool_):
            got = type(head_bias).__name__
            raise TypeError(f"AdaptiveSoftmax.init: head_bias is of type {got} but takes True or False")
        keys = iter(jax.random.split(key, 2 * len(bounds)))

        def uniform(rows: int, *shape: int) -> Array:
            return jax.random.uniform(next(keys), shape, minval=-(rows**-0.5), maxval=rows**-0.5)

        n_head = bounds[0] + len(bounds) - 1
        head, bias = uniform(in_features, in_features, n_head), uniform(in_features, n_head)
        tails = []
        for i, (low, high) in enumerate(itertools.pairwise(bounds)):
            features = tail_features(in_features, div_value, i)
            down = uniform(in_features, in_features, features)
            tails.append((down, uniform(features, features, high - low)))
        return AdaptiveSoftmax(head, bias if head_bias else None, tuple(tails))

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """The first class of each tail."""
        return self._bounds[:-1]

    @property
    def n_classes(self) -> int:
        return self._bounds[-1]

    @property
    def in_features(self) -> int:
        return self.head.shape[-2]  # from the end, as the parameters of an ensemble are stacked along leading axes

    @property
    def shape(self) -> tuple[int, int]:
        """(in_features, n_classes), like the shape of the kernel of a full softmax."""
        return self.in_features, self.n_classes

    @property
    def dtype(self) -> Any:
        """The dtype of the products: the dtype of the arrays, or the wider one if they differ."""
        return product_dtype(jax.tree.leaves(self))

    def log_prob(self, hidden: Vector) -> Array:
        r"""The log-probability of every class.

        $$\log p_c = \log \operatorname{softmax}(h H)_c \text{ in the head, else }
        \log \operatorname{softmax}(h H)_k + \log \operatorname{softmax}(h D_k U_k)_{c - s_k}$$

        where column $k$ of the head $H$ represents the tail whose classes begin at $s_k$.

        Args:
          hidden: floating `(..., D)`.

        Returns:
          `(..., C)`, float32 or wider.

        Raises:
          ValueError: `hidden` has a different number of features.
          TypeError: `hidden` is not floating.

        Reference:
          As the class.

        Example:
          As the class.
        """
        return _log_prob(self, self._hidden("log_prob", hidden))

    def predict(self, hidden: Vector) -> Array:
        r"""The most probable class, computed without all log-probabilities in memory.

        $$\operatorname{arg\,max}_c \log p_c$$

        A tail is scored only for blocks of rows in which the tail as a whole is more probable than the best class so
        far. Pass rows as batch axes: under `jax.vmap`, every tail is scored for every row.

        Args:
          hidden: floating `(..., D)`.

        Returns:
          int32 `(...)`. Of equally probable classes, the first one of the head, or of the first such tail.

        Raises:
          ValueError: `hidden` has a different number of features.
          TypeError: `hidden` is not floating.

        Reference:
          As the class.

        Example:
          As the class.
        """
        hidden = self._hidden("predict", hidden)
        require_samples("AdaptiveSoftmax.predict", hidden.shape[:-1])
        rows = hidden.reshape(math.prod(hidden.shape[:-1]), hidden.shape[-1])
        return _predict(self, rows).reshape(hidden.shape[:-1])

    @property
    def _bounds(self) -> tuple[int, ...]:
        """The ends of the head and of each tail."""
        first = self.head.shape[-1] - len(self.tails)
        return tuple(itertools.accumulate((up.shape[-1] for _, up in self.tails), initial=first))

    def check(self) -> None:
        """Raises an error if the parts do not fit together. Every function of this class calls it first."""
        check_parameters(self.head, self.head_bias, self.tails)

    def _hidden(self, method: str, hidden: Any) -> Array:
        self.check()
        features = self.in_features
        hidden = as_floating(f"AdaptiveSoftmax.{method}", "hidden", hidden)
        if not hidden.ndim or hidden.shape[-1] != features:
            raise ValueError(
                f"AdaptiveSoftmax.{method}: hidden has shape {hidden.shape} but takes {features} features last"
            )
        return hidden


def _scores(hidden: Array, *kernels: Array) -> Array:
    """The product of a chain of matrices in the widest of their dtypes, summed in float32 or wider."""
    first = product_dtype([hidden, *kernels])

    def scores(tiling: Tiling, hidden: Array, kernels: tuple[Array, ...]) -> Array:
        chain = Chain.of(hidden, kernels, wide=tiling.wide)
        return chain.factors(hidden, chain.row_units)[-1]

    # As in the loss: on some platforms, only the first product is in half precision.
    return Tilings.of_tail(kernels[-1].shape[1]).per_platform(
        scores, hidden.astype(first), tuple(kernel.astype(first) for kernel in kernels)
    )


def _head_scores(parameters: AdaptiveSoftmax, hidden: Array) -> tuple[Array, list[Array]]:
    """The scores of the classes of the head, and the score of each tail."""
    scores = _scores(hidden, parameters.head)
    if parameters.head_bias is not None:
        scores += jnp.expand_dims(parameters.head_bias.astype(scores.dtype), range(scores.ndim - 1))
    n = scores.shape[-1] - len(parameters.tails)
    return scores[..., :n], [scores[..., n + i] for i in range(len(parameters.tails))]


@jax.jit
def _log_prob(parameters: AdaptiveSoftmax, hidden: Array) -> Array:
    classes, tails = _head_scores(parameters, hidden)
    normaliser = jax.nn.logsumexp(jnp.concatenate([classes, *(score[..., None] for score in tails)], -1), axis=-1)
    parts = [classes - normaliser[..., None]]
    for score, tail in zip(tails, parameters.tails, strict=True):
        parts.append(jax.nn.log_softmax(_scores(hidden, *tail)) + (score - normaliser)[..., None])
    return jnp.concatenate(parts, axis=-1)


@jax.jit
def _predict(parameters: AdaptiveSoftmax, hidden: Array) -> Array:
    widest = max(up.shape[1] for up in (parameters.head, *(up for _, up in parameters.tails)))
    return Tilings.of_tail(widest).per_platform(_predict_in_blocks, *equally_varying((parameters, hidden)))


def _predict_in_blocks(tiling: Tiling, parameters: AdaptiveSoftmax, hidden: Array) -> Array:
    def one_block(hidden: Array) -> Array:
        scores, tails = _head_scores(parameters, hidden)
        best, best_class = jnp.max(scores, axis=-1), jnp.argmax(scores, axis=-1).astype(jnp.int32)
        for first, score, tail in zip(parameters.cutoffs, tails, parameters.tails, strict=True):

            def score_tail(
                best: Array, best_class: Array, first: int = first, score: Array = score, tail: Any = tail
            ) -> Any:
                tail_scores = _scores(hidden, *tail)
                top = score + jnp.max(tail_scores, axis=-1) - jax.nn.logsumexp(tail_scores, axis=-1)
                classes = first + jnp.argmax(tail_scores, axis=-1).astype(jnp.int32)
                return jnp.maximum(best, top), jnp.where(top > best, classes, best_class)

            # No class of a tail is more probable than the tail.
            best, best_class = lax.cond(jnp.any(score > best), score_tail, lambda *same: same, best, best_class)
        return best_class

    n, features = hidden.shape
    size = min_dim(tiling.rows, max_dim(n, 1))
    count = -(-n // size)
    blocks = jnp.pad(hidden, ((0, count * size - n), (0, 0))).reshape(count, size, features)
    return lax.map(one_block, blocks).reshape(-1)[:n]
