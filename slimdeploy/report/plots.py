"""Plots of what was measured: accuracy against latency, and widths."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from slimdeploy.bench import stats
from slimdeploy.records import Measurement, Report, Row
from slimdeploy.report.canvas import GRID, INK, MARKERS, MUTED, SERIES, Plot, plot
from slimdeploy.report.cells import label
from slimdeploy.report.findings import pareto_front

LABEL_CHARS = 24
Width = tuple[str, int, int]


def short(name: str) -> str:
    """Return a name that fits beside a mark."""
    name = label(name)
    return name if len(name) <= LABEL_CHARS else f"{name[: LABEL_CHARS - 1]}…"


def colour(report: Report, row: Row) -> str:
    """Return the colour that a row has in every plot."""
    return SERIES[report.rows.index(row) % len(SERIES)]


def _p50_ms(latency: Measurement) -> float:
    return 1000 * stats.summary(latency).p50_s


def score_plots(report: Report) -> list[Plot]:
    """Return the plot of scores against latencies; none where fewer than two models have both."""
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


def width_plots(report: Report) -> list[Plot]:
    """Return a plot of the widths before and after for each run that holds a plan."""
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
