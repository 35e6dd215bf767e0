"""How the accuracy of rows from several runs differs from the very first row's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slimdeploy._needs import needs
from slimdeploy.records import Interval, Row
from slimdeploy.report.read import bench_file

if TYPE_CHECKING:
    from slimdeploy.accuracy.matches import Matches

Rows = tuple[Row, ...]


def against_first(folders: Sequence[Path], runs: Sequence[Rows]) -> list[Rows]:
    """Return the rows of several runs, each with its difference from the first row of the first run.

    A run's own file tells the differences from its own first row; those of later runs are taken anew. Where a run kept
    no matches, as those of older versions, or was scored on other images, there is none.

    Args:
        folders: the runs' folders.
        runs: the rows of each.

    Raises:
        UsageError: a file of matches is damaged.
        MissingDependency: there are several runs, and the extra `report` is not installed.
    """
    if len(runs) == 1:
        return list(runs)
    kept = [_matches(folder) for folder in folders]
    first = kept[0].get(runs[0][0].name)
    later = [
        tuple(dataclasses.replace(row, difference=_difference(first, found.get(row.name))) for row in rows)
        for rows, found in zip(runs[1:], kept[1:], strict=True)
    ]
    return [runs[0], *later]


def _matches(folder: Path) -> dict[str, Matches]:
    with needs("report"):
        from slimdeploy.accuracy.matches import FILE, load
    path = bench_file(folder).parent / FILE
    return load(path) if path.is_file() else {}


def _difference(first: Matches | None, other: Matches | None) -> Interval | None:
    from slimdeploy.accuracy.bootstrap import paired_bootstrap

    if first is None or other is None or first.truths != other.truths:
        return None
    return paired_bootstrap(first, other)
