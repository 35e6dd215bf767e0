"""Frames for timing from a decoded frame to final boxes: real ones where there are images, else seeded noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimdeploy._needs import needs
from slimdeploy.records import ModelSpec

if TYPE_CHECKING:
    from slimdeploy.accuracy.detector import Frame
    from slimdeploy.backends.protocol import Session

COUNT = 16  # frames, taken in turn


@dataclass(slots=True)
class Frames:
    """A detector and what it looks at.

    Attributes:
        detect: gives the boxes of a batch of frames.
        batches: decoded frames, as many as the model takes at once.
        size: height and width of the first frame, in pixels.
    """

    detect: Callable[[Sequence[Frame]], object]
    batches: list[list[Frame]]
    size: tuple[int, int]
    calls: int = 0

    @classmethod
    def make(cls, session: Session, spec: ModelSpec, *, batch: int, asked: Mapping[str, Any]) -> Frames:
        """Decode frames and put a detector around a session.

        Args:
            session: the open model.
            spec: how to feed it.
            batch: frames a call.
            asked: `images`, paths of image files; where there are none, noise of the model's size by `seed`.
        """
        import dataclasses

        with needs("onnx"):
            from slimdeploy.accuracy.detector import Detector
        frames = _frames([Path(path) for path in asked["images"]], spec, seed=asked["seed"])
        batches = [[frames[(i * batch + j) % len(frames)] for j in range(batch)] for i in range(COUNT)]
        detector = Detector(session, dataclasses.replace(spec, batch=batch))
        return cls(detect=detector, batches=batches, size=(frames[0].shape[0], frames[0].shape[1]))

    def call(self) -> tuple[float, object]:
        """Return how long the next batch took, in seconds, and its boxes."""
        frames = self.batches[self.calls % len(self.batches)]
        self.calls += 1
        started = time.perf_counter()
        boxes = self.detect(frames)
        return time.perf_counter() - started, boxes

    def look(self, number: int) -> object:
        """Return the boxes of the frame of this number."""
        return self.detect(self.batches[number % len(self.batches)])


def _frames(paths: Sequence[Path], spec: ModelSpec, *, seed: int) -> list[Frame]:
    with needs("onnx"):
        import numpy as np

        from slimdeploy.data.images import read_image
    if paths:
        return [read_image(path) for path in paths[:COUNT]]
    chance = np.random.default_rng(seed)
    return [chance.integers(0, 256, (*spec.imgsz, 3), dtype=np.uint8) for _ in range(COUNT)]
