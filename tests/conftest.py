"""How every test runs.

Tests run on eight CPU devices and with strict promotion of dtypes and ranks. NaN is an error except in tests with the
marker `nans`. With `JAX_PLATFORMS=cuda,cpu`, tests run on one GPU, except those with the marker `cpu`.

The default run has every test in its cheapest convincing form: the first sets of options, a few examples, and of many
cases that are alike a sample (see `is_like_another`). With `-k`, or the name of a file or a test, it has all cases.
What is computed on other platforms is traced only for the fixture `each_platform` and the marker `every_platform`.
`--full` runs everything. It also compiles the programs with extreme inputs and with masks as users do. `--rest` runs
the tests that `--full` adds, or that have more options or examples with it, but not those that would only trace more
platforms. `--rest --part K/N` runs one of N parts of it.
"""

import collections
import gc
import os
import random
import re
import zlib

import hypothesis
import jax
import pytest

from tests.compiling import ON_CPU, OPTIMISED, as_on, set_flags

set_flags()
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# A GPU multiplies float32 in TF32 by default, with 10 bits. The references have 24, or 53.
jax.config.update("jax_default_matmul_precision", None if ON_CPU else "highest")

# A busy machine is slow, which is not the fault of a test, so there are no deadlines and no health checks of the time.
PATIENT = {
    "deadline": None,
    "suppress_health_check": (hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large),
}


PEERS = {"torch", "keras", "pyright"}  # fixtures
MANY = 4  # cases of a test
OWN, EVERY = os.environ["JAX_PLATFORMS"].partition(",")[0], "every platform"


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="all options, dtypes and examples, compiled with optimisation")
    parser.addoption("--rest", action="store_true", help="what --full adds: after a default run, nothing runs twice")
    parser.addoption("--part", type=part, default=(0, 1), metavar="K/N", help="the Kth of N parts of the tests, 1 to N")


def part(text):
    if not re.fullmatch(r"[0-9]+/[0-9]+", text) or not 1 <= int(text.partition("/")[0]) <= int(text.partition("/")[2]):
        raise pytest.UsageError(f"--part is {text!r} but takes K/N, with 1 <= K <= N")
    k, n = map(int, text.split("/"))
    return k - 1, n


def pytest_configure(config):
    config.addinivalue_line("markers", "full: a test of the full matrix, which runs with --full alone")
    config.addinivalue_line("markers", "like_another: a case of a test that the default run has for others like it")
    full = is_full(config)
    hypothesis.settings.register_profile(
        "jaxloss", max_examples=30 if full else 8, print_blob=True, derandomize=True, **PATIENT
    )
    hypothesis.settings.load_profile("jaxloss")
    # The collector would traverse the many objects of traced programs again and again, an eighth of the time.
    gc.set_threshold(200_000, 20, 20)


def pytest_collection_modifyitems(config, items):
    """Leaves out tests by their marks, and groups those of a platform and of a row, because they share programs."""
    full, rest = is_full(config), config.getoption("--rest")
    n_cases, seen = collections.Counter(map(name_of, items)), set()
    for item in items:
        if name_of(item) in seen and is_like_another(item, n_cases[name_of(item)]):
            item.add_marker("like_another")
        seen.add(name_of(item))
    chosen = config.getoption("keyword") or any(".py" in argument for argument in config.args)
    marks = [*([] if full else ["full"]), *([] if full or chosen else ["like_another"]), *([] if ON_CPU else ["cpu"])]
    left_out = {item for item in items if any(map(item.get_closest_marker, marks)) or (rest and not adds(item))}
    for item in items:
        if not PEERS.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("peer")
    k, n = config.getoption("part")
    left_out |= {item for item in items if zlib.crc32(item.nodeid.encode()) % n != k}
    config.hook.pytest_deselected(items=[*left_out])
    items[:] = [item for item in items if item not in left_out]
    groups = {}
    for item in items:
        groups.setdefault((platform_of(item), id(row_of(item) or item)), []).append(item)
    items[:] = [item for key in sorted(groups, key=lambda key: key[0]) for item in groups[key]]


def name_of(item):
    """The name of a test without that of its case."""
    return item.nodeid.partition("[")[0]


def is_like_another(item, n_cases):
    """Whether the default run leaves out this case, by lot, because it has enough others of the same test.

    A test of the registry has a sixth of the losses with all kinds of declarations together (see `tests/registry.py`)
    and a twelfth of the others. Other tests with many cases have a third of them. With the marker `every_case` they
    have them all.
    """
    from tests.registry import OF_EACH_KIND
    from tests.row import Row

    row = row_of(item)
    if item.get_closest_marker("every_case"):
        one_of = 1
    elif isinstance(row, Row):
        one_of = 6 if row in OF_EACH_KIND else 12
    else:
        one_of = 3 if n_cases > MANY else 1
    return random.Random(item.nodeid).randrange(one_of) != 0  # not the number that decides of `--part`


def row_of(item):
    """The row of a registry that the test is for, if any."""
    from tests.row import Row, SetRow

    row = item.callspec.params.get("row") if hasattr(item, "callspec") else None
    return row if isinstance(row, Row | SetRow) else None


def platform_of(item):
    """The platform whose computations the test traces. To trace those of all takes twice as long."""
    given = item.callspec.params if hasattr(item, "callspec") else {}
    is_of_every = is_full(item.config) or item.get_closest_marker("every_platform")
    return given.get("each_platform", EVERY if is_of_every else OWN)


def is_full(config):
    return config.getoption("--full") or config.getoption("--rest")


def adds(item):
    """Whether the test runs, or does more, in the full matrix alone."""
    marks, fixtures = ("full", "like_another"), getattr(item, "fixturenames", ())
    has_examples = hasattr(getattr(item, "obj", None), "hypothesis")
    return has_examples or "full" in fixtures or any(map(item.get_closest_marker, marks))


@pytest.fixture(scope="session")
def torch():
    """PyTorch; its tests are skipped without it."""
    return pytest.importorskip("torch")


@pytest.fixture(scope="session")
def keras():
    """Keras on JAX; its tests are skipped without it."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    return pytest.importorskip("keras")


@pytest.fixture(scope="session")
def pyright():
    """The type checker; its tests are skipped without it."""
    return pytest.importorskip("pyright")


@pytest.fixture(scope="session")
def full(request):
    """Whether the full matrix runs."""
    return is_full(request.config)


@pytest.fixture(scope="session")
def if_full(full):
    """The options for programs that are optimised only in the full matrix."""
    return dict(OPTIMISED) if full else {}


@pytest.fixture(params=["cpu", "default"])
def each_platform(request):
    """Runs the test with what is computed on a CPU, and with what is computed elsewhere."""
    return request.param


_traced_before = [EVERY]


@pytest.fixture(autouse=True)
def traced_platform(request, monkeypatch):
    """Traces what is computed on one platform, unless the test is of all of them."""
    platform = platform_of(request.node)
    if platform != _traced_before[0]:
        jax.clear_caches()  # programs of another platform
        _traced_before[0] = platform
    if platform != EVERY:
        monkeypatch.setattr(jax.lax, "platform_dependent", as_on(platform))


@pytest.fixture(autouse=True)
def unexpected_nans(request):
    """Makes every NaN an error, except in a test marked `nans`.

    The flag is not part of jit's cache key, so nothing is compiled twice. If it were set globally, only the first call
    of each program would be checked.
    """
    with jax.debug_nans(request.node.get_closest_marker("nans") is None):
        yield
