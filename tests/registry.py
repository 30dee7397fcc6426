"""One row per loss: the generic tests, `test_registry_*.py` and others, run over every row."""

from collections.abc import Hashable

import numpy as np

from tests.row import Row as Row
from tests.rows import (
    angular,
    boxes,
    classification,
    embedding,
    focal,
    hinge,
    language,
    large_output,
    likelihood,
    margin,
    ordinal,
    ranking,
    regression,
    scores,
    segmentation,
    self_supervised,
    sequence,
    sets,
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
    *ranking.ROWS,
    *segmentation.ROWS,
    *boxes.ROWS,
    *self_supervised.ROWS,
    *angular.ROWS,
    *language.ROWS,
    *sequence.ROWS,
)

# Losses of sets, which have tests of their own in `test_registry_sets.py`.
SETS = sets.ROWS


def traits(row: Row) -> set[Hashable]:
    """What the machinery can tell of a row: how its loss is declared and called, but not its formula.

    Tests of the machinery (sharding, exported programs, dtypes of arguments, errors) depend on these alone. The default
    run has them for rows that have all traits together, and `--full` for every row, so that a new loss adds little to
    the default run unless it is declared as no other is.
    """
    declared, letters = row.declaration, {}

    def unnamed(core):
        return tuple(axis if axis.isdigit() else letters.setdefault(axis, len(letters)) for axis in core)

    _, normalisers = row.expected(*row.draw(np.random.default_rng(0), (4, 6)))
    found = (
        tuple((*map(unnamed, pattern.cores), unnamed(pattern.output)) for pattern in declared.patterns),
        row.indexed,
        row.has_axis,
        (declared.sees_batch, bool(declared.split), bool(declared.structures), bool(declared.labels)),
        tuple(sorted(map(unnamed, [*declared.parameters.values(), *declared.per_sample.values()]))),
        bool(declared.lengths),
        # Options: special ones, those that are compiled into the program, and traced numbers.
        ("valid" in declared.own, "ignore_index" in declared.own, bool(declared.static), bool(row.numbers)),
        any(row.domain(name) for name, indexed in zip(row.names, row.indexed, strict=True) if not indexed),
        bool(np.any(normalisers != 1)),
    )
    return set(enumerate(found))


def with_all_traits(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows with a trait that none before them has."""
    seen: set[Hashable] = set()
    chosen = []
    for row in rows:
        if new := traits(row) - seen:
            chosen.append(row)
            seen |= new
    return tuple(chosen)


OF_EACH_KIND = with_all_traits(REGISTRY)
