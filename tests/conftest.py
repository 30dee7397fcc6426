"""How every test runs.

On eight CPU devices, with strictly promoted dtypes, and with NaN as an error wherever a test does not say, by the
marker `nans`, that it expects some. The default run has every test in its cheapest convincing form: for the first sets
of options, with a few examples. `--full` runs all of them, and compiles the programs whose numbers matter most, of
extreme inputs and of masks, as users do.
"""

import gc
import os

import hypothesis
import jax
import pytest

from tests.compiling import IF_FULL, OPTIMISED, set_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")

set_flags()

# Beside other work a machine is slow, which is no fault of a test: neither deadlines nor checks of the time it takes.
PATIENT = {
    "deadline": None,
    "suppress_health_check": (hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large),
}


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="all options, dtypes and examples, compiled with optimisation")


def pytest_configure(config):
    config.addinivalue_line("markers", "full: a test of the full matrix, which runs with --full alone")
    full = config.getoption("--full")
    IF_FULL.update(OPTIMISED if full else {})
    hypothesis.settings.register_profile(
        "jaxloss", max_examples=30 if full else 8, print_blob=True, derandomize=True, **PATIENT
    )
    hypothesis.settings.load_profile("jaxloss")
    # The collector would walk the many objects of a traced program again and again: an eighth of the time.
    gc.set_threshold(200_000, 20, 20)


def pytest_collection_modifyitems(config, items):
    """Leaves out what is marked `full`; brings all tests of a row together, as they share compiled programs."""
    if not config.getoption("--full"):
        left_out = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    rows = {}
    for item in items:
        row = item.callspec.params.get("row") if hasattr(item, "callspec") else None
        rows.setdefault(id(row) if hasattr(row, "draw") else id(item), []).append(item)
    items[:] = [item for of_row in rows.values() for item in of_row]


@pytest.fixture(scope="session")
def full(request):
    """Whether all of the matrix runs."""
    return request.config.getoption("--full")


@pytest.fixture(autouse=True)
def unexpected_nans(request):
    """Makes every NaN an error, except in a test that is marked by `nans`.

    The flag is not part of jit's cache key, so nothing is compiled twice. If it were set globally, only the first call
    of each program would be looked at.
    """
    with jax.debug_nans(request.node.get_closest_marker("nans") is None):
        yield
