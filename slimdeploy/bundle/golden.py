"""Choose the golden sample of a bundle: an image, and the boxes that the exported graph finds in it on the desk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slimdeploy.backends.protocol import INPUT, OUTPUT
from slimdeploy.backends.registry import backend_for
from slimdeploy.board import golden
from slimdeploy.board.boxes import Detections, Floats, Pixels
from slimdeploy.board.decode import decode
from slimdeploy.board.golden_rows import ROWS, as_rows
from slimdeploy.configs import GoldenConfig
from slimdeploy.records import Artifact

FOUND_BY = "the exported graph, in ONNX Runtime on the CPU"


def write_golden(folder: Path, artifact: Artifact, inputs: Sequence[Floats], others: Sequence[Artifact] = ()) -> None:
    """Write `golden/input.npy` and `golden/expected.json`: the input in which the graph finds most.

    Args:
        folder: the bundle.
        artifact: the model.
        inputs: images to choose from, each (3, H, W) RGB in 0..1.
        others: the bundle's other graphs, each of which is held to what it finds itself.
    """
    heads = _heads(artifact, inputs)
    most = max(range(len(heads)), key=lambda i: _found(heads[i], artifact))
    (folder / golden.INPUT).parent.mkdir()
    np.save(folder / golden.INPUT, as_pixels(inputs[most]), allow_pickle=False)
    record = _record(heads[most], artifact)
    by_graph = {Path(one.path).name: _record(_heads(one, inputs[most : most + 1])[0], one) for one in others}
    text = json.dumps({**record, **({golden.BY_GRAPH: by_graph} if by_graph else {})}) + "\n"
    (folder / golden.EXPECTED).write_text(text, encoding="utf-8", newline="\n")


def _found(head: Floats, artifact: Artifact) -> tuple[int, float]:
    """How many anchors have a sure score, and the highest score: what an input is chosen by."""
    scores = _scores(as_rows(head), artifact)
    return int((scores > GoldenConfig.of(artifact.precision).conf).sum()), float(scores.max())


def _scores(rows: Floats, artifact: Artifact) -> Floats:
    """The highest score of each row; what follows the scores is no score."""
    first = 0 if artifact.spec.task == "classify" else 4
    return np.asarray(rows[:, first : first + len(artifact.spec.classes)].max(axis=1))


def as_pixels(input_chw: Floats) -> Pixels:
    """Return an input (3, H, W), RGB in 0..1, as the 8-bit image that it was made from, (H, W, 3) BGR."""
    return np.ascontiguousarray(np.rint(input_chw * 255).astype(np.uint8).transpose(1, 2, 0)[:, :, ::-1])


def _heads(artifact: Artifact, inputs: Sequence[Floats]) -> list[Floats]:
    session = backend_for(artifact).open(artifact)
    try:
        batches = (np.stack([one] * artifact.spec.batch) for one in inputs)
        return [np.array(session.run({INPUT: batch})[OUTPUT][0]) for batch in batches]
    finally:
        session.close()


def _threshold(head: Floats, config: GoldenConfig) -> float:
    """The config's confidence; a weak network, which reaches it nowhere, is held to its own best boxes."""
    best = head[4:].max(axis=0)
    conf = config.conf if best.max() > config.conf * (1 + config.margin) else float(best.max()) / 2
    boxes = decode(head, conf=conf, iou=config.iou, max_det=config.max_det, multi_label=False)
    return conf if len(boxes.scores) < config.max_det else float(boxes.scores[config.max_det // 2])


def _record(head: Floats, artifact: Artifact) -> dict[str, Any]:
    config = GoldenConfig.of(artifact.precision)
    if artifact.spec.task != "detect":
        return _rows(head, artifact, config)
    conf = _threshold(head, config)
    boxes = decode(head, conf=conf, iou=config.iou, max_det=config.max_det, multi_label=False)
    return _boxes(boxes, conf, config)


def _rows(head: Floats, artifact: Artifact, config: GoldenConfig) -> dict[str, Any]:
    rows = as_rows(head)
    surest = np.sort(np.argsort(-_scores(rows, artifact), kind="stable")[:ROWS])
    return {
        "schema": golden.SCHEMA,
        "found_by": FOUND_BY,
        "anchors": surest.tolist(),
        "rows": [[float(f"{value:.6g}") for value in row] for row in rows[surest]],
        "boxes": 0 if artifact.spec.task == "classify" else 4,
        "classes": len(artifact.spec.classes),
        "tolerance": {"box_px": config.box_px, "score": config.score},
    }


def _boxes(boxes: Detections, conf: float, config: GoldenConfig) -> dict[str, Any]:
    return {
        "schema": golden.SCHEMA,
        "found_by": FOUND_BY,
        "conf": conf,
        "iou": config.iou,
        "max_det": config.max_det,
        "xyxy": [[round(float(side), 3) for side in box] for box in boxes.xyxy],
        "scores": [float(score) for score in boxes.scores],
        "classes": [int(label) for label in boxes.labels],
        "tolerance": {"box_px": config.box_px, "score": min(config.score, conf * config.margin)},
    }
