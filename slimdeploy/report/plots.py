"""Plots of what was measured: accuracy against latency, latency distributions, and widths."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from slimdeploy.bench import stats
from slimdeploy.records import Measurement, Report, Row
from slimdeploy.report.canvas import GRID, INK, MARKERS, MUTED, SERIES, Plot, plot
from slimdeploy.report.cells import label
from slimdeploy.report.findings import pareto_front

BINS = 48
LABEL_CHARS = 24
Width = tuple[str, int, int]


def measured_plots(report: Report) -> list[Plot]:
    """Return the plots of scores, latencies and widths; those without data are left out."""
    return [*_scatter(report), *_distributions(report), *_widths(report)]


def short(name: str) -> str:
    """Return a name that fits beside a mark."""
    name = label(name)
    return name if len(name) <= LABEL_CHARS else f"{name[: LABEL_CHARS - 1]}…"


def colour(report: Report, row: Row) -> str:
    """Return the colour that a row has in every plot."""
    return SERIES[report.rows.index(row) % len(SERIES)]


def _p50_ms(latency: Measurement) -> float:
    return 1000 * stats.summary(latency).p50_s


def _scatter(report: Report) -> list[Plot]:
    points = [(_p50_ms(row.latency), row.accuracy.map50_95, row) for row in report.rows if row.latency and row.accuracy]
    if len(points) < 2:
        return []
    front = [
        (_p50_ms(row.latency), row.accuracy.map50_95) for row in pareto_front(report) if row.latency and row.accuracy
    ]

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        slowest = max(x for x, _, _ in points)
        xs, ys = [x for x, _ in front] + [slowest * 1.1], [y for _, y in front] + [front[-1][1]]
        axes.plot(xs, ys, drawstyle="steps-post", color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        for x, y, row in points:
            index = report.rows.index(row)
            axes.plot([x], [y], MARKERS[index % len(MARKERS)], color=colour(report, row), markersize=8)
        axes.set_xlim(0, slowest * 1.1)
        axes.margins(y=0.18)
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -0.03 * high), high)  # no score is below 0
        axes.set_xlabel("p50 latency, ms (less is better)")
        axes.set_ylabel("mAP50-95 (more is better)")
        _label_points(figure, axes, report, points)

    caption = "Up and to the left is better. The dashed line is the Pareto front: no model beats those on it in both."
    return [plot("scatter", "Accuracy against latency", caption, paint)]


def _label_points(figure: Any, axes: Any, report: Report, points: Sequence[tuple[float, float, Row]]) -> None:
    """Write each name beside its point, moved up where it would cover the name below it."""
    figure.canvas.draw()
    middle, line_px = axes.get_xlim()[1] / 2, 0.18 * figure.dpi
    lowest = {True: float("-inf"), False: float("-inf")}
    for x, y, row in sorted(points, key=lambda point: point[1]):
        left = x > middle
        y_px = float(axes.transData.transform((x, y))[1])
        at_px = max(y_px, lowest[left] + line_px)
        lowest[left] = at_px
        axes.annotate(
            short(row.name), (x, y), xytext=(-9 if left else 9, (at_px - y_px) * 72 / figure.dpi),
            textcoords="offset points", ha="right" if left else "left", va="center", color=INK,
        )  # fmt: skip


def _distributions(report: Report) -> list[Plot]:
    timed = [(row, row.latency) for row in report.rows if row.latency]
    if not timed:
        return []
    limit_ms = 1.08 * max(1000 * stats.summary(latency).p99_s for _, latency in timed)
    beyond = sum(1 for _, latency in timed for one in latency.samples_s if 1000 * one > limit_ms)

    def paint(figure: Any) -> None:
        import numpy as np

        axes = figure.add_subplot()
        for place, (row, latency) in enumerate(reversed(timed)):
            samples_ms = 1000 * np.asarray(latency.samples_s)  # (n,)
            counts, edges = np.histogram(samples_ms, bins=_edges(samples_ms, limit_ms))
            heights = place + 0.78 * counts / max(1, counts.max())
            axes.stairs(heights, edges, baseline=place, fill=True, color=colour(report, row), alpha=0.55, linewidth=0)
            axes.stairs(heights, edges, baseline=place, color=colour(report, row), linewidth=1)
            found = stats.summary(latency)
            for at_s, height in ((found.p50_s, 0.78), (found.p90_s, 0.45), (found.p99_s, 0.25)):
                axes.vlines(1000 * at_s, place - 0.08, place + height, color=INK, linewidth=1.1)
        axes.set_yticks(range(len(timed)), [short(row.name) for row, _ in reversed(timed)])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, limit_ms)
        axes.set_xlabel("latency of one call, ms")

    caption = "Every timed call after the warm-up; bars from the longest to the shortest: p50, p90, p99."
    if beyond:
        caption += f" {beyond} slower {'call lies' if beyond == 1 else 'calls lie'} outside the drawing."
    height = max(2.2, 0.8 + 0.52 * len(timed))
    return [plot("latency", "Latency distributions", caption, paint, size=(5.2, height))]


def _edges(samples_ms: Any, limit_ms: float) -> Any:
    """Return bin edges over the bulk of one model's calls, at least as wide as can be seen."""
    import numpy as np

    low, high = float(samples_ms.min()), min(float(samples_ms.max()), limit_ms)
    bins = int(np.clip((high - low) / (limit_ms / 240), 1, BINS))
    half = max(0.0, limit_ms / 240 - (high - low)) / 2
    return np.linspace(max(0.0, low - half), high + half, bins + 1)


def _widths(report: Report) -> list[Plot]:
    found = []
    for number, (run, widths) in enumerate(_by_run(report.widths)):
        kept = sum(after for _, _, after in widths) / sum(before for _, before, _ in widths)
        caption = (
            f"Channels of each convolution in the network's order, before (outline) and after (filled): "
            f"{kept:.0%} of them stay.".replace("%", " %")
        )
        title = f"Widths before and after{f', {label(run)}' if run else ''}"
        painter = _widths_painter(widths)
        found.append(plot(f"widths-{number}", title, caption, painter, size=(10.4, 3.0), wide=True))
    return found


def _by_run(widths: Sequence[Width]) -> list[tuple[str, list[Width]]]:
    runs = itertools.groupby(widths, key=lambda width: width[0].rpartition(": ")[0])
    return [
        (run, [(layer.rpartition(": ")[2], before, after) for layer, before, after in group]) for run, group in runs
    ]


def _widths_painter(widths: Sequence[Width]) -> Any:
    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        edges = [i - 0.5 for i in range(len(widths) + 1)]
        axes.stairs([before for _, before, _ in widths], edges, fill=True, color=GRID)
        axes.stairs([before for _, before, _ in widths], edges, color=MUTED, linewidth=1)
        axes.bar(range(len(widths)), [after for _, _, after in widths], width=0.72, color=SERIES[0])
        starts = _module_starts([layer for layer, _, _ in widths])
        axes.set_xticks([place for place, _ in starts], [name for _, name in starts], fontsize=8)
        axes.set_xlim(-0.7, len(widths) - 0.3)
        axes.set_xlabel("module of the network")
        axes.set_ylabel("channels")
        axes.grid(axis="x", visible=False)

    return paint


def _module_starts(layers: Sequence[str]) -> list[tuple[int, str]]:
    """Return where each module's layers begin and its number, without those that would run into the one before."""
    points_each, last = 690 / len(layers), -len(layers)
    kept: list[tuple[int, str]] = []
    names = [short(layer.split(".")[1] if "." in layer else layer) for layer in layers]
    for place, name in enumerate(names):
        new = place == 0 or name != names[place - 1]
        if new and (place - last) * points_each >= 5 * len(name) + 4:
            kept.append((place, name))
            last = place
    return kept
