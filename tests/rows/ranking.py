"""Losses of lists."""

import jaxloss
from tests.references import ranking
from tests.row import Row

WEIGHED = ({}, {"pair_weights": jaxloss.ndcg_pair_weights}, {"pair_weights": ranking.by_grade})
OF_SCORES = tuple(
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

ROWS = (
    *OF_SCORES,
    Row(
        jaxloss.pairwise_logistic_loss,
        draw=ranking.draw_list,
        reference=ranking.pairwise_logistic,
        options=WEIGHED,
        in_torch=False,
    ),
    Row(
        jaxloss.pairwise_hinge_loss,
        draw=ranking.draw_list,
        reference=ranking.pairwise_hinge,
        options=WEIGHED,
        numbers=("margin",),
        kinked={"margin": 0.0},
        in_torch=False,
    ),
)
