"""Tables of what was measured beside the bare session: whole frames, a camera's rate, energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slimdeploy.bench import stats
from slimdeploy.records import Measurement, Report, Row
from slimdeploy.report.cells import NOT_MEASURED, Cell, Column, faster, label, number, three_digits
from slimdeploy.report.findings import speedup

Line = dict[str, Cell]  # by the column's key

MODEL = Column(key="name", title="model", about="The form of the network.", text=True)
PERCENTILES = (
    Column(key="p50_ms", title="p50 ms", about="Half of them took at most this long."),
    Column(key="p90_ms", title="p90 ms", about="Nine in ten."),
    Column(key="p99_ms", title="p99 ms", about="Ninety-nine in a hundred."),
)
END_TO_END = (
    MODEL,
    Column(key="frames", title="frames", about="Width and height of the frames, in pixels.", text=True),
    *PERCENTILES,
    Column(key="images_per_s", title="images/s", about="Images a second at the median, one call after the other."),
    Column(key="around_ms", title="around the session, ms", about="p50 above that of the bare session."),
    Column(key="speedup", title="speed-up", about="Times as fast as the first row, with its 95 % interval."),
)
OFFERED = (
    MODEL,
    Column(key="fps", title="frames/s", about="Frames captured a second."),
    Column(key="frames", title="frames", about="Frames captured."),
    Column(key="dropped", title="dropped", about="Frames that nobody looked at, since a newer one was there first."),
    Column(key="late", title="late", about="Frames whose result came after the next frame's capture."),
    *PERCENTILES,
)
POWER = (
    MODEL,
    Column(key="meter", title="meter", about="What told the power.", text=True),
    Column(key="rails", title="rails", about="What the meter adds up.", text=True),
    Column(key="joules", title="J an image", about="Energy for each image, idle taken off."),
    Column(key="mean_w", title="W", about="Mean power while the model ran."),
    Column(key="idle_w", title="idle W", about="Mean power while all workers waited."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table of a report beside the main one.

    Attributes:
        name: unique in a report; letters and hyphens.
        title: heading.
        about: how to read it.
        columns: what stands in each line, the words first.
        lines: the cells, by the columns' keys.
        long: whether it holds so many lines that it is better folded away.
    """

    name: str
    title: str
    about: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    long: bool = False


def frame_grids(report: Report) -> list[Grid]:
    """Return the tables of whole frames, of a camera's frames and of energy; those that would be empty are left out."""
    return [grid for grid in (_end_to_end(report), _offered(report), _power(report)) if grid.lines]


def words(text: str) -> Cell:
    """Return a name as shown, or a dash where there is none."""
    return Cell(text=label(text) or NOT_MEASURED, value=label(text) or None)


def _percentiles(samples_s: Sequence[float]) -> Line:
    shares = zip(PERCENTILES, (0.5, 0.9, 0.99), strict=True)
    return {column.key: number(1000 * stats.percentile(samples_s, share), three_digits) for column, share in shares}


def _count(value: float) -> Cell:
    return number(value, lambda one: f"{one:,.0f}")


def _end_to_end(report: Report) -> Grid:
    first = report.rows[0].end_to_end
    return Grid(
        name="table-end-to-end",
        title="End to end",
        about="From decoded frame to final boxes: letterbox, normalise, infer, decode, NMS; one call after the other.",
        columns=END_TO_END,
        lines=tuple(_whole_frames(row, row.end_to_end, first) for row in report.rows if row.end_to_end),
    )


def _whole_frames(row: Row, timed: Measurement, first: Measurement | None) -> Line:
    found, size = stats.summary(timed), timed.environment.get("frame_size_px")
    around_s = found.p50_s - stats.summary(row.latency).p50_s if row.latency else None
    return {
        "name": words(row.name),
        "frames": words(f"{size[1]}x{size[0]}" if size else ""),
        **_percentiles(timed.samples_s),
        "images_per_s": number(found.images_per_s, three_digits),
        "around_ms": number(None if around_s is None else 1000 * around_s, lambda one: f"{one:.2f}"),
        "speedup": faster(None if timed is first else speedup(first, timed), is_first=timed is first),
    }


def _offered(report: Report) -> Grid:
    return Grid(
        name="table-offered",
        title="Frames at a camera's rate",
        about="End to end, from a frame's capture to its boxes; the camera does not wait.",
        columns=OFFERED,
        lines=tuple(
            {
                "name": words(row.name),
                "fps": number(one.fps, lambda rate: f"{rate:g}"),
                **{key: _count(getattr(one, key)) for key in ("frames", "dropped", "late")},
                **_percentiles(one.latency_s),
            }
            for row in report.rows
            if (one := row.offered)
        ),
    )


def _power(report: Report) -> Grid:
    return Grid(
        name="table-power",
        title="Energy for each image",
        about="Of the bare session, idle taken off; figures of different meters and rails must not be compared.",
        columns=POWER,
        lines=tuple(
            {
                "name": words(row.name),
                "meter": words(one.meter),
                "rails": words(", ".join(one.rails)),
                "joules": number(one.joules_an_image, lambda value: f"{value:.4f}"),
                "mean_w": number(one.mean_w, lambda value: f"{value:.2f}"),
                "idle_w": number(one.idle_w, lambda value: f"{value:.2f}"),
            }
            for row in report.rows
            for one in row.power
        ),
    )
