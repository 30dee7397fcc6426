"""Devices that XLA compiles for without having them, and an estimate of the time that a compiled program takes there.

The estimate is a roofline over the compiled program: each kernel takes the longer of its arithmetic and its memory
traffic, and a launch. It knows no caches and no overlap, so it compares programs and does not predict times.
"""

import contextlib
import dataclasses
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, SingleDeviceSharding

from benchmarks.programs import Kernel, Loop, Part, Program

H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 84978434048 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 minor: 0 feature_extension: ACCELERATED_FEATURES }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 patch: 0 } device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""What XLA:GPU asks a device about itself."""

# What libtpu reads from the machine that holds the TPUs, and jax from that with the GPU.
INSTEAD_OF_A_DEVICE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several processes may compile, because none of them uses a TPU
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
}


@dataclasses.dataclass(frozen=True)
class Device:
    """A device, and what large matrix products and copies reach on it.

    Args:
      name: what `--for` calls it.
      compiler: the module that has its compiler.
      extra: the extra of this package that installs it.
      topology: the name of a small topology of such devices.
      mesh: that of eight of them; "" for a device that has none.
      half: operations per second of products of 16-bit numbers.
      single: those of products of float32, which are in TF32 on a GPU.
      bandwidth: bytes per second of its memory.
      launch: seconds between two kernels.
    """

    name: str
    compiler: str
    extra: str
    topology: str
    mesh: str
    half: float
    single: float
    bandwidth: float
    launch: float

    @property
    def has_compiler(self) -> bool:
        """Whether its compiler is installed."""
        package, _, _ = self.compiler.partition(".")
        return importlib.util.find_spec(package) is not None and importlib.util.find_spec(self.compiler) is not None

    def seconds(self, parts: Sequence[Part]) -> float:
        """The time that the kernels take one after the other."""
        return sum(self._seconds(part) for part in parts if isinstance(part, Kernel))

    def _seconds(self, kernel: Kernel) -> float:
        computing = kernel.flops / (self.half if kernel.half else self.single)
        return kernel.runs * (max(computing, kernel.moved / self.bandwidth) + self.launch)


_TPU = ("libtpu", "compiled-tpu")
_GPU = ("jax_plugins.xla_cuda12", "compiled-h100", "1x1x1", "")
DEVICES: Mapping[str, Device] = {
    device.name: device
    for device in (
        Device("h100", *_GPU, half=650e12, single=300e12, bandwidth=2.9e12, launch=4e-6),
        Device("tpu-v5e", *_TPU, "v5e:2x2", "v5e:2x4", half=180e12, single=60e12, bandwidth=750e9, launch=1e-7),
        Device("tpu-v6e", *_TPU, "v6e:2x2", "v6e:2x4", half=470e12, single=250e12, bandwidth=1450e9, launch=1e-7),
    )
}


def with_compiler(names: Sequence[str]) -> list[Device]:
    """These devices; without names, all whose compiler is installed. Raises a ValueError if a compiler is missing."""
    found = [DEVICES[name] for name in names or DEVICES if names or DEVICES[name].has_compiler]
    lacking = {device.extra: device.name for device in found or DEVICES.values() if not device.has_compiler}
    if lacking:
        commands = " or ".join(f"pip install -e '.[{extra}]'" for extra in lacking)
        raise ValueError(f"the compiler for {', '.join(lacking.values())} is not installed: {commands}")
    return found


def _topology(device: Device, name: str) -> Any:
    """The devices of a topology. Nothing runs on them; programs that have a device run on the CPU."""
    jax.config.update("jax_platforms", "cpu")
    for variable, value in INSTEAD_OF_A_DEVICE.items():
        os.environ.setdefault(variable, value)
    if device.extra == "compiled-tpu":
        return topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    return topologies.get_topology_desc(
        platform="cuda", topology_name=device.name, topology=name, target_config=H100
    ).devices


def mesh_of(device: Device, lengths: tuple[int, ...], names: tuple[str, ...]) -> Mesh:
    """A mesh of eight devices."""
    return Mesh(np.asarray(_topology(device, device.mesh)).reshape(lengths), names)


def compiled_for(
    device: Device, function: Callable[..., Any], arguments: tuple[Any, ...], mesh: Mesh | None = None
) -> jax.stages.Compiled:
    """The function, compiled for one device, or for a mesh on which the arguments have shardings."""
    single = None if mesh else SingleDeviceSharding(_topology(device, device.topology)[0])

    def placed(array: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=single or array.sharding)

    with jax.set_mesh(mesh) if mesh else contextlib.nullcontext():
        return jax.jit(function).lower(*jax.tree.map(placed, arguments)).compile()


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What one device of a compiled program does.

    Args:
      seconds: the estimated time.
      flops: floating-point operations of matrix products.
      moved: bytes that kernels read from and write to memory.
      sent: bytes that collectives exchange with other devices.
      temporaries: bytes that the program needs in addition to its arguments and results.
      kernels: the number of kernels that run.
      steps: the number of steps of the longest loop, of all its runs together; 0 without loops.
      unknown: the number of loops whose steps are not in the program, which count as one step.
    """

    seconds: float
    flops: float
    moved: int
    sent: int
    temporaries: int
    kernels: int
    steps: int
    unknown: int


def estimates(device: Device, compiled: jax.stages.Compiled) -> tuple[Estimate, Estimate]:
    """The estimates if each conditional takes its longest branch, and if each takes its shortest."""
    program, temporaries = Program.parse(compiled.as_text()), compiled.memory_analysis().temp_size_in_bytes

    def estimate(choose: Callable[..., Any]) -> Estimate:
        parts = program.parts(lambda branches: choose(branches, key=device.seconds))
        kernels = [part for part in parts if isinstance(part, Kernel)]
        loops = [part for part in parts if isinstance(part, Loop)]
        return Estimate(
            seconds=device.seconds(kernels),
            flops=sum(kernel.runs * kernel.flops for kernel in kernels),
            moved=sum(kernel.runs * kernel.moved for kernel in kernels),
            sent=sum(kernel.runs * kernel.sent for kernel in kernels),
            temporaries=temporaries,
            kernels=sum(kernel.runs for kernel in kernels),
            steps=max((loop.runs * loop.steps for loop in loops if loop.steps is not None), default=0),
            unknown=sum(loop.steps is None for loop in loops),
        )

    return estimate(max), estimate(min)
