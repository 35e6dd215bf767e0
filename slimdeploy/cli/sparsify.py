"""`slimdeploy sparsify`: train with a sparsity penalty on BatchNorm scales."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimdeploy.cli._shared import (
    ConfigOption,
    JsonOption,
    ResumeOption,
    TrustOption,
    given,
    refuse_beside_resume,
    show,
)
from slimdeploy.configs import SparsifyConfig, build

NAME = "sparsify"


def command(
    weights: Annotated[Path | None, typer.Argument(help="The dense checkpoint, a YOLOv8 .pt.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The data set's YAML, as ultralytics reads it.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to make; it must not exist.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    sr: Annotated[float | None, typer.Option(help="Strength of the penalty.")] = None,
    penalty: Annotated[str | None, typer.Option(help="proximal or subgradient.")] = None,
    scope: Annotated[str | None, typer.Option(help="coupled: as channels are removed. layer: each by itself.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Of sr: constant, or decay to a tenth.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="SGD, AdamW or MuSGD.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Side of the input, in pixels.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images that go through the network at once.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches an optimizer step.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, 0, or 0,1 for two GPUs.")] = None,
    resume: ResumeOption = None,
    config: ConfigOption = None,
    trust: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Train with a penalty that drives unneeded channels towards zero; writes sparse.pt.

    Example: slimdeploy sparsify dense.pt --data visdrone.yaml --epochs 20 --out sparse
    """
    from slimdeploy.recipes import section
    from slimdeploy.stages.sparsify import resume_sparsify, sparsify

    flags = {"epochs": epochs, "sr": sr, "penalty": penalty, "scope": scope, "schedule": schedule, "imgsz": imgsz,
             "optimizer": optimizer, "batch": batch, "accumulate": accumulate, "device": device}  # fmt: skip
    if resume:
        refuse_beside_resume({"WEIGHTS": weights, "--data": data, "--out": out, "--config": config, **flags})
        written = resume_sparsify(resume, trust=trust)
    else:
        settings = build(SparsifyConfig, flags, section(config, NAME))
        start = given(weights, "WEIGHTS")
        written = sparsify(start, given(data, "--data"), settings, given(out, "--out"), trust=trust)
    show({"weights": str(written)}, text=f"sparse checkpoint: {written}", as_json=json, complete=written.parent)
