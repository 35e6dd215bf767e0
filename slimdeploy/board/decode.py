"""Turn a detector's raw head into boxes: the same boxes as ultralytics' non_max_suppression, with numpy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from slimdeploy.board.boxes import Detections, Floats

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_CANDIDATES = 30_000  # ultralytics' max_nms
CLASS_OFFSET_PX = np.float32(7680)  # ultralytics' max_wh: moves classes apart, so that one NMS serves them all
_CHUNK = 256


def decode(output: Floats, *, conf: float, iou: float, max_det: int, multi_label: bool = True) -> Detections:
    """Return the boxes in the raw output of one image, best score first.

    Args:
        output: (4 + classes, anchors): centre x, centre y, width and height in pixels of the input, then scores.
        conf: lowest score of a candidate, exclusive.
        iou: overlap with a better box of its class above which a box goes.
        max_det: boxes kept.
        multi_label: let one anchor give a box for each class above `conf`, as ultralytics' validator does, and
            not for its best class alone, as its predictor does.
    """
    found = candidates(output, conf, multi_label=multi_label)
    order = np.argsort(-found.scores, kind="stable")[:MAX_CANDIDATES]
    boxes, labels = found.xyxy[order], found.labels[order]
    kept = suppress(boxes + labels[:, None].astype(np.float32) * CLASS_OFFSET_PX, iou=iou, most=max_det)
    return Detections(xyxy=boxes[kept], scores=found.scores[order][kept], labels=labels[kept])


def suppress(xyxy: Floats, *, iou: float, most: int) -> npt.NDArray[np.int64]:
    """Return the positions of the boxes that stay, in order: greedy non-maximum suppression.

    Args:
        xyxy: boxes, best first; shape (n, 4).
        iou: overlap with a kept box above which a box goes.
        most: where to stop.
    """
    threshold = np.float32(iou)
    kept = np.empty(0, dtype=np.int64)
    for start in range(0, len(xyxy), _CHUNK):
        here = np.arange(start, min(start + _CHUNK, len(xyxy)))
        if len(kept):
            here = here[~(overlaps(xyxy[kept], xyxy[here]) > threshold).any(axis=0)]
        kept = np.concatenate([kept, here[_greedy(overlaps(xyxy[here], xyxy[here]) > threshold)]])
        if len(kept) >= most:
            break
    return kept[:most]


def overlaps(first: Floats, second: Floats) -> Floats:
    """Return the IoU of each box of the first (n, 4) with each of the second (m, 4), shape (n, m)."""
    first_t, second_t = first.T[:, :, None], second.T[:, None, :]
    width = np.minimum(first_t[2], second_t[2]) - np.maximum(first_t[0], second_t[0])
    height = np.minimum(first_t[3], second_t[3]) - np.maximum(first_t[1], second_t[1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)  # (n, m)
    joint = _area(first)[:, None] + _area(second)[None, :] - shared
    return np.asarray(np.divide(shared, joint, out=np.zeros_like(shared), where=joint > 0))


def _area(xyxy: Floats) -> Floats:
    return np.asarray((xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1]))


def _greedy(over: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which boxes stay, given for each pair whether they overlap too much; (n, n), best first."""
    stays = np.ones(len(over), dtype=np.bool_)
    rivals = np.flatnonzero(np.triu(over, 1).any(axis=1))
    for i in rivals:
        if stays[i]:
            stays[i + 1 :] &= ~over[i, i + 1 :]
    return stays


def candidates(output: Floats, conf: float, *, multi_label: bool = False) -> Detections:
    """Return every box whose score is above `conf`, in the order of the anchors; see `decode`."""
    lowest, scores = np.float32(conf), output[4:]  # (classes, anchors)
    anchors = np.flatnonzero(scores.max(axis=0) > lowest)
    cxcywh, scores = output[:4, anchors].T, scores[:, anchors].T
    half = cxcywh[:, 2:] / 2
    xyxy = np.concatenate([cxcywh[:, :2] - half, cxcywh[:, :2] + half], axis=1)
    if multi_label and scores.shape[1] > 1:
        rows, labels = np.nonzero(scores > lowest)
        return Detections(xyxy=xyxy[rows], scores=scores[rows, labels], labels=labels)
    labels = scores.argmax(axis=1)
    return Detections(xyxy=xyxy, scores=scores[np.arange(len(labels)), labels], labels=labels)
