"""Plots of how latencies are distributed: of the bare session, of whole frames, and of a camera's frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from slimdeploy.bench import stats
from slimdeploy.records import Report, Row
from slimdeploy.report.canvas import INK, MUTED, Painter, Plot, plot
from slimdeploy.report.plots import colour, short

BINS = 48
BARS = "bars from the longest to the shortest: p50, p90, p99."

Timed = Sequence[tuple[Row, tuple[float, ...]]]  # seconds of each call


def latency_plots(report: Report) -> list[Plot]:
    """Return the distributions of what was timed; none where nothing was."""
    bare = _timed(report, lambda row: row.latency.samples_s if row.latency else ())
    whole = _timed(report, lambda row: row.end_to_end.samples_s if row.end_to_end else ())
    return [
        *_plot("latency", "Latency distributions", "Every timed call after the warm-up", report, bare),
        *_plot("end-to-end", "Latency end to end", "From decoded frame to final boxes", report, whole),
        *_offered(report),
    ]


def _timed(report: Report, samples_of: Callable[[Row], tuple[float, ...]]) -> Timed:
    return [(row, samples_s) for row in report.rows if (samples_s := samples_of(row))]


def _offered(report: Report) -> list[Plot]:
    timed = _timed(report, lambda row: row.offered.latency_s if row.offered else ())
    rates = {row.offered.fps for row in report.rows if row.offered}
    if len(rates) > 1:  # the times until the next frame would be several
        return []
    about = "From capture to result, of the frames that were looked at; dashed: when the next frame comes"
    periods_s = [1 / rate for rate in rates]
    return _plot("offered", "Frames at a camera's rate", about, report, timed, deadlines_s=periods_s)


def _plot(
    name: str, title: str, about: str, report: Report, timed: Timed, *, deadlines_s: Sequence[float] = ()
) -> list[Plot]:
    if not timed:
        return []
    limit_s = 1.08 * max([*(stats.percentile(samples_s, 0.99) for _, samples_s in timed), *deadlines_s])
    beyond = sum(one > limit_s for _, samples_s in timed for one in samples_s)
    caption = f"{about}; {BARS}"
    if beyond:
        caption += f" {beyond} slower {'call lies' if beyond == 1 else 'calls lie'} outside the drawing."
    size = (5.2, max(2.2, 0.8 + 0.52 * len(timed)))
    painter = _painter(report, timed, 1000 * limit_s, [1000 * one for one in deadlines_s])
    return [plot(name, title, caption, painter, size=size)]


def _painter(report: Report, timed: Timed, limit_ms: float, deadlines_ms: Sequence[float]) -> Painter:
    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        for place, (row, samples_s) in enumerate(reversed(timed)):
            _ridge(axes, place, samples_s, limit_ms, colour(report, row))
        for deadline_ms in deadlines_ms:
            axes.axvline(deadline_ms, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(timed)), [short(row.name) for row, _ in reversed(timed)])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, limit_ms)
        axes.set_xlabel("latency of one call, ms")

    return paint


def _ridge(axes: Any, place: int, samples_s: Sequence[float], limit_ms: float, tint: str) -> None:
    """Draw how one model's calls are distributed, with its percentiles, on the line `place`."""
    import numpy as np

    samples_ms = 1000 * np.asarray(samples_s)  # (n,)
    counts, edges = np.histogram(samples_ms, bins=_edges(samples_ms, limit_ms))
    heights = place + 0.78 * counts / max(1, counts.max())
    axes.stairs(heights, edges, baseline=place, fill=True, color=tint, alpha=0.55, linewidth=0)
    axes.stairs(heights, edges, baseline=place, color=tint, linewidth=1)
    for share, height in ((0.5, 0.78), (0.9, 0.45), (0.99, 0.25)):
        at_ms = 1000 * stats.percentile(samples_s, share)
        axes.vlines(at_ms, place - 0.08, place + height, color=INK, linewidth=1.1)


def _edges(samples_ms: Any, limit_ms: float) -> Any:
    """Return bin edges over the bulk of one model's calls, at least as wide as can be seen."""
    import numpy as np

    low, high = float(samples_ms.min()), min(float(samples_ms.max()), limit_ms)
    bins = int(np.clip((high - low) / (limit_ms / 240), 1, BINS))
    half = max(0.0, limit_ms / 240 - (high - low)) / 2
    return np.linspace(max(0.0, low - half), high + half, bins + 1)
