"""How one program is compiled where that matters to a test; what all others are compiled like, conftest.py says."""

from tests.conftest import KNOWS_THE_FLAGS

OPTIMISED = {
    "xla_backend_optimization_level": 3,
    "xla_cpu_parallel_codegen_split_count": 32,
    "xla_cpu_use_fusion_emitters": True,
    "xla_llvm_disable_expensive_passes": False,
}
OPTIMISED = OPTIMISED if KNOWS_THE_FLAGS else {}
