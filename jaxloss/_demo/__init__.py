"""The demo of `python -m jaxloss`: small networks, trained on data that packages carry, with each of several losses."""

from collections.abc import Mapping

from jaxloss._demo.digits import CLASSIFICATION, IMBALANCE
from jaxloss._demo.embedding import EMBEDDING
from jaxloss._demo.language import LANGUAGE
from jaxloss._demo.ranking import RANKING
from jaxloss._demo.segmentation import SEGMENTATION
from jaxloss._demo.training import Task

TASKS: Mapping[str, Task] = {
    "classification": CLASSIFICATION,
    "imbalance": IMBALANCE,
    "segmentation": SEGMENTATION,
    "embedding": EMBEDDING,
    "ranking": RANKING,
    "language": LANGUAGE,
}
