"""Options and printing that the verbs have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
OutOption = Annotated[Path, typer.Option("--out", help="The folder to make; it must not exist.")]
DataOption = Annotated[Path, typer.Option("--data", help="The data set's YAML, as ultralytics reads it.")]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Open a checkpoint that holds unknown objects. This can run any code.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A recipe TOML; its section of the verb's name gives settings.")
]


def show(result: Mapping[str, Any], *, text: str, as_json: bool) -> None:
    """Print a verb's result to stdout: one JSON object, or the text for a person."""
    typer.echo(json.dumps(result, indent=1, default=str) if as_json else text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned plain text; the first column is left-aligned, the others right-aligned."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
