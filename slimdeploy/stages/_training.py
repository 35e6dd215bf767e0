"""What the training stages do alike with a finished training."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from slimdeploy.lineage import Run

if TYPE_CHECKING:
    from slimdeploy.yolo.trainers import Trained


def keep_checkpoint(trained: Trained, run: Run, *, name: str, which: str) -> None:
    """Move one checkpoint of a training to its name, note its epochs, and drop ultralytics' own folder.

    Args:
        trained: the finished training.
        run: the stage at work.
        name: file name in the stage's folder.
        which: `best` or `last`.
    """
    chosen = trained.best if which == "best" and trained.best.exists() else trained.last
    chosen.replace(run.folder / name)
    shutil.rmtree(run.folder / "ultralytics")
    run.results.update(epochs=len(trained.epochs), kept=which, history=list(trained.epochs))
