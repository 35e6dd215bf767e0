"""From decoded frames to final boxes: what flies, and what `YOLO(...).predict` does with the same file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slimdeploy.backends.protocol import INPUT, OUTPUT, Session
from slimdeploy.board.boxes import Detections
from slimdeploy.board.decode import decode
from slimdeploy.board.letterbox import letterbox
from slimdeploy.records import ModelSpec

Frame = npt.NDArray[np.uint8]  # (H, W, 3), BGR


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """ultralytics' own for prediction.

    Attributes:
        conf: lowest confidence of a box.
        iou: NMS overlap above which the weaker box goes.
        max_det: boxes kept a frame.
    """

    conf: float = 0.25
    iou: float = 0.7
    max_det: int = 300


class Detector:
    """An open session with everything around it: letterbox, normalise, infer, decode, NMS.

    Args:
        session: the open model; it is used by one thread at a time.
        spec: how to feed it.
        thresholds: which boxes count.
    """

    def __init__(self, session: Session, spec: ModelSpec, thresholds: Thresholds | None = None) -> None:
        self.session, self.spec, self.thresholds = session, spec, thresholds or Thresholds()
        self._input = np.zeros((spec.batch, 3, *spec.imgsz), dtype=np.float32)  # kept, since new memory costs time

    def __call__(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the boxes of as many frames as the model takes at once, in pixels of each frame."""
        placements = [
            letterbox(frame, self.spec.imgsz, out=into)[1] for frame, into in zip(frames, self._input, strict=True)
        ]
        outputs = self.session.run({INPUT: self._input})[OUTPUT]
        known = self.thresholds
        found = [
            decode(output, conf=known.conf, iou=known.iou, max_det=known.max_det, multi_label=False)
            for output in np.asarray(outputs, dtype=np.float32)
        ]
        return [
            Detections(xyxy=placement.to_original(one.xyxy), scores=one.scores, labels=one.labels)
            for placement, one in zip(placements, found, strict=True)
        ]
