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
from functools import partial
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
SPARSE = SparsifyConfig(epochs=5, imgsz=IMGSZ, warmup_epochs=0)
# 280 steps: few, so strong. SGD's momentum of 0.937 adds up what the subgradient form puts into it to 16 times as much
# over the steps, and has no part in the proximal form: at a sixteenth both pull alike.
STRENGTHS = {"proximal": (0.5, 0.58), "subgradient": (0.0315, 0.0365)}
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

    def dense(self) -> Path:
        """Return the dense network that everything starts from."""
        config = self.config(DENSE)
        return self.make("dense", "train", config, {}, lambda out: train(self.data, config, out)) / "dense.pt"

    def sparse(self, form: str, sr: float) -> Path:
        """Return the network trained under one form of the penalty at one strength."""
        dense, config = self.dense(), self.config(dataclasses.replace(SPARSE, penalty=form, sr=sr))
        name = f"sparse-{form}" if sr == STRENGTHS[form][0] else f"sparse-{form}-{sr:g}"
        make = partial(sparsify, dense, self.data, config)
        return self.make(name, "sparsify", config, {"weights": dense}, make) / "sparse.pt"

    def pruned(self) -> Path:
        """Return the pruned network, before it is trained again."""
        sparse = self.sparse("proximal", STRENGTHS["proximal"][0])
        return self.make("pruned", "prune", PRUNED, {"weights": sparse}, partial(prune, sparse, PRUNED)) / "pruned.pt"

    def tuned(self, name: str, config: FinetuneConfig, *, taught: bool = False) -> Path:
        """Return the pruned network after one kind of fine-tuning."""
        pruned, chosen, teacher = self.pruned(), self.config(config), self.dense() if taught else None
        weights = {"weights": pruned} | ({"teacher": teacher} if teacher else {})
        make = partial(finetune, pruned, self.data, chosen, teacher=teacher)
        return self.make(name, "finetune", chosen, weights, make) / "tuned.pt"

    def rows(self) -> dict[str, Callable[[], Path]]:
        """Return what makes each checkpoint, by the name that it is shown with."""
        return {
            "dense": self.dense,
            **{
                f"sparse, {form} {sr:g}": partial(self.sparse, form, sr)
                for form, strengths in STRENGTHS.items()
                for sr in strengths
            },
            "pruned": self.pruned,
            "tuned": partial(self.tuned, "tuned", TUNED),
            "tuned with teacher": partial(self.tuned, "taught", TUNED, taught=True),
            "scratch": partial(self.tuned, "scratch", SCRATCH),
        }


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs") / NAME, help="where the stages' folders go")
    parser.add_argument("--reduced", action="store_true", help="one epoch of everything")
    parser.add_argument("--only", nargs="+", help="rows to train, by name: two processes can share the work")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    data = Path(os.environ["SLIMDEPLOY_DATA"]) / "aerial_cars" / "data.yaml"
    rows = Stages(data, options.out, reduced=options.reduced).rows()
    checkpoints = {name: make() for name, make in rows.items() if not options.only or name in options.only}
    print("\n".join(f"{name}: {path}" for name, path in checkpoints.items()))


if __name__ == "__main__":
    main()
