"""One row per loss: the generic tests, `test_registry_*.py` and others, run over every row."""

from tests.row import Row as Row
from tests.rows import (
    boxes,
    classification,
    embedding,
    focal,
    hinge,
    large_output,
    likelihood,
    margin,
    ordinal,
    regression,
    scores,
    segmentation,
    simplex,
)

REGISTRY = (
    *regression.ROWS,
    *likelihood.ROWS,
    *scores.ROWS,
    *classification.ROWS,
    *large_output.ROWS,
    *focal.ROWS,
    *hinge.ROWS,
    *margin.ROWS,
    *simplex.ROWS,
    *ordinal.ROWS,
    *embedding.ROWS,
    *segmentation.ROWS,
    *boxes.ROWS,
)
