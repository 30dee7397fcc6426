"""Losses of knowledge distillation: the softmax of a student is to be that of a teacher."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Unpack

import jax.numpy as jnp
from jax import Array

from jaxloss import _entropy
from jaxloss import _numerics as numerics
from jaxloss import _positive as positive
from jaxloss._arrays import Real, Vector
from jaxloss._class_axis import ClassAxis
from jaxloss._decorator.lift import loss
from jaxloss._kept_gradient import keep_gradient
from jaxloss.options import AxisOptions, is_given


@loss("(c),(c)->()", domains={"temperature": "(0, inf)"})
def distillation_loss(
    logits: Vector,
    teacher_logits: Vector,
    *,
    temperature: Real = 1.0,
    reverse: bool = False,
    **options: Unpack[AxisOptions],
) -> Array:
    r"""Kullback-Leibler divergence of a student's softmax from its teacher's, both at a temperature.

    $$l = \tau^2 \operatorname{KL}\bigl(\operatorname{softmax}(t / \tau) \,\|\, \operatorname{softmax}(x / \tau)\bigr),
    \qquad \operatorname{KL}(p \,\|\, q) = \sum_c p_c \log \frac{p_c}{q_c}$$

    With `reverse`, the divergence of the teacher from the student, $\operatorname{KL}(\operatorname{softmax}(x / \tau)
    \,\|\, \operatorname{softmax}(t / \tau))$, which a student with few parameters minimises by leaving out some of the
    teacher's classes. The factor $\tau^2$ keeps the size of the gradient, whatever the temperature.

    The loss is never negative. It is differentiated with respect to the teacher too; `jax.lax.stop_gradient` keeps the
    teacher as it is.

    Args:
      logits: floating `(..., C)`: $x$, the scores of the student.
      teacher_logits: floating, the same shape: $t$.
      temperature: above 0: $\tau$. A number, or an array with one value per sample.
      reverse: whether student and teacher are exchanged in the divergence.
      options: `axis`, `weights`, `where`, `reduction`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sample. Infinite if a class is impossible in
      the second distribution, with the score -inf, but not in the first.

    Raises:
      ValueError: shapes do not fit, or `temperature` is not above 0.
      TypeError: `logits` or `teacher_logits` is not floating.

    Reference:
      Hinton et al., Distilling the knowledge in a neural network, 2015, section 2; Gu et al., MiniLLM, ICLR 2024
      (reverse).

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> student, teacher = jnp.array([[0.0, 0.0], [2.0, 0.0]]), jnp.array([[2.0, 0.0], [2.0, 0.0]])
      >>> print(jaxloss.distillation_loss(student, teacher, temperature=2.0, reduction="none").round(4))
      [0.4438 0.    ]
    """

    divergence = _divergence(_all_classes(logits), reverse)

    def of(x: Array, t: Array, temperature: Real) -> Array:
        return times_square(temperature, _of_tempered(divergence, x, t, temperature))

    x, t = jnp.asarray(logits), jnp.asarray(teacher_logits)
    # Of the factor and of the divergence, the derivatives by the temperature may be infinities of either sign.
    return keep_gradient(of, x, t, temperature) if is_given(temperature) else of(x, t, temperature)


@loss("(c),(c)->()", domains={"beta": "(0, 1)", "temperature": "(0, inf)"})
def jensen_shannon_loss(
    logits: Vector,
    teacher_logits: Vector,
    *,
    beta: Real = 0.5,
    temperature: Real = 1.0,
    **options: Unpack[AxisOptions],
) -> Array:
    r"""Generalised Jensen-Shannon divergence of the softmaxes of a student and its teacher.

    $$l = \beta \operatorname{KL}(p \,\|\, m) + (1 - \beta) \operatorname{KL}(q \,\|\, m), \qquad
    m = \beta p + (1 - \beta) q$$

    where $p = \operatorname{softmax}(t / \tau)$ is of the teacher and $q = \operatorname{softmax}(x / \tau)$ of the
    student. Divided by $\beta$, the loss becomes $\operatorname{KL}(p \,\|\, q)$ for $\beta \to 0$; divided by
    $1 - \beta$, it becomes $\operatorname{KL}(q \,\|\, p)$ for $\beta \to 1$. It is at most $\log 2$, even where a
    class is impossible.

    The loss is differentiated with respect to the teacher too; `jax.lax.stop_gradient` keeps the teacher as it is.

    Args:
      logits: floating `(..., C)`: $x$, the scores of the student.
      teacher_logits: floating, the same shape: $t$.
      beta: in (0, 1): $\beta$, the share of the teacher. A number, or an array with one value per sample.
      temperature: above 0: $\tau$. A number, or an array with one value per sample.
      options: `axis`, `weights`, `where`, `reduction`: see `jaxloss.AxisOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, one loss per sample.

    Raises:
      ValueError: shapes do not fit, `beta` is not in (0, 1), or `temperature` is not above 0.
      TypeError: `logits` or `teacher_logits` is not floating.

    Reference:
      Agarwal et al., On-policy distillation of language models, ICLR 2024, equation 1.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> student, teacher = jnp.array([[0.0, 0.0], [2.0, 0.0]]), jnp.array([[2.0, 0.0], [2.0, 0.0]])
      >>> print(jaxloss.jensen_shannon_loss(student, teacher, reduction="none").round(4))
      [0.0895 0.    ]
    """
    classes = _all_classes(logits)
    divergence = functools.partial(_entropy.jensen_shannon, classes)
    x, t = jnp.asarray(logits), jnp.asarray(teacher_logits)
    return _at_temperature(classes, divergence, x, t, temperature, jnp.asarray(beta, x.dtype))


def divergence_of(classes: ClassAxis, reverse: bool, factor: Real, temperature: Real, x: Vector, t: Vector) -> Array:
    """The loss of a student's and a teacher's logits. The factor is the temperature, the same on all devices."""
    arrays = jnp.asarray(x), jnp.asarray(t)
    return times_square(factor, _at_temperature(classes, _divergence(classes, reverse), *arrays, temperature))


def times_square(temperature: Real, divergence: Array) -> Array:
    """The loss, whose gradient has the same size at each temperature."""
    if not is_given(temperature):
        return divergence
    return numerics.weighted(numerics.finite(numerics.square(jnp.asarray(temperature))), divergence)


def _divergence(classes: ClassAxis, reverse: bool) -> Callable[[Array, Array], Array]:
    """The divergence of a student's logits and a teacher's."""

    def divergence(x: Array, t: Array) -> Array:
        return _entropy.relative_entropy(classes, *((x, t) if reverse else (t, x)))

    return divergence


def _at_temperature(
    classes: ClassAxis, divergence: Callable[..., Array], x: Array, t: Array, temperature: Real, *share: Array
) -> Array:
    """The divergence of logits divided by the temperature, with the gradient of these."""
    if not is_given(temperature):
        return divergence(x, t, *share)
    of = functools.partial(_of_tempered, divergence)
    # The derivative by the temperature is a sum over classes that may be infinity minus infinity, times a cotangent.
    return keep_gradient(of, x, t, temperature, *share, total=lambda term: classes.sums(term)[0])


def _of_tempered(divergence: Callable[..., Array], x: Array, t: Array, temperature: Real, *share: Array) -> Array:
    if is_given(temperature):
        x, t = (positive.tempered(logits, jnp.asarray(temperature)) for logits in (x, t))
    return divergence(x, t, *share)


def _all_classes(logits: Vector) -> ClassAxis:
    return ClassAxis(logits.shape[0], None, logits.shape[0])
