"""What a task of the demo is, and the training loop that all of them share."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloss import imbalance

Parameters = Any
"""A pytree of arrays."""
Examples = Mapping[str, Array]
"""Arrays with one example in each row."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """The data of a task, and what is measured on its test data.

    Args:
      training: the training data.
      parameters: the initial parameters of the network.
      measured: maps parameters to one number for each measure of the task, on the test data.
      class_counts: the number of training examples of each class, if `training["target"]` holds classes.
    """

    training: Examples
    parameters: Parameters
    measured: Callable[[Parameters], list[Array]]
    class_counts: Array = dataclasses.field(default_factory=lambda: jnp.zeros(0, int))


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A loss to train with.

    Args:
      loss: maps (parameters, examples of a batch, problem) to a scalar.
      balanced_share: the initial share of the epochs that draws every class equally often.
    """

    loss: Callable[[Parameters, Examples, Problem], Array]
    balanced_share: float = 0.0

    @staticmethod
    def of(
        outputs: Callable[[Parameters, Examples], Array],
        loss: Callable[..., Array],
        *,
        balanced_share: float = 0.0,
        **options: object,
    ) -> Experiment:
        """A loss that compares the outputs of the network with the targets."""

        def of_batch(parameters: Parameters, examples: Examples, _: Problem) -> Array:
            return loss(outputs(parameters, examples), examples["target"], **options)

        return Experiment(of_batch, balanced_share)


@dataclasses.dataclass(frozen=True)
class Task:
    """Data, a network, and the losses that are compared on them.

    Args:
      title: what the table and the plot say of the data.
      measures: the columns of the table, the first of which is plotted.
      plotted: the label of its axis. A share is plotted as what it lacks of 1, in percent.
      load: maps a seed to the problem.
      experiments: the losses by name.
      epochs: how often each loss sees the data, unless the user says otherwise.
      batch: the number of examples in a step.
      learning_rate: of Adam.
      shares: whether the measures are shares of 1, of which more is better.
    """

    title: str
    measures: tuple[str, ...]
    plotted: str
    load: Callable[[int], Problem]
    experiments: Mapping[str, Experiment]
    epochs: int
    batch: int
    learning_rate: float = 3e-3
    shares: bool = True


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of training with one loss.

    Args:
      name: of the loss.
      curves: the measures before training and after each epoch, one row each.
      step_microseconds: the median time of a step.
      compile_seconds: the time that compiling an epoch took.
    """

    name: str
    curves: np.ndarray
    step_microseconds: float
    compile_seconds: float


def batches_of_epochs(task: Task, problem: Problem, share: float, epochs: int, key: Array) -> Iterator[Array]:
    """For each epoch, the indices of its batches, one batch per row: shuffled data, or every class equally often."""
    n = len(jax.tree.leaves(problem.training)[0])
    n_steps = max(n // task.batch, 1)
    draw = jax.jit(imbalance.BalancedSampler.draw, static_argnums=1)
    sampler, n_rounds = None, 0
    if share > 0:
        n_classes = len(problem.class_counts)
        sampler = imbalance.BalancedSampler.init(key, problem.training["target"], n_classes)
        n_rounds = n_steps * task.batch // n_classes
    for i in range(epochs):
        if sampler is not None and i < share * epochs:
            indices, sampler = draw(sampler, n_rounds)
        else:
            indices = jax.random.permutation(jax.random.fold_in(key, i), n)
        yield jnp.resize(indices, (n_steps, task.batch))


def train(name: str, task: Task, problem: Problem, epochs: int, seed: int, progress: Callable[[], None]) -> Result:
    """Trains with Adam, one compiled program per epoch, and measures what each epoch has reached."""
    import optax

    experiment = task.experiments[name]
    optimiser = optax.adam(task.learning_rate)
    measure = jax.jit(problem.measured)

    def step(carry: Any, indices: Array) -> Any:
        parameters, state = carry
        examples = jax.tree.map(lambda array: array[indices], problem.training)
        gradient = jax.grad(experiment.loss)(parameters, examples, problem)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(parameters, updates), state), None

    def epoch(carry: Any, batches: Array) -> Any:
        return jax.lax.scan(step, carry, batches)[0]

    def measured(parameters: Parameters) -> np.ndarray:
        return np.asarray(measure(parameters), float)

    carry = (problem.parameters, optimiser.init(problem.parameters))
    compiled, compile_seconds = None, 0.0
    curves, seconds = [measured(problem.parameters)], []
    for batches in batches_of_epochs(task, problem, experiment.balanced_share, epochs, jax.random.key(seed)):
        start = time.perf_counter()
        if compiled is None:
            compiled = jax.jit(epoch).lower(carry, batches).compile()
            compile_seconds = time.perf_counter() - start
            start = time.perf_counter()
        carry = jax.block_until_ready(compiled(carry, batches))
        seconds.append((time.perf_counter() - start) / len(batches))
        curves.append(measured(carry[0]))
        progress()
    return Result(name, np.stack(curves), float(np.median(seconds)) * 1e6, compile_seconds)
