"""`slimdeploy sparsify`: train with an L1 penalty on BatchNorm scales."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimdeploy.cli._shared import ConfigOption, DataOption, JsonOption, OutOption, TrustOption, show
from slimdeploy.configs import SparsifyConfig, build

NAME = "sparsify"


def command(
    weights: Annotated[Path, typer.Argument(help="The dense checkpoint, a YOLOv8 .pt.")],
    data: DataOption,
    out: OutOption,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    sr: Annotated[float | None, typer.Option(help="Strength of the penalty.")] = None,
    penalty: Annotated[str | None, typer.Option(help="proximal or subgradient.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Side of the input, in pixels.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, 0, or 0,1 for two GPUs.")] = None,
    config: ConfigOption = None,
    trust: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Train with a penalty that drives unneeded channels towards zero; writes sparse.pt.

    Example: slimdeploy sparsify dense.pt --data visdrone.yaml --epochs 20 --out sparse
    """
    from slimdeploy.recipes import section
    from slimdeploy.stages.sparsify import sparsify

    flags = {"epochs": epochs, "sr": sr, "penalty": penalty, "imgsz": imgsz, "batch": batch, "device": device}
    settings = build(SparsifyConfig, flags, section(config, NAME))
    written = sparsify(weights, data, settings, out, trust=trust)
    show({"weights": str(written)}, text=f"sparse checkpoint: {written}", as_json=json)
