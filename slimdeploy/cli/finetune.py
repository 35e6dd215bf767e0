"""`slimdeploy finetune`: train a pruned network in its shape."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimdeploy.cli._shared import ConfigOption, DataOption, JsonOption, OutOption, TrustOption, show
from slimdeploy.configs import FinetuneConfig, build

NAME = "finetune"


def command(
    weights: Annotated[Path, typer.Argument(help="The pruned checkpoint.")],
    data: DataOption,
    out: OutOption,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="A dense checkpoint to distil from.")] = None,
    lr0: Annotated[float | None, typer.Option(help="Learning rate after the warm-up.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Side of the input, in pixels.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, 0, or 0,1 for two GPUs.")] = None,
    config: ConfigOption = None,
    trust: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Train a pruned network in its shape until its accuracy is back; writes tuned.pt.

    Example: slimdeploy finetune prune/pruned.pt --data visdrone.yaml --epochs 30 --out finetune
    """
    from slimdeploy.recipes import section
    from slimdeploy.stages.finetune import finetune

    flags = {"epochs": epochs, "lr0": lr0, "imgsz": imgsz, "batch": batch, "device": device}
    settings = build(FinetuneConfig, flags, section(config, NAME))
    written = finetune(weights, data, settings, out, teacher=teacher, trust=trust)
    show({"weights": str(written)}, text=f"tuned checkpoint: {written}", as_json=json)
