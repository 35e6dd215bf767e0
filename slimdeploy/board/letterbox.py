"""Fit an image into a detector's input as ultralytics does, and bring boxes back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slimdeploy.board.boxes import Floats, Pixels
from slimdeploy.board.resize import resize

PADDING_VALUE = 114
_SCALED = np.arange(256, dtype=np.float32) / np.float32(255)  # what each 8-bit value becomes


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
        height, width = self.original
        gain = np.array([self.resized[1] / width, self.resized[0] / height] * 2, dtype=np.float32)
        shifted = xyxy - np.array([self.left, self.top] * 2, dtype=np.float32)
        limit = np.array([width, height] * 2, dtype=np.float32)
        return np.asarray(np.clip(shifted / gain, 0, limit), dtype=np.float32)


class Letterbox:
    """Fills inputs of one size, image after image; what it allocated for the last image serves the next.

    Args:
        imgsz: height and width of the input, in pixels.
        round_up: round a broken side length up, as ultralytics' validator does, and not to the nearest, as its
            predictor and a board do. The two differ by one row or column at most.
    """

    def __init__(self, imgsz: tuple[int, int], *, round_up: bool = False) -> None:
        self._imgsz, self._round_up = imgsz, round_up
        self._placement: Placement | None = None
        self._padded = np.empty((*imgsz, 3), dtype=np.uint8)

    def fill(self, image: Pixels, out: Floats) -> Placement:
        """Scale an image into an input and pad the rest, the image in the middle.

        Args:
            image: (H, W, 3) uint8, BGR.
            out: where the input goes, (3, imgsz) float32: RGB in 0..1.

        Returns:
            Where the image lies in it.
        """
        placement = place(image.shape[:2], self._imgsz, round_up=self._round_up)
        if placement != self._placement:
            self._padded[:] = PADDING_VALUE
            self._placement = placement
        height, width = placement.resized
        inner = self._padded[placement.top : placement.top + height, placement.left : placement.left + width]
        inner[:] = image if image.shape[:2] == (height, width) else resize(image, (height, width))
        scale(self._padded, out)
        return placement


def letterbox(image: Pixels, imgsz: tuple[int, int], *, round_up: bool = False) -> tuple[Floats, Placement]:
    """Return an image as an input of its own, (3, imgsz) float32 RGB in 0..1, and where it lies; see `Letterbox`."""
    out = np.empty((3, *imgsz), dtype=np.float32)
    return out, Letterbox(imgsz, round_up=round_up).fill(image, out)


def scale(padded: Pixels, out: Floats) -> None:
    """Write an image of the input's size, (H, W, 3) uint8 BGR, as (3, H, W) float32 RGB in 0..1."""
    for channel in range(3):
        np.take(_SCALED, padded[:, :, 2 - channel], out=out[channel], mode="clip")


def place(size: tuple[int, ...], imgsz: tuple[int, int], *, round_up: bool = False) -> Placement:
    """Return where an image of height and width `size` lies in an input; see `Letterbox`."""
    height, width = size
    gain = min(imgsz[0] / height, imgsz[1] / width)
    fit = math.ceil if round_up else round
    resized = (_within(fit(height * gain), imgsz[0]), _within(fit(width * gain), imgsz[1]))
    left = round((imgsz[1] - resized[1]) / 2 - 0.1)
    top = round((imgsz[0] - resized[0]) / 2 - 0.1)
    return Placement(original=(height, width), resized=resized, left=left, top=top)


def _within(side: float, most: int) -> int:
    return min(max(int(side), 1), most)
