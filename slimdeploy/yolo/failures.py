"""What goes wrong in the middle of a training, told apart by what mends it."""

from __future__ import annotations

from typing import Any

MEMORY, WORKER, NONFINITE, DYING, OTHER = "memory", "worker", "nonfinite", "dying", "other"
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


def describe(error: Exception, *, epoch: int) -> dict[str, Any]:
    """Return a failure as plain values: its kind, its first line, and the epoch; for a dying layer its figures too."""
    found: dict[str, Any] = {"schema": 1, "kind": _kind(error), "epoch": epoch, "message": str(error).split("\n")[0]}
    if isinstance(error, DyingLayer):
        found |= {"layer": error.layer, "live": error.live, "width": error.width}
    return found


def _kind(error: Exception) -> str:
    if isinstance(error, NonFinite):
        return NONFINITE
    if isinstance(error, DyingLayer):
        return DYING
    text = f"{error} {error.__cause__ or ''}".lower()
    if any(sign in text for sign in _MEMORY_SIGNS):
        return MEMORY
    return WORKER if any(sign in text for sign in _WORKER_SIGNS) else OTHER
