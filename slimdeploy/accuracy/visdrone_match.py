"""Which detections match which objects, and what lies in ignored regions, as VisDrone's toolkit decides it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slimdeploy.data.visdrone import CATEGORY, HEIGHT, SCORE, Rows

IOUS = np.array([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
DROPPED_SHARE = 0.5  # of a box in ignored regions

Boxes = npt.NDArray[np.float64]  # (n, 4): left, top, width, height, in pixels
Pixels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Detections of one image, in the order of the result file.

    Attributes:
        ltwh: left, top, width and height, in pixels; (n, 4).
        scores: (n,).
        category: 1 to 10; (n,).
    """

    ltwh: Boxes
    scores: npt.NDArray[np.float64]
    category: npt.NDArray[np.int64]

    def only(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Found:
        """Return the chosen detections."""
        return Found(ltwh=self.ltwh[chosen], scores=self.scores[chosen], category=self.category[chosen])


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """Detections of one image, best score first, and what became of them.

    Attributes:
        scores: (n,).
        category: 1 to 10; (n,).
        marks: 1 right, 0 wrong, -1 on an ignored object, at each of IOUS; (IoUs, n).
    """

    scores: npt.NDArray[np.float64]
    category: npt.NDArray[np.int64]
    marks: npt.NDArray[np.int8]


def outside(ltwh: Boxes, regions: npt.NDArray[np.int64], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return which boxes lie by less than half in the union of regions, counted in whole pixels; (n,).

    Coordinates are the toolkit's, whose first pixel is 1: a region covers its right and lower edge, and 0 becomes 1.

    Args:
        ltwh: boxes; (n, 4).
        regions: left, top, width and height; (m, 4).
        size: height and width of the image, in pixels.
    """
    height, width = size
    regions = np.maximum(regions, 1)
    first, past = regions[:, :2], np.minimum(regions[:, :2] + regions[:, 2:], [width, height]) + 1
    columns, in_column = _cells(first[:, 0], past[:, 0])
    rows, in_row = _cells(first[:, 1], past[:, 1])
    covered = in_column.T @ in_row > 0  # (columns, rows) of a grid along the regions' edges
    whole = np.maximum(np.floor(ltwh + 0.5), 1).astype(np.int64)
    low = np.minimum(whole[:, :2], [width, height])
    high = np.minimum(low + whole[:, 2:], [width, height])
    across = _shared(low[:, 0] + 1, high[:, 0] + 1, columns)  # (n, columns), in pixels
    down = _shared(low[:, 1] + 1, high[:, 1] + 1, rows)
    pixels = ((across @ covered) * down).sum(axis=1)
    return np.asarray(pixels / (whole[:, 2] * whole[:, 3]) < DROPPED_SHARE)


def _cells(first: Pixels, past: Pixels) -> tuple[Pixels, Pixels]:
    """Return the edges of all spans, rising, and which cells between them each span holds; (edges,), (m, edges - 1)."""
    edges = np.unique(np.concatenate([first, past]))
    inside = (edges[:-1] >= first[:, None]) & (edges[1:] <= past[:, None])
    return edges, inside.astype(np.int64)


def _shared(low: Pixels, high: Pixels, edges: Pixels) -> Pixels:
    """Return how many pixels of each span from `low` to before `high` lie in each cell; (n, edges - 1)."""
    return np.asarray(np.maximum(np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1]), 0))


def match(found: Found, truths: Rows, most: Sequence[int]) -> Iterator[Marked]:
    """Give the matches of one image for each number of detections that count.

    Args:
        found: detections in the order of the file.
        truths: objects of the ten classes, ignored ones (score 0) last; (m, 8).
        most: numbers of detections that count, rising.
    """
    place = np.argsort(-found.scores[: most[-1]], kind="stable")  # of each detection in the file, best score first
    ordered = found.only(place)
    overlap = _overlaps(ordered, truths)
    real = int((truths[:, SCORE] == 1).sum())
    marks = mark(overlap, real)
    for count in most:
        chosen = place < count
        kept = ordered.only(chosen)
        # Where the file is sorted by score, what counts is the beginning, whose matches do not depend on the rest.
        prefix = bool(chosen[: len(kept.scores)].all())
        own = marks[:, chosen] if prefix else mark(overlap[chosen], real)
        yield Marked(scores=kept.scores, category=kept.category, marks=own)


def _overlaps(found: Found, truths: Rows) -> npt.NDArray[np.float64]:
    """Return IoU of each detection with each object, or the share of the detection for ignored ones; (n, m).

    It is 0 between classes.
    """
    boxes, others = found.ltwh, truths[:, : HEIGHT + 1].astype(np.float64)
    end, other_end = boxes[:, :2] + boxes[:, 2:], others[:, :2] + others[:, 2:]
    shared = np.minimum(end[:, None], other_end[None]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    both = (shared > 0).all(axis=2) & (found.category[:, None] == truths[None, :, CATEGORY])
    inside = np.where(both, shared[:, :, 0] * shared[:, :, 1], 0.0)
    area, other_area = boxes[:, 2] * boxes[:, 3], others[:, 2] * others[:, 3]
    joint = np.where(truths[:, SCORE] == 0, area[:, None], area[:, None] + other_area[None] - inside)
    return np.divide(inside, joint, out=np.zeros_like(inside), where=both)


def mark(overlap: npt.NDArray[np.float64], real: int) -> npt.NDArray[np.int8]:
    """Match greedily, best score first, at every IoU at once.

    Args:
        overlap: of detections with objects; (n, m).
        real: objects before the ignored ones; each is matched once, an ignored one any number of times.

    Returns:
        Marks as in Marked; (IoUs, n).
    """
    marks = np.zeros((len(IOUS), len(overlap)), dtype=np.int8)
    if not overlap.size:
        return marks
    ignored = overlap[:, real:].max(axis=1, initial=0)
    marks[ignored[None] >= IOUS[:, None]] = -1
    enough = overlap[:, :real] >= IOUS[0]
    taken = np.zeros((len(IOUS), real), dtype=np.bool_)
    for d in np.flatnonzero(enough.any(axis=1)):
        near = np.flatnonzero(enough[d])[::-1]  # of equal overlaps the last one wins
        values = overlap[d, near]
        free = (values >= IOUS[:, None]) & ~taken[:, near]  # (IoUs, near)
        best = np.where(free, values, 0).argmax(axis=1)
        hit = np.flatnonzero(free.any(axis=1))
        taken[hit, near[best[hit]]] = True
        marks[hit, d] = 1
    return marks
