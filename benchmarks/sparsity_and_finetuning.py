"""What each training stage does to a detector on real photographs: both penalties, fine-tuning, a teacher, a control.

    SLIMDEPLOY_DATA=... python benchmarks/sparsity_and_finetuning.py --out runs/training

About 90 minutes on one core. Run again, it goes on at the last whole epoch; a stage whose settings did not change is
not trained again. `--reduced` trains one epoch of everything, which shows that all works and nothing of accuracy.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slimdeploy.configs import DenseConfig, FinetuneConfig, PruneConfig, SparsifyConfig, TrainConfig
from slimdeploy.data.dataset import read_dataset
from slimdeploy.lineage import file_input
from slimdeploy.pipeline import Step, ensure
from slimdeploy.stages.finetune import finetune
from slimdeploy.stages.prune import prune
from slimdeploy.stages.sparsify import sparsify
from slimdeploy.stages.train import train

NAME = "sparsity_and_finetuning"
IMGSZ = 320
DENSE = DenseConfig(epochs=20, imgsz=IMGSZ, close_mosaic=5)
SPARSE = SparsifyConfig(epochs=5, imgsz=IMGSZ, warmup_epochs=0, sr=0.5)  # 280 steps: few, so strong
PRUNED = PruneConfig(channels=0.5, imgsz=IMGSZ)
TUNED = FinetuneConfig(epochs=12, imgsz=IMGSZ, close_mosaic=3)
SCRATCH = FinetuneConfig(
    epochs=DENSE.epochs + SPARSE.epochs + TUNED.epochs, imgsz=IMGSZ, lr0=DENSE.lr0, close_mosaic=5, scratch=True
)


class Stages:
    """Every training of the comparison, each made once."""

    def __init__(self, data: Path, root: Path, *, reduced: bool) -> None:
        self.data, self.root, self.reduced = data, root, reduced
        self.set = read_dataset(data).as_input()

    def config(self, config: Any) -> Any:
        """Return a stage's config, with one epoch where the benchmark is reduced."""
        if self.reduced and isinstance(config, TrainConfig):
            return dataclasses.replace(config, epochs=1, close_mosaic=0)
        return config

    def make(
        self, name: str, stage: str, config: Any, weights: dict[str, Path], make: Callable[[Path], object]
    ) -> Path:
        """Return the folder of a stage, made now unless it is whole already."""
        inputs = {role: file_input(path) for role, path in weights.items()}
        inputs |= {} if stage == "prune" else {"data": self.set}
        return ensure(Step(folder=name, stage=stage, config=config, inputs=inputs, make=make), self.root)

    def all(self) -> dict[str, Path]:
        """Return every checkpoint by the name that it is shown with."""
        config = self.config(DENSE)
        dense = self.make("dense", "train", config, {}, lambda out: train(self.data, config, out)) / "dense.pt"
        sparse = {form: self.sparse(dense, form) for form in ("proximal", "subgradient")}
        pruned = self.make(
            "pruned", "prune", PRUNED, {"weights": sparse["proximal"]},
            lambda out: prune(sparse["proximal"], PRUNED, out),
        ) / "pruned.pt"  # fmt: skip
        return {
            "dense": dense,
            "sparse, proximal": sparse["proximal"],
            "sparse, subgradient": sparse["subgradient"],
            "pruned": pruned,
            "tuned": self.tuned("tuned", pruned, TUNED),
            "tuned with teacher": self.tuned("taught", pruned, TUNED, teacher=dense),
            "scratch": self.tuned("scratch", pruned, SCRATCH),
        }

    def sparse(self, dense: Path, form: str) -> Path:
        """Return the network trained under one form of the penalty."""
        config = self.config(dataclasses.replace(SPARSE, penalty=form))
        folder = self.make(
            f"sparse-{form}", "sparsify", config, {"weights": dense},
            lambda out: sparsify(dense, self.data, config, out),
        )  # fmt: skip
        return folder / "sparse.pt"

    def tuned(self, name: str, pruned: Path, config: FinetuneConfig, teacher: Path | None = None) -> Path:
        """Return the pruned network after one kind of fine-tuning."""
        chosen = self.config(config)
        weights = {"weights": pruned} | ({"teacher": teacher} if teacher else {})
        folder = self.make(
            name, "finetune", chosen, weights,
            lambda out: finetune(pruned, self.data, chosen, out, teacher=teacher),
        )  # fmt: skip
        return folder / "tuned.pt"


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs") / NAME, help="where the stages' folders go")
    parser.add_argument("--reduced", action="store_true", help="one epoch of everything")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    data = Path(os.environ["SLIMDEPLOY_DATA"]) / "aerial_cars" / "data.yaml"
    Stages(data, options.out, reduced=options.reduced).all()


if __name__ == "__main__":
    main()
