r"""Tools for data in which some classes are rare: a balanced sampler, class weights, and logit adjustment.

The table shows their effect on a network with one hidden layer, trained on scikit-learn's digits. Noise makes the
classes overlap. The digits 0 to 4 have 8 training images each, and 5 to 9 have 110 (8 seeds, mean ± standard error).
Balanced accuracy weights all classes equally. The other two columns weight each class by its frequency in training.

| training | balanced accuracy, % | accuracy, % | cross-entropy |
| --- | --- | --- | --- |
| cross-entropy | 76.0 ± 0.5 | 89.5 ± 0.7 | 0.334 ± 0.016 |
| ranking | 75.4 ± 0.5 | 89.5 ± 0.7 | 0.494 ± 0.013 |
| effective number weights, β 0.99 | 82.3 ± 0.5 | 87.3 ± 0.8 | 0.386 ± 0.021 |
| inverse frequency weights | 82.9 ± 0.4 | 86.5 ± 0.9 | 0.416 ± 0.024 |
| logit adjustment | 83.9 ± 0.7 | 86.6 ± 1.2 | 0.425 ± 0.027 |
| balanced sampling | 83.7 ± 0.5 | 87.7 ± 0.8 | 0.374 ± 0.017 |
| balanced, then true frequencies | 77.9 ± 0.8 | 89.3 ± 0.8 | 0.337 ± 0.016 |

If each class counts equally, use balanced sampling or class weights. If each sample counts equally, balance at most at
the beginning, and end with the original data.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

from jaxloss._arrays import Real, Vector, as_index, compute_dtype, narrow_index, unwrapped
from jaxloss._balanced_sampler import BalancedSampler as BalancedSampler
from jaxloss._data_checks import nan_unless
from jaxloss._errors import REAL, as_array, as_integer, as_number, as_real, as_vector, require_array
from jaxloss._interval import Interval
from jaxloss._sharding import by_automatic_axes, explicit_mesh


def class_counts(target: object, n_classes: int) -> Array:
    r"""The number of samples of each class.

    $$n_c = \#\{ i : y_i = c \}$$

    Args:
      target: integer, any number of samples. Indices outside [0, n_classes) are not counted.
      n_classes: the number of classes.

    Returns:
      Counts `(n_classes,)`, as floats.

    Raises:
      TypeError: `target` is not an integer array.
      ValueError: `n_classes` is below 1.

    Reference:
      None; a histogram.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxloss.imbalance import class_counts
      >>> print(class_counts(jnp.array([0, 2, 2, -100]), 3))
      [1. 0. 2.]
    """
    require_array("class_counts", "target", target)
    labels = as_array("class_counts", "target", narrow_index(target)[0], (jnp.integer,), "integer class indices")
    n_classes = as_integer("class_counts", "n_classes", n_classes, Interval("[1, 2147483648)"))

    def counted(labels: Array) -> Array:
        classes = as_index(jnp.ravel(labels))
        outside = (classes < 0) | (classes >= n_classes)
        counts = jnp.bincount(jnp.where(outside, n_classes, classes), length=n_classes + 1)[:n_classes]
        return counts.astype(jnp.result_type(float))

    mesh = explicit_mesh(labels)
    return counted(labels) if mesh is None else by_automatic_axes(counted, labels, mesh, PartitionSpec())


def inverse_frequency_weights(counts: Vector) -> Array:
    r"""Class weights that give every class the same share of the loss.

    $$w_c = \frac{N}{C\, n_c}, \qquad N = \sum_c n_c$$

    Args:
      counts: real `(c,)`, at least 0: $n_c$, the number of samples of each class, or their frequencies.

    Returns:
      Weights `(c,)`, with mean 1 over the samples. A class without samples has weight 0 and is not counted in C. A
      negative count gives NaN.

    Raises:
      TypeError: `counts` are not real numbers.
      ValueError: `counts` is not a vector.

    Reference:
      King and Zeng, Logistic regression in rare events data, Political Analysis 9, 2001, section 4.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxloss.imbalance import inverse_frequency_weights
      >>> print(inverse_frequency_weights(jnp.array([90.0, 10.0])).round(4))
      [0.5556 5.    ]
    """
    counts, present = _counts("inverse_frequency_weights", counts)
    n_present = present.sum().astype(counts.dtype)
    return jnp.where(present, counts.sum() / (n_present * jnp.where(present, counts, 1)), 0)


def effective_number_weights(counts: Vector, *, beta: Real = 0.999) -> Array:
    r"""Class weights inverse to the effective number of samples: equal for beta 0, inverse frequency as beta goes to 1.

    $$w_c \propto \frac{1 - \beta}{1 - \beta^{n_c}}, \qquad \sum_c w_c = C$$

    Args:
      counts: real `(c,)`, at least 0: $n_c$, the number of samples of each class.
      beta: in [0, 1): $\beta = (M - 1) / M$ if a class has no more than M distinct samples.

    Returns:
      Weights `(c,)`, with mean 1 over the classes. A class without samples has weight 0 and is not counted in C. A
      negative count gives NaN.

    Raises:
      TypeError: `counts` are not real numbers.
      ValueError: `counts` is not a vector, or `beta` is outside [0, 1).

    Reference:
      Cui et al., Class-balanced loss based on effective number of samples, CVPR 2019, sections 2.2 and 3.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxloss.imbalance import effective_number_weights
      >>> [round(float(weight), 4) for weight in effective_number_weights(jnp.array([90.0, 10.0]), beta=0.9)]
      [0.7889, 1.2111]
    """
    counts, present = _counts("effective_number_weights", counts)
    beta = unwrapped(beta)
    if not isinstance(beta, Array | np.ndarray):
        as_number("effective_number_weights", "beta", beta, Interval("[0, 1)"))
        log_beta = math.log(beta) if beta else -math.inf  # in float64, because float32 has few numbers just below 1
    else:
        log_beta = jnp.log(_one_per_class("effective_number_weights", "beta", beta, counts))
    # expm1, because 1 - beta^n is the difference of two numbers near 1 if beta is near 1.
    weights = jnp.where(present, -1 / jnp.expm1(jnp.where(present, counts, 1) * log_beta), 0)
    total = weights.sum()
    return weights * present.sum().astype(weights.dtype) / jnp.where(total == 0, 1, total)


def logit_adjustment(counts: Vector, *, temperature: Real = 1.0) -> Array:
    r"""An adjustment added to the logits in training, after which plain logits treat all classes as equally frequent.

    $$a_c = \tau \log \frac{n_c}{N}$$

    Train with `cross_entropy(logits + logit_adjustment(counts), target)` and predict with `argmax(logits)`. Or train
    without it and predict with `argmax(logits - logit_adjustment(counts))`, provided that every class has samples: a
    class without samples would always win.

    Args:
      counts: real `(c,)`, at least 0: $n_c$, the number of samples of each class, or their frequencies.
      temperature: $\tau$; 1 gives predictions with the lowest balanced error.

    Returns:
      Adjustments `(c,)`: -inf for a class without samples, NaN for a negative count or if all counts are 0.

    Raises:
      TypeError: `counts` are not real numbers.
      ValueError: `counts` is not a vector.

    Reference:
      Menon et al., Long-tail learning via logit adjustment, ICLR 2021, equations 9 and 10.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxloss.imbalance import logit_adjustment
      >>> print(logit_adjustment(jnp.array([90.0, 10.0])).round(4))
      [-0.1054 -2.3026]
    """
    counts, _ = _counts("logit_adjustment", counts)
    tau = _one_per_class("logit_adjustment", "temperature", temperature, counts, Interval("(-inf, inf)"))
    return jnp.asarray(tau * jnp.log(counts / counts.sum()))


def _counts(function: str, counts: Vector) -> tuple[Array, Array]:
    """Returns the counts as floats, with NaN for negative counts, and which of them are not 0."""
    counts = as_vector(function, "counts", counts, (jnp.integer, jnp.floating), "one real number per class")
    counts = counts.astype(compute_dtype([counts]))
    counts = nan_unless(~(counts < 0), counts)
    return counts, counts != 0


def _one_per_class(function: str, name: str, value: Real, counts: Array, domain: Interval = REAL) -> Array:
    """The option in the dtype of the counts: one number, or one per class."""
    number = as_real(function, name, value, counts.dtype, domain)
    if number.ndim and number.shape != counts.shape:
        takes = f"a number or shape {counts.shape}, one per class"
        raise ValueError(f"{function}: {name} has shape {number.shape} but takes {takes}")
    return number
