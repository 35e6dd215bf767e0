"""A detector that needs no training: it finds bright red and bright blue squares, so that a board's agent has work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.bundle.golden import write_golden
from slimdeploy.bundle.manifest import Contents, Graph
from slimdeploy.bundle.pack import pack
from slimdeploy.configs import ExportConfig
from slimdeploy.lineage import stage_run
from slimdeploy.records import Checkpoint
from slimdeploy.targets import load_target

CLASSES = ("red", "blue")
CELL = 8  # pixels; each cell of the input is one anchor, and its box
CHECK = {
    "against": "the squares that were drawn",
    "runtime": "ONNX Runtime on the CPU",
    "source": "drawn squares",
    "images": 1,
    "boxes": 2,
    "box_shift_px": 0.0,
    "score_change": 0.0,
    "raw_difference": 0.0,
    "box_tolerance_px": 1.0,
    "score_tolerance": 0.02,
}


def squares(imgsz: tuple[int, int] = (64, 96)) -> np.ndarray:
    """Return a black image with a red square and a blue one, (H, W, 3) uint8 BGR."""
    image = np.zeros((*imgsz, 3), dtype=np.uint8)
    image[8:16, 16:24, 2] = 230
    image[32:40, 64:72, 0] = 250
    return image


def write_detector(path: Path, *, imgsz: tuple[int, int] = (64, 96)) -> Path:
    """Write the detector as ONNX: the mean of red and of blue in each cell are the scores of its two classes."""
    rows, columns = imgsz[0] // CELL, imgsz[1] // CELL
    y, x = np.mgrid[:rows, :columns] * CELL + CELL / 2
    boxes = np.stack([x, y, np.full_like(x, CELL), np.full_like(x, CELL)]).reshape(1, 4, -1).astype(np.float32)
    weights = [
        numpy_helper.from_array(boxes, "boxes"),
        numpy_helper.from_array(np.array([0, 2], dtype=np.int64), "channels"),
        numpy_helper.from_array(np.array([1, 2, rows * columns], dtype=np.int64), "shape"),
    ]
    nodes = [
        helper.make_node("Gather", ["images", "channels"], ["both"], axis=1),
        helper.make_node("AveragePool", ["both"], ["means"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Reshape", ["means", "shape"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores"], ["output0"], axis=1),
    ]
    taken = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *imgsz])
    given = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, rows * columns])
    graph = helper.make_graph(nodes, "squares", [taken], [given], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    metadata = {"task": "detect", "stride": 32, "batch": 1, "imgsz": list(imgsz), "names": dict(enumerate(CLASSES))}
    helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    onnx.save(model, path)
    return path


def write_bright_bundle(out: Path, *, target: str = "cpu", limits: dict[str, float] | None = None) -> Path:
    """Write a whole bundle of the detector, its golden sample and the agent, as `slimdeploy export` does."""
    with stage_run("export", config=ExportConfig(), inputs={}, out=out) as run:
        artifact = read_artifact(write_detector(run.folder / "model.fp32.onnx"))
        rgb_chw = squares().astype(np.float32)[:, :, ::-1].transpose(2, 0, 1) / 255
        write_golden(run.folder, artifact, [rgb_chw])
        contents = Contents(
            artifact=artifact,
            checkpoint=Checkpoint(
                path="squares.pt", sha256="b" * 64, task="detect", classes=CLASSES, stride=32, parameters=1,
                size_bytes=9, pruned=False,
            ),
            target=load_target(target),
            check=CHECK,
            graphs=(
                Graph(
                    file="model.fp32.onnx", precision="fp32", body="float32", opset=13, ir_version=7, box_shift_px=0.0,
                    score_change=0.0,
                ),
            ),
            limits=limits,
        )  # fmt: skip
        pack(run.folder, contents)
    return out
