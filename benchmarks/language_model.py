"""A small language model on the text of the Python manual, trained in the same way with three output layers."""

import collections
import math
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss
from benchmarks.measuring import HAS_OPTAX, temporaries
from benchmarks.results import Note, Row, Rows

FEATURES, CONTEXT, BATCH = 128, 4, 2048


class Corpus(NamedTuple):
    """Words numbered from the most frequent, each with the CONTEXT words before it."""

    train: tuple[jax.Array, jax.Array]
    test: tuple[jax.Array, jax.Array]
    counts: np.ndarray


def corpus() -> Corpus:
    """The text of `pydoc_data.topics`; every tenth segment of 500 words is the test set."""
    from pydoc_data.topics import topics

    text = " ".join(topics[name] for name in sorted(topics))
    words = re.findall(r"\w+|[^\w\s]", text)
    frequency = collections.Counter(words)
    number = {word: i for i, (word, _) in enumerate(frequency.most_common())}
    tokens = np.asarray([number[word] for word in words], np.int32)
    contexts = np.lib.stride_tricks.sliding_window_view(tokens, CONTEXT + 1)
    # Whole segments, so that test and training contexts overlap only at the ends of segments.
    is_test = np.arange(len(contexts)) // 500 % 10 == 9
    parts = [(jnp.asarray(part[:, :-1]), jnp.asarray(part[:, -1])) for part in (contexts[~is_test], contexts[is_test])]
    counts = np.sort(np.bincount(tokens[:-1], minlength=len(number)))[::-1]
    return Corpus(parts[0], parts[1], counts)


def hidden_states(body: dict[str, jax.Array], contexts: jax.Array) -> jax.Array:
    """The input of the output layer: one hidden layer over the embeddings of the preceding words."""
    embedded = body["embedding"][contexts].reshape(len(contexts), CONTEXT * FEATURES)
    return jnp.tanh(embedded @ body["mixing"])


def initial(n_words: int, cutoffs: tuple[int, ...] | None) -> dict[str, Any]:
    keys = jax.random.split(jax.random.key(0), 3)
    body = {
        "embedding": jax.random.normal(keys[0], (n_words, FEATURES)),
        "mixing": jax.random.normal(keys[1], (CONTEXT * FEATURES, FEATURES)) / math.sqrt(CONTEXT * FEATURES),
    }
    if cutoffs is None:
        return body | {"output": jax.random.normal(keys[2], (FEATURES, n_words)) / math.sqrt(FEATURES)}
    return body | {"output": jaxloss.AdaptiveSoftmax.init(keys[2], FEATURES, n_words, cutoffs=cutoffs)}


def plain(hidden: jax.Array, output: jax.Array, target: jax.Array, **options: Any) -> Any:
    return jaxloss.cross_entropy(hidden @ output, target, **options)


class Run(NamedTuple):
    perplexity: float
    step: float
    bytes_: int


def train(loss: Callable[..., Any], parameters: dict[str, Any], data: Corpus, epochs: int) -> Run:
    """The test perplexity after training, the median time of a step, and its temporary memory."""
    import optax

    optimiser = optax.adam(2e-3)
    state = optimiser.init(parameters)

    def mean(parameters: dict[str, Any], contexts: jax.Array, target: jax.Array) -> Any:
        return loss(hidden_states(parameters, contexts), parameters["output"], target)

    @jax.jit
    def step(parameters: Any, state: Any, contexts: jax.Array, target: jax.Array) -> Any:
        updates, state = optimiser.update(jax.grad(mean)(parameters, contexts, target), state, parameters)
        return optax.apply_updates(parameters, updates), state

    @jax.jit
    def total(parameters: Any, contexts: jax.Array, target: jax.Array) -> jaxloss.Total:
        return loss(hidden_states(parameters, contexts), parameters["output"], target, reduction="total")

    def perplexity() -> float:
        contexts, target = data.test
        batches = range(0, len(target), BATCH)
        parts = (total(parameters, contexts[i : i + BATCH], target[i : i + BATCH]) for i in batches)
        return math.exp(sum(parts, jaxloss.Total.zero()).mean())

    contexts, target = data.train
    jax.block_until_ready(step(parameters, state, contexts[:BATCH], target[:BATCH]))  # compile before timing
    steps = []
    generator = np.random.default_rng(0)  # the same batches for every loss
    for _ in range(epochs):
        order = generator.permutation(len(target))[: len(target) // BATCH * BATCH].reshape(-1, BATCH)
        for rows in order:
            start = time.perf_counter()
            parameters, state = jax.block_until_ready(step(parameters, state, contexts[rows], target[rows]))
            steps.append(time.perf_counter() - start)
    kept = temporaries(jax.value_and_grad(mean), (parameters, contexts[:BATCH], target[:BATCH]))
    return Run(perplexity(), float(np.median(steps)), kept)


def language_model(quick: bool) -> Rows:
    """A language model on the Python manual, trained with Optax's Adam for the same number of steps."""
    if not HAS_OPTAX:
        yield Note("skipped, because it needs Optax")
        return
    data = corpus()
    n_words = len(data.counts)
    cutoffs = jaxloss.adaptive_softmax_cutoffs(data.counts, FEATURES, batch_size=BATCH)
    yield Note(f"{len(data.train[1])} training words, {n_words} different ones, cutoffs {cutoffs}")
    runs = {}
    for name, loss, layout in (
        ("plain cross_entropy", plain, None),
        ("linear_cross_entropy", jaxloss.linear_cross_entropy, None),
        ("adaptive softmax", jaxloss.adaptive_log_softmax_with_loss, cutoffs),
    ):
        runs[name] = train(loss, initial(n_words, layout), data, 1 if quick else 6)
    yield Row("test perplexity", {name: run.perplexity for name, run in runs.items()}, "1")
    yield Row("step time", {name: run.step * 1e3 for name, run in runs.items()}, "ms")
    yield Row("temporaries", {name: run.bytes_ / 2**20 for name, run in runs.items()}, "MiB")
