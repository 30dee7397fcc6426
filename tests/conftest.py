"""How every test runs: on eight CPU devices, with compiled programs kept between runs, and strictly promoted dtypes."""

import os
import pathlib

import hypothesis
import jax

os.environ.setdefault("JAX_PLATFORMS", "cpu")
jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(__file__).parent.parent / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")

hypothesis.settings.register_profile("jaxloss", deadline=None, max_examples=25, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("jaxloss")
