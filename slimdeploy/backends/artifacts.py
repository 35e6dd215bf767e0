"""Say what a model file holds: `read_artifact` turns a .pt or .onnx into the record that backends open."""

from __future__ import annotations

from pathlib import Path

from slimdeploy._needs import needs
from slimdeploy.errors import ArtifactError, UsageError
from slimdeploy.lineage import sha256_file
from slimdeploy.records import Artifact, ModelSpec

DEFAULT_IMGSZ = (640, 640)


def read_artifact(path: Path, *, imgsz: tuple[int, int] | None = None, trust: bool = False) -> Artifact:
    """Return what is known of a model file.

    Args:
        path: a .pt checkpoint, or an .onnx that slimdeploy or ultralytics exported with a static shape.
        imgsz: input height and width for a .pt, in pixels, 640 x 640 unless told; an .onnx brings its own.
        trust: open a .pt even if it holds unknown objects.

    Raises:
        ArtifactError: an .onnx is missing, damaged or made elsewhere, or the suffix is another one.
        CheckpointError: a .pt is missing, damaged, unsafe or no YOLO.
        UsageError: `imgsz` is no multiple of the network's stride.
    """
    if path.suffix == ".onnx":
        return _read_onnx(path)
    if path.suffix == ".pt":
        return _read_checkpoint(path, imgsz or DEFAULT_IMGSZ, trust=trust)
    raise ArtifactError(f"{path} is no model file", wanted="a .pt checkpoint or an .onnx", do="name one of these")


def _read_onnx(path: Path) -> Artifact:
    with needs("onnx"):
        from slimdeploy.backends import onnx_graph
    model = onnx_graph.load_graph(path)
    spec, precision = onnx_graph.read_spec(model, path)
    return Artifact(
        path=str(path),
        format="onnx",
        precision=precision,
        sha256=sha256_file(path),
        spec=spec,
        parameters=onnx_graph.count_weights(model),
        macs=onnx_graph.count_macs(model),
        size_bytes=path.stat().st_size,
    )


def require_finite_weights(artifact: Artifact) -> None:
    """Raise ArtifactError for an .onnx whose weights hold NaN or infinity, before it is scored or timed."""
    if artifact.format != "onnx":
        return
    with needs("onnx"):
        from slimdeploy.backends import onnx_check, onnx_graph
    onnx_check.require_finite(onnx_graph.load_graph(Path(artifact.path)), Path(artifact.path))


def _read_checkpoint(path: Path, imgsz: tuple[int, int], *, trust: bool) -> Artifact:
    with needs("train"):
        from slimdeploy.yolo import checkpoint, soundness
    module, known = checkpoint.load(path, trust=trust)
    require_stride(imgsz, known.stride)
    return Artifact(
        path=str(path),
        format="pt",
        precision="fp32",
        sha256=known.sha256,
        spec=ModelSpec(task=known.task, classes=known.classes, imgsz=imgsz, stride=known.stride),
        parameters=known.parameters,
        macs=soundness.count_macs(module, imgsz, path),
        size_bytes=known.size_bytes,
    )


def require_stride(imgsz: tuple[int, int], stride: int) -> None:
    """Raise UsageError unless both sides of an input are multiples of a network's stride."""
    if any(side % stride or side <= 0 for side in imgsz):
        raise UsageError(f"an input of {imgsz[0]}x{imgsz[1]} pixels", wanted=f"sides that are multiples of {stride}")
