"""What flight and camera do to a rendered scene: height, light, haze, blur and noise."""

from __future__ import annotations

import math

import cv2
import numpy as np

from slimdeploy.data.scene_frame import SUPERSAMPLING, Canvas, Frame

PX_PER_M = (7.2, 9.2)  # image pixels in a metre: a person of about 9 to 12 px, a lorry of up to 60 px


def new_frame(rng: np.random.Generator, size_px: int) -> Frame:
    """Return a camera and a sun chosen by chance, for an image of `size_px` squared."""
    turn, sun, length = rng.uniform(0, 2 * math.pi), rng.uniform(0, 2 * math.pi), rng.uniform(0.3, 1.0)
    lean = rng.uniform(0, 2 * math.pi)
    return Frame(
        side_px=size_px * SUPERSAMPLING,
        px_per_m=float(rng.uniform(*PX_PER_M)) * SUPERSAMPLING,
        heading=float(turn),
        sun=(length * math.cos(sun), length * math.sin(sun)),
        lean=(math.cos(lean), math.sin(lean)),
        shade=float(rng.uniform(0.25, 0.55)),
    )


def photograph(rng: np.random.Generator, canvas: Canvas) -> Canvas:
    """Return the canvas as the camera sees it: scaled down, lit, hazy, blurred and noisy."""
    side = canvas.shape[0] // SUPERSAMPLING
    image = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)  # (side, side, 3)
    image = _blur(rng, image)
    image = _light(rng, image)
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(2, 7))
    return np.asarray(np.clip(np.rint(image), 0, 255), dtype=np.uint8)


def _light(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    side = image.shape[0]
    coarse = rng.normal(1, 0.06, (4, 4)).astype(np.float32)
    clouds = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)[:, :, None]
    warmth = rng.normal(1, 0.03, 3).astype(np.float32)
    haze = np.float32(rng.uniform(0, 0.18))
    lit = image * clouds * warmth * np.float32(rng.uniform(0.72, 1.18))
    return np.asarray(lit * (1 - haze) + np.float32(195) * haze)


def _blur(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    if rng.random() < 0.25:
        length, turn = int(rng.integers(2, 5)), rng.uniform(0, math.pi)
        kernel = np.zeros((5, 5), dtype=np.float32)
        for step in np.linspace(-length / 2, length / 2, 9):
            kernel[round(2 + step * math.sin(turn) / 1.2), round(2 + step * math.cos(turn) / 1.2)] += 1
        return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT))
    return np.asarray(cv2.GaussianBlur(image, (5, 5), float(rng.uniform(0.3, 0.8)), borderType=cv2.BORDER_REFLECT))
