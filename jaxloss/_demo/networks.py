"""The networks of the demo, as pytrees of arrays."""

import itertools

import jax
import jax.numpy as jnp
from jax import Array

Layers = list[dict[str, Array]]
"""The kernel and the bias of each layer."""


def initial_layers(key: Array, *sizes: int) -> Layers:
    """Dense layers from the first size to the last, drawn for a `relu` between them."""
    pairs = list(itertools.pairwise(sizes))
    # The variance of a layer that a `relu` follows is doubled, as that loses half of it.
    gains = [2.0] * (len(pairs) - 1) + [1.0]
    keys = jax.random.split(key, len(pairs))
    return [
        {"kernel": jax.random.normal(key, (n, m)) * jnp.sqrt(gain / n), "bias": jnp.zeros(m)}
        for key, (n, m), gain in zip(keys, pairs, gains, strict=True)
    ]


def outputs(layers: Layers, inputs: Array) -> Array:
    """The last layer's outputs, without an activation."""
    *hidden, last = layers
    for layer in hidden:
        inputs = jax.nn.relu(inputs @ layer["kernel"] + layer["bias"])
    return inputs @ last["kernel"] + last["bias"]


def initial_filters(key: Array, size: int, *channels: int) -> Layers:
    """The same for convolutions with square filters of `size` pixels, whose kernels are matrices."""
    keys = jax.random.split(key, len(channels) - 1)
    pairs = zip(keys, itertools.pairwise(channels), strict=True)
    return [initial_layers(key, size * size * n, m)[0] for key, (n, m) in pairs]


def filtered(layers: Layers, images: Array) -> Array:
    """The last convolution's outputs `(N, height, width, channels)`, without an activation.

    The neighbours of a pixel are gathered for one product of matrices. In a loop, `jax.lax.conv_general_dilated` takes
    nine times as long on XLA:CPU of jax 0.10.
    """
    *hidden, last = layers
    for layer in hidden:
        images = jax.nn.relu(_convolved(layer, images))
    return _convolved(last, images)


def _convolved(layer: dict[str, Array], images: Array) -> Array:
    _, height, width, channels = images.shape
    side = round((len(layer["kernel"]) / channels) ** 0.5)
    margin = side // 2
    padded = jnp.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    shifted = [padded[:, i : i + height, j : j + width] for i in range(side) for j in range(side)]
    return jnp.concatenate(shifted, axis=-1) @ layer["kernel"] + layer["bias"]
