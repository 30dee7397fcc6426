"""Losses of reinforcement learning from the log-probabilities of a policy."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax import Array

from jaxloss import _numerics as numerics
from jaxloss import _positive as positive
from jaxloss import kinks
from jaxloss._arrays import Real
from jaxloss._data_checks import nan_unless
from jaxloss._decorator.lift import loss
from jaxloss.options import ReductionOptions


@loss("(),(),()->()", domains={"clip_low": "[0, 1]", "clip_high": "[0, inf)", "dual_clip": "(1, inf)"})
def clipped_policy_loss(
    log_probability: Real,
    old_log_probability: Real,
    advantage: Real,
    *,
    clip_low: Real = 0.2,
    clip_high: Real = 0.2,
    dual_clip: Real | None = None,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""The clipped surrogate of PPO and GRPO, for one token or one action.

    $$l = -\min \bigl( \rho A,\; \operatorname{clip}(\rho,\, 1 - \epsilon_-,\, 1 + \epsilon_+)\, A \bigr), \qquad
    \rho = e^{x - x_\text{old}}$$

    and with a dual clip $c$, at most $-c A$ where $A < 0$. That is, $\rho$ counts as at most $1 + \epsilon_+$ where
    $A > 0$, and as at least $1 - \epsilon_-$ and at most $c$ where $A < 0$. Beyond these bounds, the derivative with
    respect to $x$ and $x_\text{old}$ is 0. At a bound, it is the mean of those on both sides, and within one machine
    epsilon of it, it follows a ramp between them, as in `jaxloss.kinks`. The same holds for the derivative with respect
    to $A$ at $A = 0$.

    Args:
      log_probability: floating, any shape `(...)`: $x$, the log-probability of a token or an action.
      old_log_probability: floating, the same shape: $x_\text{old}$, as of the policy that drew the token.
      advantage: floating, the same shape: $A$, by how much better the outcome is than expected. To have one advantage
        for each answer of shape `(n, t)`, pass `advantage[:, None]`.
      clip_low: $\epsilon_-$ in [0, 1]. A number, or an array with one number per sample.
      clip_high: $\epsilon_+$, at least 0. A number, or an array with one number per sample.
      dual_clip: $c$, above 1, which bounds the loss of a token that the old policy would hardly have drawn. None means
        no bound. A number, or an array with one number per sample.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`. They say how tokens are averaged, which
        differs between papers.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, `clip_low` is outside [0, 1], `clip_high` is negative, or `dual_clip` is at most 1.
      TypeError: an argument is not floating.

    Reference:
      Schulman et al., Proximal policy optimization algorithms, 2017, equation 7; with two bounds, Yu et al., DAPO: an
      open-source LLM reinforcement learning system at scale, 2025, section 3.1; with a dual clip, Ye et al., Mastering
      complex control in MOBA games with deep reinforcement learning, AAAI 2020.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> x, old = jnp.log(jnp.array([0.25, 0.75, 0.25, 0.75])), jnp.log(jnp.array([0.5, 0.5, 0.5, 0.125]))
      >>> advantage = jnp.array([1.0, 1.0, -1.0, -1.0])
      >>> losses = jaxloss.clipped_policy_loss(x, old, advantage, clip_low=0.25, clip_high=0.25, reduction="none")
      >>> print(losses.round(4))
      [-0.5  -1.25  0.75  6.  ]
    """
    log_ratio = jnp.subtract(log_probability, old_log_probability)
    bounds = (1 - clip_low, 1 + clip_high, jnp.inf if dual_clip is None else dual_clip)
    low, high, highest = (jnp.asarray(bound, log_ratio.dtype) for bound in bounds)
    surrogate = _surrogate(log_ratio, jnp.asarray(advantage), low, high, highest)
    # Nothing is above or below NaN, so it would turn clipping off. No bound is -inf, so only NaN makes the sum NaN.
    return nan_unless(~jnp.isnan(low + high + highest), surrogate)


@jax.custom_jvp
def _surrogate(log_ratio: Array, advantage: Array, low: Array, high: Array, highest: Array) -> Array:
    """-A min(e^x, high) for a positive A, and -A clip(e^x, low, highest) for the others."""
    is_gain = advantage > 0
    floor, ceiling = jnp.where(is_gain, 0, low), jnp.where(is_gain, high, highest)
    # Not A times the clipped ratio, which may be infinite where the product is not.
    ratio, scaled = jnp.exp(log_ratio), positive.scaled_exp(-advantage, log_ratio)
    return jnp.where(ratio > ceiling, -advantage * ceiling, jnp.where(ratio < floor, -advantage * floor, scaled))


@_surrogate.defjvp
def _surrogate_jvp(primals, tangents):
    log_ratio, (advantage, low, high, highest) = numerics.finite(primals[0]), primals[1:]
    # Each share is 0 or 1, but for the ramps at the kinks. All else is finite, so that its product with a 0 is 0.
    ratio = positive.scaled_exp(jnp.ones_like(log_ratio), log_ratio)
    slope = numerics.finite(positive.scaled_exp(-advantage, log_ratio))
    gain, lack = (numerics.finite(kinks.positive_part(each)) for each in (advantage, -advantage))
    is_gain, is_low = _share_above_0(advantage), _share_above_0(positive.log_of_positive(low) - log_ratio)
    is_high, is_highest = (_share_above_0(log_ratio - positive.log_of_positive(bound)) for bound in (high, highest))
    # The slope of a small advantage is small, so it has no kink at 0.
    side = (1 + jnp.sign(advantage)) / 2
    by_log_ratio = slope * (side * (1 - is_high) + (1 - side) * (1 - is_low) * (1 - is_highest))
    of_lack = numerics.finite(jnp.clip(ratio, low, highest))
    by_advantage = is_gain * jnp.minimum(ratio, high) + (1 - is_gain) * of_lack
    change = by_log_ratio * tangents[0] - by_advantage * tangents[1] + lack * is_low * tangents[2]
    return _surrogate(*primals), change - gain * is_high * tangents[3] + lack * is_highest * tangents[4]


def _share_above_0(x: Array) -> Array:
    """The derivative of `kinks.positive_part`."""
    return (1 + kinks.ramp(x, kinks.resolve_width("clipped_policy_loss", x, None))) / 2
