"""Losses of the pixels of an image."""

import jaxloss
from tests.references import extremes, segmentation
from tests.row import Row

ROWS = (
    Row(
        jaxloss.tversky_loss,
        draw=segmentation.draw_soft_region,
        reference=segmentation.tversky,
        options=({}, {"alpha": 0.25, "beta": 0.75, "smooth": 0.0}),
        numbers=("alpha", "beta", "smooth"),
        extremes=extremes.region,
        convex=False,
        in_torch=False,
    ),
    Row(
        jaxloss.dice_loss,
        draw=segmentation.draw_soft_region,
        reference=segmentation.tversky,
        options=({}, {"smooth": 0.25}),
        numbers=("smooth",),
        extremes=extremes.region,
        convex=False,
        in_torch=False,
    ),
    Row(
        jaxloss.jaccard_loss,
        draw=segmentation.draw_soft_region,
        reference=segmentation.jaccard,
        options=({}, {"smooth": 0.25}),
        numbers=("smooth",),
        extremes=extremes.region,
        convex=False,
        in_torch=False,
    ),
    Row(
        jaxloss.lovasz_hinge_loss,
        draw=segmentation.draw_region,
        reference=segmentation.lovasz_hinge,
        in_torch=False,
    ),
    Row(
        jaxloss.lovasz_softmax_loss,
        draw=segmentation.draw_region_of_probabilities,
        reference=segmentation.lovasz_softmax,
        extremes=extremes.region,
        in_torch=False,
    ),
)
