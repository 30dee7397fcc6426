"""`@loss`: from the formula for one sample to a library function. `README.md` here follows one call step by step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypedDict, Unpack, cast, overload

from jax import Array

from jaxloss._class_axis import ClassAxis
from jaxloss._decorator.batching import BatchLoss
from jaxloss._decorator.declaration import Declaration
from jaxloss._decorator.entry import Lifted
from jaxloss._decorator.notation import Pattern

P = ParamSpec("P")
Returned = Array | tuple[Array, Array | None]
Loss = Callable[P, Array | Any]


class Declared(TypedDict, total=False):
    """What `loss` and `batch_loss` are told of a kernel, beside its notation and `split`."""

    indices: Mapping[str, str] | None
    domains: Mapping[str, str] | None
    parameters: Mapping[str, str] | None
    labels: Sequence[str] | None
    static: Sequence[str]


class SampleDeclared(Declared, total=False):
    per_sample: Mapping[str, str] | None
    lengths: Mapping[str, str] | None


class BatchDeclared(Declared, total=False):
    structures: Mapping[str, type] | None


@overload
def loss(
    *notations: str, split: None = None, **declared: Unpack[SampleDeclared]
) -> Callable[[Callable[P, Returned]], Loss[P]]: ...


@overload
def loss(
    *notations: str, split: str, **declared: Unpack[SampleDeclared]
) -> Callable[[Callable[Concatenate[ClassAxis, P], Returned]], Loss[P]]: ...


def loss(
    *notations: str,
    indices: Mapping[str, str] | None = None,
    domains: Mapping[str, str] | None = None,
    parameters: Mapping[str, str] | None = None,
    per_sample: Mapping[str, str] | None = None,
    lengths: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    static: Sequence[str] = (),
    split: str | None = None,
) -> Any:
    r"""Makes a library function from a kernel, which is the formula of a loss for one sample.

    The function takes batches of any rank, NumPy arrays and Python scalars. It has the options `weights`, `where` and
    `reduction` (see `jaxloss.ReductionOptions`) and, for samples that are vectors, `axis`. It computes in float32 or
    wider, keeps masked samples out of value and gradient, and is compiled. Every loss of this library is made this way.

    A kernel sees one sample: its arrays have no batch axes, and its loss is a scalar. It returns the loss. If the
    normaliser, which the sample adds to the denominator of a mean, is not 1, it returns the pair (loss, normaliser):

    $$\text{mean} = \frac{\sum_i w_i l_i}{\sum_i n_i}$$

    The notation says what a sample is:

    | notation | a sample is | `weights`, `where`, `reduction="none"` |
    | --- | --- | --- |
    | `"(c),()->()"` | a row of class scores with its target | one per row |
    | `"(k),(k)->()"` | a list, or the pixels of an image | one per list |
    | `"(n,d),(n)->(n)"` | a set of items, each with its own loss | one per item: batch axes, then n |
    | `"(4),(4)->()"` | a box with its target: axes of known length | one per box |
    | `"(t,s+1),(s)->()"` | a sequence, with an axis that is longer by 1 than another | one per sequence |

    - A loss of vectors, where no array has two core axes, takes `axis=`: an integer, or a tuple of axes to flatten.
    - A kernel may declare the keyword `valid`, a boolean vector that says which entries of the first core axis of its
      first array exist. The kernel always receives booleans, whether or not the caller gives them. Missing entries are
      0 in every array. The loss is NaN for a sample with a class index that is not valid.
    - In a loss of a set, an item masked by `where` is neither anchor nor candidate. The kernel declares the keyword
      `where`, which says which items are unmasked, and `**options: Unpack[jaxloss.SetOptions]`. Masked items are 0.
      `weights` multiply each item's own loss.

    `**options: Unpack[...]` declares the common options: `jaxloss.ReductionOptions`, `jaxloss.AxisOptions` or
    `jaxloss.SetOptions`. A function of a sample that is not a loss has no reductions; it takes `jaxloss.SampleOptions`
    or `jaxloss.MaskOptions`.

    The other keyword-only parameters of a kernel are the options of the loss. An option left at its default reaches the
    kernel unchanged, so that the kernel can leave out a term. Any other number reaches it as a traced scalar in the
    dtype of the computation, so that changing the number does not recompile. A caller may also give an array with one
    value per sample.

    Args:
      notations: the shape of one sample in NumPy's gufunc notation, such as "(c),()->()". If there are two, integer
        indices select the first and a floating array in their place selects the second.
      indices: the arguments that hold indices into an axis, with their range, such as {"target": "[0, c)"}. If the
        kernel declares the option `ignore_index`, samples with that index are masked.
      domains: the interval in which an argument must lie, such as {"margin": "[0, inf)"}. Options given as Python
        numbers are always checked. Arrays are checked under `jaxloss.data_checks`, where a kernel can add checks of its
        own with `jaxloss.require`.
      parameters: options that are arrays shared by all samples, with their axes, such as {"class_weights": "(c)"}.
      per_sample: options that are arrays with axes of a sample, such as {"item_weights": "(k)"}.
      lengths: options that say how many entries of an axis exist, such as {"target_lengths": "s"}: integers, one per
        sample or one for all; None means all entries. Entries beyond the length are 0 in every array, as are those of
        an axis "s+1" beyond the length plus 1. The axis may be empty.
      labels: arguments that are integers of any dtype, compared with each other and never used as indices. They reach
        the kernel as integers. Narrowing NumPy's 64-bit labels keeps equal labels equal and different ones different.
        None means the array named `labels`, in a loss of a set that has one.
      static: options that determine the structure of the program, compiled in as Python values.
      split: the class axis, which may be split over devices. The kernel has the static options `axis_name` and
        `n_classes`, both None by default, and takes one more argument in front: the class axis of the call. Its methods
        are `exists()` (which columns are possible classes; None if all are), `share(values, index)` (what this device
        adds to `values[index]`), and `maximum` and `sums` over the devices. `indices` range over the columns of all
        devices. Columns from `n_classes` on reach the kernel as 0.

    Returns:
      A decorator. The function it returns has the kernel's name, documentation and arguments. Arrays must be floating,
      except labels, indices and an array named `target`. A first array with exactly the name `prediction`, `logits`,
      `log_probabilities`, `hidden`, `features`, `scores`, `probabilities` or `boxes`, or with several core axes (a set
      of vectors), has the full size on every batch axis. Other arrays broadcast.

    Raises:
      ValueError: a notation or an interval is invalid.
      TypeError: the signature of the kernel does not fit the declaration.

    Reference:
      NumPy documentation, "Generalized universal function API" (the notation).

    Example:
      The deviance of Tweedie's distribution for 1 < power < 2, as used in insurance. It is per unit of exposure, so the
      exposure is the normaliser.

      >>> from typing import Unpack
      >>> import jax, jax.numpy as jnp, jaxloss
      >>> @jaxloss.loss("(),(),()->()", domains={"target": "[0, inf)", "power": "(1, 2)"})
      ... def tweedie_loss(log_rate, target, exposure, *, power=1.5, **options: Unpack[jaxloss.ReductionOptions]):
      ...     expected = jnp.exp((2 - power) * log_rate) / (2 - power)
      ...     observed = target * jnp.exp((1 - power) * log_rate) / (1 - power)
      ...     return exposure * (expected - observed), exposure
      >>> log_rate, claims, years = jnp.array([0.0, 0.0, jnp.nan]), jnp.array([0, 2, 1]), jnp.array([1.0, 3.0, 1.0])
      >>> print(tweedie_loss(log_rate, claims, years, where=~jnp.isnan(log_rate)))
      5.0

      A list of items, some of them padding, and pixels on two axes:

      >>> @jaxloss.loss("(k),(k)->()")
      ... def listwise_loss(scores, target, *, valid=None, **options: Unpack[jaxloss.AxisOptions]):
      ...     return -jnp.sum(target * jax.nn.log_softmax(scores, where=valid), where=valid)
      >>> scores, relevance = jnp.array([[2.0, 1.0, jnp.nan]]), jnp.array([[1, 0, 0]])
      >>> print(f"{listwise_loss(scores, relevance, valid=~jnp.isnan(scores)):.4f}")
      0.3133
      >>> print(f"{listwise_loss(jnp.zeros((1, 2, 2)), jnp.ones((1, 2, 2)), axis=(-2, -1)):.4f}")
      5.5452

      A set: the squared distance of each item from the mean of the items with its label.

      >>> @jaxloss.loss("(n,d),(n)->(n)")
      ... def scatter_loss(embeddings, labels, *, where=None, **options: Unpack[jaxloss.SetOptions]):
      ...     same = ((labels[:, None] == labels[None]) & where[None]).astype(embeddings.dtype)
      ...     centre = same @ embeddings / jnp.maximum(jnp.sum(same, axis=1, keepdims=True), 1)
      ...     return jnp.sum((embeddings - centre) ** 2, axis=1)
      >>> embeddings, labels = jnp.array([[0.0], [2.0], [5.0], [jnp.nan]]), jnp.array([7, 7, -1, 7])
      >>> print(scatter_loss(embeddings, labels, where=jnp.array([True, True, True, False]), reduction="none"))
      [1. 1. 0. 0.]

      A box, which has four numbers:

      >>> @jaxloss.loss("(4),(4)->()")
      ... def corner_loss(boxes, target, **options: Unpack[jaxloss.ReductionOptions]):
      ...     return jnp.max(jnp.abs(boxes - target))
      >>> print(corner_loss(jnp.zeros((3, 4)), jnp.array([0.0, 0.0, 2.0, 1.0])))
      2.0
    """
    return _decorator(
        notations,
        indices=indices,
        domains=domains,
        parameters=parameters,
        per_sample=per_sample,
        lengths=lengths,
        labels=labels,
        static=static,
        split=split,
    )


@overload
def batch_loss(
    *notations: str, split: None = None, **declared: Unpack[BatchDeclared]
) -> Callable[[Callable[P, BatchLoss]], Loss[P]]: ...


@overload
def batch_loss(
    *notations: str, split: str, **declared: Unpack[BatchDeclared]
) -> Callable[[Callable[Concatenate[ClassAxis, P], BatchLoss]], Loss[P]]: ...


def batch_loss(*notations: str, split: str | None = None, **declared: Unpack[BatchDeclared]) -> Any:
    """`loss` for a kernel that sees the whole batch and returns a `BatchLoss`.

    Its arrays keep all batch axes, and numeric options have them too. Masked samples are 0 (1 in options, -1 in class
    indices). `parameters`, which may be arguments here, are passed unchanged. Floating arguments keep the dtype that
    the caller gave them. `where` and `valid` are None if nothing is masked or missing. `structures` are arguments that
    are pytrees: see `Declaration`.
    """
    return _decorator(notations, split=split, sees_batch=True, **declared)


EXAMPLES = {
    "indices": "{'target': '[0, c)'}",
    "domains": "{'margin': '[0, inf)'}",
    "parameters": "{'class_weights': '(c)'}",
    "per_sample": "{'item_weights': '(k)'}",
    "lengths": "{'target_lengths': 's'}",
}
"""What errors show of the declarations that `loss` takes."""


def _decorator(
    notations: Sequence[str],
    *,
    split: str | None,
    indices: Mapping[str, str] | None = None,
    domains: Mapping[str, str] | None = None,
    parameters: Mapping[str, str] | None = None,
    static: Sequence[str] = (),
    per_sample: Mapping[str, str] | None = None,
    lengths: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    structures: Mapping[str, type] | None = None,
    sees_batch: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What `loss` and `batch_loss` return; raises a TypeError for an argument of the wrong type."""
    if not _are_texts(notations):
        raise TypeError("loss: takes notations such as '(c),()->()' and makes a decorator; write @loss('(c),()->()')")
    texts: dict[str, Any] = {"indices": indices, "domains": domains, "parameters": parameters}
    texts |= {"per_sample": per_sample, "lengths": lengths}
    for name, value in texts.items():
        if value is not None and not (isinstance(value, Mapping) and _are_texts(list(value.values()))):
            takes = f"a dict of texts such as {EXAMPLES[name]}"
            raise TypeError(f"loss: {name} is {value!r:.60} but takes {takes}")
    for name, value in {"static": static, "labels": labels}.items():
        if value is not None and (not isinstance(cast("Any", value), list | tuple) or not _are_texts(value)):
            raise TypeError(f"loss: {name} is {value!r:.60} but takes a sequence of the names of arguments")
    if split is not None and not _are_texts([split]):
        raise TypeError(f"loss: split is {split!r:.60} but takes the name of an axis")

    patterns = tuple(map(Pattern.parse, notations))

    def decorate(kernel: Callable[..., Any]) -> Callable[..., Any]:
        declaration = Declaration(
            kernel,
            patterns,
            indices=indices or {},
            domains=domains or {},
            parameters=parameters or {},
            per_sample=per_sample or {},
            lengths=lengths or {},
            labels=labels,
            static=static or (),
            split=split,
            structures=structures or {},
            sees_batch=sees_batch,
        )
        lifted = Lifted(declaration)

        @functools.wraps(kernel)
        def function(*args: Any, **kwargs: Any) -> Any:
            return lifted(args, kwargs)

        function.__annotations__ = declaration.annotations
        for attribute, value in (("__signature__", declaration.signature), ("__declaration__", declaration)):
            setattr(function, attribute, value)
        return function

    return decorate


def _are_texts(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def declaration_of(function: Callable[..., Any]) -> Declaration:
    """The declaration of a function made by `loss`."""
    return getattr(function, "__declaration__")  # noqa: B009 (not an attribute that a static type of a function has)
