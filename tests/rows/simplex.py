"""Losses of a projection onto the simplex, and of a regularised maximum."""

import jaxloss
from tests.references import classification, focal, simplex
from tests.row import Row

ROWS = (
    Row(jaxloss.sparsemax_loss, draw=focal.draw_binary_label, reference=simplex.sparsemax, in_torch=False),
    Row(
        jaxloss.multiclass_sparsemax_loss,
        draw=simplex.draw_close,
        reference=simplex.multiclass_sparsemax,
        in_torch=False,
    ),
    Row(
        jaxloss.fenchel_young_loss,
        draw=classification.draw_soft,
        reference=simplex.fenchel_young,
        # The maximum is the caller's: that of JAX, logsumexp, has the derivative NaN at inf. Infinity times 0 is NaN.
        infinities={"scores": (-1,), "target": ()},
        in_torch=False,
    ),
    Row(
        jaxloss.fenchel_young_loss,
        draw=classification.draw_soft,
        reference=simplex.fenchel_young,
        options=({"max_fun": simplex.largest_size},),
        infinities={"scores": (), "target": ()},
        in_torch=False,
    ),
)
