"""One of two processes that share a batch: `python -m tests.two_processes NUMBER PORT`, run by test_processes.py.

Prints the mean loss of the whole batch and its gradients, by automatic sharding and by `shard_map`, as JSON.
"""

import json
import os
import sys

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxloss

ROWS, SAME = PartitionSpec("data"), PartitionSpec()
CLASSES = 7


def batch():
    """A batch with only one unmasked row in its second half."""
    generator = np.random.default_rng(0)
    hidden = generator.normal(size=(16, 5)).astype(np.float32)
    target = generator.integers(0, CLASSES, 16).astype(np.int32)
    where = np.arange(16) < 9
    return hidden, target, where


def kernel():
    return np.random.default_rng(1).normal(size=(5, CLASSES)).astype(np.float32)


def mean(kernel, hidden, target, where):
    return jaxloss.linear_cross_entropy(hidden, kernel, target, where=where, chunk_size=4)


def local_mean(kernel, hidden, target, where):
    logits = hidden @ kernel
    return jaxloss.cross_entropy(logits, target, where=where, reduction="total").psum("data").mean()


def main(number, port):
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    dies = "die" in sys.argv
    # A process on a busy machine may be silent for a long time, but a survivor need not wait long for a dead process.
    jax.distributed.initialize(f"localhost:{port}", 2, number, heartbeat_timeout_seconds=5 if dies else 300)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    if number == 1 and dies:
        os._exit(3)  # at once, without telling the other
    # Each process has its own half of the batch, and never sees the other.
    own = slice(8 * number, 8 * number + 8)
    rows = NamedSharding(mesh, ROWS)
    arrays = [jax.make_array_from_process_local_data(rows, array[own]) for array in batch()]
    weights = jax.device_put(kernel(), NamedSharding(mesh, SAME))
    by_hand = jax.shard_map(local_mean, mesh=mesh, in_specs=(SAME, ROWS, ROWS, ROWS), out_specs=SAME)
    results = [jax.jit(jax.value_and_grad(loss))(weights, *arrays) for loss in (mean, by_hand)]
    print(json.dumps(jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)).tolist(), results)), flush=True)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
