"""What a detector's output must be before its speed or its boxes mean anything."""

from __future__ import annotations

import numpy as np

from slimdeploy.backends.protocol import OUTPUT, Tensors
from slimdeploy.errors import ArtifactError
from slimdeploy.records import ModelSpec

DETECT = "detect"


def require_finite(outputs: Tensors, name: str) -> None:
    """Raise ArtifactError if an output of the model `name` holds NaN or infinity: such a model is broken."""
    for output, values in outputs.items():
        if not np.isfinite(values).all():
            raise ArtifactError(
                f"{name} gives NaN or infinity in {output} for an ordinary image",
                wanted="finite boxes and scores",
                do="train or export it again, or take another precision",
            )


def require_layout(outputs: Tensors, spec: ModelSpec, batch: int, name: str) -> None:
    """Raise ArtifactError unless a detector gives the raw head; networks for other tasks give what they give."""
    if spec.task != DETECT:
        return
    rows = 4 + len(spec.classes)
    shape = outputs[OUTPUT].shape if OUTPUT in outputs else ()
    if len(shape) != 3 or tuple(shape[:2]) != (batch, rows):
        raise ArtifactError(
            f"{name} gives an output of shape {tuple(shape)}",
            wanted=f"({batch}, {rows}, anchors), the raw head",
            do="export it with 'slimdeploy export'",
        )
