"""How every test runs.

On eight CPU devices, with compiled programs kept between runs, strictly promoted dtypes, and NaN as an error wherever a
test does not say, by the marker `nans`, that it expects some.
"""

import contextlib
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
# No part of jit's cache key. Set globally, jax 0.10 looks at eager operations and at each program's first call alone: a
# later call goes past the check, which only `with jax.debug_nans(True)` puts there too.
jax.config.update("jax_debug_nans", True)

hypothesis.settings.register_profile("jaxloss", deadline=None, max_examples=25, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("jaxloss")


@pytest.fixture(autouse=True)
def expected_nans(request):
    """No error of NaN in a test that is marked by `nans`."""
    with contextlib.ExitStack() as stack:
        if request.node.get_closest_marker("nans"):
            stack.enter_context(jax.debug_nans(False))
        yield
