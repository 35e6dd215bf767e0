"""Turn a detector's raw head into boxes: the same boxes as ultralytics' non_max_suppression, with numpy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from slimdeploy.board.boxes import Detections, Floats

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_CANDIDATES = 30_000  # ultralytics' max_nms
CLASS_OFFSET_PX = np.float32(7680)  # ultralytics' max_wh: moves classes apart, so that one NMS serves them all
_BOX_ROWS = 4  # of the head, before the scores
_CHUNK = 256
_LATER = np.triu(np.ones((_CHUNK, _CHUNK), dtype=np.bool_), 1)  # pairs whose second box is the weaker one
_TINY = np.finfo(np.float32).tiny  # in place of the joint area of two boxes without any


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
    order = (-found.scores).argsort(kind="stable")[:MAX_CANDIDATES]
    boxes, labels, scores = found.xyxy[order], found.labels[order], found.scores[order]
    several = len(output) > _BOX_ROWS + 1
    apart = boxes + labels[:, None].astype(np.float32) * CLASS_OFFSET_PX if several else boxes
    kept = suppress(apart, iou=iou, most=max_det)
    return Detections(xyxy=boxes[kept], scores=scores[kept], labels=labels[kept])


def suppress(xyxy: Floats, *, iou: float, most: int) -> npt.NDArray[np.int64]:
    """Return the positions of the boxes that stay, in order: greedy non-maximum suppression.

    Args:
        xyxy: boxes, best first; shape (n, 4).
        iou: overlap with a kept box above which a box goes.
        most: where to stop.
    """
    threshold = np.float32(iou)
    if len(xyxy) <= _CHUNK:  # as nearly always at a working confidence
        return _greedy(overlaps(xyxy, xyxy) > threshold).nonzero()[0][:most]
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
    one, other = np.ascontiguousarray(first.T)[:, :, None], np.ascontiguousarray(second.T)[:, None, :]
    reach = np.minimum(one[2:], other[2:])  # (2, n, m): how far boxes reach into each other along x and along y
    reach -= np.maximum(one[:2], other[:2])
    np.maximum(reach, 0, out=reach)
    shared = reach[0] * reach[1]  # (n, m)
    joint = _area(one) + _area(other)
    joint -= shared
    np.maximum(joint, _TINY, out=joint)
    return np.asarray(np.divide(shared, joint, out=shared))


def _area(x0y0x1y1: Floats) -> Floats:
    sides = x0y0x1y1[2:] - x0y0x1y1[:2]
    return np.asarray(sides[0] * sides[1])


def _greedy(over: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which boxes stay, given for each pair whether they overlap too much; (n, n), best first."""
    later = over & _LATER[: len(over), : len(over)]
    stays, spared = np.ones(len(over), dtype=np.bool_), ~later
    for i in np.nonzero(later.any(axis=1))[0].tolist():
        if stays[i]:
            stays &= spared[i]
    return stays


def candidates(output: Floats, conf: float, *, multi_label: bool = False) -> Detections:
    """Return every box whose score is above `conf`, in the order of the anchors; see `decode`."""
    lowest, classes = np.float32(conf), len(output) - _BOX_ROWS
    best = output[_BOX_ROWS] if classes == 1 else output[_BOX_ROWS:].max(axis=0)
    found = output.take((best > lowest).nonzero()[0], axis=1)  # (4 + classes, n); few columns are left to be turned
    centre, half, scores = found[:2], found[2:_BOX_ROWS] / 2, found[_BOX_ROWS:].T
    xyxy = np.concatenate([centre - half, centre + half]).T
    if classes == 1:
        return Detections(xyxy=xyxy, scores=scores[:, 0], labels=np.zeros(len(scores), dtype=np.int64))
    if multi_label:
        rows, labels = np.nonzero(scores > lowest)
        return Detections(xyxy=xyxy[rows], scores=scores[rows, labels], labels=labels)
    labels = scores.argmax(axis=1)
    return Detections(xyxy=xyxy, scores=scores[np.arange(len(labels)), labels], labels=labels)
