"""A report as Markdown for a pull request."""

from __future__ import annotations

import re

from slimdeploy.records import Report
from slimdeploy.report.cells import COLUMNS, label, table
from slimdeploy.report.environment import environments
from slimdeploy.report.findings import headline, pareto_front
from slimdeploy.report.grids import Grid, frame_grids
from slimdeploy.report.layer_grids import layer_grids
from slimdeploy.report.remarks import remarks
from slimdeploy.report.scores import side_by_side

MOST_LINES = 30  # of a table beside the main one
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~@&!])")


def as_markdown(report: Report) -> str:
    """Return a report as Markdown: headline, table, notes, and the rest folded away."""
    parts = [f"## {_escaped(report.title)}", f"**{_escaped(headline(report))}**", _table(report)]
    if said := remarks(report):
        parts.append("\n".join(f"- {kind}: {_escaped(text)}" for kind, text in said))
    front = ", ".join(_escaped(row.name) for row in pareto_front(report))
    if front:
        parts.append(f"Not beaten in both p50 and mAP50-95: {front}.")
    folded = [
        *((_escaped(grid.title), _gridded(grid)) for grid in (*frame_grids(report), *layer_grids(report))),
        ("Accuracy by size, number of boxes and class", _scores(report)),
        ("Widths before and after", _widths(report)),
        ("Environment", _environment(report)),
        ("Lineage", _lineage(report)),
    ]
    parts += [f"<details><summary>{title}</summary>\n\n{body}\n\n</details>" for title, body in folded if body]
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return SPECIAL.sub(r"\\\1", label(text))


def _grid(header: list[str], rows: list[list[str]], *, left: int) -> str:
    rule = ["---" if i < left else "---:" for i in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *rows])


def _table(report: Report) -> str:
    header = [_escaped(column.title) for column in COLUMNS]
    rows = [[_escaped(row[column.key].text) for column in COLUMNS] for row in table(report)]
    return _grid(header, rows, left=sum(column.text for column in COLUMNS))


def _gridded(grid: Grid) -> str:
    """Return one of the further tables; of a long one its first lines, since a pull request takes no longer text."""
    header = [_escaped(column.title) for column in grid.columns]
    rows = [[_escaped(line[column.key].text) for column in grid.columns] for line in grid.lines[:MOST_LINES]]
    left = len(grid.lines) - len(rows)
    more = f"\n\n{left} further lines are in the page." if left else ""
    return f"{_escaped(grid.about)}\n\n{_grid(header, rows, left=sum(column.text for column in grid.columns))}{more}"


def _scores(report: Report) -> str:
    lines = [[_escaped(text) for text in line] for line in side_by_side(report.rows)]
    return _grid(["figure", *(_escaped(row.name) for row in report.rows)], lines, left=1) if lines else ""


def _widths(report: Report) -> str:
    rows = [[_escaped(layer), str(before), str(after)] for layer, before, after in report.widths]
    return _grid(["layer", "before", "after"], rows, left=1) if rows else ""


def _environment(report: Report) -> str:
    return "\n\n".join(
        _grid([_escaped(", ".join(names)), ""], [[_escaped(key), _escaped(value)] for key, value in facts], left=2)
        for names, facts in environments(report)
    )


def _lineage(report: Report) -> str:
    rows = []
    for one in report.lineage:
        read = ", ".join(f"{role} {str(what.get('sha256', ''))[:12]}" for role, what in one.get("inputs", {}).items())
        wrote = ", ".join(f"{name} {str(digest)[:12]}" for name, digest in one.get("outputs", {}).items())
        rows.append([_escaped(str(one[key])) for key in ("folder", "stage")] + [_escaped(read), _escaped(wrote)])
        rows[-1].append(f"{float(one.get('seconds', 0)):,.0f}")
    return _grid(["folder", "stage", "read", "wrote", "seconds"], rows, left=4) if rows else ""
