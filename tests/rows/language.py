"""Losses of language models: of preferences and of policies."""

import jaxloss
from tests.references import language
from tests.row import Row

ROWS = (
    Row(
        jaxloss.dpo_loss,
        draw=language.draw_four,
        reference=language.dpo,
        options=({}, {"label_smoothing": 0.25}, {"beta": 2.0, "label_smoothing": 1}),
        numbers=("beta", "label_smoothing"),
        in_torch=False,
    ),
    Row(
        jaxloss.ipo_loss,
        draw=language.draw_four,
        reference=language.ipo,
        options=({}, {"beta": 0.5}),
        numbers=("beta",),
        in_torch=False,
    ),
    Row(
        jaxloss.simpo_loss,
        draw=language.draw_two,
        reference=language.simpo,
        options=({}, {"beta": 0.5, "gamma": -1.0}),
        numbers=("beta", "gamma"),
        in_torch=False,
    ),
    Row(
        jaxloss.orpo_loss,
        draw=language.draw_two,
        reference=language.orpo,
        options=({}, {"beta": 2.0}),
        numbers=("beta",),
        convex=False,
        in_torch=False,
    ),
    Row(
        jaxloss.kto_loss,
        draw=language.draw_labelled,
        reference=language.kto,
        options=({}, {"beta": 1.0, "desirable_weight": 2.0, "undesirable_weight": 0.5}),
        numbers=("beta", "desirable_weight", "undesirable_weight"),
        detached=language.baseline_of_kto,
        convex=False,
        in_torch=False,
    ),
    Row(
        jaxloss.bradley_terry_loss,
        draw=language.draw_two,
        reference=language.bradley_terry,
        options=({}, {"margin": 1.5}),
        numbers=("margin",),
        in_torch=False,
    ),
    Row(
        jaxloss.clipped_policy_loss,
        draw=language.draw_policy,
        reference=language.clipped_policy,
        options=({}, {"dual_clip": 3.0}, {"clip_low": 1.0, "clip_high": 0.0}),
        numbers=("clip_low", "clip_high", "dual_clip"),
        convex=False,
        in_torch=False,
    ),
)
