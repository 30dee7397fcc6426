"""Losses of sets, in which each item has a loss of its own."""

import jaxloss
from tests.references import sets
from tests.row import SetRow

ROWS = (
    SetRow(
        jaxloss.info_nce_loss,
        draw=sets.draw_pairs,
        reference=sets.info_nce,
        options=({}, {"symmetric": True, "normalize": False}),
        numbers=("temperature",),
    ),
    SetRow(
        jaxloss.siglip_loss,
        draw=sets.draw_pairs,
        reference=sets.siglip,
        options=({}, {"normalize": False}),
        numbers=("scale", "bias"),
    ),
    SetRow(
        jaxloss.ntxent_loss,
        draw=sets.draw_labelled,
        reference=sets.ntxent,
        options=({}, {"normalize": False}),
        numbers=("temperature",),
    ),
    SetRow(
        jaxloss.supcon_loss,
        draw=sets.draw_labelled,
        reference=sets.supcon,
        options=({}, {"normalize": False}),
        numbers=("temperature",),
    ),
    SetRow(
        jaxloss.multi_similarity_loss,
        draw=sets.draw_labelled,
        reference=sets.multi_similarity,
        options=({}, {"normalize": False, "beta": 2.0}),
        numbers=("alpha", "beta", "base"),
    ),
    SetRow(
        jaxloss.circle_loss,
        draw=sets.draw_labelled,
        reference=sets.circle,
        held=sets.held_circle,
        options=({}, {"gamma": 3.0}),
        numbers=("margin", "gamma"),
    ),
    SetRow(
        jaxloss.batch_hard_triplet_loss,
        draw=sets.draw_labelled,
        reference=sets.batch_hard,
        options=({}, {"soft": True}),
        numbers=("margin", "kink_width"),
        forward_mode=True,
    ),
    SetRow(
        jaxloss.semi_hard_triplet_loss,
        draw=sets.draw_labelled,
        reference=sets.semi_hard,
        numbers=("margin", "kink_width"),
    ),
)
