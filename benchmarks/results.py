"""What a benchmark yields."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
      label: what was measured.
      measured: candidate to number; less is better.
      unit: of the numbers.
      spread: candidate to half of the range that the middle half of its rounds lies in, in the same unit.
    """

    label: str
    measured: Mapping[str, float]
    unit: str
    spread: Mapping[str, float] = dataclasses.field(default_factory=dict)
