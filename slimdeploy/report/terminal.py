"""A report as plain text, readable at 100 columns."""

from __future__ import annotations

import io
import textwrap

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from slimdeploy.records import Report
from slimdeploy.report.cells import COLUMNS, Cell, label, table
from slimdeploy.report.findings import headline
from slimdeploy.report.measured import measured_lines
from slimdeploy.report.remarks import remarks

WIDTH = 100
RULE = Box("    \n    \n -- \n    \n    \n -- \n    \n    \n", ascii=True)  # a rule below the head, nothing else
GAP = 2  # between columns
SHORTEST = 9  # of a column of words
COLUMN = {column.key: column for column in COLUMNS}
SIZE_KEYS = ("name", "file", "parameters", "size_mb", "gmacs")
SCORE_KEYS = ("name", "map50", "map50_95", "difference", "precision", "recall")
SPEED_KEYS = ("name", "type", "p50_ms", "p90_ms", "p99_ms", "images_per_s", "speedup")


def as_text(report: Report) -> str:
    """Return a report's headline, tables, notes and warnings as plain text of at most 100 columns."""
    cells = table(report)
    parts = [
        label(report.title),
        _wrapped(label(headline(report))),
        _block(cells, SIZE_KEYS),
        *([_block(cells, SCORE_KEYS)] if any(row.accuracy for row in report.rows) else []),
        _block(cells, SPEED_KEYS),
        *("\n".join(_wrapped(label(line), indent="    ") for line in block) for block in measured_lines(report)),
    ]
    said = [_wrapped(f"{kind}: {label(text)}", indent="  ") for kind, text in remarks(report)]
    return "\n\n".join([*parts, "\n".join(said)]).rstrip()


def _wrapped(text: str, *, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent)


def _block(cells: list[dict[str, Cell]], keys: tuple[str, ...]) -> str:
    shown = Table(box=RULE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    limits = _limits(cells, keys)
    for key in keys:
        justify: JustifyMethod = "left" if COLUMN[key].text else "right"
        shown.add_column(
            Text(COLUMN[key].title), justify=justify, no_wrap=True, overflow="ellipsis", max_width=limits[key]
        )
    for row in cells:
        shown.add_row(*(Text(row[key].text) for key in keys))
    stream = io.StringIO()
    Console(file=stream, width=WIDTH, color_system=None, legacy_windows=False, force_terminal=False).print(shown)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


def _limits(cells: list[dict[str, Cell]], keys: tuple[str, ...]) -> dict[str, int]:
    """Return each column's widest allowed width: figures are never cut, the later words are cut first."""
    widths = {
        key: max(cell_len(text) for text in [COLUMN[key].title, *(row[key].text for row in cells)]) for key in keys
    }
    words = [key for key in keys if COLUMN[key].text]
    left = WIDTH - GAP * (len(keys) - 1) - sum(width for key, width in widths.items() if key not in words)
    for place, key in enumerate(words):
        later = SHORTEST * (len(words) - place - 1)
        widths[key] = max(SHORTEST, min(widths[key], left - later))
        left -= widths[key]
    return widths
