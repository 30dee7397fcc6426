"""Handwritten versions of the losses of sets, one number per item, from all similarities at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Line = Callable[..., Any]


def unit(x: Any) -> Any:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def info_nce(queries: Any, keys: Any, temperature: float = 0.07) -> Any:
    logits = unit(queries) @ unit(keys).T / temperature
    return jax.nn.logsumexp(logits, axis=-1) - jnp.diagonal(logits)


def siglip(queries: Any, keys: Any, scale: float = 10.0, bias: float = -10.0) -> Any:
    logits = scale * (unit(queries) @ unit(keys).T) + bias
    return jnp.sum(jax.nn.softplus(jnp.where(jnp.eye(len(logits), dtype=bool), -logits, logits)), axis=-1)


def of_labels(labels: Any) -> tuple[Any, Any]:
    """Which pairs are positive and which are negative."""
    same = labels[:, None] == labels[None]
    return same & ~jnp.eye(len(labels), dtype=bool), ~same


def ntxent(x: Any, labels: Any, temperature: float = 0.07) -> Any:
    (positive, negative), logits = of_labels(labels), unit(x) @ unit(x).T / temperature
    of_negatives = jax.nn.logsumexp(jnp.where(negative, logits, -jnp.inf), axis=-1, keepdims=True)
    return jnp.sum(jnp.where(positive, jax.nn.softplus(of_negatives - logits), 0), axis=-1)


def supcon(x: Any, labels: Any, temperature: float = 0.07) -> Any:
    (positive, negative), logits = of_labels(labels), unit(x) @ unit(x).T / temperature
    of_all = jax.nn.logsumexp(jnp.where(positive | negative, logits, -jnp.inf), axis=-1, keepdims=True)
    count = jnp.maximum(jnp.sum(positive, axis=-1), 1).astype(x.dtype)
    return jnp.sum(jnp.where(positive, of_all - logits, 0), axis=-1) / count


def multi_similarity(x: Any, labels: Any, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5) -> Any:
    (positive, negative), s = of_labels(labels), unit(x) @ unit(x).T - base
    of_positives = jnp.log1p(jnp.sum(jnp.where(positive, jnp.exp(-alpha * s), 0), axis=-1)) / alpha
    return of_positives + jnp.log1p(jnp.sum(jnp.where(negative, jnp.exp(beta * s), 0), axis=-1)) / beta


def circle(x: Any, labels: Any, margin: float = 0.4, gamma: float = 80.0) -> Any:
    (positive, negative), s, held = of_labels(labels), unit(x) @ unit(x).T, jax.lax.stop_gradient
    of_positives = -gamma * held(jax.nn.relu(1 + margin - s)) * (s - 1 + margin)
    of_negatives = gamma * held(jax.nn.relu(s + margin)) * (s - margin)
    total = jax.nn.logsumexp(jnp.where(positive, of_positives, -1e30), axis=-1)
    return jax.nn.softplus(total + jax.nn.logsumexp(jnp.where(negative, of_negatives, -1e30), axis=-1))


def batch_hard(x: Any, labels: Any, margin: float = 1.0) -> Any:
    positive, negative = of_labels(labels)
    lengths = jnp.sum(x * x, axis=-1)
    squares = lengths[:, None] + lengths[None] - 2 * jnp.matmul(x, x.T, precision="highest")
    distances = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
    farthest, nearest = jnp.where(positive, distances, -1e9), jnp.where(negative, distances, 1e9)
    return jax.nn.relu(jnp.max(farthest, axis=-1) - jnp.min(nearest, axis=-1) + margin)


PAIRED = {"info_nce_loss": info_nce, "siglip_loss": siglip}
LABELLED = {
    "ntxent_loss": ntxent,
    "supcon_loss": supcon,
    "multi_similarity_loss": multi_similarity,
    "circle_loss": circle,
    "batch_hard_triplet_loss": batch_hard,
}
LINES: dict[str, Line] = {name: jax.vmap(line) for name, line in (PAIRED | LABELLED).items()}
"""For batches of sets."""
