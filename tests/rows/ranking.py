"""Losses of lists."""

import jaxloss
from tests.references import ranking
from tests.row import Row

ROWS = tuple(
    # With an infinite relevance, 0 times infinity is NaN; and the order of the scores is that of infinite ones.
    Row(
        function,
        draw=ranking.draw_list,
        reference=reference,
        infinities={"scores": (-1,), "target": ()},
        in_torch=False,
    )
    for function, reference in (
        (jaxloss.ranking_softmax_loss, ranking.ranking_softmax),
        (jaxloss.listmle_loss, ranking.listmle),
    )
)
