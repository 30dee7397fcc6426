"""One batch in two processes: the loss and gradients of one process, and an error instead of a hang."""

import json
import pathlib
import re
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests import two_processes

ROOT = pathlib.Path(__file__).parent.parent
HANGS = 600  # seconds; a busy machine takes far less


@pytest.fixture
def start():
    """Starts both processes, and ends them with the test."""
    running = []

    def started(*options):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        for number in ("0", "1"):
            command = [sys.executable, "-m", "tests.two_processes", number, str(port), *options]
            running.append(
                subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
        return running

    yield started
    for process in running:
        process.kill()
        process.communicate()


def test_two_processes_give_the_loss_and_gradients_of_one(start):
    expected = jax.value_and_grad(two_processes.mean)(two_processes.kernel(), *two_processes.batch())
    for process in start():
        output, errors = process.communicate(timeout=HANGS)
        assert process.returncode == 0, errors
        for value, gradient in json.loads(output.splitlines()[-1]):
            np.testing.assert_allclose(value, expected[0], rtol=1e-6)
            np.testing.assert_allclose(gradient, expected[1], rtol=1e-5, atol=1e-7)


def test_a_process_fails_if_the_other_dies(start):
    survivor, dead = start("die")
    _, errors = survivor.communicate(timeout=HANGS)
    dead.communicate(timeout=HANGS)
    assert dead.returncode == 3
    assert survivor.returncode != 0
    # The error comes from the part of JAX that first notices the death, and not from the test itself.
    assert re.search("Gloo|heartbeat|CoordinationService", errors)
