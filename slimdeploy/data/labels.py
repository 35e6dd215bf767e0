"""Read label files in YOLO's format, row for row as ultralytics reads them (8.4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slimdeploy.board.text import brief
from slimdeploy.errors import DataError

COLUMNS = 5
LARGEST_BYTES = 64 << 20
BEYOND = 0.01  # of the image's side, by which a coordinate may lie outside

Box = tuple[int, float, float, float, float]  # class, centre x and y, width, height, in shares of the image
Report = Callable[[DataError], None]


def refuse(problem: DataError) -> None:
    """Raise a problem; where all problems are wanted, something that keeps them stands in its place."""
    raise problem


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFormat:
    """What rows of labels must be read with.

    Attributes:
        classes: number of classes.
        keypoint_columns: columns behind the box that hold keypoints.
    """

    classes: int
    keypoint_columns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The labels of one image.

    Attributes:
        boxes: the boxes, without repeated rows.
        polygons: the outline behind each box, as x, y, x, y, ... in shares, where every row is a polygon; else empty.
        repeated: rows that stand in the file once more.
        missing: there is no file, so that the image holds no objects.
    """

    boxes: tuple[Box, ...] = ()
    polygons: tuple[tuple[float, ...], ...] = ()
    repeated: int = 0
    missing: bool = False


def beside(image: Path, folder: str) -> Path:
    """Return an image's text file in a folder beside `images`, which is the last folder of that name."""
    parts = list(image.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = folder
            break
    return Path(*parts).with_suffix(".txt")


def label_path(image: Path) -> Path:
    """Return where an image's labels lie: `labels` for the last folder called `images`, `.txt` for its suffix.

    In a linked folder they lie beside the link or, where there are none, beside what it leads to.
    """
    listed = beside(image, "labels")
    if listed.is_file():
        return listed
    led_to = beside(image.parent.resolve() / image.name, "labels")
    return led_to if led_to.is_file() else listed


def read_boxes(path: Path, classes: tuple[str, ...], *, keypoint_columns: int = 0) -> list[Box]:
    """Return the boxes of a label file; see `read_labels`."""
    form = LabelFormat(classes=len(classes), keypoint_columns=keypoint_columns)
    return list(read_labels(path, form).boxes)


def read_labels(path: Path, form: LabelFormat, report: Report = refuse) -> Labels:
    """Return the labels of one image.

    A missing file means an image without objects. Rows with more than five columns are polygons, and give the box
    around them, or hold a box and keypoints behind it. A row that stands there twice counts once.

    Args:
        path: the label file.
        form: what its rows hold.
        report: gets each problem: a file that is no text, or a row that is damaged or names a class that is unknown.
    """
    try:
        if not path.exists():
            return Labels(missing=True)
        if not path.is_file() or path.stat().st_size > LARGEST_BYTES:
            report(DataError(f"{path} is no label file", wanted="a text file with a row for each object"))
            return Labels()
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        report(DataError(f"{path} is no text", wanted="a class number and four shares in each row, as UTF-8"))
        return Labels()
    except (OSError, ValueError) as error:
        report(DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"))
        return Labels()
    return _parse(text, path, form, report)


def _parse(text: str, path: Path, form: LabelFormat, report: Report) -> Labels:
    distinct: dict[tuple[float, ...], Box] = {}
    rows = 0
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        rows += 1
        try:
            values = _values(fields, form)
            distinct.setdefault(values, _box(values, form))
        except DataError as error:
            report(DataError(f"{path}:{number} {error.wrong}", wanted=error.wanted, do=error.do))
            rows -= 1
    outlined = bool(distinct) and all(len(values) > COLUMNS for values in distinct)
    return Labels(
        boxes=tuple(distinct.values()),
        polygons=tuple(values[1:] for values in distinct) if outlined else (),
        repeated=rows - len(distinct),
    )


def _values(fields: list[str], form: LabelFormat) -> tuple[float, ...]:
    """Return a row's numbers without its keypoints."""
    if form.keypoint_columns and len(fields) == COLUMNS + form.keypoint_columns:
        fields = fields[:COLUMNS]
    try:
        return tuple(map(float, fields))
    except ValueError as error:
        raise DataError(f"holds {_quoted(fields)}", wanted="a class number and four shares") from error


def _quoted(values: list[str] | tuple[float, ...]) -> str:
    return brief(" ".join(value if isinstance(value, str) else f"{value:g}" for value in values[:20]))


def _box(values: tuple[float, ...], form: LabelFormat) -> Box:
    number, shares = values[0], values[1:]
    if number not in range(form.classes):
        raise DataError(
            f"names class {number:g}", wanted=f"0 to {form.classes - 1}", do="correct the label, or the YAML's names"
        )
    if len(shares) == COLUMNS:
        raise DataError(
            f"holds {_quoted(values)}, six columns", wanted="a class number and four shares",
            do="remove the sixth column, such as the scores of predictions",
        )  # fmt: skip
    if not all(map(math.isfinite, shares)):  # min and max would pass it by
        raise DataError(f"holds {_quoted(values)}", wanted="a class number and four shares, all of them numbers")
    if len(shares) > COLUMNS and len(shares) % 2 == 0:
        xs, ys = shares[0::2], shares[1::2]
        shares = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys))
    if len(shares) != COLUMNS - 1 or not all(-BEYOND <= share <= 1 + BEYOND for share in shares):
        raise DataError(f"holds {_quoted(values)}", wanted="a class number and four shares in 0..1")
    if min(shares[2:]) < 0:
        raise DataError(f"holds {_quoted(values)}", wanted="a width and a height of 0 or more")
    return int(number), shares[0], shares[1], shares[2], shares[3]
