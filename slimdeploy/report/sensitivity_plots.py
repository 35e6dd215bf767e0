"""The plot of how much the outputs hang on each group of channels, of every run that pruned by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slimdeploy.records import Report
from slimdeploy.report.canvas import MUTED, SERIES, Painter, Plot, plot
from slimdeploy.report.cells import label

SHOWN = 16  # groups, the most sensitive ones
CAPTION = (
    "What narrowing one group alone to about half of its channels changes in scores and boxes, before any training; "
    "0 is nothing, about 1 is every score gone. Beside each bar: anchors that still score, of those before."
)


def sensitivity_plots(report: Report) -> list[Plot]:
    """Return a plot of the most sensitive groups for each plan that measured them."""
    found: list[Plot] = []
    for record in report.lineage:
        tried = record.get("results", {}).get("sensitivities") if record.get("stage") == "prune" else None
        if tried:
            worst = sorted(tried, key=lambda one: -float(one["damage"]))[:SHOWN]
            of = f", {len(worst)} of {len(tried)} groups" if len(tried) > len(worst) else ""
            run = f" ({label(str(record['run']))})" if record.get("run") else ""
            size = (10.4, 0.9 + 0.24 * len(worst))
            name = f"sensitivities-{len(found)}"
            found.append(plot(name, f"Sensitivity{run}{of}", CAPTION, _painter(worst), size=size, wide=True))
    return found


def _painter(worst: Sequence[Mapping[str, Any]]) -> Painter:
    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        places = range(len(worst))[::-1]
        damages = [float(one["damage"]) for one in worst]
        axes.barh(places, damages, height=0.6, color=SERIES[0])
        for place, damage, one in zip(places, damages, worst, strict=True):
            before, after = one["positives"]
            axes.annotate(
                f"{after:,} of {before:,}" if before else "",  # an untrained network finds nothing
 (damage, place), xytext=(5, 0), textcoords="offset points", va="center",
                color=MUTED, fontsize=8,
            )  # fmt: skip
        axes.set_yticks(places, [_named(one) for one in worst], fontsize=8)
        axes.set_xlim(0, 1.12 * max(damages) or 1)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("damage to the outputs")

    return paint


def _named(one: Mapping[str, Any]) -> str:
    more = f" and {len(one['groups']) - 1} more" if len(one["groups"]) > 1 else ""
    return f"{label(str(one['groups'][0]))}{more} ({one['width']} to {one['tried']})"
