"""What a detector finds in one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Labels = npt.NDArray[np.int64]
    Pixels = npt.NDArray[np.uint8]
else:  # JetPack 5 brings numpy 1.17, which has no numpy.typing
    Floats = Labels = Pixels = np.ndarray


@dataclass(frozen=True)
class Detections:
    """Boxes that a detector found in one image, best score first.

    Attributes:
        xyxy: corners, in pixels; shape (n, 4).
        scores: in 0..1; shape (n,).
        labels: class numbers; shape (n,).
    """

    xyxy: Floats
    scores: Floats
    labels: Labels
