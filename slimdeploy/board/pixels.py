"""Scale images and turn their pixels into floats: with OpenCV where the board has it, else with numpy, slower."""

from __future__ import annotations

import numpy as np

from slimdeploy.board.boxes import Floats, Pixels

try:
    import cv2
except ImportError:
    cv2 = None  # type: ignore[assignment]

WHITE = np.float32(255)


def write_planes(image: Pixels, out: Floats) -> None:
    """Write an image (H, W, 3) uint8 BGR as RGB in 0..1 into `out`, (3, H, W) float32."""
    planes = [image[:, :, channel] for channel in range(3)] if cv2 is None else cv2.split(image)
    for channel in range(3):
        np.divide(planes[2 - channel], WHITE, out=out[channel], dtype=np.float32)  # numpy 1 would take float16


def resize(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Return an image (H, W, 3) uint8 at another height and width, as OpenCV's INTER_LINEAR scales it."""
    if cv2 is None:
        return resize_with_numpy(image, size)
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def resize_with_numpy(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Return the same without OpenCV, each pixel within one step of it."""
    above, below, down = _neighbours(image.shape[0], size[0])
    before, after, right = _neighbours(image.shape[1], size[1])
    rows = image[above] + (image[below].astype(np.float32) - image[above]) * down[:, None, None]
    scaled = rows[:, before] + (rows[:, after] - rows[:, before]) * right[None, :, None]
    return np.asarray(np.rint(scaled), dtype=np.uint8)


def _neighbours(source: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each wanted pixel its two source pixels and the share of the second; centres lie at half pixels."""
    centres = np.clip((np.arange(wanted) + 0.5) * source / wanted - 0.5, 0, source - 1)
    first = np.floor(centres).astype(np.int64)
    second = np.minimum(first + 1, source - 1)
    return first, second, (centres - first).astype(np.float32)
