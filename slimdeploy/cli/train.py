"""`slimdeploy train`: train a dense YOLOv8 from new weights."""

from __future__ import annotations

from typing import Annotated

import typer

from slimdeploy.cli._shared import ConfigOption, DataOption, JsonOption, OutOption, show
from slimdeploy.configs import DenseConfig, build

NAME = "train"


def command(
    data: DataOption,
    out: OutOption,
    architecture: Annotated[
        str | None, typer.Option(help="An ultralytics model YAML: yolov8n.yaml to yolov8x.yaml.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Side of the input, in pixels.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, 0, or 0,1 for two GPUs.")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Train a dense detector from new weights, where there is none to start from; writes dense.pt.

    Example: slimdeploy train --architecture yolov8n.yaml --data visdrone.yaml --epochs 100 --out train
    """
    from slimdeploy.recipes import section
    from slimdeploy.stages.train import train

    flags = {"architecture": architecture, "epochs": epochs, "imgsz": imgsz, "batch": batch, "device": device}
    written = train(data, build(DenseConfig, flags, section(config, NAME)), out)
    show({"weights": str(written)}, text=f"dense checkpoint: {written}", as_json=json)
