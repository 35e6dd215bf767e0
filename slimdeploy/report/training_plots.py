"""Plots of the trainings in a report's lineage: curves over the epochs, and BatchNorm scales under the penalty."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slimdeploy.records import Report
from slimdeploy.report.canvas import INK, MUTED, SERIES, Painter, Plot, plot, png
from slimdeploy.report.cells import label

CURVES = {"map50_95": "mAP50-95", "map50": "mAP50"}
GAMMA_SIZE = (5.2, 4.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The epochs of one training stage.

    Attributes:
        run: the run that it is part of.
        stage: `train`, `sparsify` or `finetune`.
        epochs: one object an epoch, as run.json keeps them.
        scale_edges: edges of the histogram bins of |gamma|; () without one.
    """

    run: str
    stage: str
    epochs: tuple[Mapping[str, Any], ...]
    scale_edges: tuple[float, ...]


def training_plots(report: Report) -> list[Plot]:
    """Return the plots of the training stages; those without data are left out."""
    found = []
    known = trainings(report)
    for number, (run, group) in enumerate(itertools.groupby(known, key=lambda one: one.run)):
        several = len({one.run for one in known}) > 1
        found.append(_curves(number, f", {label(run)}" if several else "", list(group)))
    for number, one in enumerate(_with_scales(report)):
        title = f"BatchNorm scales under the penalty{f', {label(one.run)}' if number else ''}"
        caption = "Above: how many scales have which magnitude after each epoch. Below: the share that is small."
        found.append(plot(f"gammas-{number}", title, caption, _gamma_painter(one), size=GAMMA_SIZE))
    return found


def gammas_png(report: Report) -> bytes | None:
    """Return the gamma histogram over the epochs of the first sparsity training as a PNG, or None without one."""
    found = _with_scales(report)
    return scales_png(found[0]) if found else None


def scales_png(training: Training) -> bytes:
    """Return the gamma histogram over the epochs of one sparsity training as a PNG."""
    return png(_gamma_painter(training), size=GAMMA_SIZE)


def trainings(report: Report) -> list[Training]:
    """Return the training stages of a report's lineage that kept a history of their epochs."""
    found = []
    for record in report.lineage:
        results = record.get("results", {})
        history = results.get("history") if isinstance(results, Mapping) else None
        if isinstance(history, (list, tuple)) and history:
            edges = tuple(results.get("scale_edges") or ())
            run, stage = str(record.get("run", "")), str(record.get("stage", ""))
            found.append(Training(run=run, stage=stage, epochs=tuple(history), scale_edges=edges))
    return found


def _with_scales(report: Report) -> list[Training]:
    return [
        one
        for one in trainings(report)
        if len(one.scale_edges) > 1 and any(e.get("scale_histogram") for e in one.epochs)
    ]


def _curves(number: int, suffix: str, stages: Sequence[Training]) -> Plot:
    def paint(figure: Any) -> None:
        scores, losses = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        start = 0
        for place, one in enumerate(stages):
            xs = [start + i + 1 for i in range(len(one.epochs))]
            for index, (key, name) in enumerate(CURVES.items()):
                _line(scores, xs, [epoch.get(key) for epoch in one.epochs], SERIES[index], "" if place else name)
            for index, name in enumerate(one.epochs[0].get("loss", {})):
                values = [epoch.get("loss", {}).get(name) for epoch in one.epochs]
                _line(losses, xs, values, SERIES[index + 2], "" if place else name.removesuffix("_loss"))
            _name_stage(scores, losses, one.stage, start, raised=place % 2 == 1)  # short stages stand close
            start += len(one.epochs)
        scores.set_ylabel("score")
        scores.set_ylim(bottom=0)
        losses.set_ylabel("loss")
        losses.set_xlabel("epoch, over all stages")
        losses.set_xlim(0.5, start + 0.5)
        for axes in (scores, losses):
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
        losses.xaxis.get_major_locator().set_params(integer=True)

    caption = "Scores are ultralytics' own, on the validation split while training; the table's are scored anew."
    return plot(f"training-{number}", f"Training curves{suffix}", caption, paint, size=(5.2, 4.6))


def _line(axes: Any, xs: Sequence[int], values: Sequence[Any], colour: str, name: str) -> None:
    points = [(x, value) for x, value in zip(xs, values, strict=True) if isinstance(value, (int, float))]
    if points:
        marker = "o" if len(points) == 1 else ""
        ys = [value for _, value in points]
        axes.plot([x for x, _ in points], ys, marker=marker, color=colour, linewidth=1.5, label=name or None)


def _name_stage(scores: Any, losses: Any, stage: str, start: int, *, raised: bool) -> None:
    for axes in (scores, losses):
        if start:
            axes.axvline(start + 0.5, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
    scores.annotate(
        label(stage), (start + 0.5, 1), xycoords=("data", "axes fraction"), xytext=(3, 14 if raised else 3),
        textcoords="offset points", color=INK, fontsize=9,
    )  # fmt: skip


def _gamma_painter(one: Training) -> Painter:
    def paint(figure: Any) -> None:
        heat, shares = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _heat(figure, heat, one)
        names = list(one.epochs[0].get("scales", {}))
        xs = [int(epoch.get("epoch", i + 1)) for i, epoch in enumerate(one.epochs)]
        for index, name in enumerate(names):
            values = [epoch.get("scales", {}).get(name) for epoch in one.epochs]
            _line(shares, xs, [None if v is None else 100 * v for v in values], SERIES[index], name.replace("_", " "))
        shares.set_ylabel("share, %")
        shares.set_ylim(0, 1.15 * max(1.0, shares.get_ylim()[1]))
        shares.set_xlabel("epoch of the sparsity training")
        if names:
            shares.legend(loc="upper left", handlelength=1.2)
        shares.xaxis.get_major_locator().set_params(integer=True)

    return paint


def _heat(figure: Any, axes: Any, one: Training) -> None:
    import numpy as np
    from matplotlib.colors import LogNorm

    kept = [
        (int(e.get("epoch", i + 1)), e["scale_histogram"]) for i, e in enumerate(one.epochs) if e.get("scale_histogram")
    ]
    counts = np.array([histogram for _, histogram in kept], dtype=float).T  # (bins, epochs)
    top = min(len(counts), 1 + int(np.flatnonzero(counts.sum(axis=1)).max(initial=0)))
    shown = np.ma.masked_less_equal(counts[:top], 0)
    extent = (kept[0][0] - 0.5, kept[-1][0] + 0.5, one.scale_edges[0], one.scale_edges[top])
    image = axes.imshow(
        shown, aspect="auto", origin="lower", extent=extent, interpolation="nearest", cmap="viridis",
        norm=LogNorm(vmin=1, vmax=max(2.0, float(counts.max()))),
    )  # fmt: skip
    axes.set_ylabel("|gamma|")
    axes.grid(visible=False)
    bar = figure.colorbar(image, ax=axes, pad=0.02, format="%d")
    bar.minorticks_off()
    bar.set_label("number of scales", color=MUTED)
    bar.outline.set_visible(False)
