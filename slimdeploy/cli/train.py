"""`slimdeploy train`: train a dense YOLOv8 from new weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimdeploy.cli._shared import ConfigOption, JsonOption, ResumeOption, given, refuse_beside_resume, show
from slimdeploy.configs import DenseConfig, build

NAME = "train"


def command(
    data: Annotated[Path | None, typer.Option("--data", help="The data set's YAML, as ultralytics reads it.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to make; it must not exist.")] = None,
    architecture: Annotated[
        str | None, typer.Option(help="An ultralytics model YAML: yolov8n.yaml to yolov8x.yaml.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Side of the input, in pixels.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images that go through the network at once.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches an optimizer step.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, 0, or 0,1 for two GPUs.")] = None,
    resume: ResumeOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Train a dense detector from new weights, where there is none to start from; writes dense.pt.

    Example: slimdeploy train --architecture yolov8n.yaml --data visdrone.yaml --epochs 100 --out train
    """
    from slimdeploy.recipes import section
    from slimdeploy.stages.train import resume_train, train

    flags = {"architecture": architecture, "epochs": epochs, "imgsz": imgsz, "batch": batch, "accumulate": accumulate,
             "device": device}  # fmt: skip
    if resume:
        refuse_beside_resume({"--data": data, "--out": out, "--config": config, **flags})
        written = resume_train(resume)
    else:
        settings = build(DenseConfig, flags, section(config, NAME))
        written = train(given(data, "--data"), settings, given(out, "--out"))
    show({"weights": str(written)}, text=f"dense checkpoint: {written}", as_json=json, complete=written.parent)
