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
width) is found by measuring until the speed-up is within 5 %; the small input is the multiple of 32 whose measured
speed-up comes nearest. At 3.0 the planner prunes in two passes, with half of the epochs of fine-tuning after the first,
since a cut at once leaves no positives and is refused. All is trained at the learning rate that dense was trained at.
`--contenders` may also name planner-magnitude, planner-taylor and planner-random: the planner
with another criterion.

The work has three parts, and `--until` stops after one: `cut` measures and wants a quiet machine, `tuned` trains, so
that several processes can share it by `--contenders` and `--speedups`, `scored` times and scores. Taken to one core
(`taskset -c 0`), all of it measures and trains with one thread.

Bars: at 2.0 the planner loses at most 1.0 point of mAP50-95 against dense, at 3.0 at most 2.5, and is ahead of
slimming, group-norm, narrow and small-input at every speed-up. `docs/at_latency.png` and the README's table are made of
the result by `latency_table.py`.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _results import result_path
from torch import nn

from slimdeploy.accuracy import matches
from slimdeploy.accuracy.bootstrap import paired_bootstrap
from slimdeploy.bench import stats
from slimdeploy.bench.measure import measure
from slimdeploy.channels import Coupling
from slimdeploy.configs import (
    BenchConfig,
    DenseConfig,
    ExportConfig,
    FinetuneConfig,
    LatencyConfig,
    PruneConfig,
    ValConfig,
)
from slimdeploy.data.dataset import read_dataset
from slimdeploy.lineage import file_input, read_json, read_run, stage_run, write_json
from slimdeploy.pipeline import Step, ensure
from slimdeploy.records import as_json
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
PASSES = {3.0: 2}  # of the planner; at other speed-ups one
LR0 = DenseConfig().lr0
NEAR = 0.05  # of the speed-up asked for
HALVINGS = 8
BARS = {2.0: 1.0, 3.0: 2.5}  # points of mAP50-95 lost against dense
CONTROLS = ("slimming", "group-norm", "narrow", "small-input")
CONTENDERS = ("dense", "planner", *CONTROLS, "planner-distilled", "planner-shape")
CRITERIA = {f"planner-{name}": name for name in ("magnitude", "taylor", "random")}
PARTS = ("cut", "tuned", "scored")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long everything is trained, and on what.

    Attributes:
        data: YAML of the data set.
        epochs: of fine-tuning.
        whole: of training from new weights: those of dense and those of fine-tuning.
        seed: of training.
    """

    data: Path
    epochs: int
    whole: int
    seed: int


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

    def cut(self, name: str, speedup: float) -> tuple[Path, int]:
        """Return a contender's checkpoint before it is fine-tuned, and its input size."""
        if name == "dense":
            return self.dense, IMGSZ
        if name == "small-input":
            return self.dense, self._small_side(speedup)
        if name in ("planner", "planner-distilled"):
            return self._planned(speedup), IMGSZ
        if name == "planner-shape":
            return self._renewed(self._planned(speedup), speedup), IMGSZ
        if name in CRITERIA:
            return self._planned(speedup, CRITERIA[name]), IMGSZ
        families = {"slimming": self._slimmed, "group-norm": self._group_norm, "narrow": self._narrow}
        return self._matched(name, speedup, families[name]), IMGSZ

    def tuned(self, name: str, speedup: float) -> tuple[Path, int]:
        """Return a contender's checkpoint after its training, and its input size."""
        weights, side = self.cut(name, speedup)
        folder = name if name == "dense" else f"{speedup:g}/{name}"
        teacher = self.dense if name == "planner-distilled" else None
        epochs = self.budget.whole if name in ("narrow", "planner-shape") else self.budget.epochs
        if name.startswith("planner") and name != "planner-shape" and PASSES.get(speedup, 1) == 2:
            epochs -= epochs // 2  # the others went into the first pass
        return self._tuned(folder, weights, teacher=teacher, epochs=epochs, imgsz=side), side

    def scored(self, names: Sequence[str], speedup: float) -> Path:
        """Export, time and score contenders at a speed-up; return the folder of `bench`."""
        bundles = []
        for name in names:
            weights, side = self.tuned(name, speedup)
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

    def _planned(self, speedup: float, criterion: str = "bn_gamma") -> Path:
        """Return the planner's network, in one pass or in two with fine-tuning between them."""
        name = f"{speedup:g}/planner-{criterion}"
        if PASSES.get(speedup, 1) == 1:
            return self._pruned(name, self.dense, speedup, criterion)
        first = self._pruned(f"{name}-1", self.dense, speedup**0.5, criterion)
        reached = read_run(first.parent)["results"]["reached"]
        between = self._tuned(f"{name}-1", first, epochs=self.budget.epochs // 2)
        return self._pruned(f"seed{self.budget.seed}/{name}-2", between, speedup / reached, criterion)

    def _pruned(self, name: str, weights: Path, speedup: float, criterion: str) -> Path:
        config = PruneConfig(speedup=speedup, imgsz=IMGSZ, criterion=criterion)
        means = Means(target=TARGET, table=self.table, data=self.budget.data)
        make = lambda out: prune(weights, config, out, means=means)  # noqa: E731
        return self._step(name, config, weights, make, stage="prune") / PRUNED

    def _tuned(self, name: str, weights: Path, *, epochs: int, teacher: Path | None = None, imgsz: int = IMGSZ) -> Path:
        config = FinetuneConfig(
            epochs=epochs, imgsz=imgsz, seed=self.budget.seed, device="cpu", lr0=LR0, close_mosaic=max(1, epochs // 4)
        )
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
        """Return the input size at which the dense network's measured speed-up comes nearest to the one asked for."""
        path = self.out / "small_sides.json"
        if not path.exists():
            write_json(path, {"schema": 1, "speedups": self._times_at_sides()})
        measured = read_json(path, what="small inputs")["speedups"]
        return int(min(measured, key=lambda side: abs(measured[side] / speedup - 1)))

    def _times_at_sides(self) -> dict[str, float]:
        """Measure how many times as fast the dense network is at each smaller input."""
        folder = self.out / "small_sides"
        folder.mkdir(exist_ok=True)
        artifacts = [
            (str(side), build(self.module, str(side), folder, target=TARGET, imgsz=side, precision="fp32"))
            for side in range(IMGSZ, 96, -32)
        ]
        whole, *timed = measure(artifacts, BenchConfig(samples=240, rounds=12))
        shutil.rmtree(folder)
        return {side: 1 / stats.ratio(whole, one).value for (side, _), one in zip(artifacts[1:], timed, strict=True)}


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


def fewer(data: Path, out: Path) -> Path:
    """Write a data set of every eighth image of another one; return its YAML."""
    dataset = read_dataset(data)
    for split in ("train", "val"):
        images = "\n".join(str(path) for path in dataset.images(split)[::8])
        (out / f"{split}.txt").write_text(images + "\n", encoding="utf-8")
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(dataset.classes))
    made = out / "fewer.yaml"
    made.write_text(f"path: {out.resolve()}\ntrain: train.txt\nval: val.txt\nnames:\n{names}", encoding="utf-8")
    return made


def judged(folder: Path, speedup: float, seed: int) -> list[dict[str, Any]]:
    """Return a row for every contender, with its difference to dense and to the planner and their intervals."""
    rows = read_json(folder / "bench.json", what="bench results")["rows"]
    found = matches.load(folder / matches.FILE)
    dense = rows[0]
    for row in rows:
        row["asked_speedup"], row["seed"] = speedup, seed
        row["p50_ms"] = 1e3 * median(row["latency"]["samples_s"])
        row["measured_speedup"] = 1e3 * median(dense["latency"]["samples_s"]) / row["p50_ms"]
        row["against"] = {
            name: as_json(paired_bootstrap(found[name], found[row["name"]]))
            for name in ("dense", "planner")
            if name in found and name != row["name"]
        }
    return rows


def tell(rows: Sequence[dict[str, Any]]) -> None:
    """Print a line for every contender, and whether the bars are met."""
    for row in rows:
        against = row["against"].get("dense")
        lost = f" ({interval(against)})" if against else ""
        print(
            f"{row['asked_speedup']:g} seed {row['seed']} {row['name']:18} {row['measured_speedup']:.2f} times, "
            f"{row['p50_ms']:.2f} ms, mAP50-95 {row['accuracy']['map50_95']:.3f}{lost}, "
            f"mAP50 {row['accuracy']['map50']:.3f}, "
            f"{row['parameters']:,} parameters, {row['macs'] / 1e9:.3f} GMACs, {row['size_bytes'] / 1e6:.2f} MB"
        )
    for speedup in sorted({row["asked_speedup"] for row in rows}):
        told_at(speedup, [row for row in rows if row["asked_speedup"] == speedup])


def told_at(speedup: float, rows: Sequence[dict[str, Any]]) -> None:
    """Print whether the planner meets the bar of a speed-up, and how it stands to each control, seed by seed."""
    losses = [-row["against"]["dense"]["points"] for row in rows if row["name"] == "planner"]
    bar = BARS.get(speedup)
    if losses:
        kept = "no bar" if bar is None else f"bar {bar:g}: {'met' if median(losses) <= bar else 'NOT met'}"
        print(f"at {speedup:g}: the planner loses {median(losses):+.2f} points ({kept})")
    for row in rows:
        if row["name"] in CONTROLS:
            print(f"at {speedup:g}, seed {row['seed']}: the planner {verdict(row)} {row['name']}")


def verdict(control: dict[str, Any]) -> str:
    """Say how the planner stands to a control."""
    lead = control["against"].get("planner")
    if lead is None:
        return "was not run beside"
    if lead["low"] <= 0 <= lead["high"]:
        return "shows no difference to"
    return f"is {'ahead of' if lead['high'] < 0 else 'BEHIND'}"


def interval(one: dict[str, float]) -> str:
    """Return a difference with its interval, in points."""
    return f"{one['points']:+.2f} points [{one['low']:+.2f}, {one['high']:+.2f}]"


def options() -> argparse.Namespace:
    """Return what was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dense", type=Path, required=True, help="a trained YOLOv8n")
    parser.add_argument("--dense-epochs", type=int, default=40, help="for how many epochs it was trained")
    parser.add_argument("--out", type=Path, default=Path("runs") / NAME)
    parser.add_argument("--data", default="aerial_cars", help="data set below SLIMDEPLOY_DATA: aerial_cars or bccd")
    parser.add_argument("--epochs", type=int, default=30, help="of fine-tuning")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--speedups", type=float, nargs="+", default=[2.0, 3.0, 1.5])
    parser.add_argument("--contenders", nargs="+", choices=(*CONTENDERS, *CRITERIA), default=list(CONTENDERS))
    parser.add_argument("--until", choices=PARTS, default="scored", help="the last part of the work to do")
    parser.add_argument(
        "--reduced", action="store_true", help="speed-up 2.0, one seed, one epoch of every eighth image"
    )
    parser.add_argument("--save", action="store_true", help="put the result into benchmarks/results/")
    asked = parser.parse_args()
    if asked.reduced:
        asked.seeds, asked.speedups = [0], [2.0]
    asked.contenders = sorted(set(asked.contenders), key=[*CONTENDERS, *CRITERIA].index)
    if asked.until == "scored" and asked.contenders[0] != "dense":
        parser.error("--contenders to score without dense, which every figure is compared with")
    return asked


def save(told: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Keep the result; what today's one holds of other speed-ups and seeds, trained alike, stays in it."""
    path = result_path(f"{NAME}-{told['data']}")
    before = read_json(path, what="result") if path.exists() else {}
    kept = before.get("rows", []) if all(before.get(key) == value for key, value in told.items()) else []
    made = {(row["asked_speedup"], row["seed"]) for row in rows}
    others = [row for row in kept if (row["asked_speedup"], row["seed"]) not in made]
    write_json(path, {**told, "rows": sorted([*others, *rows], key=lambda row: (row["asked_speedup"], row["seed"]))})


def main() -> None:
    """Make every run that is missing, compare, and keep the result where one is asked for."""
    asked = options()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    data = Path(os.environ["SLIMDEPLOY_DATA"]) / asked.data / "data.yaml"
    epochs, whole = (1, 1) if asked.reduced else (asked.epochs, asked.epochs + asked.dense_epochs)
    asked.out.mkdir(parents=True, exist_ok=True)
    data = fewer(data, asked.out) if asked.reduced else data
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        suite = Suite(asked.dense, asked.out, Budget(data=data, epochs=epochs, whole=whole, seed=seed))
        for speedup in asked.speedups:
            for name in asked.contenders:
                suite.cut(name, speedup)
                if asked.until != "cut":
                    suite.tuned(name, speedup)
            if asked.until == "scored":
                rows += judged(suite.scored(asked.contenders, speedup), speedup, seed)
    tell(rows)
    if asked.save:
        told = {"data": asked.data, "epochs": epochs, "whole_epochs": whole, "reduced": asked.reduced}
        save({"schema": 1, "benchmark": NAME, **told}, rows)


if __name__ == "__main__":
    main()
