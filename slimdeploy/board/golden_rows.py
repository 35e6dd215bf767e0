"""The golden sample of networks other than detectors: the surest rows of the output, value by value.

Masks, keypoints and angles are held to the values that they are made of, a classifier to its scores. Rows are those of
single anchors, before NMS, so that nothing is decoded here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from slimdeploy.board.golden import Agreement

if TYPE_CHECKING:
    from slimdeploy.board.boxes import Floats

ROWS = 50  # anchors whose rows are kept


@dataclass(frozen=True)
class GoldenRows:
    """Rows that an engine must give.

    Attributes:
        anchors: their positions; shape (n,). A classifier has one.
        rows: their values: box, scores, then what the task adds; shape (n, channels).
        boxes: how many values are of the box: 4, or 0 of a classifier.
        classes: how many are scores.
        box_px: how far a value of the box may move, in pixels.
        score: how far a score may move, and any further value as a share of its size where that is above 1.
    """

    anchors: np.ndarray
    rows: Floats
    boxes: int
    classes: int
    box_px: float
    score: float


def read_rows(told: Mapping[str, Any]) -> GoldenRows:
    """Return the rows that a golden sample's record holds; KeyError, TypeError or ValueError where it is damaged."""
    anchors, rows = np.array(told["anchors"], dtype=np.int64), np.array(told["rows"], dtype=np.float32)
    boxes, classes, limits = int(told["boxes"]), int(told["classes"]), told["tolerance"]
    if rows.ndim != 2 or len(rows) != len(anchors) or not len(rows) or rows.shape[1] < boxes + classes:
        raise ValueError("rows of another shape")
    return GoldenRows(anchors, rows, boxes, classes, float(limits["box_px"]), float(limits["score"]))


def as_rows(head: Floats) -> Floats:
    """Return an output, (channels, anchors) or (classes,), with a row for each anchor."""
    return head.T if head.ndim == 2 else head[None, :]


def compare_rows(head: Floats, golden: GoldenRows) -> Agreement:
    """Compare an engine's output with the rows that it must give.

    A row within the tolerance is found. An anchor whose score is above all expected ones by more than the tolerance is
    unexpected, unless it is among them.

    Args:
        head: the output for the golden input, (channels, anchors) or (classes,).
        golden: the rows.
    """
    given = as_rows(head)
    if given.shape[1] != golden.rows.shape[1] or golden.anchors.max() >= len(given):
        return Agreement(len(golden.rows), len(golden.rows), 0, 0.0, 0.0)
    moved = np.nan_to_num(np.abs(given[golden.anchors] - golden.rows), nan=np.inf)
    first, last = golden.boxes, golden.boxes + golden.classes
    shift = moved[:, :first].max(axis=1, initial=0.0)
    change = moved[:, first:last].max(axis=1, initial=0.0)
    more = (moved[:, last:] / np.maximum(1.0, np.abs(golden.rows[:, last:]))).max(axis=1, initial=0.0)
    there = (shift <= golden.box_px) & (change <= golden.score) & (more <= golden.score)
    return Agreement(
        expected=len(there),
        missing=int((~there).sum()),
        unexpected=_unexpected(given[:, first:last], golden),
        box_shift_px=float(shift[there].max(initial=0.0)),
        score_change=float(change[there].max(initial=0.0)),
    )


def _unexpected(scores: Floats, golden: GoldenRows) -> int:
    surest = golden.rows[:, golden.boxes : golden.boxes + golden.classes].max()
    above = np.nan_to_num(scores.max(axis=1), nan=np.inf) > surest + golden.score
    above[golden.anchors] = False
    return int(above.sum())
