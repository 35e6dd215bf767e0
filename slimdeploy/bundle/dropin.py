"""What a drop-in must know of the model that it serves, and how it writes its text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The graph of a bundle that another pipeline runs.

    Attributes:
        path: the ONNX file, in the bundle's folder.
        name: of the checkpoint.
        task: what the network does.
        classes: class names, in label order.
        imgsz: input height and width, in pixels.
        strides: pixels between two cells of each map that the head reads.
        batch: images a call; with `dynamic_batch`, the most of them.
        dynamic_batch: whether a call may hold fewer.
        precision: of the graph: `fp32`, `fp16` or `int8`.
    """

    path: Path
    name: str
    task: str
    classes: tuple[str, ...]
    imgsz: tuple[int, int]
    strides: tuple[int, ...]
    batch: int
    dynamic_batch: bool
    precision: str

    @property
    def anchors(self) -> int:
        """Boxes that the head gives for an image."""
        height, width = self.imgsz
        return sum((height // s) * (width // s) for s in self.strides)

    @property
    def identifier(self) -> str:
        """The checkpoint's name with nothing but letters, digits and underscores."""
        return re.sub(r"\W+", "_", self.name, flags=re.ASCII).strip("_") or "model"


def write_text(path: Path, text: str) -> None:
    """Write a text file with plain line ends on every system."""
    path.write_text(text, encoding="utf-8", newline="\n")
