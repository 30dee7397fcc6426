"""Softmax losses of the angles between features and classes, with a margin for the right class."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Unpack

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _angles as angles
from jaxloss._arrays import Real, Vector, product_dtype
from jaxloss._class_axis import ClassAxis
from jaxloss._decorator.batching import BatchLoss
from jaxloss._decorator.lift import batch_loss
from jaxloss._large_output import chunked as chunks
from jaxloss._large_output.layer import given
from jaxloss._large_output.tiling import Tilings
from jaxloss._logistic import softplus
from jaxloss._sharding import AxisName, equally_varying
from jaxloss.losses.softmax import weighted_by_class
from jaxloss.options import ReductionOptions

_MARGINS = Callable[[Array, Real], Array]


@batch_loss(
    "(d),(d,c),()->()",
    indices={"target": "[0, c)"},
    domains={"scale": "[0, inf)", "chunk_size": "[1, inf)"},
    parameters={"kernel": "(d,c)", "class_weights": "(c)"},
    static=("ignore_index", "chunk_size"),
    split="c",
)
def arcface_loss(
    classes: ClassAxis,
    features: Vector,
    kernel: Vector,
    target: Vector | int,
    *,
    margin: Real = 0.5,
    scale: Real = 64.0,
    class_weights: Vector | None = None,
    ignore_index: int = -100,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    n_classes: int | None = None,
    **options: Unpack[ReductionOptions],
) -> BatchLoss:
    r"""Cross-entropy of the cosines between features and classes, with a margin added to the angle of the right class.

    $$l = -\log \frac{e^{s \phi(\theta_y)}}{e^{s \phi(\theta_y)} + \sum_{c \ne y} e^{s \cos \theta_c}}, \qquad
    \phi(\theta) = \begin{cases} \cos(\theta + m) & \theta \le \pi - m \\ \cos \theta - m \sin m & \text{otherwise}
    \end{cases}$$

    where $\theta_c$ is the angle between the features and column c of the kernel. The second case is that of the
    reference implementation (`easy_margin` off): it keeps the logit falling, and its value jumps at $\pi - m$.

    The cosines are processed in chunks, as the logits of `linear_cross_entropy`, and neither they nor their gradients
    are ever all in memory. A loss depends only on the directions of features and columns. A zero vector has cosine 0
    with each class, and gradient 0.

    Args:
      features: floating `(..., D)`: the features, last axis D, of any length.
      kernel: floating `(D, C)`: a column for each class, of any length.
      target: integer `(...)`: $y$, the right class in [0, C).
      margin: $m$ in radians, any number, usually between 0 and π/2. A number, or an array with one value per sample.
      scale: at least 0: $s$. A number, or an array with one value per sample.
      class_weights: real `(C,)`, as in `cross_entropy`.
      ignore_index: samples with this class index are ignored.
      chunk_size: as in `linear_cross_entropy`. Temporaries are those of that loss and the unit columns.
      axis_name: as in `linear_cross_entropy`. Devices exchange as many numbers for each row.
      n_classes: as in `linear_cross_entropy`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar, the same on every device of `axis_name`; with `reduction="none"`, one loss per sample.
      NaN for a sample whose class index is out of range. Products are in the wider dtype of `features` and `kernel`,
      in float32 for float16, or in float64 if any array is; everything else is in float32 or wider. The angle of the
      right class is known to the square root of the precision near 0 and π, 3e-4 in float32.

    Raises:
      ValueError: shapes do not fit, an option is out of its range, no axis is called `axis_name`, or `n_classes`
        exceeds the number of columns of all devices.
      TypeError: `features` or `kernel` is not floating, `target` is not integer, or the loss is differentiated in
        forward mode (`jax.jvp`, `jax.jacfwd`). Its gradient may be, as for a Hessian.

    Reference:
      Deng et al., ArcFace: additive angular margin loss for deep face recognition, CVPR 2019, equation 3; its
      implementation at github.com/deepinsight/insightface (the second case).

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> features, kernel = jnp.array([[2.0, 0.0], [0.0, 3.0]]), jnp.array([[4.0, 0.0], [0.0, 1.0]])
      >>> print(jaxloss.arcface_loss(features, kernel, jnp.array([0, 0]), scale=4.0, reduction="none").round(4))
      [0.0294    5.9203997]
    """
    return _of_layer(
        classes, features, kernel, target, angles.cosine_of_sum, margin, scale, class_weights, chunk_size, axis_name
    )


@batch_loss(
    "(d),(d,c),()->()",
    indices={"target": "[0, c)"},
    domains={"scale": "[0, inf)", "chunk_size": "[1, inf)"},
    parameters={"kernel": "(d,c)", "class_weights": "(c)"},
    static=("ignore_index", "chunk_size"),
    split="c",
)
def cosface_loss(
    classes: ClassAxis,
    features: Vector,
    kernel: Vector,
    target: Vector | int,
    *,
    margin: Real = 0.35,
    scale: Real = 64.0,
    class_weights: Vector | None = None,
    ignore_index: int = -100,
    chunk_size: int | None = None,
    axis_name: AxisName | None = None,
    n_classes: int | None = None,
    **options: Unpack[ReductionOptions],
) -> BatchLoss:
    r"""Cross-entropy of the cosines between features and classes, with a margin subtracted from the right one.

    $$l = -\log \frac{e^{s (\cos \theta_y - m)}}{e^{s (\cos \theta_y - m)} + \sum_{c \ne y} e^{s \cos \theta_c}}$$

    where $\theta_c$ is the angle between the features and column c of the kernel. With a margin of 0, it is the
    normalised softmax loss. Chunks and zero vectors are as in `arcface_loss`.

    Args:
      features: floating `(..., D)`: the features, last axis D, of any length.
      kernel: floating `(D, C)`: a column for each class, of any length.
      target: integer `(...)`: $y$, the right class in [0, C).
      margin: $m$, any number. A number, or an array with one value per sample.
      scale: at least 0: $s$. A number, or an array with one value per sample.
      class_weights: real `(C,)`, as in `cross_entropy`.
      ignore_index: samples with this class index are ignored.
      chunk_size: as in `arcface_loss`.
      axis_name: as in `arcface_loss`.
      n_classes: as in `linear_cross_entropy`.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar, the same on every device of `axis_name`; with `reduction="none"`, one loss per sample.
      NaN for a sample whose class index is out of range. Dtypes are as in `arcface_loss`.

    Raises:
      ValueError: shapes do not fit, an option is out of its range, no axis is called `axis_name`, or `n_classes`
        exceeds the number of columns of all devices.
      TypeError: `features` or `kernel` is not floating, `target` is not integer, or the loss is differentiated in
        forward mode (`jax.jvp`, `jax.jacfwd`). Its gradient may be, as for a Hessian.

    Reference:
      Wang et al., CosFace: large margin cosine loss for deep face recognition, CVPR 2018, equation 4.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> features, kernel = jnp.array([[2.0, 0.0], [0.0, 3.0]]), jnp.array([[4.0, 0.0], [0.0, 1.0]])
      >>> print(jaxloss.cosface_loss(features, kernel, jnp.array([0, 0]), scale=4.0, reduction="none").round(4))
      [0.0716 5.4045]
    """
    return _of_layer(
        classes, features, kernel, target, _difference, margin, scale, class_weights, chunk_size, axis_name
    )


def _difference(cosine: Array, margin: Real) -> Array:
    return cosine - margin


def _of_layer(
    classes: ClassAxis,
    features: Vector,
    kernel: Vector,
    target: Vector | int,
    with_margin: _MARGINS,
    margin: Real,
    scale: Real,
    class_weights: Vector | None,
    chunk_size: int | None,
    axis_name: AxisName | None,
) -> BatchLoss:
    dtype = product_dtype([jnp.asarray(features), jnp.asarray(kernel)])
    # A gradient of products may overflow in float16 where its part perpendicular to the vector, the result, does not.
    dtype = jnp.float32 if dtype == jnp.float16 else dtype
    # Equally varying before lengths are taken, so that one gradient of each is summed over devices, and not two.
    arrays = equally_varying((jnp.asarray(features, dtype), jnp.asarray(kernel, dtype)))
    (rows, per_row), (columns, per_column) = (
        angles.units(each, axis) for each, axis in zip(arrays, (-1, 0), strict=True)
    )
    target = jnp.asarray(target)
    layer = chunks.Layer(
        rows,
        (columns,),
        given(per_column=per_column, class_weights=class_weights),
        own=given(target=target, margin=margin, scale=scale),
        # The same on all devices, but its gradient on each is that of the columns there.
        split=given(per_row=per_row),
        axis_name=axis_name,
    )
    row = functools.partial(_row, classes, with_margin, margin, scale)
    tilings = Tilings.of(columns, chunk_size)
    weight = None
    if "class_weights" in layer.shared:
        (weight,) = classes.sums(classes.share(layer.shared["class_weights"], target))
    return BatchLoss(
        losses=functools.partial(chunks.losses, row, tilings, layer),
        weighted_sum=functools.partial(chunks.weighted_sum, row, tilings, layer),
        normalisers=weight,
    )


def _row(
    classes: ClassAxis,
    with_margin: _MARGINS,
    margin: Real,
    scale: Real,
    products: Array,
    shared: chunks.Arrays,
    own: chunks.Arrays,
) -> Array:
    """The loss of one row of products with the columns, without the terms of options that are not given:

        l = softplus(log Σ exp(s cos θ_c) - s φ(θ_y)),   the sum over c != y.

    It is exact for a class that is almost certain, and its gradient with respect to the right cosine is one number.
    """
    target, scale, margin = own["target"], own.get("scale", scale), own.get("margin", margin)
    cosine = classes.share(products, target)
    if "per_row" in own:  # in bfloat16
        cosine *= classes.share(shared["per_column"], target) * own["per_row"]
        products = products * (shared["per_column"] * own["per_row"])
    is_other = classes.others(target)
    highest = classes.maximum(lax.stop_gradient(jnp.max(jnp.where(is_other, products, -1))))
    # Scale the differences: a cosine times 64 would be rounded again before it is subtracted.
    scores = jnp.where(is_other, scale * (products - highest), -jnp.inf)
    weights = [classes.share(shared["class_weights"], target)] if "class_weights" in shared else []
    rest, cosine, *weights = classes.sums(jnp.sum(jnp.exp(scores)), cosine, *weights)
    log_rest = jnp.where(rest == 0, -jnp.inf, jnp.log(jnp.where(rest == 0, 1, rest)))  # 0 with a single class
    lead = scale * (highest - with_margin(cosine, margin))
    return weighted_by_class(softplus(log_rest + lead), *weights)[0]
