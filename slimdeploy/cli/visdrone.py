"""`slimdeploy visdrone`: the official download as a data set for training and scoring."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from slimdeploy._needs import needs
from slimdeploy.cli._shared import JsonOption, OutOption, show, table
from slimdeploy.configs import VisdroneConfig, build

NAME = "visdrone"
COLUMNS = ("source_images", "images", "boxes", "without_area", "ignored_regions", "ignored_objects")
HEADER = ("split", "images read", "written", "boxes", "without area", "ignored regions", "ignored objects")


def command(
    folder: Annotated[Path, typer.Argument(help="What holds VisDrone2019-DET-train, -val or -test-dev, unpacked.")],
    out: OutOption,
    tile: Annotated[int | None, typer.Option(help="Cut images that are bigger into tiles of this side, in px.")] = None,
    overlap: Annotated[float | None, typer.Option(help="Share of a tile that its neighbour shows too.")] = None,
    mask_ignored: Annotated[
        bool, typer.Option("--mask-ignored", help="Paint ignored regions of training images grey.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Turn VisDrone-DET into YOLO labels and COCO files; ignored regions stay aside for the official scorer.

    Example: slimdeploy visdrone downloads --out visdrone
    """
    settings = build(VisdroneConfig, {"tile": tile, "overlap": overlap, "mask_ignored": mask_ignored}, {})
    with needs("onnx"):
        from slimdeploy.data.visdrone_convert import OUTPUT, convert
    counts = convert(folder, settings, out)
    data = out / OUTPUT
    show(
        {"schema": 1, "data": str(data), "splits": counts},
        text=f"{as_text(counts)}\n\n{data}",
        as_json=json,
        complete=out,
    )


def as_text(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return what each split holds as a table."""
    return table(HEADER, [(split, *(f"{found[key]:,}" for key in COLUMNS)) for split, found in counts.items()])
