"""How the tests compile.

What a test compiles, it runs once, so that all is compiled without optimisation. With these flags XLA takes a sixth of
the time: 44 ms instead of 265 for the gradient of cross_entropy, with jaxlib 0.10. Where optimisation matters to what a
test shows (memory, extreme inputs), it compiles its program with the options `OPTIMISED`, which are XLA's defaults.
"""

import os

import jax

UNOPTIMISED = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_cpu_use_fusion_emitters": False,
    "xla_llvm_disable_expensive_passes": True,
}
OPTIMISED = {
    "xla_backend_optimization_level": 3,
    "xla_cpu_parallel_codegen_split_count": 32,
    "xla_cpu_use_fusion_emitters": True,
    "xla_llvm_disable_expensive_passes": False,
}
# XLA aborts at a flag that it does not know; these are known to the versions below.
if not (0, 10) <= jax.__version_info__[:2] < (0, 13):
    UNOPTIMISED, OPTIMISED = {}, {}

# The options for programs that are optimised in the full matrix, and only there. conftest.py fills them in.
IF_FULL = {}


def set_flags():
    """Before XLA starts: no optimisation, in this process and those that it starts."""
    flags = [f"--{name}={value}".lower() for name, value in UNOPTIMISED.items()]
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")])


def temporaries(function, *arguments):
    """The bytes of a compiled function's temporaries."""
    compiled = jax.jit(function).lower(*arguments).compile(compiler_options=OPTIMISED)
    return compiled.memory_analysis().temp_size_in_bytes
