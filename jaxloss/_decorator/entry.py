"""The entry of a call: the only Python that runs on every call of a loss, before `jit`."""

from __future__ import annotations

from typing import Any

import jax

from jaxloss import _arrays
from jaxloss._decorator import call
from jaxloss._decorator.binding import Binder
from jaxloss._decorator.declaration import Declaration


class Lifted:
    """A declared kernel, lifted to a compiled function of batches."""

    def __init__(self, declaration: Declaration):
        self._declaration = declaration
        self._binder = Binder(declaration)

        def run(plan: tuple[tuple[str, Any], ...], arrays: tuple[Any, ...], traced: dict[str, Any]) -> Any:
            return call.run(declaration, dict(plan), dict(zip(declaration.inputs, arrays, strict=True)) | traced)

        run.__name__ = run.__qualname__ = declaration.name  # the name in profiles and HLO
        self._jitted = jax.jit(run, static_argnums=0)

    def __call__(self, arrays: tuple[Any, ...], options: dict[str, Any]) -> Any:
        declaration = self._declaration
        if len(arrays) != len(declaration.inputs):
            arrays, options = self._binder.arrays(arrays, options)
        if (declaration.indices or declaration.labels) and any(map(_arrays.is_wide, arrays)):
            arrays, options = self._narrowed(arrays, options)
        plan, traced, reduction = self._binder.bind(options) if options else ((), options, None)
        try:
            result = self._jitted(plan, arrays, traced)
        except Exception:
            # jit rejects a value that is not an array before our own checks run.
            values = dict(zip(declaration.inputs, arrays, strict=True)) | traced
            for name, value in values.items():
                call.require_array(declaration, name, value)
            if not any(map(_arrays.is_variable, values.values())):
                raise
            arrays, traced = jax.tree.map(_arrays.unwrapped, (arrays, traced), is_leaf=_arrays.is_variable)
            result = self._jitted(plan, arrays, traced)
        return result if reduction is None else reduction(*result)

    def _narrowed(self, arrays: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Replaces NumPy's 64-bit integers, which JAX would wrap, by 32-bit integers with the same meaning."""
        declaration, values = self._declaration, dict(zip(self._declaration.inputs, arrays, strict=True))
        ignored = options.get("ignore_index", declaration.own.get("ignore_index"))
        for name in declaration.indices:
            values[name] = _arrays.narrow_index(values[name], ignored)
        if isinstance(ignored, int) and not _arrays.is_int32(ignored):
            options = options | {"ignore_index": _arrays.IGNORED}
        try:
            narrow = _arrays.narrow_labels([values[name] for name in declaration.labels])
        except jax.errors.TracerArrayConversionError:
            names = " and ".join(declaration.labels)
            raise TypeError(
                f"{declaration.name}: {names} has 64-bit integers of NumPy beside a traced array but takes labels of 32"
                " bits there; number them anew by np.unique(labels, return_inverse=True)[1]"
            ) from None
        return tuple((values | dict(zip(declaration.labels, narrow, strict=True))).values()), options
