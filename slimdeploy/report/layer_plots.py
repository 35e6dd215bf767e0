"""Plots of where the time of a call goes: by operator, and by module of the network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slimdeploy.records import LayerTime, Report, Row
from slimdeploy.report.canvas import MUTED, SERIES, Painter, Plot, plot
from slimdeploy.report.cells import label
from slimdeploy.report.plots import colour, short

MOST_OPERATORS = len(SERIES) - 1  # with a colour of their own; the last one is for the others
OTHERS = "others"
MODULE = re.compile(r"\bmodel[./](\d+)\b")  # in a layer's name, as ultralytics' networks are exported
SOURCE = "From the runtime's own profiler, mean of a call"


def layer_plots(report: Report) -> list[Plot]:
    """Return the plots of the layers' times; none where no model was profiled."""
    profiled = [row for row in report.rows if sum(layer.seconds for layer in row.layers) > 0]
    return [*_operators(profiled), *_modules(report, profiled)] if profiled else []


def by_module(layers: Sequence[LayerTime]) -> dict[int, float]:
    """Return seconds of each module of the network, by its number, as far as the layers' names tell it."""
    found: dict[int, float] = {}
    for layer in layers:
        if named := MODULE.search(layer.name):
            number = int(named.group(1))
            found[number] = found.get(number, 0.0) + layer.seconds
    return dict(sorted(found.items()))


def _operators(profiled: Sequence[Row]) -> list[Plot]:
    times = {row.name: _by_operator(row.layers) for row in profiled}
    names = _largest(list(times.values()))
    size = (5.2, max(2.6, 1.5 + 0.45 * len(profiled)))
    return [plot("operators", "Time by operator", f"{SOURCE}.", _operators_painter(times, names), size=size)]


def _by_operator(layers: Sequence[LayerTime]) -> dict[str, float]:
    found: dict[str, float] = {}
    for layer in layers:
        found[layer.operator] = found.get(layer.operator, 0.0) + layer.seconds
    return found


def _largest(times: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the operators that take most time in some model, the largest first."""
    most: dict[str, float] = {}
    for one in times:
        for name, seconds in one.items():
            most[name] = max(most.get(name, 0.0), seconds)
    return sorted(most, key=lambda name: -most[name])[:MOST_OPERATORS]


def _operators_painter(times: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Painter:
    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        places = range(len(times))[::-1]
        left = [0.0] * len(times)
        for i, name in enumerate([*names, OTHERS]):
            if name == OTHERS:
                wide = [1000 * sum(s for own, s in one.items() if own not in names) for one in times.values()]
            else:
                wide = [1000 * one.get(name, 0.0) for one in times.values()]
            if any(wide):
                axes.barh(places, wide, left=left, height=0.6, color=SERIES[i], label=label(name) or "unnamed")
            left = [before + own for before, own in zip(left, wide, strict=True)]
        axes.set_yticks(places, [short(name) for name in times])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("ms a call, with the profiler on")
        figure.legend(loc="outside lower left", ncols=4, handlelength=1, columnspacing=1, fontsize=8)

    return paint


def _modules(report: Report, profiled: Sequence[Row]) -> list[Plot]:
    times = [(row, by_module(row.layers)) for row in profiled]
    numbers = sorted({number for _, one in times for number in one})
    if not numbers:
        return []
    known = sum(sum(one.values()) for _, one in times)
    total = sum(layer.seconds for row in profiled for layer in row.layers)
    caption = f"{SOURCE}; {known / total:.0%} of the time is in layers whose names tell the module.".replace("%", " %")
    painter = _modules_painter(report, times, numbers)
    return [plot("modules", "Time by module", caption, painter, size=(10.4, 3.0), wide=True)]


def _modules_painter(
    report: Report, times: Sequence[tuple[Row, Mapping[int, float]]], numbers: Sequence[int]
) -> Painter:
    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        wide = 0.8 / len(times)
        for i, (row, one) in enumerate(times):
            at = [place - 0.4 + (i + 0.5) * wide for place in range(len(numbers))]
            heights = [1000 * one.get(number, 0.0) for number in numbers]
            axes.bar(at, heights, width=wide, color=colour(report, row), label=short(row.name))
        axes.set_xticks(range(len(numbers)), [str(number) for number in numbers], fontsize=8)
        axes.set_xlim(-0.7, len(numbers) - 0.3)
        axes.set_xlabel("module of the network")
        axes.set_ylabel("ms a call")
        axes.grid(axis="x", visible=False)
        axes.legend(loc="upper left", ncols=min(4, len(times)), handlelength=1.2, labelcolor=MUTED)

    return paint
