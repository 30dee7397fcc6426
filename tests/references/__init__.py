"""The losses in float64 NumPy, and how to draw valid arguments. The modules are named as in `jaxloss.losses`."""

import numpy as np

Arrays = tuple[np.ndarray, ...]
N_CLASSES = 5


def with_ones(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The losses with normalisers of 1."""
    return losses, np.ones_like(losses)
