"""The entry of a call: the only Python that runs on every call of a loss, before `jit`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxloss import _arrays
from jaxloss._decorator import call
from jaxloss._decorator.binding import Binder, Plan
from jaxloss._decorator.declaration import Declaration


class Lifted:
    """A declared kernel, lifted to a compiled function of batches."""

    def __init__(self, declaration: Declaration):
        self._declaration = declaration
        self._binder = Binder(declaration)

        def run(plan: Plan, arrays: tuple[Any, ...], traced: dict[str, Any]) -> Any:
            return call.run(declaration, dict(plan), dict(zip(declaration.inputs, arrays, strict=True)) | traced)

        run.__name__ = run.__qualname__ = declaration.name  # the name in profiles and HLO
        self._jitted = jax.jit(run, static_argnums=0)

    def __call__(self, arrays: tuple[Any, ...], options: dict[str, Any]) -> Any:
        declaration = self._declaration
        if len(arrays) != len(declaration.inputs):
            arrays, options = self._binder.by_position(arrays, options)
        plan, traced, reduction = self._binder.bind(options) if options else ((), options, None)
        given = (*arrays, *traced.values()) if traced else arrays
        if _arrays.any_misread(given if not declaration.structures else jax.tree.leaves(given)):
            plan, arrays, traced = self._narrowed(plan, arrays, traced)
        try:
            result = self._jitted(plan, arrays, traced)
        except Exception as error:
            # jit rejects a value that is not an array before our own checks run.
            values = dict(zip(declaration.inputs, arrays, strict=True)) | traced
            for name, value in values.items():
                call.require_array(declaration, name, value)
            if isinstance(error, TypeError) and "forward-mode" in str(error):
                takes = "is differentiated in forward mode (jax.jvp, jax.jacfwd) but takes reverse mode"
                message = f"{declaration.name}: {takes}; use jax.grad, and jax.jvp of jax.grad for second derivatives"
                raise TypeError(message) from error
            if not any(map(_arrays.is_variable, values.values())):
                raise
            arrays, traced = jax.tree.map(_arrays.unwrapped, (arrays, traced), is_leaf=_arrays.is_variable)
            result = self._jitted(plan, arrays, traced)
        return result if reduction is None else reduction(*result)

    def _narrowed(
        self, plan: Plan, arrays: tuple[Any, ...], traced: dict[str, Any]
    ) -> tuple[Plan, tuple[Any, ...], Any]:
        """Replaces NumPy's 64-bit integers, which JAX would wrap, by 32-bit numbers with the same meaning."""
        declaration, options = self._declaration, dict(plan)
        values = dict(zip(declaration.inputs, arrays, strict=True)) | traced
        for name, value in values.items():
            call.require_array(declaration, name, value)
        labels = [name for name in declaration.labels if name in values]
        if all(jnp.issubdtype(getattr(values[name], "dtype", bool), jnp.integer) for name in labels):
            try:
                values |= zip(labels, _arrays.narrow_labels([values[name] for name in labels]), strict=True)
            except jax.errors.TracerArrayConversionError:
                names = " and ".join(labels)
                raise TypeError(
                    f"{declaration.name}: {names} has 64-bit integers of NumPy beside a traced array but takes 32-bit "
                    "integers there; renumber them by np.unique(labels, return_inverse=True)[1]"
                ) from None
        ignore_index = options.get("ignore_index", declaration.own.get("ignore_index"))
        for name in declaration.indices.keys() & values:
            values[name], ignored = _arrays.narrow_index(values[name], ignore_index)
            if ignored != ignore_index:
                options["ignore_index"] = ignored
        values = {name: _arrays.narrow_number(value) for name, value in values.items()}
        arrays = tuple(values[name] for name in declaration.inputs)
        return tuple(sorted(options.items())), arrays, {name: values[name] for name in traced}
