"""`@loss`: from the formula of one sample to a library function.

The whole pipeline of `jaxloss.pipeline` runs under one `jit`; in front of it stands only the sorting of options
(`jaxloss.options`).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, cast

import jax
from jax import Array

from jaxloss._arrays import narrow_index
from jaxloss._decorator import call as pipeline
from jaxloss._decorator.binding import Binder
from jaxloss._decorator.declaration import Declaration
from jaxloss._decorator.notation import Pattern
from jaxloss.reductions import Rows

P = ParamSpec("P")
Kernel = Callable[P, Array | tuple[Array, Array | None] | Rows]


def loss(
    *notations: str,
    indices: Mapping[str, str] | None = None,
    domains: Mapping[str, str] | None = None,
    parameters: Mapping[str, str] | None = None,
    structures: Mapping[str, type] | None = None,
    static: Sequence[str] = (),
    split: str | None = None,
    by_rows: bool = False,
) -> Callable[[Kernel[P]], Callable[P, Array | Any]]:
    r"""Makes a library function of a kernel: of a loss written down for one sample.

    The function takes batches of any rank, NumPy arrays and Python scalars; it has the options `weights`, `where` and
    `reduction` (see `jaxloss.ReductionOptions`) and, for samples that are vectors, `axis`. It computes in float32 or
    wider, keeps masked samples out of value and gradient, and is compiled. Every loss of this library is made by it.

    A kernel sees one sample: its arrays have no batch axes, its loss is a scalar. It returns the loss, or the pair
    (loss, normaliser) where the normaliser, what the sample adds to the denominator of a mean, is not 1 (None is 1):

    $$\text{mean} = \frac{\sum_i w_i l_i}{\sum_i n_i}$$

    Which of the common options the function has, `**options: Unpack[...]` says: `jaxloss.ReductionOptions`,
    `jaxloss.AxisOptions`, or for a number of each sample that is no loss, without reductions, `jaxloss.SampleOptions`.

    Its keyword-only parameters are the options of the loss. One left at its default reaches the kernel as it is, so
    that a kernel can leave a term out; any other number comes as a traced scalar of the dtype of the computation, so
    that another number does not compile another program. A caller may give an array as well, with one value a sample.

    Args:
      notations: what one sample looks like in NumPy's gufunc notation, such as "(c),()->()". Where there are two, an
        integer array of `indices` selects the first, a floating one the second.
      indices: which argument holds indices into an axis, and their range, such as {"target": "[0, c)"}. Samples whose
        index equals the option `ignore_index`, if the kernel declares one, are masked.
      domains: the interval that an argument has to lie in, such as {"margin": "[0, inf)"}. Python numbers given for
        options are always checked, arrays under `jaxloss.data_checks`, for which a kernel may also make checks of its
        own by `jaxloss.require`.
      parameters: options that are arrays shared by all samples, with their axes, such as {"class_weights": "(c)"}.
      structures: arguments that are no arrays but pytrees of arrays, with their class, such as {"parameters":
        jaxloss.AdaptiveSoftmax}. An instance has the `shape` and the `dtype` of the array that it stands for, and a
        method `check()` that raises an error where its parts do not fit together.
      static: options that decide the structure of the program, compiled in as Python values.
      split: the axis of classes that may be split over devices. The kernel has the static options `axis_name` and
        `n_classes`, both None by default, and sees the columns of one device; `indices` range over those of all, and
        columns at or beyond `n_classes` reach the kernel as 0.
      by_rows: the kernel sees the whole batch, for losses that no `vmap` of one sample computes well: each array with
        all batch axes, also options that are numbers, with 0 in masked samples (1 in options, -1 in indices);
        `parameters`, which here may be arguments as well, as they are; floating arguments in the caller's
        dtype. It returns `jaxloss.reductions.Rows`.

    Returns:
      A decorator. What it makes of a kernel has the kernel's name, documentation and arguments. Arrays must be
      floating, but for one named `target`, and are named in the singular.

    Raises:
      ValueError: a notation or an interval that is none.
      TypeError: a kernel whose signature does not fit what is said of it.

    Reference:
      NumPy documentation, "Generalized universal function API" (the notation).

    Example:
      The deviance of Tweedie's distribution for 1 < power < 2, as insurers use it: per unit of exposure, so the
      exposure is the normaliser.

      >>> from typing import Unpack
      >>> import jax.numpy as jnp, jaxloss
      >>> @jaxloss.loss("(),(),()->()", domains={"target": "[0, inf)", "power": "(1, 2)"})
      ... def tweedie_loss(log_rate, target, exposure, *, power=1.5, **options: Unpack[jaxloss.ReductionOptions]):
      ...     expected = jnp.exp((2 - power) * log_rate) / (2 - power)
      ...     observed = target * jnp.exp((1 - power) * log_rate) / (1 - power)
      ...     return exposure * (expected - observed), exposure
      >>> log_rate, claims, years = jnp.array([0.0, 0.0, jnp.nan]), jnp.array([0, 2, 1]), jnp.array([1.0, 3.0, 1.0])
      >>> print(tweedie_loss(log_rate, claims, years, where=~jnp.isnan(log_rate)))
      5.0
    """
    if not _are_texts(notations):
        raise TypeError("loss: takes notations such as '(c),()->()' and makes a decorator; write @loss('(c),()->()')")
    for name, value in {"indices": indices, "domains": domains, "parameters": parameters}.items():
        _require_texts(name, value)
    if not isinstance(cast("Any", static), list | tuple) or not _are_texts(static):
        raise TypeError(f"loss: static takes a sequence of the names of options, got {static!r:.60}")
    if split is not None and not _are_texts([split]):
        raise TypeError(f"loss: split takes the name of an axis, got {split!r:.60}")
    patterns = tuple(map(Pattern.parse, notations))

    def decorate(kernel: Kernel[P]) -> Callable[P, Array | Any]:
        declaration = Declaration(
            kernel,
            patterns,
            indices=indices,
            domains=domains,
            parameters=parameters,
            structures=structures,
            static=static,
            split=split,
            by_rows=by_rows,
        )
        lifted = Lifted(declaration)

        @functools.wraps(kernel)
        def function(*args: P.args, **kwargs: P.kwargs) -> Array | Any:
            return lifted(args, kwargs)

        setattr(function, "__signature__", declaration.signature)  # noqa: B010 (no static attribute of a function)
        setattr(function, "__declaration__", declaration)  # noqa: B010
        function.__annotations__ = kernel.__annotations__ | {"return": Array | Any}
        return function

    return decorate


def declaration_of(function: Callable[..., Any]) -> Declaration:
    """What a function made by `loss` was declared to be."""
    return getattr(function, "__declaration__")  # noqa: B009


def _are_texts(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _require_texts(name: str, value: Any) -> None:
    if value is not None and not (isinstance(value, Mapping) and _are_texts(list(value.values()))):
        raise TypeError(f"loss: {name} takes a dict of texts such as {{'target': '[0, c)'}}, got {value!r:.60}")


class Lifted:
    """A declared kernel as a function of batches, compiled."""

    def __init__(self, declaration: Declaration):
        self._declaration = declaration
        self._binder = Binder(
            declaration.name,
            declaration.inputs,
            declaration.defaults,
            declaration.static,
            arrays=frozenset({"weights", "where", *declaration.parameters}),
            domains=declaration.domains,
        )

        def run(plan: tuple[tuple[str, Any], ...], arrays: tuple[Any, ...], traced: dict[str, Any]) -> Any:
            return pipeline.run(declaration, dict(plan), dict(zip(declaration.inputs, arrays, strict=True)) | traced)

        run.__name__ = run.__qualname__ = declaration.name  # what profiles and HLO call the program
        self._jitted = jax.jit(run, static_argnums=0)

    def __call__(self, arrays: tuple[Any, ...], options: dict[str, Any]) -> Any:
        inputs = self._declaration.inputs
        if len(arrays) != len(inputs):
            arrays, options = self._binder.arrays(arrays, options)
        if self._declaration.indices:
            arrays = tuple(map(narrow_index, arrays))
        plan, traced, reduction = self._binder.bind(options) if options else ((), options, None)
        try:
            result = self._jitted(plan, arrays, traced)
        except Exception:
            # jit turns away what is no array before any check of ours has seen it.
            pipeline.check_arrays(self._declaration, dict(zip(inputs, arrays, strict=True)) | traced)
            raise
        return result if reduction is None else reduction(*result)
