r"""Training where some classes are rare: samplers, and class counts turned into weights or logit adjustments.

What they do to a network with one hidden layer on scikit-learn's digits, blurred by noise so that classes overlap, of
which 0 to 4 have 8 training images each and 5 to 9 have 110 (8 seeds, mean ± standard error). Balanced accuracy counts
each class alike; the other two columns count it as often as it is in training.

| training | balanced accuracy, % | accuracy, % | cross-entropy |
| --- | --- | --- | --- |
| cross-entropy | 76.0 ± 0.5 | 89.5 ± 0.7 | 0.334 ± 0.016 |
| ranking | 75.4 ± 0.5 | 89.5 ± 0.7 | 0.494 ± 0.013 |
| effective number weights, β 0.99 | 82.3 ± 0.5 | 87.3 ± 0.8 | 0.386 ± 0.021 |
| inverse frequency weights | 82.9 ± 0.4 | 86.5 ± 0.9 | 0.416 ± 0.024 |
| logit adjustment | 83.9 ± 0.7 | 86.6 ± 1.2 | 0.425 ± 0.027 |
| balanced sampling | 83.7 ± 0.5 | 87.7 ± 0.8 | 0.374 ± 0.017 |
| balanced, then true frequencies | 77.9 ± 0.8 | 89.3 ± 0.8 | 0.337 ± 0.016 |

So, where classes count alike, sample or weight them alike; where samples do, balance first if at all, and end on the
data as they are.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloss._arrays import as_index, compute_dtype, narrow_index
from jaxloss._balanced_sampler import BalancedSampler as BalancedSampler
from jaxloss._balanced_sampler import require_vector, whole_number
from jaxloss._errors import Interval, Real, Vector, as_real, require_array


def class_counts(target: object, n_classes: int) -> Array:
    r"""How many samples each class has.

    $$n_c = \#\{ i : y_i = c \}$$

    Args:
      target: integer, of any number of samples; indices outside [0, n_classes) are counted nowhere.
      n_classes: the number of classes.

    Returns:
      Counts `(n_classes,)`, as floats.

    Raises:
      TypeError: `target` is no integer array.
      ValueError: `n_classes` is below 1.

    Reference:
      None; a histogram.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxloss.imbalance import class_counts
      >>> print(class_counts(jnp.array([0, 2, 2, -100]), 3))
      [1. 0. 2.]
    """
    if not isinstance(target, Array | np.ndarray):
        raise TypeError(f"class_counts: target is a {type(target).__name__} but takes an array of class indices")
    if not jnp.issubdtype(target.dtype, jnp.integer):
        raise TypeError(f"class_counts: target has dtype {target.dtype} but takes integer class indices")
    require_array("class_counts", "target", target)
    n_classes = whole_number("class_counts", "n_classes", n_classes, least=1)
    classes = as_index(jnp.ravel(jnp.asarray(narrow_index(target))))
    outside = (classes < 0) | (classes >= n_classes)
    counts = jnp.bincount(jnp.where(outside, n_classes, classes), length=n_classes + 1)[:n_classes]
    return counts.astype(jnp.result_type(float))


def inverse_frequency_weights(counts: Vector) -> Array:
    r"""Class weights that give every class the same share of the loss.

    $$w_c = \frac{N}{C\, n_c}, \qquad N = \sum_c n_c$$

    Args:
      counts: real `(c,)`, at least 0: $n_c$, the samples of each class, or their frequencies.

    Returns:
      Weights `(c,)`, 1 on average over the samples; 0 for a class without samples, which C does not count either. NaN
      for a negative count.

    Raises:
      TypeError: `counts` are no real numbers.
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
    r"""Class weights inverse to the effective number of samples, between none (beta 0) and inverse frequency (beta 1).

    $$w_c \propto \frac{1 - \beta}{1 - \beta^{n_c}}, \qquad \sum_c w_c = C$$

    Args:
      counts: real `(c,)`, at least 0: $n_c$, the samples of each class.
      beta: in [0, 1): $\beta = (M - 1) / M$ for classes that hold no more than M distinct samples.

    Returns:
      Weights `(c,)`, 1 on average over the classes; 0 for a class without samples, which C does not count either. NaN
      for a negative count.

    Raises:
      TypeError: `counts` are no real numbers.
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
    if not isinstance(beta, Array | np.ndarray):
        Interval("[0, 1)").check_number("effective_number_weights", "beta", beta)
        log_beta = math.log(beta) if beta else -math.inf  # in float64, as float32 knows few numbers just below 1
    else:
        log_beta = jnp.log(_as_number("effective_number_weights", "beta", beta, counts))
    # 1 - beta^n, which for a beta near 1 is a difference of two numbers near 1.
    weights = jnp.where(present, -1 / jnp.expm1(jnp.where(present, counts, 1) * log_beta), 0)
    total = weights.sum()
    return weights * present.sum().astype(weights.dtype) / jnp.where(total == 0, 1, total)


def logit_adjustment(counts: Vector, *, temperature: Real = 1.0) -> Array:
    r"""What to add to the logits in training, so that without it they rank the classes as if all were equally frequent.

    $$a_c = \tau \log \frac{n_c}{N}$$

    Train by `cross_entropy(logits + logit_adjustment(counts), target)` and predict by `argmax(logits)`; or train
    without it and predict by `argmax(logits - logit_adjustment(counts))`, where every class has samples: one without
    would always win.

    Args:
      counts: real `(c,)`, at least 0: $n_c$, the samples of each class, or their frequencies.
      temperature: $\tau$; at 1 the predictions are those of least balanced error.

    Returns:
      Adjustments `(c,)`; -inf for a class without samples, NaN for a negative count or none at all.

    Raises:
      TypeError: `counts` are no real numbers.
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
    if not isinstance(temperature, Array | np.ndarray):
        Interval("(-inf, inf)").check_number("logit_adjustment", "temperature", temperature)
    return jnp.asarray(
        _as_number("logit_adjustment", "temperature", temperature, counts) * jnp.log(counts / counts.sum())
    )


def _counts(function: str, counts: Vector) -> tuple[Array, Array]:
    """The counts as floats, NaN for negative ones, and which are not 0."""
    require_vector(function, "counts", counts, (np.integer, np.floating), "one number a class")
    counts = jnp.asarray(counts)
    counts = counts.astype(compute_dtype([counts]))
    counts = jnp.where(counts < 0, jnp.nan, counts)
    return counts, counts != 0


def _as_number(function: str, name: str, value: Real, counts: Array) -> Array:
    """The option in the dtype of the counts: a number, or one a class."""
    number = as_real(function, name, value, counts.dtype)
    if number.ndim and number.shape != counts.shape:
        takes = f"a number or shape {counts.shape}, one a class"
        raise ValueError(f"{function}: {name} has shape {number.shape} but takes {takes}")
    return number
