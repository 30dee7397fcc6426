"""Losses of the pixels of an image, for one class at a time."""

from __future__ import annotations

from typing import Unpack

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _numerics as numerics
from jaxloss import kinks
from jaxloss._arrays import Boolean, Real, Vector
from jaxloss._data_checks import nan_unless
from jaxloss._decorator.lift import loss
from jaxloss._kept_gradient import keep_gradient
from jaxloss._order import put_back
from jaxloss.options import AxisOptions

_DOMAINS = {"target": "[0, 1]", "probabilities": "[0, 1]", "smooth": "[0, inf)"}


@loss("(p),(p)->()", domains={**_DOMAINS, "alpha": "[0, inf)", "beta": "[0, inf)"})
def tversky_loss(
    probabilities: Vector,
    target: Vector,
    *,
    alpha: Real = 0.5,
    beta: Real = 0.5,
    smooth: Real = 1.0,
    valid: Boolean | None = None,
    **options: Unpack[AxisOptions],
) -> Array:
    r"""Missing overlap of a predicted and a true region, with weights for false positives and for false negatives.

    $$l = 1 - \frac{I + s}{I + \alpha F_+ + \beta F_- + s}, \qquad
    I = \sum_i p_i t_i, \quad F_+ = \sum_i p_i (1 - t_i), \quad F_- = \sum_i (1 - p_i)\, t_i$$

    With $\alpha < \beta$, missing a pixel of the region costs more than adding one. All digits are right, also for a
    nearly perfect prediction.

    Args:
      probabilities: floating in [0, 1], `(..., P)`: $p$, the probability that each pixel is in the region. One sample
        is one class of one image: images `(N, H, W)` take `axis=(-2, -1)`.
      target: real in [0, 1], the same shape: $t$, whether each pixel is in the region.
      alpha: at least 0: $\alpha$, the weight of false positives. A number, or an array with one value per sample.
      beta: at least 0: $\beta$, the weight of false negatives. A number, or an array with one value per sample.
      smooth: at least 0: $s$. With 0, an empty prediction of an empty region has loss 0, and any other prediction of it
        has loss 1 if $\alpha$ is not 0. A number, or an array with one value per sample.
      valid: boolean, `(..., P)` or `(P,)`: which pixels count, such as those that are not void. None means all.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sample, in [0, 1].

    Raises:
      ValueError: shapes do not fit, or `alpha`, `beta` or `smooth` is negative.
      TypeError: `probabilities` is not floating.

    Reference:
      Salehi et al., Tversky loss function for image segmentation using 3D fully convolutional deep networks, MLMI 2017,
      equation 4.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> probabilities, target = jnp.array([[1.0, 1.0, 0.0, 0.0]]), jnp.array([[1, 0, 1, 1]])
      >>> print(jaxloss.tversky_loss(probabilities, target, alpha=0.25, beta=0.75, smooth=0.25))
      0.5833333
    """
    return keep_gradient(_missed_overlap, probabilities, target, alpha, beta, smooth)


@loss("(p),(p)->()", domains=_DOMAINS)
def dice_loss(
    probabilities: Vector,
    target: Vector,
    *,
    smooth: Real = 1.0,
    valid: Boolean | None = None,
    **options: Unpack[AxisOptions],
) -> Array:
    r"""One minus the Dice coefficient, the overlap of two regions relative to their mean size: `tversky_loss` at ½.

    $$l = 1 - \frac{2 \sum_i p_i t_i + 2 s}{\sum_i p_i + \sum_i t_i + 2 s}$$

    The axes of a sample decide what is averaged. For probabilities `(N, C, H, W)`, `axis=(-2, -1)` gives a loss for
    each image and class, whose mean is the macro Dice loss; `axis=(-3, -2, -1)` adds up the overlaps of all classes of
    an image first, which is the micro Dice loss; `axis=(0, -2, -1)` gives a loss for each class of the whole batch.
    `weights=` may weigh the classes.

    Args:
      probabilities: floating in [0, 1], `(..., P)`: $p$, the probability that each pixel is in the region. One sample
        is one class of one image: images `(N, H, W)` take `axis=(-2, -1)`.
      target: real in [0, 1], the same shape: $t$, whether each pixel is in the region.
      smooth: at least 0: $s$. With 0, an empty prediction of an empty region has loss 0, and any other prediction of it
        has loss 1. A number, or an array with one value per sample.
      valid: boolean, `(..., P)` or `(P,)`: which pixels count, such as those that are not void. None means all.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sample, in [0, 1].

    Raises:
      ValueError: shapes do not fit, or `smooth` is negative.
      TypeError: `probabilities` is not floating.

    Reference:
      Milletari et al., V-Net: fully convolutional neural networks for volumetric medical image segmentation, 3DV 2016,
      section 3, without its squares; Dice, Measures of the amount of ecologic association between species, 1945.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> probabilities, target = jnp.array([[[1.0, 1.0], [0.0, 0.0]]]), jnp.array([[[1, 0], [1, 1]]])
      >>> print(jaxloss.dice_loss(probabilities, target, axis=(-2, -1), smooth=0.75))
      0.46153846
    """
    return keep_gradient(_missed_overlap, probabilities, target, 0.5, 0.5, smooth)


@loss("(p),(p)->()", domains=_DOMAINS)
def jaccard_loss(
    probabilities: Vector,
    target: Vector,
    *,
    smooth: Real = 1.0,
    valid: Boolean | None = None,
    **options: Unpack[AxisOptions],
) -> Array:
    r"""One minus the Jaccard index, the overlap of two regions relative to their union: `tversky_loss` at 1.

    $$l = 1 - \frac{\sum_i p_i t_i + s}{\sum_i p_i + \sum_i t_i - \sum_i p_i t_i + s}$$

    Args:
      probabilities: floating in [0, 1], `(..., P)`: $p$, the probability that each pixel is in the region. One sample
        is one class of one image: images `(N, H, W)` take `axis=(-2, -1)`.
      target: real in [0, 1], the same shape: $t$, whether each pixel is in the region.
      smooth: at least 0: $s$. With 0, an empty prediction of an empty region has loss 0, and any other prediction of it
        has loss 1. A number, or an array with one value per sample.
      valid: boolean, `(..., P)` or `(P,)`: which pixels count, such as those that are not void. None means all.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sample, in [0, 1].

    Raises:
      ValueError: shapes do not fit, or `smooth` is negative.
      TypeError: `probabilities` is not floating.

    Reference:
      Rahman and Wang, Optimizing intersection-over-union in deep neural networks for image segmentation, ISVC 2016.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> probabilities, target = jnp.array([[1.0, 1.0, 0.0, 0.0]]), jnp.array([[1, 0, 1, 1]])
      >>> print(jaxloss.jaccard_loss(probabilities, target, smooth=2.0))
      0.5
    """
    return keep_gradient(_missed_overlap, probabilities, target, 1.0, 1.0, smooth)


def _missed_overlap(probabilities: Vector, target: Vector, alpha: Real, beta: Real, smooth: Real) -> Array:
    """One minus the Tversky index. A pixel that is not valid has p = t = 0, which adds nothing to any sum."""
    # XLA:CPU would write the one of both complements to memory, as an array of ones.
    one = numerics.unshared(1.0)
    areas = (probabilities * target, probabilities * (one - target), (1 - probabilities) * target)
    found, false, missed = map(jnp.sum, areas)
    # Weights would flush tiny areas to 0.
    unit = jnp.where(found + false + missed < 2**-64, 2.0**64, 1).astype(found.dtype)
    wrong = alpha * (unit * false) + beta * (unit * missed)
    # Not one minus a quotient near 1, which would lose the digits of a small loss.
    return numerics.ratio(wrong, unit * found + wrong + numerics.finite(unit * smooth))


@loss("(p),(p)->()", domains={"target": "{0, 1}"})
def lovasz_hinge_loss(
    logits: Vector, target: Vector, *, valid: Boolean | None = None, **options: Unpack[AxisOptions]
) -> Array:
    r"""The Lovász extension of the Jaccard loss over the hinge losses of the pixels, which is convex in the logits.

    $$l = \sum_k \max(0, e_{\pi_k}) \bigl( J_k - J_{k-1} \bigr), \qquad e_i = 1 - x_i (2 t_i - 1)$$

    where $\pi$ sorts the errors in falling order, and $J_k$ is the Jaccard loss if exactly the first $k$ pixels of this
    order are wrong.

    Args:
      logits: floating, `(..., P)`: $x$, positive for pixels predicted to be in the region. One sample is one class of
        one image: images `(N, H, W)` take `axis=(-2, -1)`.
      target: 0 or 1, the same shape: $t$, whether each pixel is in the region.
      valid: boolean, `(..., P)` or `(P,)`: which pixels count, such as those that are not void. None means all.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sample: NaN for any other target.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `logits` is not floating.

    Reference:
      Berman et al., The Lovász-softmax loss, CVPR 2018, section 3.1.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> print(jaxloss.lovasz_hinge_loss(jnp.array([[3.0, 0.5, 0.0, -2.0]]), jnp.array([[1, 0, 1, 0]])))
      0.8333334
    """
    margins = numerics.product(2 * jnp.asarray(target) - 1, logits)
    # In the order of the margins: errors that differ by less than the last place of 1 are equal.
    return _lovasz_extension(kinks.positive_part(1 - margins), margins, target, valid)


@loss("(p),(p)->()", domains={"probabilities": "[0, 1]", "target": "{0, 1}"})
def lovasz_softmax_loss(
    probabilities: Vector, target: Vector, *, valid: Boolean | None = None, **options: Unpack[AxisOptions]
) -> tuple[Array, Array]:
    r"""The Lovász extension of the Jaccard loss over the errors of the probabilities of the pixels.

    $$l = \sum_k e_{\pi_k} \bigl( J_k - J_{k-1} \bigr), \qquad e_i = |t_i - p_i|, \qquad n = \max_i t_i$$

    where $\pi$ sorts the errors in falling order, and $J_k$ is the Jaccard loss if exactly the first $k$ pixels of this
    order are wrong. A class that is not in the image has loss and normaliser 0.

    Args:
      probabilities: floating in [0, 1], `(..., P)`: $p$, the probability of the class at each pixel. One sample is one
        class of one image: images `(N, C, H, W)` take `axis=(-2, -1)`.
      target: 0 or 1, the same shape: $t$, whether each pixel has the class.
      valid: boolean, `(..., P)` or `(P,)`: which pixels count, such as those that are not void. None means all.
      options: `weights`, `where`, `reduction`, `axis`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sample, in [0, 1]; NaN for any other target.

    Raises:
      ValueError: shapes do not fit.
      TypeError: `probabilities` is not floating.

    Reference:
      Berman et al., The Lovász-softmax loss, CVPR 2018, section 3.2.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> probabilities, target = jnp.array([[0.75, 0.5, 0.25, 0.0]]), jnp.array([[1, 1, 0, 0]])
      >>> print(jaxloss.lovasz_softmax_loss(probabilities, target).round(4))
      0.375
    """
    is_present = jnp.any(target != 0).astype(probabilities.dtype)
    errors = jnp.asarray(target * (1 - probabilities) + (1 - target) * probabilities)
    return is_present * _lovasz_extension(errors, -errors, target, valid), is_present


def _lovasz_extension(errors: Array, order: Array, target: Vector, valid: Boolean | None) -> Array:
    """The Lovász extension of the Jaccard loss at errors of at least 0, which fall as `order` rises."""
    place = jnp.arange(errors.size, dtype=jnp.int32)
    exists = jnp.asarray(valid)
    keys = jnp.where(exists, lax.stop_gradient(order), jnp.inf)  # pixels that are not valid come last
    _, in_region, place = lax.sort((keys, target == 1, place), num_keys=1)
    found = jnp.cumsum(in_region, dtype=jnp.int32)
    missed = (found[-1] - found).astype(errors.dtype)
    union = (found[-1] + jnp.cumsum(~in_region, dtype=jnp.int32)).astype(errors.dtype)
    # The increments of 1 - missed / union, not as differences, which would lose the digits of many pixels. The first
    # pixel of an empty region makes the whole loss.
    added = missed / (union * jnp.where(union == 1, 1, union - 1))
    steps = jnp.where(in_region, 1 / union, jnp.where(union == 1, 1, added))
    # Back in the order of the pixels by another sort: a gather would be a loop on a TPU, and its gradient a scatter.
    (steps,) = put_back(place, steps)
    # Without a valid pixel, the first of the others would make the loss.
    total = jnp.sum(numerics.weighted(steps, jnp.where(exists, errors, 0)))
    usable = ((target == 0) | (target == 1)) & ~jnp.isnan(order)  # XLA:CPU may lose a NaN in a sum of maxima
    return nan_unless(jnp.all(usable | ~exists), total)
