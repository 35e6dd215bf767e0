"""What the evaluation hands to a scorer and gets back; a scorer is one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from slimdeploy.board.boxes import Detections

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truths:
    """Boxes that an image really holds.

    Attributes:
        xyxy: corners, in pixels of the image file; shape (n, 4).
        labels: class numbers; shape (n,).
        size: height and width of the image file, in pixels.
    """

    xyxy: npt.NDArray[np.float64]
    labels: Labels
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a scorer says of a split, each figure in 0..1.

    Attributes:
        map50: mean AP at IoU 0.50.
        map50_95: mean AP over IoU 0.50 to 0.95.
        precision: at the one confidence whose F1, averaged over classes, is best; at IoU 0.50.
        recall: as `precision`.
        per_class: AP50-95 by class number, of the classes that the split holds.
        metric: whose rules were followed, as shown.
        figures: whatever else those rules report, by name.
    """

    map50: float
    map50_95: float
    precision: float
    recall: float
    per_class: Mapping[int, float]
    metric: str = "COCO metric"
    figures: Mapping[str, float] = field(default_factory=dict)


# (detections of each image, truths of each image, most boxes of one class counted in an image) -> Scores
Scorer = Callable[[Sequence[Detections], Sequence[Truths], int], Scores]
