"""Open a distillation's teacher as every other checkpoint is opened.

ultralytics gets the teacher as a path and opens it with its own loader, which runs whatever the file names and looks
for another file where a path holds an apostrophe.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.nn import distill_model

from slimdeploy.yolo import checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """A network to distil from.

    Attributes:
        path: its checkpoint.
        trust: unpickle whatever the file names.
    """

    path: Path
    trust: bool = False


@contextlib.contextmanager
def opened_here(*, trust: bool) -> Iterator[None]:
    """Have ultralytics' distillation open its teacher with `checkpoint.load`.

    Args:
        trust: unpickle whatever the file names.
    """

    def load(path: str) -> tuple[nn.Module, dict[str, Any]]:
        return checkpoint.load(Path(path), trust=trust)[0], {}

    stock = distill_model.load_checkpoint
    distill_model.load_checkpoint = load
    try:
        yield
    finally:
        distill_model.load_checkpoint = stock
