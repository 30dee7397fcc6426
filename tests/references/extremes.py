"""Arrays in the domain of a loss that hold given numbers, however large or small."""

import jax.numpy as jnp
import numpy as np

from tests.references import N_CLASSES, Arrays


def limited(x: np.ndarray, domain: str) -> np.ndarray:
    """The numbers, moved into a domain such as "[0, 1]"."""
    match domain:
        case "":
            return x
        case "[0, 1]":
            return np.clip(abs(x), 0, 1)
        case "[0, inf)":
            return abs(x)
        case "(0, inf)":
            return np.maximum(abs(x), np.asarray(jnp.finfo(x.dtype).tiny, x.dtype))
        case "(-1, inf)":
            return np.where(x > -1, x, abs(x))
        case "[-inf, 0]":
            return -abs(x)
        case "{-1, 1}":
            return np.where(np.arange(len(x)) % 2, 1, -1).astype(x.dtype)
        case "{0, 1}":
            return (np.arange(len(x)) % 2).astype(x.dtype)
    raise ValueError(f"there are no extreme numbers in {domain}; the row takes a function `extremes` of its own")


def rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A vector for each pair of numbers."""
    zero = np.zeros_like(a)
    return np.stack([zero, zero, a, b, zero], axis=-1)


def classes(a: np.ndarray) -> np.ndarray:
    return (np.arange(len(a)) % N_CLASSES).astype(np.int32)


def zeros_and_ones(a: np.ndarray) -> np.ndarray:
    """A vector for each number: a one among zeros, zeros alone, or ones alone."""
    vectors = np.eye(N_CLASSES, dtype=a.dtype)[classes(a)]
    vectors[6::9], vectors[7::9] = 0, 1
    return vectors


def lists_of_classes(a: np.ndarray) -> np.ndarray:
    lists = (classes(a)[:, None] + np.arange(N_CLASSES, dtype=np.int32)) % N_CLASSES
    return np.where(np.arange(N_CLASSES) == 2, -1, lists).astype(np.int32)


def of_pairs(a: np.ndarray, b: np.ndarray, kinds: list[tuple[int, str, bool]]) -> Arrays:
    """One sample for each pair of numbers.

    Args:
      kinds: for each array, its number of core axes, its domain ("" for any number), and whether it holds indices.
    """
    numbers = iter((a, b, np.roll(b, 1), np.roll(a, 2)))
    vectors = iter((rows(a, b), rows(b, a), np.roll(rows(a, -b), 1, axis=-1)))

    def array(n_core, domain, has_indices):
        match n_core, has_indices:
            case 0, True:
                return classes(a)
            case 1, True:
                return lists_of_classes(a)
            case 0, False:
                return limited(next(numbers), domain)
            case 1, False:
                return zeros_and_ones(a) if domain in ("[0, 1]", "{0, 1}") else limited(next(vectors), domain)
        raise ValueError(f"there are no extreme arrays of {n_core} core axes; the row takes a function `extremes`")

    return tuple(array(*kind) for kind in kinds)


def region(a: np.ndarray, b: np.ndarray, options) -> Arrays:
    """Probabilities of pixels, and whether they are in a region."""
    return limited(rows(a, b), "[0, 1]"), zeros_and_ones(b)


KERNEL = np.array([[1, 0, 0, 0, 0], [0, 1, 0, -1, 0], [0.5, 0, 0, 0, -2]])


def layer(a: np.ndarray, b: np.ndarray, options) -> Arrays:
    """Hidden rows, a kernel and class indices."""
    return np.stack([a, b, np.zeros_like(a)], axis=-1), KERNEL.astype(a.dtype), classes(a)


def soft_layer(a: np.ndarray, b: np.ndarray, options) -> Arrays:
    return *layer(a, b, options)[:2], zeros_and_ones(a)


def adaptive_layer(a: np.ndarray, b: np.ndarray, options) -> Arrays:
    hidden, kernel, target = layer(a, b, options)
    head, bias, down = kernel[:, :4], kernel[0, 1:], kernel[:, 1:3]
    return hidden, head, bias, down, down[:2, :1], kernel[:, :1], kernel[:1, :2], target


TEACHER = np.array([[0, 1, 0, 2, 0], [-1, 0, 0, 0, 1]])


def two_layers(a: np.ndarray, b: np.ndarray, options) -> Arrays:
    return *layer(a, b, options)[:2], np.stack([b, a], axis=-1), TEACHER.astype(a.dtype)


def layer_and_logits(a: np.ndarray, b: np.ndarray, options) -> Arrays:
    return *layer(a, b, options)[:2], rows(b, a)


def layer_and_list(a: np.ndarray, b: np.ndarray, options) -> Arrays:
    """A layer with lists of two classes of a teacher, who is certain of some, and does not know of some."""
    *inputs, target = layer(a, b, options)
    kinds = np.array([[-0.5, -1.5], [0, -np.inf], [-2, -2], [-0.5, -np.inf]], a.dtype)
    return *inputs, kinds[np.arange(len(a)) % 4], np.stack([target, (target + 2) % N_CLASSES], axis=-1)


def vector_pair(a: np.ndarray, b: np.ndarray, options) -> Arrays:
    """Pairs of vectors that have one of their two nonzero entries in common, and signs."""
    return rows(a, b), np.roll(rows(b, a), 1, axis=-1), limited(a, "{-1, 1}")


def set_with_proxies(a: np.ndarray, b: np.ndarray, options) -> Arrays:
    """Sets of two embeddings, proxies, and targets."""
    zero = np.zeros_like(a)
    embeddings = np.stack([np.stack([a, b, zero], axis=-1), np.stack([zero, -a, b], axis=-1)], axis=-2)
    proxies = np.array([[1.0, 0.0, 0.0], [0.0, 3.0, 4.0], [0.0, 0.0, 0.0], [-1.0, 1.0, 1.0], [0.5, 0.0, 2.0]], a.dtype)
    return embeddings, proxies, np.stack([classes(a), classes(a)[::-1]], axis=-1)
