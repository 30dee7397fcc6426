"""Losses of embeddings."""

import math

import jaxloss
from tests.references import embedding, extremes, sets
from tests.row import Row

ROWS = (
    Row(
        jaxloss.triplet_margin_loss,
        draw=embedding.draw_vectors,
        reference=embedding.triplet_margin,
        options=(
            {},
            {"swap": True, "margin": 0.3, "eps": 0.0},
            {"p": 1.0, "kink_width": 0.0},
            {"p": 1.5, "eps": 0.0},
            {"p": 3.0},
            {"p": math.inf, "swap": True},
        ),
        numbers=("margin", "eps", "kink_width"),
        convex=False,
    ),
    Row(
        jaxloss.triplet_margin_with_distance_loss,
        draw=embedding.draw_vectors,
        reference=embedding.triplet_margin_with_distance,
        options=({}, {"swap": True}, {"distance_function": embedding.taxicab, "margin": 0.4}),
        numbers=("margin", "kink_width"),
        convex=False,
    ),
    Row(
        jaxloss.cosine_embedding_loss,
        draw=embedding.draw_vector_pair,
        reference=embedding.cosine_embedding,
        options=({}, {"margin": 0.25, "kink_width": 0.0}),
        numbers=("margin", "kink_width"),
        extremes=extremes.vector_pair,
        convex=False,
        scale=1.0,
    ),
    Row(
        jaxloss.proxy_anchor_loss,
        draw=sets.draw_proxies,
        reference=sets.proxy_anchor,
        options=({"alpha": 4.0}, {}, {"normalize": False, "chunk_size": 3}),
        numbers=("margin", "alpha"),
        extremes=extremes.set_with_proxies,
        convex=False,
        forward_mode=False,
        in_torch=False,
        scale=100.0,
    ),
)
