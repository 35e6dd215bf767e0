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
from typing import TYPE_CHECKING, Any

from _results import result_path

from slimdeploy.bench.environment import environment
from slimdeploy.configs import DenseConfig, FinetuneConfig, PruneConfig, SparsifyConfig, TrainConfig, ValConfig
from slimdeploy.data.dataset import read_dataset
from slimdeploy.lineage import file_input, read_run, versions, write_json
from slimdeploy.pipeline import Step, ensure
from slimdeploy.stages.finetune import finetune
from slimdeploy.stages.prune import prune
from slimdeploy.stages.sparsify import sparsify
from slimdeploy.stages.train import train

if TYPE_CHECKING:
    from slimdeploy.accuracy.matches import Matches

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


def scored(checkpoints: dict[str, Path], data: Path) -> list[dict[str, Any]]:
    """Score every checkpoint on the same images, and give each difference to dense its interval."""
    from slimdeploy.accuracy import coco
    from slimdeploy.accuracy.bootstrap import paired_bootstrap
    from slimdeploy.accuracy.evaluate import score
    from slimdeploy.accuracy.matches import Keeping
    from slimdeploy.backends.artifacts import read_artifact

    dataset, config = read_dataset(data), ValConfig(imgsz=IMGSZ)
    kept: dict[str, Matches] = {}
    rows = []
    for name, path in checkpoints.items():
        keeping = Keeping(coco.score)
        accuracy = score(read_artifact(path, imgsz=(IMGSZ, IMGSZ)), dataset, config, scorer=keeping)
        kept[name] = keeping.matches()
        against = {other: paired_bootstrap(kept[other], kept[name]) for other in ("dense", "tuned") if other in kept}
        rows.append({
            "name": name,
            "map50": accuracy.map50,
            "map50_95": accuracy.map50_95,
            "against": {other: dataclasses.asdict(one) for other, one in against.items() if other != name},
            **of_the_stage(path),
        })  # fmt: skip
        print(as_line(rows[-1]), flush=True)
    return rows


def of_the_stage(path: Path) -> dict[str, Any]:
    """Return what a stage's folder tells of a checkpoint: its channels, epochs and seconds."""
    from slimdeploy.yolo import checkpoint, gammas

    module, known = checkpoint.load(path)
    record = read_run(path.parent)
    results = record["results"]
    live = gammas.live_channels(module).values()
    return {
        "parameters": known.parameters,
        "channels": sum(width for _, width in live),
        "live_channels": sum(live for live, _ in live),
        "below_0.01": gammas.scale_shares(module)["below_0.01"],
        "scale_histogram": gammas.scale_histogram(module),
        "epochs": results.get("epochs", 0),
        "training_s": results.get("training_s", 0.0),
        "mended": results.get("mended", []),
        "history": results.get("history", []),
        "config": record["config"],
    }


def as_line(row: dict[str, Any]) -> str:
    """Return a row for people: score, interval against dense, channels, epochs and seconds."""
    against = "".join(
        f"  {one['points']:+.2f} points [{one['low']:+.2f}, {one['high']:+.2f}] against {other}"
        for other, one in row["against"].items()
    )
    return (
        f"{row['name']:26s} mAP50 {row['map50']:.3f}  mAP50-95 {row['map50_95']:.3f}{against}  live channels "
        f"{row['live_channels']} of {row['channels']}  {row['epochs']} epochs, {row['training_s']:.0f} s"
    )


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
    if options.only:
        print("\n".join(f"{name}: {path}" for name, path in checkpoints.items()))
        return
    record = {
        "schema": 1, "benchmark": NAME, "environment": environment(), "versions": versions(),
        "what": f"YOLOv8n on aerial_cars at {IMGSZ} px, scored on its val split", "reduced": options.reduced,
        "rows": scored(checkpoints, data),
    }  # fmt: skip
    if not options.reduced:
        write_json(result_path(NAME), record)
        print(result_path(NAME))


if __name__ == "__main__":
    main()
