"""Plots of a search: its Pareto front, every trial along parallel axes, and what each setting weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slimdeploy.report.canvas import GRID, INK, MUTED, SERIES, Plot, plot
from slimdeploy.search.spec import OBJECTIVES
from slimdeploy.search.study import Record
from slimdeploy.search.trial import DONE
from slimdeploy.search.view import View, shown

UNITS: Mapping[str, str] = {
    "map50_95": "mAP50-95 (more is better)",
    "p50_ms": "p50 latency, ms (less is better)",
    "size_mb": "file, MB (less is better)",
    "joules": "J an image (less is better)",
}
MOST_TICKS = 6


def search_plots(view: View, importances: Mapping[str, Mapping[str, float]]) -> list[Plot]:
    """Return the plots of a search; those without data are left out."""
    return [*_fronts(view), *_parallel(view), *_importance(importances)]


def _fronts(view: View) -> list[Plot]:
    """Return accuracy against each other objective, or else the first two objectives against one another."""
    names = view.spec.objectives
    first = "map50_95" if "map50_95" in names else names[0]
    return [_front(view, other, first) for other in names if other != first and len(view.having(DONE)) >= 2]


def _front(view: View, x_name: str, y_name: str) -> Plot:
    done, best = view.having(DONE), view.front

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        for records, mark in (
            ([one for one in done if not one.met], {"markerfacecolor": "none", "markeredgecolor": MUTED}),
            ([one for one in done if one.met and one not in best], {"color": MUTED}),
            (best, {"color": SERIES[0]}),
        ):
            points = [(one.figures[x_name], one.figures[y_name]) for one in records]
            axes.plot([x for x, _ in points], [y for _, y in points], "o", markersize=6, **mark)
        steps = _steps(best, x_name, y_name)
        axes.plot(
            [x for x, _ in steps], [y for _, y in steps], drawstyle="steps-post", color=SERIES[0], linewidth=1,
            linestyle=(0, (4, 3)),
        )  # fmt: skip
        for one in best:
            point = (one.figures[x_name], one.figures[y_name])
            axes.annotate(str(one.number), point, xytext=(5, 5), textcoords="offset points", color=INK, fontsize=8)
        axes.margins(0.08)
        axes.set_xlabel(UNITS[x_name])
        axes.set_ylabel(UNITS[y_name])

    caption = (
        "Each point is a trial. Blue: no other trial beats it in every objective; its number stands beside it. Grey: "
        "beaten. Hollow: misses a constraint."
    )
    return plot(f"front-{x_name.replace('_', '-')}", f"{y_name} against {x_name}", caption, paint)


def _steps(best: Sequence[Record], x_name: str, y_name: str) -> list[tuple[float, float]]:
    """Return the front of two objectives alone, from the best x on."""
    x_sign, y_sign = (-1 if OBJECTIVES[name] else 1 for name in (x_name, y_name))
    points = sorted((x_sign * one.figures[x_name], y_sign * one.figures[y_name]) for one in best)
    kept: list[tuple[float, float]] = []
    for x, y in points:
        if not kept or y < kept[-1][1]:
            kept.append((x, y))
    return [(x_sign * x, y_sign * y) for x, y in kept]


def _parallel(view: View) -> list[Plot]:
    done, best = view.having(DONE), view.front
    if len(done) < 2:
        return []
    axes_of = [(one.name, [record.values.get(one.name) for record in done]) for one in view.spec.space]
    axes_of += [(name, [record.figures[name] for record in done]) for name in view.spec.objectives]
    scaled = [_scaled(values) for _, values in axes_of]

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        for place, record in enumerate(done):
            heights = [heights[place] for heights, _ in scaled]
            strong = record in best
            colour, width = (SERIES[0], 1.8) if strong else (MUTED, 0.7)
            axes.plot(range(len(scaled)), heights, color=colour, linewidth=width, alpha=0.9 if strong else 0.55)
        for place, (_, ticks) in enumerate(scaled):
            axes.axvline(place, color=GRID, linewidth=1)
            for height, text in ticks:
                axes.annotate(
                    text, (place, height), xytext=(3, 2), textcoords="offset points", fontsize=7.5, color=INK
                )  # fmt: skip
        axes.set_xticks(range(len(scaled)), [name for name, _ in axes_of], fontsize=8)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.set_xlim(-0.2, len(scaled) - 0.5)

    caption = "Each line is a trial, from its settings to its figures; those on the Pareto front are blue."
    return [plot("parallel", "Settings and figures", caption, paint, size=(10.4, 3.6), wide=True)]


def _scaled(values: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return each value as a height in 0..1, and the ticks of the axis as height and text."""
    numbers = [one for one in values if isinstance(one, (int, float)) and not isinstance(one, bool)]
    if len(numbers) < len(values):
        known = sorted({str(one) for one in values})
        heights = {text: place / max(1, len(known) - 1) for place, text in enumerate(known)}
        return [heights[str(one)] for one in values], [(height, text) for text, height in heights.items()]
    low, high = min(numbers), max(numbers)
    span = (high - low) or 1
    known_numbers = sorted(set(numbers))
    ticks = known_numbers if len(known_numbers) <= MOST_TICKS else [low, (low + high) / 2, high]
    return [(one - low) / span for one in numbers], [((one - low) / span, shown(one)) for one in ticks]


def _importance(importances: Mapping[str, Mapping[str, float]]) -> list[Plot]:
    if not importances:
        return []
    settings = sorted({name for found in importances.values() for name in found}, reverse=True)

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        height = 0.8 / len(importances)
        for place, (objective, found) in enumerate(importances.items()):
            at = [row + 0.4 - height * (place + 0.5) for row in range(len(settings))]
            shares = [found.get(name, 0.0) for name in settings]
            axes.barh(at, shares, height=height * 0.9, color=SERIES[place % len(SERIES)], label=objective)
        axes.set_yticks(range(len(settings)), settings)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("share of what the settings do to the objective")
        axes.legend(loc="lower right", fontsize=8)

    caption = (
        "Optuna's PED-ANOVA: which settings tell the better trials from the others. With few trials this is a hint and "
        "no more."
    )
    size = (5.2, max(2.4, 0.9 + 0.5 * len(settings)))
    return [plot("importance", "Importance of each setting", caption, paint, size=size)]
