"""Plots of what accuracy rests on: precision over recall, and what was taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slimdeploy.records import Evaluation, Report
from slimdeploy.report.canvas import GRID, INK, SERIES, Painter, Plot, plot, png
from slimdeploy.report.cells import label
from slimdeploy.report.findings import compared_row
from slimdeploy.report.plots import colour, short

NOTHING = "nothing"
FEW_CLASSES = 3  # whose matrices need no wide drawing
MOST_NUMBERED = 12  # classes; the counts of more are too small to read
CURVE_SIZE, CONFUSION_SIZE = (5.2, 3.4), (10.4, 4.2)

Counts = Sequence[Sequence[int]]


def accuracy_plots(report: Report) -> list[Plot]:
    """Return the plots of a report's evaluation; none where there is none."""
    found = report.evaluation
    if found is None:
        return []
    caption = "At IoU 0.50, mean over classes. The area below a curve is its mAP50."
    plots = []
    if found.precision:
        painter = _precision_painter(report, found)
        plots.append(plot("precision", "Precision over recall", caption, painter, size=CURVE_SIZE))
    shown = [name for name in _compared(report) if name in found.confusion]
    if shown:
        caption = (
            "Objects of the split in rows, what they were taken for in columns, at confidence 0.25 and IoU 0.50: "
            f'the column "{NOTHING}" is missed objects, the row "{NOTHING}" false alarms.'
        )
        painter = _confusion_painter(found, shown)
        wide = len(found.classes) > FEW_CLASSES
        size = CONFUSION_SIZE if wide else CURVE_SIZE
        plots.append(plot("confusion", "What was taken for what", caption, painter, size=size, wide=wide))
    return plots


def accuracy_pngs(report: Report) -> dict[str, bytes]:
    """Return the same plots as PNG on white, by their names; none where there is no evaluation."""
    found = report.evaluation
    if found is None:
        return {}
    pictures = {}
    if found.precision:
        pictures["precision"] = png(_precision_painter(report, found), size=CURVE_SIZE)
    if shown := [name for name in _compared(report) if name in found.confusion]:
        size = CONFUSION_SIZE if len(found.classes) > FEW_CLASSES else CURVE_SIZE
        pictures["confusion"] = png(_confusion_painter(found, shown), size=size)
    return pictures


def _compared(report: Report) -> list[str]:
    return list(dict.fromkeys([report.rows[0].name, compared_row(report).name]))


def _precision_painter(report: Report, found: Evaluation) -> Painter:
    """Return what draws a curve for each row that has one."""

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        for row in report.rows:
            if curve := found.precision.get(row.name):
                recalls = [i / (len(curve) - 1) for i in range(len(curve))]
                axes.plot(recalls, curve, color=colour(report, row), linewidth=1.5, label=short(row.name))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        axes.legend(loc="lower left", handlelength=1.2)

    return paint


def _confusion_painter(found: Evaluation, names: Sequence[str]) -> Painter:
    """Return what draws the confusions of some models side by side."""

    def paint(figure: Any) -> None:
        for place, (axes, name) in enumerate(zip(_axes(figure, len(names)), names, strict=True)):
            _matrix(axes, found.confusion[name], [*map(short, found.classes), NOTHING])
            axes.set_title(short(name))
            axes.set_xlabel("taken for")
            if not place:
                axes.set_ylabel("object of the split")

    return paint


def _axes(figure: Any, count: int) -> list[Any]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _matrix(axes: Any, counts: Counts, names: Sequence[str]) -> None:
    """Draw counts as squares that are the darker, the larger their share of their row."""
    from matplotlib.patches import Rectangle

    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            share = count / max(1, sum(row))
            square = Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=SERIES[0], alpha=0.75 * share, linewidth=0)
            axes.add_patch(square)
            if count and len(names) <= MOST_NUMBERED:
                axes.text(x, y, f"{count:,}", ha="center", va="center", color=INK, fontsize=8)
    edge = len(names) - 0.5
    axes.set_xlim(-0.5, edge)
    axes.set_ylim(edge, -0.5)
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if len(names) > 3 else {}
    axes.set_xticks(range(len(names)), [label(name) for name in names], fontsize=8, **turned)
    axes.set_yticks(range(len(names)), [label(name) for name in names], fontsize=8)
    axes.grid(visible=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    axes.axhline(edge - 1, color=GRID, linewidth=1)
    axes.axvline(edge - 1, color=GRID, linewidth=1)
