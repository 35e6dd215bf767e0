"""What goes wrong in the middle of a training, told apart by what mends it."""

from __future__ import annotations

import re
from typing import Any

from slimdeploy.board.text import printable

MEMORY, WORKER, NONFINITE, DYING, IMAGE, OTHER = "memory", "worker", "nonfinite", "dying", "image", "other"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# What torch says where memory runs out; the cuBLAS and cuDNN lines are how that shows inside those libraries.
_MEMORY_SIGNS = ("out of memory", "cublas_status_alloc_failed", "cudnn_status_internal_error", "can't allocate memory")
_WORKER_SIGNS = ("dataloader worker", "dataloader timed out", "too many open files", "bus error")


class NonFinite(FloatingPointError):
    """A loss, a score or a weight is not a finite number."""


class DyingLayer(RuntimeError):
    """The penalty has left a layer too few channels to carry a signal."""

    def __init__(self, layer: str, live: int, width: int, *, epoch: int) -> None:
        self.layer, self.live, self.width, self.epoch = layer, live, width, epoch
        super().__init__(f"{layer} has {live} live channels of {width} in epoch {epoch}")


class UnreadableImage(RuntimeError):
    """An image that was whole by its headers does not decode; the message is its path.

    A data-loader process hands on the type and the text alone, the path in the last line.
    """

    @property
    def path(self) -> str:
        """The image's path."""
        return str(self).rpartition(f"{type(self).__name__}: ")[2].rstrip("\n")


def describe(error: Exception, *, epoch: int) -> dict[str, Any]:
    """Return a failure as plain values: its kind, its first line, and the epoch; for a dying layer its figures too."""
    message = printable(_COLOUR.sub("", str(error)).split("\n")[0])
    found: dict[str, Any] = {"schema": 1, "kind": _kind(error), "epoch": epoch, "message": message}
    if isinstance(error, UnreadableImage):
        found |= {"image": error.path}
    if isinstance(error, DyingLayer):
        found |= {"layer": error.layer, "live": error.live, "width": error.width}
    return found


def _kind(error: Exception) -> str:
    if isinstance(error, NonFinite):
        return NONFINITE
    if isinstance(error, DyingLayer):
        return DYING
    if isinstance(error, UnreadableImage):
        return IMAGE
    text = f"{error} {error.__cause__ or ''}".lower()
    if any(sign in text for sign in _MEMORY_SIGNS):
        return MEMORY
    return WORKER if any(sign in text for sign in _WORKER_SIGNS) else OTHER
