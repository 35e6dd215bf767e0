"""`slimdeploy data`: look data sets over."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimdeploy._needs import require
from slimdeploy.board.text import printable
from slimdeploy.cli._shared import JsonOption, show, table
from slimdeploy.errors import DataError

if TYPE_CHECKING:
    from slimdeploy.data.check import Picture

NAME = "data"
MOST_CLASSES = 100  # lines of a terminal; --json has all

app = typer.Typer(help="Look data sets over.", no_args_is_help=True, rich_markup_mode=None)
log = logging.getLogger("slimdeploy.data")


@app.callback()
def _data() -> None:
    """Look data sets over."""


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="The data set's YAML.")],
    json: JsonOption = False,
) -> None:
    """Decode every image, read every label, and show splits, classes, sizes, what is odd and what is broken.

    Ends with exit code 2 where something is broken.

    Example: slimdeploy data check visdrone.yaml
    """
    from slimdeploy.data.check import check as look_over

    require("onnx")
    picture = look_over(data)
    show({"schema": 1, **dataclasses.asdict(picture)}, text=printable_lines(as_text(picture)), as_json=json)
    if picture.problem_count:
        log.error("slimdeploy: %s is broken in %d places", printable(str(data)), picture.problem_count)
        raise typer.Exit(DataError.exit_code)


def printable_lines(lines: Iterable[str]) -> str:
    """Return lines in which every character prints."""
    return "\n".join(map(printable, lines))


def as_text(picture: Picture) -> list[str]:
    """Return what is known of a data set as lines."""
    lines = [f"{picture.name or picture.path}: {len(picture.classes)} classes, {picture.path}", ""]
    if picture.splits:
        header = ("split", "images", "boxes", "no label file", "no boxes", "left out")
        lines += table(header, [_split(name, split) for name, split in picture.splits.items()]).split("\n")
        lines += ["", *_classes(picture)]
    for name, split in picture.splits.items():
        lines += _kinds(f"left out of {name}", split.left_out)
    lines += _kinds("odd", picture.odd)
    lines += [f"broken: {problem}" for problem in picture.problems]
    if picture.problem_count > len(picture.problems):
        lines.append(f"broken: and {picture.problem_count - len(picture.problems)} more")
    return [*lines, "" if picture.problem_count else "nothing is broken"]


def _split(name: str, split: Any) -> tuple[str, ...]:
    left_out = sum(kind["count"] for kind in split.left_out.values())
    return (name, *map(str, (split.images, split.boxes, split.without_file, split.without_boxes, left_out)))


def _classes(picture: Picture) -> list[str]:
    header = ("class", *(f"boxes in {split}" for split in picture.splits), "small", "medium", "large", "median px")
    rows = [
        (
            printable(one.name),
            *(str(count) for count in one.boxes.values()),
            *(str(count) for count in (one.small, one.medium, one.large)),
            "" if one.median_px is None else f"{one.median_px:.1f}",
        )
        for one in picture.classes[:MOST_CLASSES]
    ]
    more = len(picture.classes) - MOST_CLASSES
    return [*table(header, rows).split("\n"), *([f"and {more} more classes; --json has all"] if more > 0 else []), ""]


def _kinds(title: str, kinds: Mapping[str, Any]) -> list[str]:
    return [
        f"{title}: {kind['count']} {what}: {', '.join(kind['first'])}"
        + (", ..." if kind["count"] > len(kind["first"]) else "")
        for what, kind in kinds.items()
    ]
