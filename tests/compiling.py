"""How the tests compile.

A test runs most programs once, so programs are compiled without optimisation. With these flags XLA takes a sixth of the
time: 44 ms instead of 265 for the gradient of cross_entropy, with jaxlib 0.10. Where optimisation affects the result
(memory, extreme inputs), a test compiles with the options `OPTIMISED`, which are XLA's defaults.

On a GPU, programs are compiled as users compile them, except that kernels are not chosen by timing them. Many processes
share the GPU, and a test mostly waits for its compilation.
"""

import os

import jax

os.environ.setdefault("JAX_PLATFORMS", "cpu")
ON_CPU = os.environ["JAX_PLATFORMS"] == "cpu"

UNOPTIMISED = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_backend_extra_options": "xla_cpu_disable_new_fusion_emitters",
    "xla_llvm_disable_expensive_passes": True,
}
OPTIMISED = {
    "xla_backend_optimization_level": 3,
    "xla_cpu_parallel_codegen_split_count": 32,
    "xla_backend_extra_options": "",
    "xla_llvm_disable_expensive_passes": False,
}
if not ON_CPU:
    UNOPTIMISED, OPTIMISED = {"xla_gpu_autotune_level": 0}, {}
# XLA aborts at an unknown flag. The versions below know these. From 0.12 on, the extra option has no effect, and XLA
# takes three times as long.
if not (0, 10) <= jax.__version_info__[:2] < (0, 13):
    UNOPTIMISED, OPTIMISED = {}, {}


def set_flags():
    """Chooses the platform, and turns optimisation off, in this process and its children. Call it before XLA starts."""
    jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])  # JAX has read the variable when it was imported
    flags = [f"--{name}={value}".lower() for name, value in UNOPTIMISED.items()]
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")])


def temporaries(function, *arguments):
    """The size in bytes of the temporaries of a compiled function."""
    compiled = jax.jit(function).lower(*arguments).compile(compiler_options=OPTIMISED)
    return compiled.memory_analysis().temp_size_in_bytes


def as_on(platform):
    """What `lax.platform_dependent` does for a CPU or by default, in programs for any platform."""
    return lambda *arrays, **functions: functions.get(platform, functions["default"])(*arrays)
