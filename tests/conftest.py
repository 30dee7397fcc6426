"""How every test runs.

On eight CPU devices, with compiled programs kept between runs, strictly promoted dtypes, and NaN as an error wherever a
test does not say, by the marker `nans`, that it expects some.
"""

import os
import pathlib

import hypothesis
import jax
import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(__file__).parent.parent / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")

hypothesis.settings.register_profile("jaxloss", deadline=None, max_examples=25, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("jaxloss")


@pytest.fixture(autouse=True)
def unexpected_nans(request):
    """An error of every NaN, but in a test that is marked by `nans`.

    The flag is no part of jit's cache key, so nothing is compiled twice; set globally it looks at the first call of a
    program alone.
    """
    with jax.debug_nans(request.node.get_closest_marker("nans") is None):
        yield
