"""Losses of preferences between answers, from their log-probabilities or scores."""

from __future__ import annotations

from typing import Unpack

import jax.numpy as jnp
from jax import Array, lax

from jaxloss import _logistic as logistic
from jaxloss import _numerics as numerics
from jaxloss import _odds as odds
from jaxloss import _positive as positive
from jaxloss import _special as special
from jaxloss._arrays import Real
from jaxloss._data_checks import nan_unless
from jaxloss._decorator.lift import loss
from jaxloss.options import ReductionOptions, is_given


@loss("(),(),(),()->()", domains={"beta": "(0, inf)", "label_smoothing": "[0, 1]"})
def dpo_loss(
    chosen: Real,
    rejected: Real,
    reference_chosen: Real,
    reference_rejected: Real,
    *,
    beta: Real = 0.1,
    label_smoothing: Real = 0.0,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""Direct preference optimisation: the policy should prefer the chosen answer more than a reference model does.

    $$l = -(1 - \epsilon) \log \sigma(\beta \Delta) - \epsilon \log \sigma(-\beta \Delta), \qquad
    \Delta = (c - c_\text{ref}) - (r - r_\text{ref})$$

    With label smoothing, it is conservative DPO, for preferences that are wrong with probability $\epsilon$.

    Args:
      chosen: floating, any shape `(...)`: $c$, the log-probability of the whole chosen answer, the sum over its tokens.
      rejected: floating, the same shape: $r$, that of the rejected answer.
      reference_chosen: floating, the same shape: $c_\text{ref}$, as `chosen`, of the reference model.
      reference_rejected: floating, the same shape: $r_\text{ref}$, as `rejected`, of the reference model.
      beta: $\beta$, above 0: how strongly the policy is kept near the reference model. A number, or one per sample.
      label_smoothing: $\epsilon$ in [0, 1], the share of preferences that are the wrong way round; below 1/2 in use.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, `beta` is not above 0, or `label_smoothing` is outside [0, 1].
      TypeError: an argument is not floating.

    Reference:
      Rafailov et al., Direct preference optimization: your language model is secretly a reward model, NeurIPS 2023,
      equation 7; Mitchell, A note on DPO with noisy preferences and relationship to IPO, 2023, equation 3.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> chosen, rejected = jnp.array([-20.0, -35.0]), jnp.array([-25.0, -30.0])
      >>> reference = jnp.array([-22.0, -32.0]), jnp.array([-24.0, -31.0])
      >>> print(f"{jaxloss.dpo_loss(chosen, rejected, *reference):.4f}")
      0.7337
    """
    quarter = numerics.product(beta, _quarter_lead(chosen, rejected, reference_chosen, reference_rejected))
    half = quarter + quarter
    logits = half + half  # not 4 times the product: XLA would multiply 4 and beta first, which may overflow
    if is_given(label_smoothing):
        return logistic.logistic_cross_entropy(-logits, jnp.asarray(label_smoothing))
    return logistic.softplus(-logits)


@loss("(),(),(),()->()", domains={"beta": "(0, inf)"})
def ipo_loss(
    chosen: Real,
    rejected: Real,
    reference_chosen: Real,
    reference_rejected: Real,
    *,
    beta: Real = 0.1,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""Identity preference optimisation: the lead of the chosen answer should be a fixed number, and not infinite.

    $$l = \Bigl( \Delta - \frac{1}{2 \beta} \Bigr)^2, \qquad
    \Delta = (c - c_\text{ref}) - (r - r_\text{ref})$$

    Args:
      chosen: floating, any shape `(...)`: $c$, the log-probability of the whole chosen answer, the sum over its tokens;
        some libraries take the mean.
      rejected: floating, the same shape: $r$, that of the rejected answer.
      reference_chosen: floating, the same shape: $c_\text{ref}$, as `chosen`, of the reference model.
      reference_rejected: floating, the same shape: $r_\text{ref}$, as `rejected`, of the reference model.
      beta: $\beta$, above 0: how strongly the policy is kept near the reference model. A number, or one per sample.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, or `beta` is not above 0.
      TypeError: an argument is not floating.

    Reference:
      Azar et al., A general theoretical paradigm to understand learning from human preferences, AISTATS 2024,
      equation 17.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> chosen, rejected = jnp.array([-20.0, -35.0]), jnp.array([-25.0, -30.0])
      >>> reference = jnp.array([-22.0, -32.0]), jnp.array([-24.0, -31.0])
      >>> print(jaxloss.ipo_loss(chosen, rejected, *reference, beta=0.125, reduction="none"))
      [ 1. 64.]
    """
    lead = 4 * _quarter_lead(chosen, rejected, reference_chosen, reference_rejected)
    return numerics.square(lead - positive.quotient(jnp.full_like(lead, 0.5), jnp.asarray(beta, lead.dtype)))


@loss("(),()->()", domains={"beta": "(0, inf)"})
def simpo_loss(
    chosen: Real,
    rejected: Real,
    *,
    beta: Real = 2.0,
    gamma: Real = 0.5,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""Simple preference optimisation: the mean log-probability of the chosen answer should lead by a margin.

    $$l = -\log \sigma \bigl( \beta (c - r) - \gamma \bigr)$$

    It needs no reference model.

    Args:
      chosen: floating, any shape `(...)`: $c$, the mean log-probability of the tokens of the chosen answer.
      rejected: floating, the same shape: $r$, that of the rejected answer.
      beta: $\beta$, above 0: the scale of the difference. A number, or an array with one number per sample.
      gamma: $\gamma$, the margin. It is not multiplied by $\beta$. A number, or an array with one number per sample.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit, or `beta` is not above 0.
      TypeError: an argument is not floating.

    Reference:
      Meng, Xia and Chen, SimPO: simple preference optimization with a reference-free reward, NeurIPS 2024, equation 6.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> chosen, rejected = jnp.array([-0.5, -1.5]), jnp.array([-1.0, -1.0])
      >>> print(f"{jaxloss.simpo_loss(chosen, rejected):.4f}")
      1.0877
    """
    return logistic.softplus(gamma - numerics.product(beta, jnp.subtract(chosen, rejected)))


@loss("(),()->()", domains={"chosen": "[-inf, 0]", "rejected": "[-inf, 0]", "beta": "(0, inf)"})
def orpo_loss(chosen: Real, rejected: Real, *, beta: Real = 0.1, **options: Unpack[ReductionOptions]) -> Array:
    r"""Odds ratio preference optimisation: the likelihood of the chosen answer, and its odds against the rejected one.

    $$l = -c - \beta \log \sigma \bigl( o(c) - o(r) \bigr), \qquad o(l) = l - \log(1 - e^l)$$

    It needs no reference model. The odds of an answer with log-probability 0 are infinite: the second term is 0 if only
    the chosen answer has it, infinite if only the rejected one has it, and $\beta \log 2$, as for any equal odds, if
    both have it.

    Args:
      chosen: floating, at most 0, any shape `(...)`: $c$, the mean log-probability of the tokens of the chosen answer.
      rejected: floating, at most 0, the same shape: $r$, that of the rejected answer.
      beta: $\beta$, above 0: the weight of the odds ratio. A number, or an array with one number per sample.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments. NaN for a log-probability
      above 0. Where a derivative is infinite, it is β times a finite number near the largest.

    Raises:
      ValueError: shapes do not fit, or `beta` is not above 0.
      TypeError: an argument is not floating.

    Reference:
      Hong, Lee and Thorne, ORPO: monolithic preference optimization without reference model, EMNLP 2024, equations 6
      and 7.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> chosen, rejected = jnp.log(jnp.array([0.5, 0.25])), jnp.log(jnp.array([0.25, 0.5]))
      >>> print(f"{jaxloss.orpo_loss(chosen, rejected, beta=0.5):.4f}")
      1.4582
    """
    chosen, rejected = jnp.asarray(chosen), jnp.asarray(rejected)
    likelihood, odds_ratio = -chosen, odds.log_of_odds_ratio_loss(chosen, rejected)
    return nan_unless((chosen <= 0) & (rejected <= 0), likelihood + numerics.product(beta, odds_ratio))


@loss(
    "(),(),()->()",
    domains={
        "target": "{-1, 1}",
        "beta": "(0, inf)",
        "desirable_weight": "[0, inf)",
        "undesirable_weight": "[0, inf)",
    },
)
def kto_loss(
    log_ratio: Real,
    target: Real,
    baseline: Real,
    *,
    beta: Real = 0.1,
    desirable_weight: Real = 1.0,
    undesirable_weight: Real = 1.0,
    **options: Unpack[ReductionOptions],
) -> Array:
    r"""Kahneman-Tversky optimisation: from single answers, each of which is desirable or not.

    $$l = w_y \Bigl( 1 - \sigma \bigl( y \beta (x - z) \bigr) \Bigr), \qquad
    w_1 = \lambda_D, \quad w_{-1} = \lambda_U$$

    Args:
      log_ratio: floating, any shape `(...)`: $x$, the log-probability of a whole answer minus that of the reference
        model.
      target: 1 for desirable answers, -1 for undesirable ones, the same shape: $y$.
      baseline: floating, the same shape or a scalar: $z$, an estimate of the divergence of the policy from the
        reference model, such as the mean log-ratio of answers to other prompts, at least 0. No gradient goes through
        it.
      beta: $\beta$, above 0: how fast the loss saturates. A number, or an array with one number per sample.
      desirable_weight: $\lambda_D$, at least 0. A number, or an array with one number per sample.
      undesirable_weight: $\lambda_U$, at least 0. A number, or an array with one number per sample.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments. NaN for any other target.

    Raises:
      ValueError: shapes do not fit, `beta` is not above 0, or a weight is negative.
      TypeError: `log_ratio` or `baseline` is not floating.

    Reference:
      Ethayarajh et al., KTO: model alignment as prospect theoretic optimization, ICML 2024, section 4.1.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> log_ratio, target = jnp.array([10.0, 10.0, -5.0]), jnp.array([1, -1, -1])
      >>> print(f"{jaxloss.kto_loss(log_ratio, target, 0.0, undesirable_weight=2.0):.4f}")
      0.8287
    """
    weight = jnp.where(target == 1, desirable_weight, nan_unless(target == -1, jnp.asarray(undesirable_weight)))
    ahead = numerics.product(target, numerics.product(beta, log_ratio - lax.stop_gradient(baseline)))
    return weight * special.logistic(-ahead)


@loss("(),()->()")
def bradley_terry_loss(
    chosen: Real, rejected: Real, *, margin: Real = 0.0, **options: Unpack[ReductionOptions]
) -> Array:
    r"""Negative log-likelihood of a preference in the model of Bradley and Terry: the loss of reward models.

    $$l = \log \bigl( 1 + e^{-(c - r - m)} \bigr)$$

    Args:
      chosen: floating, any shape `(...)`: $c$, the reward of the chosen answer.
      rejected: floating, the same shape: $r$, that of the rejected answer.
      margin: $m$, by how much the chosen answer is better, if that is known. A number, or an array with one number per
        sample.
      options: `weights`, `where`, `reduction`: see `jaxloss.ReductionOptions`.

    Returns:
      The reduced loss, a scalar; with `reduction="none"`, of the shape of the arguments.

    Raises:
      ValueError: shapes do not fit.
      TypeError: an argument is not floating.

    Reference:
      Bradley and Terry, Rank analysis of incomplete block designs, Biometrika 39, 1952; with a margin, Touvron et al.,
      Llama 2: open foundation and fine-tuned chat models, 2023, equation 2.

    Example:
      >>> import jax.numpy as jnp, jaxloss
      >>> chosen, rejected = jnp.array([2.0, 0.5]), jnp.array([1.0, 1.0])
      >>> print(f"{jaxloss.bradley_terry_loss(chosen, rejected, margin=0.5):.4f}")
      0.8937
    """
    return logistic.softplus(margin - jnp.subtract(chosen, rejected))


def _quarter_lead(chosen: Real, rejected: Real, reference_chosen: Real, reference_rejected: Real) -> Array:
    """A quarter of how much more the policy prefers the chosen answer than the reference model does.

    No difference of finite numbers overflows to an infinity in it, so none is subtracted from another.
    """
    ratios = (chosen, reference_chosen), (rejected, reference_rejected)
    return numerics.half_difference(*(numerics.half_difference(*each) for each in ratios))
