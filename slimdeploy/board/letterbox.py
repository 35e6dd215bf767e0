"""Fit an image into a detector's input as ultralytics does, and bring boxes back."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from slimdeploy.board.boxes import Floats, Pixels
from slimdeploy.board.pixels import WHITE, resize, write_planes

PADDING_VALUE = 114
_PADDING = np.float32(PADDING_VALUE) / WHITE


@dataclass(frozen=True)
class Placement:
    """Where an image lies in a detector's input.

    Attributes:
        original: height and width of the image, in pixels.
        resized: height and width of the image within the input, in pixels.
        left: columns of padding before it.
        top: rows of padding above it.
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    left: int
    top: int

    def to_original(self, xyxy: Floats) -> Floats:
        """Return boxes given in pixels of the input in pixels of the image, cut at its edges; both (n, 4).

        ultralytics cuts the boxes that it predicts or writes for COCO in the same way, but not those that its own
        metric judges, which costs that metric up to half a point of mAP50-95 where many objects touch an edge.
        """
        shift, gain, limit = self._scale
        found = xyxy - shift
        found /= gain
        np.maximum(found, 0, out=found)
        return np.asarray(np.minimum(found, limit, out=found))

    @functools.cached_property
    def _scale(self) -> tuple[Floats, Floats, Floats]:
        """What boxes are shifted by, divided by, and cut at; (4,) each."""
        height, width = self.original
        gain = np.array([self.resized[1] / width, self.resized[0] / height] * 2, dtype=np.float32)
        shift = np.array([self.left, self.top] * 2, dtype=np.float32)
        return shift, gain, np.array([width, height] * 2, dtype=np.float32)


def letterbox(
    image: Pixels, imgsz: tuple[int, int], *, round_up: bool = False, out: Floats | None = None
) -> tuple[Floats, Placement]:
    """Scale an image into a detector's input and pad the rest, the image in the middle.

    Args:
        image: (H, W, 3) uint8, BGR.
        imgsz: height and width of the input, in pixels.
        round_up: round a broken side length up, as ultralytics' validator does, and not to the nearest, as its
            predictor and a board do. The two differ by one row or column at most.
        out: where to write the input, (3, imgsz) float32; None makes a new one.

    Returns:
        The input, (3, imgsz) float32 RGB in 0..1, and where the image lies in it.
    """
    placement = place(image.shape[:2], (imgsz[0], imgsz[1]), round_up=round_up)
    height, width = placement.resized
    bottom, right = placement.top + height, placement.left + width
    input_chw = np.empty((3, *imgsz), dtype=np.float32) if out is None else out
    if (height, width) != tuple(imgsz):
        input_chw[:, : placement.top] = input_chw[:, bottom:] = _PADDING
        input_chw[:, :, : placement.left] = input_chw[:, :, right:] = _PADDING
    if image.shape[:2] != (height, width):
        image = resize(image, (height, width))
    write_planes(image, input_chw[:, placement.top : bottom, placement.left : right])
    return input_chw, placement


@functools.lru_cache(maxsize=256)
def place(size: tuple[int, ...], imgsz: tuple[int, int], *, round_up: bool = False) -> Placement:
    """Return where an image of height and width `size` lies in an input; see `letterbox`. Cameras ask again."""
    height, width = size
    gain = min(imgsz[0] / height, imgsz[1] / width)
    fit = math.ceil if round_up else round
    resized = (_within(fit(height * gain), imgsz[0]), _within(fit(width * gain), imgsz[1]))
    left = round((imgsz[1] - resized[1]) / 2 - 0.1)
    top = round((imgsz[0] - resized[0]) / 2 - 0.1)
    return Placement(original=(height, width), resized=resized, left=left, top=top)


def _within(side: float, most: int) -> int:
    return min(max(int(side), 1), most)
