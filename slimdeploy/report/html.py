"""A report as one self-contained HTML page."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from typing import Any

from slimdeploy import __version__
from slimdeploy.records import Report
from slimdeploy.report.accuracy_plots import accuracy_plots
from slimdeploy.report.canvas import SERIES
from slimdeploy.report.cells import COLUMNS, label, table
from slimdeploy.report.environment import environments, facts
from slimdeploy.report.findings import compared_row, headline, pareto_front, speedups
from slimdeploy.report.grids import frame_grids
from slimdeploy.report.latency_plots import latency_plots
from slimdeploy.report.layer_grids import layer_grids
from slimdeploy.report.layer_plots import layer_plots
from slimdeploy.report.plots import score_plots, width_plots
from slimdeploy.report.power_plots import power_plots
from slimdeploy.report.remarks import warnings
from slimdeploy.report.scenes import scenes
from slimdeploy.report.scores import DETAILS_NOTE, side_by_side
from slimdeploy.report.sensitivity_plots import sensitivity_plots
from slimdeploy.report.templates import page_environment
from slimdeploy.report.training_plots import gammas_png, training_plots

__all__ = ["as_html", "gammas_png"]

TEMPLATE = "page.html.j2"
LONGEST_LISTED = 8  # longer lists, such as the epochs, are drawn and not listed


def as_html(report: Report) -> str:
    """Return a report as a page that loads nothing from anywhere.

    Raises:
        MissingDependency: the extra `report` is not installed.
    """
    environment = page_environment()
    environment.filters["unbroken"] = _unbroken
    source = importlib.resources.files("slimdeploy.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    page: str = environment.from_string(source).render(_content(report))
    return page


def _content(report: Report) -> dict[str, Any]:
    front = {id(row) for row in pareto_front(report)}
    return {
        "version": __version__,
        "title": label(report.title),
        "headline": headline(report),
        "tiles": _tiles(report),
        "columns": COLUMNS,
        "rows": [
            {"cells": cells, "colour": i % len(SERIES), "front": id(row) in front}
            for i, (cells, row) in enumerate(zip(table(report), report.rows, strict=True))
        ],
        "notes": report.notes,
        "warnings": warnings(report),
        "plots": [
            *score_plots(report),
            *latency_plots(report),
            *power_plots(report),
            *width_plots(report),
            *sensitivity_plots(report),
            *layer_plots(report),
            *accuracy_plots(report),
            *training_plots(report),
        ],
        "grids": [*frame_grids(report), *layer_grids(report)],
        "colours": {label(row.name): i % len(SERIES) for i, row in enumerate(report.rows)},
        "scene_groups": scenes(report),
        "scores": side_by_side(report.rows),
        "scores_note": DETAILS_NOTE,
        "widths": report.widths,
        "environments": environments(report),
        "stages": [_stage(record) for record in report.lineage],
    }


def _tiles(report: Report) -> list[tuple[str, str, str]]:
    """Return the figures to show large: what it is, the figure, and what it stands against."""
    first, chosen = report.rows[0], compared_row(report)
    if first is chosen:
        return []
    cells = {row.name: one for row, one in zip(report.rows, table(report), strict=True)}
    found = dict(zip((row.name for row in report.rows), speedups(report), strict=True))[chosen.name]
    tiles = []
    if found is not None and found.enough:
        tiles.append(("times as fast" if found.shown else "no difference of speed shown", found.times, found.interval))
    for key, title in (
        ("p50_ms", "ms, p50"),
        ("parameters", "parameters"),
        ("size_mb", "MB"),
        ("map50_95", "mAP50-95"),
    ):
        now, before = cells[chosen.name][key], cells[first.name][key]
        if now.value is not None:
            tiles.append((title, now.text, f"against {before.text}"))
    return tiles


def _stage(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return one run.json as the page shows it."""
    results = {key: value for key, value in record.get("results", {}).items() if not _is_long(value)}
    inputs = {role: f"{one.get('name', '')} {one.get('sha256', '')}" for role, one in record.get("inputs", {}).items()}
    return {
        "folder": label(f"{record.get('run', '')}/{record['folder']}".strip("/")),
        "stage": label(str(record.get("stage", ""))),
        "seconds": float(record.get("seconds", 0)),
        "groups": [
            (title, shown)
            for title, shown in (
                ("read", facts(inputs)),
                ("wrote", facts(record.get("outputs", {}))),
                ("settings", facts(record.get("config", {}))),
                ("results", facts(results)),
                ("versions", facts(record.get("versions", {}))),
            )
            if shown
        ],
    }


def _is_long(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > LONGEST_LISTED


def _unbroken(text: str) -> str:
    """Return a figure with its interval, which may stand on the next line but not be cut in two."""
    figure, bracket, ends = text.rpartition("[")
    return figure + bracket + ends.replace(" ", "\u00a0")
