"""The table's columns: one value and one text for each row. What was not measured is a dash, never 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slimdeploy.bench import stats
from slimdeploy.board.text import printable
from slimdeploy.records import Report, Row
from slimdeploy.report.findings import Speedup, points, speedups

NOT_MEASURED = "\N{EN DASH}"
NO_DIFFERENCE = "no difference shown"
TOO_FEW_ROUNDS = "too few rounds"
TOO_FEW_IMAGES = "too few images"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One value of the table.

    Attributes:
        text: as shown.
        value: what it is sorted by; None where nothing was measured.
    """

    text: str
    value: float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the table.

    Attributes:
        key: its name in JSON, with its unit.
        title: its name as shown.
        about: what it means, in a sentence.
        text: whether it holds words, which stand at the left.
    """

    key: str
    title: str
    about: str
    text: bool = False


COLUMNS = (
    Column(key="name", title="model", about="The form of the network.", text=True),
    Column(key="file", title="file", about="The file that was scored and timed.", text=True),
    Column(key="type", title="type", about="File format and number format.", text=True),
    Column(key="parameters", title="parameters", about="Scalars in the weights."),
    Column(key="size_mb", title="MB", about="Size of the file, in 1,000,000 bytes."),
    Column(key="gmacs", title="GMACs", about="Multiply-accumulates of one image, in 1,000,000,000."),
    Column(key="map50", title="mAP50", about="Mean average precision at IoU 0.50."),
    Column(key="map50_95", title="mAP50-95", about="Mean average precision over IoU 0.50 to 0.95."),
    Column(
        key="difference",
        title="points",
        about="mAP50-95 more than the first row's, in points (hundredths), with the 95 % interval over the images.",
    ),
    Column(key="precision", title="precision", about="Precision at the confidence of the best F1, IoU 0.50."),
    Column(key="recall", title="recall", about="Recall at the confidence of the best F1, IoU 0.50."),
    Column(key="p50_ms", title="p50 ms", about="Median latency of one call."),
    Column(key="p90_ms", title="p90 ms", about="Latency that 90 % of the calls stay within."),
    Column(key="p99_ms", title="p99 ms", about="Latency that 99 % of the calls stay within."),
    Column(key="images_per_s", title="images/s", about="Images a second at the median, one call after the other."),
    Column(
        key="speedup", title="speed-up", about="Times as fast as the first row, with its 95 % interval, round by round."
    ),
)


def table(report: Report) -> list[dict[str, Cell]]:
    """Return the cells of every row, by the column's key."""
    found = speedups(report)
    return [
        {
            **_named(row), **_counted(row), **_scored(row), **_timed(row),
            "speedup": faster(one, is_first=row is report.rows[0] and row.latency is not None),
        }
        for row, one in zip(report.rows, found, strict=True)
    ]  # fmt: skip


def label(text: str) -> str:
    """Return a name as it can be shown in one line: what does not print is escaped."""
    return printable(text)


def number(value: float | None, show: Callable[[float], str]) -> Cell:
    """Return a figure as shown, or a dash where there is none."""
    return Cell(text=NOT_MEASURED if value is None else show(value), value=value)


def three_digits(value: float) -> str:
    """Return a figure with three digits where they tell something; large ones whole."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def _score(value: float) -> str:
    return f"{value:.3f}"


def _named(row: Row) -> dict[str, Cell]:
    texts = {"name": row.name, "file": row.file, "type": f"{row.format} {row.precision}"}
    return {key: Cell(text=label(text), value=label(text)) for key, text in texts.items()}


def _counted(row: Row) -> dict[str, Cell]:
    return {
        "parameters": number(row.parameters or None, lambda value: f"{value:,.0f}"),
        "size_mb": number(row.size_bytes / 1e6 or None, three_digits),
        "gmacs": number(row.macs / 1e9 or None, three_digits),
    }


def _scored(row: Row) -> dict[str, Cell]:
    keys = ("map50", "map50_95", "precision", "recall")
    scores = {key: number(getattr(row.accuracy, key) if row.accuracy else None, _score) for key in keys}
    return {**scores, "difference": differing(row)}


def differing(row: Row) -> Cell:
    """Return how the accuracy of a row differs from the first one's."""
    found = row.difference
    if found is None:
        return Cell(text=NOT_MEASURED, value=None)
    text = points(found).replace(" points", "")
    unknown = "" if found.shown else NO_DIFFERENCE if found.enough else TOO_FEW_IMAGES
    return Cell(text=f"{unknown} {text.partition(' ')[2]}" if unknown else text, value=found.points)


def _timed(row: Row) -> dict[str, Cell]:
    values: dict[str, float | None] = dict.fromkeys(("p50_ms", "p90_ms", "p99_ms", "images_per_s"))
    if row.latency:
        found = stats.summary(row.latency)
        values = {"p50_ms": 1000 * found.p50_s, "p90_ms": 1000 * found.p90_s, "p99_ms": 1000 * found.p99_s}
        values["images_per_s"] = found.images_per_s
    return {key: number(value, three_digits) for key, value in values.items()}


def faster(found: Speedup | None, *, is_first: bool) -> Cell:
    """Return how many times as fast a row is as the first one, or 1 for that row itself where it was timed."""
    if found is None:
        return Cell(text="1" if is_first else NOT_MEASURED, value=1.0 if is_first else None)
    shown = found.times if found.shown else NO_DIFFERENCE if found.enough else TOO_FEW_ROUNDS
    return Cell(text=f"{shown} {found.interval}", value=found.ratio)
