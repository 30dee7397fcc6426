"""Runs Optax's own tests of its losses with jaxloss in Optax's place: `python -m tests.run_optax_tests FILES`.

The files are Optax's `_regression_test.py`, `_classification_test.py` and so on, from its source distribution. A test
of a loss that jaxloss lacks is skipped.
"""

import importlib
import importlib.util
import inspect
import io
import pathlib
import sys
import unittest

import numpy as np
import optax.losses

from tests.optax_adapters import ADAPTERS

INTENDED = {
    "DiceLossTest.test_probability_validation": "the probabilities of classes that overlap do not add up to 1",
}
"""Tests that fail because jaxloss differs on purpose, and why."""
ALIASES = {"convex_kl_divergence"}
"""Functions that only call another one by its name."""


def run(path):
    """Runs the tests of one file."""
    replace_losses()
    # The tests draw masks, some of which would leave an array without classes, an error in jaxloss.
    np.random.seed(0)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return unittest.TextTestRunner(stream=io.StringIO()).run(unittest.defaultTestLoader.loadTestsFromModule(module))


def replace_losses():
    """Puts each adapter in the place of Optax's function, in the module that defines it."""
    for name, function in inspect.getmembers(optax.losses, inspect.isfunction):
        if name not in ALIASES:
            module = importlib.import_module(inspect.unwrap(function).__module__)
            setattr(module, name, ADAPTERS.get(name, lacking(name)))


def lacking(name):
    def skip(*args, **kwargs):
        raise unittest.SkipTest(f"jaxloss lacks {name}")

    return skip


def identity(test):
    """The class and the name of a test, without its parameters."""
    return test.id().partition(".")[2].partition(" ")[0]


def main(paths):
    """Prints how many tests of each file pass, and which ones do not. Returns whether any of them fails by a fault."""
    faults = []
    for path in map(pathlib.Path, paths):
        result = run(path)
        failed = {identity(test): traceback for test, traceback in result.failures + result.errors}
        passed = result.testsRun - len(failed) - len(result.skipped)
        print(f"{path.name}: {passed} of {result.testsRun} tests pass")
        for test, reason in result.skipped:
            print(f"  {identity(test)}: skipped, {reason}")
        for test, traceback in failed.items():
            print(f"  {test}: {'differs on purpose, ' + INTENDED[test] if test in INTENDED else traceback}")
        faults += [test for test in failed if test not in INTENDED]
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
