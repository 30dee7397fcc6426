"""Losses of sequences."""

import numpy as np

import jaxloss
from tests.references import sequence
from tests.row import Row

ROWS = (
    Row(
        jaxloss.ctc_loss,
        draw=sequence.draw_ctc,
        reference=sequence.ctc,
        extremes=sequence.extreme_ctc,
        options=(
            {},
            {"input_lengths": np.int32(4), "target_lengths": np.int32(1)},
            {"input_lengths": np.int32(1), "zero_infinity": True},
        ),
        infinities={"log_probabilities": (-1,)},
        convex=False,
    ),
    Row(
        jaxloss.rnnt_loss,
        draw=sequence.draw_rnnt,
        reference=sequence.rnnt,
        extremes=sequence.extreme_rnnt,
        options=({}, {"logit_lengths": np.int32(4), "target_lengths": np.int32(1)}),
        # Where no path is left, the loss is infinite and its derivative 0, not that of its way there.
        infinities={"logits": ()},
        convex=False,
        in_torch=False,
    ),
)
