"""A bundle as `slimdeploy export` writes it, with a few bytes in place of a network."""

from __future__ import annotations

import json
from pathlib import Path

from slimdeploy.bundle.manifest import Contents, Graph
from slimdeploy.bundle.pack import pack
from slimdeploy.configs import ExportConfig
from slimdeploy.lineage import sha256_file, stage_run
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


def write_small_bundle(out: Path, *, model: bytes = b"model", target: str = "cpu", agent: bytes = b"") -> Path:
    """Write a bundle of one model file and return its folder; with `agent`, that is its agent.pyz."""
    spec = ModelSpec(task="detect", classes=("car", "van"), imgsz=(64, 64), outputs={"output0": (1, 6, 84)})
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
        check=CHECK,
        graphs=(
            Graph(
                file="model.fp32.onnx", precision="fp32", body="float32", opset=13, ir_version=7, box_shift_px=0.0,
                score_change=0.0,
            ),
        ),
    )  # fmt: skip
    with stage_run("export", config=ExportConfig(), inputs={}, out=out) as run:
        (run.folder / "model.fp32.onnx").write_bytes(model)
        pack(run.folder, contents)
    if agent:
        put(out, "agent.pyz", agent)
    return out


def put(bundle: Path, name: str, content: bytes) -> None:
    """Put a file into a bundle's folder as if it had been exported with it."""
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_bytes(content)
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = {"sha256": sha256_file(bundle / name), "size_bytes": len(content)}
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (bundle / "run.json").unlink(missing_ok=True)
