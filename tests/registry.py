"""One row per loss: the generic tests, `test_registry_*.py` and others, run over every row."""

from tests.row import Row as Row
from tests.rows import (
    boxes,
    classification,
    embedding,
    hinge,
    large_output,
    likelihood,
    margin,
    regression,
    scores,
    segmentation,
)

REGISTRY = (
    *regression.ROWS,
    *likelihood.ROWS,
    *scores.ROWS,
    *classification.ROWS,
    *large_output.ROWS,
    *hinge.ROWS,
    *margin.ROWS,
    *embedding.ROWS,
    *segmentation.ROWS,
    *boxes.ROWS,
)
