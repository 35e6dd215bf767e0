"""What a detector gets wrong at a working confidence: what it confuses, and in which images it errs most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from slimdeploy.accuracy.boxes import Truths
from slimdeploy.board.boxes import Detections
from slimdeploy.board.decode import overlaps

CONF = 0.25  # what ultralytics' predictor shows
IOU = 0.5

Counts = npt.NDArray[np.int64]


def confident(found: Detections) -> Detections:
    """Return the detections that a user would be shown: those of CONF or more."""
    shown = found.scores >= CONF
    return Detections(xyxy=found.xyxy[shown], scores=found.scores[shown], labels=found.labels[shown])


def pair(found: Detections, truth: Truths) -> Counts:
    """Return for each detection the position of the object that it stands for, or -1; (n,).

    Each object is taken once: by a box of its own class before one of another, and by the one that overlaps most.
    """
    iou = overlaps(found.xyxy, truth.xyxy.astype(np.float32))  # (n, m)
    own = found.labels[:, None] == truth.labels[None, :]
    taken, partner = np.zeros(len(truth.labels), dtype=np.bool_), np.full(len(found.labels), -1)
    rows, columns = np.nonzero(iou >= IOU)
    for place in np.argsort(-(iou + own)[rows, columns], kind="stable"):
        row, column = rows[place], columns[place]
        if partner[row] < 0 and not taken[column]:
            partner[row], taken[column] = column, True
    return partner


def confusion(detections: Sequence[Detections], truths: Sequence[Truths], classes: int) -> Counts:
    """Count what the objects of a split were taken for, at CONF and IOU.

    Returns:
        Counts; (classes + 1, classes + 1). Rows are what the images hold, the last one nothing: false alarms. Columns
        are what was found, the last one nothing: missed objects.
    """
    counts = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    for found, truth in zip(map(confident, detections), truths, strict=True):
        partner = pair(found, truth)
        held = np.append(truth.labels, classes)[partner]  # -1 is the last one: nothing
        missed = np.delete(truth.labels, partner[partner >= 0])
        np.add.at(counts, (held, found.labels), 1)
        np.add.at(counts[:, classes], missed, 1)
    return counts


def mistakes(detections: Sequence[Detections], truths: Sequence[Truths]) -> Counts:
    """Return the missed objects, false alarms and objects taken for another class of each image, counted; (images,)."""
    counts = []
    for found, truth in zip(map(confident, detections), truths, strict=True):
        partner = pair(found, truth)
        right = int((np.append(truth.labels, -1)[partner] == found.labels).sum())
        matched = int((partner >= 0).sum())
        counts.append(len(truth.labels) + len(found.labels) - matched - right)
    return np.array(counts, dtype=np.int64)
