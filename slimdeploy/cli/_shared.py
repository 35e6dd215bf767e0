"""Options and printing that the verbs have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from slimdeploy.board.text import printable, printable_lines
from slimdeploy.cli import _logs, _streams
from slimdeploy.errors import UsageError

Value = TypeVar("Value")

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
OutOption = Annotated[Path, typer.Option("--out", help="The folder to make; it must not exist.")]
DataOption = Annotated[Path, typer.Option("--data", help="The data set's YAML, as ultralytics reads it.")]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Open a checkpoint that holds unknown objects. This can run any code.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A recipe TOML; its section of the verb's name gives settings.")
]
ResumeOption = Annotated[
    Path | None,
    typer.Option("--resume", help="The .partial folder of a stopped training; needs nothing else."),
]


def given(value: Value | None, name: str) -> Value:
    """Return what the command line must give unless it resumes.

    Raises:
        UsageError: it is missing.
    """
    if value is None:
        raise UsageError(f"{name} is missing", wanted=f"{name}, or --resume with the folder of a stopped training")
    return value


def refuse_beside_resume(flags: Mapping[str, Any]) -> None:
    """Raise UsageError for a setting given beside --resume, which takes every setting from the stopped training."""
    for name, value in flags.items():
        if value is not None and value is not False:
            raise UsageError(
                f"both --resume and {name if name.isupper() or name.startswith('-') else f'--{name}'}",
                wanted="--resume alone: the settings are those of the stopped training",
            )


def require_data_set(data: Path | None) -> None:
    """Read a data set's YAML, where one is named, before seconds of imports are spent.

    Raises:
        DataError: it is missing or is no data set.
    """
    if data is not None:
        from slimdeploy.data.dataset_yaml import read_settings

        read_settings(data)


def show(result: Mapping[str, Any], *, text: str, as_json: bool, complete: Path | str = "") -> None:
    """Print a verb's result to stdout: one JSON object, or the text for a person.

    Args:
        result: the object.
        text: the text.
        as_json: print the object.
        complete: what the verb has made, to be named if nothing can be printed.
    """
    _logs.end_live_line()
    _streams.note_complete(complete)
    typer.echo(json.dumps(result, indent=1, default=str) if as_json else printable_lines(text))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned plain text; the first column is left-aligned, the others right-aligned."""
    header, rows = list(map(printable, header)), [list(map(printable, row)) for row in rows]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
