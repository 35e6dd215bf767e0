"""Cut big images into overlapping tiles, and annotations with them."""

from __future__ import annotations

import math

import numpy as np

from slimdeploy.data import visdrone
from slimdeploy.data.visdrone import CATEGORY, HEIGHT, LEFT, REGION, SCORE, TOP, TRUNCATION, WIDTH, Rows

VISIBLE_SHARE = 0.4  # an object of which less lies in a tile becomes an ignored region there

Window = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


def windows(size: tuple[int, int], tile: int, overlap: float) -> tuple[Window, ...]:
    """Return the tiles of an image, row by row; together they cover it, and none leaves it.

    Args:
        size: height and width of the image, in pixels.
        tile: side of a tile, in pixels; a side of the image that is no longer is not cut.
        overlap: least share of a tile that its neighbour shows too, in 0..1.
    """
    height, width = size
    return tuple(
        (left, top, min(left + tile, width), min(top + tile, height))
        for top in _starts(height, tile, overlap)
        for left in _starts(width, tile, overlap)
    )


def _starts(side: int, tile: int, overlap: float) -> list[int]:
    if side <= tile:
        return [0]
    step = max(1, math.floor(tile * (1 - overlap)))
    count = math.ceil((side - tile) / step) + 1
    return [min(i * step, side - tile) for i in range(count)]  # the last one ends at the edge


def crop(rows: Rows, window: Window) -> Rows:
    """Return the annotations of a tile, in its own pixels; (m, 8).

    Boxes are cut at its edges. An object of which too little is left becomes an ignored region, so that it is neither
    learnt nor counted. Boxes without an area are left out.
    """
    left, top, right, bottom = window
    whole = visdrone.xyxy(rows)
    low, high = np.maximum(whole[:, :2], [left, top]), np.minimum(whole[:, 2:], [right, bottom])
    size = np.maximum(high - low, 0)
    inside, area = size.prod(axis=1), (whole[:, 2:] - whole[:, :2]).prod(axis=1)
    share = np.divide(inside, area, out=np.zeros_like(inside), where=area > 0)
    cut = rows.copy()
    cut[:, [LEFT, TOP]] = low - [left, top]
    cut[:, [WIDTH, HEIGHT]] = size
    cut[share < 1, TRUNCATION] = 1
    hardly = (share < VISIBLE_SHARE) & (rows[:, CATEGORY] != REGION)
    cut[hardly, SCORE] = 0
    cut[hardly, CATEGORY] = REGION
    return np.asarray(cut[inside > 0])
