"""Tables of where the time of a call goes: by operator, and by layer with its width."""

from __future__ import annotations

from collections.abc import Sequence

from slimdeploy.bench.layers import by_operator
from slimdeploy.records import LayerTime, Report, Row
from slimdeploy.report.cells import Cell, Column, number
from slimdeploy.report.findings import compared_row
from slimdeploy.report.grids import Grid, Line, words
from slimdeploy.report.plots import short

MS = ("ms", "ms", "Mean of a call, in milliseconds, with the profiler on.")
SHARE = ("share", "%", "Share of the time of all layers.")
LAYERS = ("layers", "layers", "Layers of this operator, as the runtime fused them.")
WIDTH = ("width", "channels", "Channels of the layer's output, as the runtime computes them.")
OPERATOR = Column(key="operator", title="operator", about="What is computed.", text=True)
LAYER = Column(key="layer", title="layer", about="As the runtime calls it, after its fusions.", text=True)


def layer_grids(report: Report) -> list[Grid]:
    """Return the tables of the layers' times; none where no model was profiled."""
    profiled = [row for row in report.rows if row.layers]
    return [_operators(profiled), _layers(_pair(report, profiled))] if profiled else []


def _pair(report: Report, profiled: Sequence[Row]) -> list[Row]:
    """Return the first model and the one that the headline is about, as far as they were profiled."""
    chosen = compared_row(report)
    last = chosen if any(row is chosen for row in profiled) else profiled[-1]
    return [profiled[0]] if last is profiled[0] else [profiled[0], last]


def _columns(rows: Sequence[Row], *kinds: tuple[str, str, str]) -> list[Column]:
    """Return for each row a column of each kind: its key, title and meaning."""
    return [
        Column(key=f"{key}-{i}", title=f"{short(row.name)} {title}", about=about)
        for i, row in enumerate(rows)
        for key, title, about in kinds
    ]


def _operators(rows: Sequence[Row]) -> Grid:
    found = [{name: (count, share) for name, count, share in by_operator(row.layers)} for row in rows]
    names = dict.fromkeys(name for own in found for name in own)
    totals_s = [_total_s(row) for row in rows]
    return Grid(
        name="table-operators",
        title="Time by operator",
        about="From the runtime's own profiler.",
        columns=(OPERATOR, *_columns(rows, MS, SHARE, LAYERS)),
        lines=tuple(_operator_line(name, [own.get(name) for own in found], totals_s) for name in names),
    )


def _operator_line(name: str, told: Sequence[tuple[int, float] | None], totals_s: Sequence[float]) -> Line:
    line = {"operator": words(name)}
    for i, (one, total_s) in enumerate(zip(told, totals_s, strict=True)):
        count, share = one or (None, None)
        line[f"ms-{i}"] = _ms(None if share is None else share * total_s)
        line[f"share-{i}"] = _percent(share)
        line[f"layers-{i}"] = number(count, lambda value: f"{value:.0f}")
    return line


def _layers(rows: Sequence[Row]) -> Grid:
    found = [{layer.name: layer for layer in row.layers} for row in rows]
    longest_s: dict[str, float] = {}
    for layer in (layer for row in rows for layer in row.layers):
        longest_s[layer.name] = max(longest_s.get(layer.name, 0.0), layer.seconds)
    totals_s = [_total_s(row) for row in rows]
    return Grid(
        name="table-layers",
        title="Time by layer",
        about="From the runtime's own profiler, the slowest first; layers of the same name stand in one line.",
        columns=(LAYER, OPERATOR, *_columns(rows, MS, SHARE, WIDTH)),
        lines=tuple(
            _layer_line([own.get(name) for own in found], totals_s)
            for name in sorted(longest_s, key=lambda name: -longest_s[name])
        ),
        long=True,
    )


def _layer_line(layers: Sequence[LayerTime | None], totals_s: Sequence[float]) -> Line:
    known = next(layer for layer in layers if layer is not None)
    line = {"layer": words(known.name), "operator": words(known.operator)}
    for i, (layer, total_s) in enumerate(zip(layers, totals_s, strict=True)):
        seconds = layer.seconds if layer else None
        line[f"ms-{i}"] = _ms(seconds)
        line[f"share-{i}"] = _percent(seconds / total_s if seconds is not None and total_s else None)
        line[f"width-{i}"] = number(layer.width if layer else None, lambda one: f"{one:.0f}")
    return line


def _total_s(row: Row) -> float:
    return sum(layer.seconds for layer in row.layers)


def _ms(seconds: float | None) -> Cell:
    return number(None if seconds is None else 1000 * seconds, lambda one: f"{one:.3f}")


def _percent(share: float | None) -> Cell:
    return number(None if share is None else 100 * share, lambda one: f"{one:.1f}")
