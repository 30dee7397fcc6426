"""The losses in NumPy's float64 and how to draw valid arguments for them, in modules named as in `jaxloss.losses`."""

import numpy as np

Arrays = tuple[np.ndarray, ...]
N_CLASSES = 5


def with_ones(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The losses and their normalisers where each of them is 1."""
    return losses, np.ones_like(losses)
