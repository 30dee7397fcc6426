"""Losses of lists."""

import jaxloss
from tests.references import ranking
from tests.row import Row

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

OF_PAIRS = {
    jaxloss.pairwise_logistic_loss: {"reference": ranking.pairwise_logistic},
    jaxloss.pairwise_hinge_loss: {
        "reference": ranking.pairwise_hinge,
        "numbers": ("margin",),
        "kinked": {"margin": 0.0},
    },
}
ROWS = (
    *OF_SCORES,
    *(
        Row(
            function,
            draw=ranking.draw_list,
            options=({}, {"pair_weights": ranking.of_high_grades}),
            in_torch=False,
            **given,
        )
        for function, given in OF_PAIRS.items()
    ),
    # Gains are infinite where a grade is, and negative where it is.
    *(
        Row(
            function,
            draw=ranking.draw_list,
            options=({"pair_weights": jaxloss.ndcg_pair_weights},),
            extremes=ranking.extreme_grades,
            infinities={"target": ()},
            convex=False,
            in_torch=False,
            **given,
        )
        for function, given in OF_PAIRS.items()
    ),
)
