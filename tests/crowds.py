"""Made-up boxes for tests of scorers: crowds of objects, and detections that find most of them."""

from __future__ import annotations

import numpy as np

from slimdeploy.accuracy.boxes import Truths
from slimdeploy.board.boxes import Detections


def truths(boxes, labels):
    """Return the true boxes of an image of 100 by 100 pixels."""
    return Truths(
        xyxy=np.array(boxes, dtype=np.float64).reshape(-1, 4), labels=np.array(labels, dtype=np.int64), size=(100, 100)
    )


def detections(boxes, labels, scores):
    """Return detections of an image."""
    return Detections(
        xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        scores=np.array(scores, dtype=np.float32),
        labels=np.array(labels, dtype=np.int64),
    )


def crowds(*, seed, images=12, side=100):
    """Return detections and truths of images with 20 objects of three classes each, most of them found.

    Args:
        seed: of the boxes.
        images: how many.
        side: of each image, in pixels; objects have sides of 6 % to 40 % of it.
    """
    rng = np.random.default_rng(seed)
    found, held = [], []
    for _ in range(images):
        low = rng.uniform(0, 0.6 * side, (20, 2))
        boxes = np.concatenate([low, low + side * rng.uniform(0.06, 0.4, (20, 2))], axis=1)
        labels = rng.integers(0, 3, 20)
        seen = boxes[:16] + rng.normal(0, 0.01 * side, (16, 4))
        held.append(truths(boxes, labels))
        found.append(detections(seen, np.where(rng.random(16) < 0.8, labels[:16], 0), rng.random(16)))
    return found, held
