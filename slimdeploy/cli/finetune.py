"""`slimdeploy finetune`: train a pruned network in its shape."""

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
from slimdeploy.configs import FinetuneConfig, build

NAME = "finetune"


def command(
    weights: Annotated[Path | None, typer.Argument(help="The pruned checkpoint.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The data set's YAML, as ultralytics reads it.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to make; it must not exist.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="A dense checkpoint to distil from.")] = None,
    scratch: Annotated[bool, typer.Option("--scratch", help="Keep the shape and draw new weights: a control.")] = False,
    lr0: Annotated[float | None, typer.Option(help="Learning rate after the warm-up.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="AdamW, SGD or MuSGD.")] = None,
    patience: Annotated[int | None, typer.Option(help="Epochs without a better mAP before it stops.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Side of the input, in pixels.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images that go through the network at once.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches an optimizer step.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, 0, or 0,1 for two GPUs.")] = None,
    resume: ResumeOption = None,
    config: ConfigOption = None,
    trust: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Train a pruned network in its shape until its accuracy is back; writes tuned.pt.

    Example: slimdeploy finetune prune/pruned.pt --data visdrone.yaml --epochs 30 --out finetune
    """
    from slimdeploy.recipes import section
    from slimdeploy.stages.finetune import finetune, resume_finetune

    flags = {"epochs": epochs, "lr0": lr0, "optimizer": optimizer, "patience": patience, "imgsz": imgsz,
             "batch": batch, "accumulate": accumulate, "device": device, "scratch": scratch or None}  # fmt: skip
    if resume:
        others = {"WEIGHTS": weights, "--data": data, "--out": out, "--teacher": teacher, "--config": config}
        refuse_beside_resume({**others, **flags})
        written = resume_finetune(resume, trust=trust)
    else:
        settings = build(FinetuneConfig, flags, section(config, NAME))
        start, folder = given(weights, "WEIGHTS"), given(out, "--out")
        written = finetune(start, given(data, "--data"), settings, folder, teacher=teacher, trust=trust)
    show({"weights": str(written)}, text=f"tuned checkpoint: {written}", as_json=json, complete=written.parent)
