"""A bundle as `slimdeploy export` writes it, with a few bytes in place of a network."""

from __future__ import annotations

from pathlib import Path

from slimdeploy.bundle.manifest import Contents
from slimdeploy.bundle.pack import pack
from slimdeploy.configs import ExportConfig
from slimdeploy.lineage import stage_run
from slimdeploy.records import Artifact, Checkpoint, ModelSpec
from slimdeploy.targets import load_target

CHECK = {
    "against": "PyTorch",
    "runtime": "ONNX Runtime",
    "source": "rendered scenes",
    "images": 8,
    "boxes": 300,
    "box_shift_px": 0.2,
    "score_change": 0.001,
    "raw_difference": 1.5,
    "box_tolerance_px": 1.0,
    "score_tolerance": 0.02,
}


def write_small_bundle(out: Path, *, model: bytes = b"model", target: str = "cpu") -> Path:
    """Write a bundle of one model file and return its folder."""
    spec = ModelSpec(task="detect", classes=("car", "van"), imgsz=(64, 64))
    contents = Contents(
        artifact=Artifact(
            path="model.fp32.onnx", format="onnx", precision="fp32", sha256="a" * 64, spec=spec, parameters=100,
            macs=1000, size_bytes=len(model),
        ),
        checkpoint=Checkpoint(
            path="tuned.pt", sha256="b" * 64, task="detect", classes=spec.classes, stride=32, parameters=110,
            size_bytes=9, pruned=True,
        ),
        target=load_target(target),
        opset=13,
        ir_version=7,
        check=CHECK,
    )  # fmt: skip
    with stage_run("export", config=ExportConfig(), inputs={}, out=out) as run:
        (run.folder / "model.fp32.onnx").write_bytes(model)
        pack(run.folder, contents)
    return out
