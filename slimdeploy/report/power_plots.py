"""Power over time, a plot for each meter: figures of different meters must not share one."""

from __future__ import annotations

from typing import Any

from slimdeploy.records import Power, Report, Row
from slimdeploy.report.canvas import Painter, Plot, plot
from slimdeploy.report.cells import label
from slimdeploy.report.plots import colour, short


def power_plots(report: Report) -> list[Plot]:
    """Return the plots of what the meters said while the models ran; none where nothing was read."""
    meters = dict.fromkeys((one.meter, one.rails) for row in report.rows for one in row.power if one.samples)
    found = []
    for number, (meter, rails) in enumerate(meters):
        read = [
            (row, one)
            for row in report.rows
            for one in row.power
            if (one.meter, one.rails) == (meter, rails) and one.samples
        ]
        caption = f"Readings of {label(meter)}, rails {label(', '.join(rails))}; dashed: idle, which is taken off."
        found.append(plot(f"power-{number}", "Power over time", caption, _painter(report, read)))
    return found


def _painter(report: Report, read: list[tuple[Row, Power]]) -> Painter:
    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        for row, power in read:
            seconds, watts = zip(*power.samples, strict=True)
            tint = colour(report, row)
            axes.plot(seconds, watts, ".", color=tint, markersize=4, label=short(row.name))
            axes.axhline(power.idle_w, color=tint, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("seconds since the measurement began")
        axes.set_ylabel("power, W")
        axes.legend(loc="lower right", handlelength=1.2)

    return paint
