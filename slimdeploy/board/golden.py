"""The golden sample: an input whose boxes are known, so that a board can tell whether its engine finds them.

`golden/input.npy` is an image of the input's size, (H, W, 3) uint8 BGR; `golden/expected.json` holds the boxes that the
exported graph found in it on the desk, and how far a board may differ.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Mapping

import numpy as np

from slimdeploy.board.boxes import Detections
from slimdeploy.board.decode import candidates, decode, overlaps
from slimdeploy.board.errors import ArtifactError

if TYPE_CHECKING:
    from slimdeploy.board.boxes import Floats, Pixels
    from slimdeploy.board.bundle import Bundle

SCHEMA = 1
INPUT = "golden/input.npy"
EXPECTED = "golden/expected.json"
BY_GRAPH = "by_graph"  # in the record: what the bundle's other graphs found, by file
SAME_OBJECT_IOU = 0.5  # a box that overlaps no expected one by this much is of something else


@dataclass(frozen=True)
class Golden:
    """An input and what must be found in it.

    Attributes:
        image: (H, W, 3) uint8 BGR, of the input's size.
        boxes: what was found on the desk, after NMS.
        conf: lowest score of a box.
        iou: overlap of NMS.
        max_det: boxes kept.
        box_px: how far a corner may move, in pixels.
        score: how far a score may move.
    """

    image: Pixels
    boxes: Detections
    conf: float
    iou: float
    max_det: int
    box_px: float
    score: float


@dataclass(frozen=True)
class Agreement:
    """How an engine's boxes lie to the expected ones.

    Attributes:
        expected: boxes that had to be found: those whose score is above the threshold by more than the tolerance.
        missing: of these, how many were not found within the tolerance.
        unexpected: boxes that were found, above the threshold by more than the tolerance, where no box was expected.
        box_shift_px: largest move of a corner among the boxes found, in pixels.
        score_change: largest change of their scores.
    """

    expected: int
    missing: int
    unexpected: int
    box_shift_px: float
    score_change: float

    @property
    def holds(self) -> bool:
        """Whether the engine finds what it must and nothing else."""
        return self.expected > 0 and self.missing == 0 and self.unexpected == 0


def read_image(bundle: Bundle) -> Pixels:
    """Return the golden input of a bundle.

    Raises:
        ArtifactError: it has none, or it is damaged or altered.
    """
    task = bundle.manifest["model"]["task"]
    if INPUT not in bundle.manifest["files"] and task != "detect":
        raise ArtifactError(
            f"the bundle {bundle.folder} has no golden sample: it holds a network for the task {task!r}",
            wanted="a bundle with one",
            do="export it again: older versions wrote samples of detectors alone",
        )
    with bundle.file(INPUT).open("rb") as stream:
        return _image(stream, bundle)


def read_golden(bundle: Bundle, graph: str = "") -> Golden:
    """Return the golden sample of a detector's bundle.

    Args:
        bundle: the bundle.
        graph: the file that is run, where it is another than the model's own.

    Raises:
        ArtifactError: it has none, or it is damaged or altered.
    """
    image = read_image(bundle)
    told = read_record(bundle, graph)
    try:
        boxes = Detections(
            xyxy=np.array(told["xyxy"], dtype=np.float32).reshape(-1, 4),
            scores=np.array(told["scores"], dtype=np.float32),
            labels=np.array(told["classes"], dtype=np.int64),
        )
        limits = told["tolerance"]
        if not len(boxes.xyxy) == len(boxes.scores) == len(boxes.labels):
            raise ValueError("boxes, scores and classes differ in number")
        return Golden(
            image=image,
            boxes=boxes,
            conf=float(told["conf"]),
            iou=float(told["iou"]),
            max_det=int(told["max_det"]),
            box_px=float(limits["box_px"]),
            score=float(limits["score"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(f"{EXPECTED} of {bundle.folder} is damaged: {error}", do="export it again") from error


def compare(head: Floats, golden: Golden) -> Agreement:
    """Compare what an engine finds with what it must find.

    Each expected box is looked for among the candidates before NMS, since NMS turns a difference in the last digit
    into another choice among neighbours; what comes out of NMS is then looked through for boxes of nothing expected.

    Args:
        head: the engine's output for the golden input, (4 + classes, anchors).
        golden: the sample.
    """
    sure = golden.conf + golden.score
    wanted = _only(golden.boxes, golden.boxes.scores >= sure)
    near = candidates(head, max(0.0, golden.conf - golden.score))
    shift, change = _moves(wanted, near)
    found = (shift <= golden.box_px) & (change <= golden.score)
    nearest = np.where(found, shift, np.inf).argmin(axis=1) if near.scores.size else np.zeros(len(found), dtype=int)
    there = found.any(axis=1)
    rows = np.flatnonzero(there)
    return Agreement(
        expected=len(wanted.scores),
        missing=int((~there).sum()),
        unexpected=_unexpected(head, golden, sure),
        box_shift_px=float(shift[rows, nearest[rows]].max(initial=0.0)),
        score_change=float(change[rows, nearest[rows]].max(initial=0.0)),
    )


def _moves(wanted: Detections, near: Detections) -> tuple[Floats, Floats]:
    """Largest move of a corner and change of score of each wanted box against each candidate, (n, m)."""
    shift = np.abs(wanted.xyxy[:, None, :] - near.xyxy[None, :, :]).max(axis=2)
    shift = np.where(wanted.labels[:, None] == near.labels[None, :], shift, np.float32(np.inf))
    return shift, np.abs(wanted.scores[:, None] - near.scores[None, :])


def _unexpected(head: Floats, golden: Golden, sure: float) -> int:
    found = decode(head, conf=sure, iou=golden.iou, max_det=golden.max_det, multi_label=False)
    if not len(golden.boxes.scores):
        return len(found.scores)
    same = overlaps(found.xyxy, golden.boxes.xyxy) * (found.labels[:, None] == golden.boxes.labels[None, :])
    return int((same.max(axis=1) < SAME_OBJECT_IOU).sum()) if len(found.scores) else 0


def _only(boxes: Detections, chosen: np.ndarray) -> Detections:
    return Detections(xyxy=boxes.xyxy[chosen], scores=boxes.scores[chosen], labels=boxes.labels[chosen])


def _image(stream: BinaryIO, bundle: Bundle) -> Pixels:
    try:
        image = np.asarray(np.load(stream, allow_pickle=False))
    except (ValueError, EOFError, OverflowError, MemoryError) as error:
        raise ArtifactError(f"{INPUT} of {bundle.folder} is damaged: {error}", do="export it again") from error
    if image.shape != (*bundle.imgsz, 3) or image.dtype != np.uint8:
        raise ArtifactError(f"{INPUT} of {bundle.folder} is no image of the input's size", do="export it again")
    return image


def read_record(bundle: Bundle, graph: str = "") -> Mapping[str, Any]:
    """Return what must be found in the golden input by a graph; where nothing is told of it, by the model's own."""
    try:
        told = json.loads(bundle.file(EXPECTED).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{EXPECTED} of {bundle.folder} is damaged: {error}", do="export it again") from error
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        raise ArtifactError(f"{EXPECTED} of {bundle.folder} is of another schema", wanted=f"schema {SCHEMA}")
    by_graph = told.get(BY_GRAPH, {})
    record = by_graph.get(graph, told) if isinstance(by_graph, dict) else None
    if not isinstance(record, dict):
        raise ArtifactError(f"{EXPECTED} of {bundle.folder} is damaged: {BY_GRAPH} is no table", do="export it again")
    return record
