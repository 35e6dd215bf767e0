"""COCO's further figures: by IoU, by the objects' size, by the number of boxes, by class."""

from __future__ import annotations

from collections.abc import Sequence

from slimdeploy.records import Row
from slimdeploy.report.cells import NOT_MEASURED

DETAILS = {  # by their titles
    "AP75": "ap75", "small": "ap_small", "medium": "ap_medium", "large": "ap_large", "AR1": "ar1", "AR10": "ar10",
    "AR": "ar", "AR small": "ar_small", "AR medium": "ar_medium", "AR large": "ar_large",
}  # fmt: skip
DETAILS_NOTE = (
    "small, medium, large: AP50-95 of objects below 32x32, up to 96x96 and above, in pixels of the image file; "
    "AR: recall over IoU 0.50 to 0.95 with all boxes, AR1 and AR10 with the best 1 and 10 of a class in an image."
)


def details(row: Row) -> tuple[str, ...]:
    """Return the figures of a row in the order of DETAILS; what it has not is a dash."""
    figures = row.accuracy.figures if row.accuracy else {}
    return tuple(f"{figures[key]:.3f}" if key in figures else NOT_MEASURED for key in DETAILS.values())


def by_class(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return for each class its name and AP50-95 of every row; classes of the first row that has some, in its order."""
    found = [row.accuracy.per_class if row.accuracy else {} for row in rows]
    names = dict.fromkeys(name for one in found for name in one)
    return [(name, *(f"{one[name]:.3f}" if name in one else NOT_MEASURED for one in found)) for name in names]


def side_by_side(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return a line for each further figure and each class that is known of one row or more, a column for each row."""
    lines = [(title, *values) for title, *values in zip(DETAILS, *map(details, rows), strict=True)]
    classes = by_class(rows)
    return [line for line in lines if set(line[1:]) != {NOT_MEASURED}] + (classes if len(classes) > 1 else [])
