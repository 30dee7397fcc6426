"""How the tests compile.

A test runs most programs once, so programs are compiled without optimisation. With these flags XLA takes a sixth of the
time: 44 ms instead of 265 for the gradient of cross_entropy, with jaxlib 0.10. Where optimisation affects the result
(memory, extreme inputs), a test compiles with the options `OPTIMISED`, which are XLA's defaults.
"""

import os

import jax

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
# XLA aborts at an unknown flag. The versions below know these. Those from 0.12 on ignore the extra option, and take three
# times as long.
if not (0, 10) <= jax.__version_info__[:2] < (0, 13):
    UNOPTIMISED, OPTIMISED = {}, {}

# The options for programs that are optimised only in the full matrix. conftest.py sets them.
IF_FULL = {}


def set_flags():
    """Turns optimisation off in this process and its children. Call it before XLA starts."""
    flags = [f"--{name}={value}".lower() for name, value in UNOPTIMISED.items()]
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")])


def temporaries(function, *arguments):
    """The size in bytes of the temporaries of a compiled function."""
    compiled = jax.jit(function).lower(*arguments).compile(compiler_options=OPTIMISED)
    return compiled.memory_analysis().temp_size_in_bytes
