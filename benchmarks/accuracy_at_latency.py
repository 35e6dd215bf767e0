"""Accuracy at a measured speed-up: this planner beside the ways that others prune, all fine-tuned alike.

    SLIMDEPLOY_DATA=... python benchmarks/accuracy_at_latency.py --dense dense.pt --out runs/at_latency
    SLIMDEPLOY_DATA=... python benchmarks/accuracy_at_latency.py --dense dense.pt --out runs/reduced --reduced

`--dense` is a YOLOv8n trained on aerial_cars at 320 px until it stops improving. Every run is kept below `--out` by
what it depends on, so that it goes on where it was stopped. At every speed-up, measured on ONNX Runtime:

- planner, planner-distilled: `prune --speedup`, fine-tuned without and with the dense network as teacher;
- slimming: Network Slimming as everyone does it: one threshold for all BatchNorm scales, no rounding, no latency;
- group-norm: torch-pruning's recipe for YOLOv8: group magnitude, the same ratio for each layer, rounded down to eights;
- narrow: a stock YOLOv8 with a smaller width_multiple, from new weights, for the whole budget of epochs;
- planner-shape: the planner's own shape, from new weights, for the whole budget;
- small-input: the dense network at a smaller input, fine-tuned there;

and dense, trained on for as many epochs as the others are fine-tuned. The controls' one number (threshold, ratio,
width) is found by measuring until the speed-up is within 5 %; the small input takes the nearest multiple of 32.

Bars: at 2.0 the planner loses at most 1.0 point of mAP50-95 against dense, at 3.0 at most 2.5, and is ahead of
slimming, group-norm, narrow and small-input at every speed-up.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _results import result_path
from torch import nn

from slimdeploy.bench import stats
from slimdeploy.bench.measure import measure
from slimdeploy.channels import Coupling
from slimdeploy.configs import BenchConfig, ExportConfig, FinetuneConfig, LatencyConfig, PruneConfig, ValConfig
from slimdeploy.lineage import file_input, read_json, stage_run, write_json
from slimdeploy.pipeline import Step, ensure
from slimdeploy.stages._built import build, coupling_of, cut_copy
from slimdeploy.stages._importance import importance_of
from slimdeploy.stages.bench import bench
from slimdeploy.stages.export import export
from slimdeploy.stages.finetune import OUTPUT as TUNED
from slimdeploy.stages.finetune import finetune
from slimdeploy.stages.latency import TABLE, latency_folder
from slimdeploy.stages.plan import strongest
from slimdeploy.stages.prune import OUTPUT as PRUNED
from slimdeploy.stages.prune import Means, prune
from slimdeploy.stages.widths import Widths, units_of
from slimdeploy.targets import load_target
from slimdeploy.yolo import checkpoint

NAME = "accuracy_at_latency"
IMGSZ = 320
TARGET = load_target("cpu")
NEAR = 0.05  # of the speed-up asked for
HALVINGS = 8
BARS = {2.0: 0.010, 3.0: 0.025}  # loss of mAP50-95 against dense
CONTROLS = ("slimming", "group-norm", "narrow", "small-input")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long everything is trained, and on what.

    Attributes:
        data: YAML of the data set.
        epochs: of fine-tuning.
        whole: of training from new weights: those of dense and those of fine-tuning.
        seed: of training.
        speedups: asked for.
    """

    data: Path
    epochs: int
    whole: int
    seed: int
    speedups: tuple[float, ...]


class Suite:
    """All runs of one seed, each made unless it is there already.

    Args:
        dense: the dense checkpoint.
        out: where runs are kept.
        budget: how long everything is trained.
    """

    def __init__(self, dense: Path, out: Path, budget: Budget) -> None:
        self.dense, self.out, self.budget = dense, out, budget
        self.module, _ = checkpoint.load(dense)
        self.coupling = coupling_of(self.module, IMGSZ)
        self.table = self._step("latency", LatencyConfig(imgsz=IMGSZ), dense, self._measure_table) / TABLE

    def models(self, speedup: float) -> dict[str, tuple[Path, int]]:
        """Return the trained checkpoint and the input size of every contender at a speed-up, by name."""
        planned = self._planned(speedup)
        found = {
            "dense": self._tuned("dense", self.dense),
            "planner": self._tuned(f"{speedup:g}/planner", planned),
            "planner-distilled": self._tuned(f"{speedup:g}/planner-distilled", planned, teacher=self.dense),
            "planner-shape": self._tuned(f"{speedup:g}/planner-shape", self._renewed(planned, speedup), whole=True),
        }
        for name, cut in (("slimming", self._slimmed), ("group-norm", self._group_norm)):
            found[name] = self._tuned(f"{speedup:g}/{name}", self._matched(name, speedup, cut))
        narrow = self._matched("narrow", speedup, self._narrow)
        found["narrow"] = self._tuned(f"{speedup:g}/narrow", narrow, whole=True)
        side = self._small_side(speedup)
        small = self._tuned(f"{speedup:g}/small-input", self.dense, imgsz=side)
        return {**{name: (path, IMGSZ) for name, path in found.items()}, "small-input": (small, side)}

    def compared(self, speedup: float) -> Path:
        """Export, time and score every contender at a speed-up; return the folder of `bench`."""
        bundles = []
        for name, (weights, side) in self.models(speedup).items():
            config = ExportConfig(imgsz=(side, side))
            folder = self._step(
                f"seed{self.budget.seed}/{speedup:g}/export/{name}", config, weights,
                lambda out, weights=weights, config=config: export(weights, TARGET, config, out), stage="export",
            )  # fmt: skip
            bundles.append((name, folder / "model.fp32.onnx"))
        config = BenchConfig(samples=400, rounds=20, val=ValConfig(imgsz=IMGSZ))
        folder = self.out / f"seed{self.budget.seed}" / f"{speedup:g}" / "bench"
        if folder.exists():
            shutil.rmtree(folder)  # measured anew each time, all in turns; it takes a minute
        return bench(bundles, config, folder, data=self.budget.data).parent

    def _step(self, folder: str, config: Any, weights: Path, make: Callable[[Path], Any], stage: str = "") -> Path:
        step = Step(
            folder=folder, stage=stage or folder, config=config, inputs={"weights": file_input(weights)}, make=make
        )
        return ensure(step, self.out)

    def _measure_table(self, out: Path) -> None:
        latency_folder(self.dense, TARGET, LatencyConfig(imgsz=IMGSZ), out)

    def _planned(self, speedup: float) -> Path:
        config = PruneConfig(speedup=speedup, imgsz=IMGSZ)
        means = Means(target=TARGET, table=self.table, data=self.budget.data)
        make = lambda out: prune(self.dense, config, out, means=means)  # noqa: E731
        return self._step(f"{speedup:g}/planner", config, self.dense, make, stage="prune") / PRUNED

    def _tuned(
        self, name: str, weights: Path, *, teacher: Path | None = None, whole: bool = False, imgsz: int = IMGSZ
    ) -> Path:
        epochs = self.budget.whole if whole else self.budget.epochs
        config = FinetuneConfig(
            epochs=epochs, imgsz=imgsz, seed=self.budget.seed, device="cpu", lr0=0.002 if whole else 0.001,
            close_mosaic=max(1, epochs // 5),
        )  # fmt: skip
        make = lambda out: finetune(weights, self.budget.data, config, out, teacher=teacher)  # noqa: E731
        return self._step(f"seed{self.budget.seed}/{name}", config, weights, make, stage="finetune") / TUNED

    def _renewed(self, planned: Path, speedup: float) -> Path:
        """Return the planner's shape with new weights."""

        def make(out: Path) -> None:
            with stage_run("renew", config=self.budget, inputs={"weights": file_input(planned)}, out=out) as run:
                module, _ = checkpoint.load(planned)
                renew(module, self.budget.seed)
                checkpoint.save(module, run.folder / PRUNED, origin={"stage": "renew"})

        return self._step(f"{speedup:g}/renewed{self.budget.seed}", self.budget, planned, make, stage="renew") / PRUNED

    def _matched(self, name: str, speedup: float, cut: Callable[[float], nn.Module]) -> Path:
        """Return the control whose one number makes it as fast as asked, found by halving and measuring."""
        wanted = PruneConfig(speedup=speedup, imgsz=IMGSZ)

        def make(out: Path) -> None:
            with stage_run("match", config=wanted, inputs={"weights": file_input(self.dense)}, out=out) as run:
                module, measured = match(self.module, cut, speedup, run.folder / "tried")
                checkpoint.save(module, run.folder / PRUNED, origin={"stage": name})
                shutil.rmtree(run.folder / "tried")
                run.results["speedup"] = measured

        return self._step(f"{speedup:g}/{name}", wanted, self.dense, make, stage="match") / PRUNED

    def _slimmed(self, share: float) -> nn.Module:
        """Cut by one threshold over all BatchNorm scales."""
        scores = importance_of(self.module, self.coupling, PruneConfig(channels=0.5), None)
        ranked = sorted(value for values in scores.values() for value in values)
        threshold = ranked[int(share * (len(ranked) - 1))]
        widths = {name: max(1, sum(value > threshold for value in values)) for name, values in scores.items()}
        return self._cut(even_halves(self.coupling, widths), scores)

    def _group_norm(self, share: float) -> nn.Module:
        """Cut the same ratio of every group by group magnitude, rounded down to eights, as `round_to` does."""
        scores = importance_of(self.module, self.coupling, PruneConfig(channels=0.5, criterion="magnitude"), None)
        widths: Widths = {}
        for unit in units_of(self.coupling.groups, 8):
            width = max(8, int(unit.width * (1 - share)) // 8 * 8)
            widths |= dict.fromkeys(unit.names, min(width, unit.width))
        return self._cut(widths, scores)

    def _narrow(self, share: float) -> nn.Module:
        """Make a stock YOLOv8 of a smaller width, with new weights."""
        dense = self.module.yaml
        scaled = {
            **dense,
            "scales": {"n": [0.33, 0.25 * (1 - share), 1024]},
            "scale": "n",
            "nc": len(self.module.names),
        }
        module = type(self.module)(scaled, nc=len(self.module.names), verbose=False)
        module.names, module.task = self.module.names, "detect"
        return module.eval()

    def _cut(self, widths: Widths, scores: dict[str, tuple[float, ...]]) -> nn.Module:
        made = cut_copy(self.module, self.coupling, {n: strongest(scores[n], width) for n, width in widths.items()})
        checkpoint.mark_pruned(made)
        return made

    def _small_side(self, speedup: float) -> int:
        """Return the input size at which the dense network's speed-up comes nearest, by its arithmetic."""
        sides = range(64, IMGSZ, 32)
        return min(sides, key=lambda side: abs((IMGSZ / side) ** 2 - speedup))


def even_halves(coupling: Coupling, widths: Widths) -> Widths:
    """Return widths with those of the two halves of each C2f made equal, at their mean."""
    ties = {group.name: group.tied_to for group in coupling.groups if group.tied_to}
    return {
        name: max(1, round((width + widths[ties[name]]) / 2)) if name in ties else width
        for name, width in widths.items()
    }


def renew(module: nn.Module, seed: int) -> None:
    """Give a network new weights, as ultralytics initializes them, in place."""
    torch.manual_seed(seed)
    for path, part in module.named_modules():
        if isinstance(part, (nn.Conv2d, nn.BatchNorm2d)) and not path.endswith("dfl.conv"):
            part.reset_parameters()
    module.model[-1].bias_init()


def match(dense: nn.Module, cut: Callable[[float], nn.Module], speedup: float, folder: Path) -> tuple[nn.Module, float]:
    """Halve until a network of the family `cut` is as fast as asked; return the nearest and its measured speed-up."""
    folder.mkdir()
    artifact = build(dense, "dense", folder, target=TARGET, imgsz=IMGSZ, precision="fp32")
    low, high, best = 0.0, 0.98, (float("inf"), dense, 1.0)
    for number in range(HALVINGS):
        share = (low + high) / 2
        module, name = cut(share), f"tried{number}"
        other = build(module, name, folder, target=TARGET, imgsz=IMGSZ, precision="fp32")
        timed = measure([("dense", artifact), (name, other)], BenchConfig(samples=120, rounds=12))
        found = 1 / stats.ratio(*timed).value
        best = min(best, (abs(found / speedup - 1), module, found), key=lambda one: one[0])
        if best[0] <= NEAR:
            break
        low, high = (share, high) if found < speedup else (low, share)
    return best[1], best[2]


def judged(folder: Path, speedup: float, seed: int) -> list[dict[str, Any]]:
    """Return a row for every contender, with its loss against dense and its interval as `bench` reckoned it."""
    rows = read_json(folder / "bench.json", what="bench results")["rows"]
    dense = rows[0]
    for row in rows:
        row["asked_speedup"], row["seed"] = speedup, seed
        row["p50_ms"] = 1e3 * median(row["latency"]["samples_s"])
        row["measured_speedup"] = 1e3 * median(dense["latency"]["samples_s"]) / row["p50_ms"]
        row["loss"] = dense["accuracy"]["map50_95"] - row["accuracy"]["map50_95"]
    return rows


def tell(rows: Sequence[dict[str, Any]]) -> None:
    """Print a line for every contender, and whether the bars are met."""
    for row in rows:
        print(
            f"{row['asked_speedup']:g} seed {row['seed']} {row['name']:18} {row['measured_speedup']:.2f} times, "
            f"{row['p50_ms']:.2f} ms, mAP50-95 {row['accuracy']['map50_95']:.3f}, "
            f"mAP50 {row['accuracy']['map50']:.3f}, "
            f"{row['parameters']:,} parameters, {row['macs'] / 1e9:.3f} GMACs, {row['size_bytes'] / 1e6:.2f} MB"
        )
    for speedup in sorted({row["asked_speedup"] for row in rows}):
        losses = {
            name: median(r["loss"] for r in rows if r["name"] == name and r["asked_speedup"] == speedup)
            for name in ("planner", *CONTROLS)
        }
        ahead = all(losses["planner"] < losses[name] for name in CONTROLS)
        bar = BARS.get(speedup)
        kept = "no bar" if bar is None else f"bar {bar:.3f}: {'met' if losses['planner'] <= bar else 'NOT met'}"
        print(f"at {speedup:g}: the planner loses {losses['planner']:+.3f} ({kept}); ahead of every control: {ahead}")


def main() -> None:
    """Make every run that is missing, compare, and keep the result where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dense", type=Path, required=True, help="a trained YOLOv8n")
    parser.add_argument("--dense-epochs", type=int, default=40, help="for how many epochs it was trained")
    parser.add_argument("--out", type=Path, default=Path("runs") / NAME)
    parser.add_argument("--data", default="aerial_cars", help="data set below SLIMDEPLOY_DATA: aerial_cars or bccd")
    parser.add_argument("--epochs", type=int, default=30, help="of fine-tuning")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--speedups", type=float, nargs="+", default=[1.5, 2.0, 3.0])
    parser.add_argument("--reduced", action="store_true", help="speed-up 2.0, one seed, one epoch: minutes")
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    data = Path(os.environ["SLIMDEPLOY_DATA"]) / asked.data / "data.yaml"
    budget = Budget(
        data=data, epochs=asked.epochs, whole=asked.epochs + asked.dense_epochs, seed=0, speedups=tuple(asked.speedups)
    )
    if asked.reduced:
        budget, asked.seeds = replace(budget, epochs=1, whole=1, speedups=(2.0,)), [0]
    asked.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        suite = Suite(asked.dense, asked.out, replace(budget, seed=seed))
        for speedup in budget.speedups:
            rows += judged(suite.compared(speedup), speedup, seed)
    tell(rows)
    if asked.save:
        told = {"data": asked.data, "epochs": budget.epochs, "whole_epochs": budget.whole, "reduced": asked.reduced}
        write_json(result_path(NAME), {"schema": 1, "benchmark": NAME, **told, "rows": rows})


if __name__ == "__main__":
    main()
