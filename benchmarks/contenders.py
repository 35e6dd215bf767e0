"""The networks that accuracy_at_latency compares: each made, cut and trained unless it is there already."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slimdeploy.accuracy.evaluate import score
from slimdeploy.backends.artifacts import read_artifact
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
from slimdeploy.lineage import Input, file_input, read_json, sha256_file, stage_run, write_json
from slimdeploy.pipeline import Step, ensure
from slimdeploy.stages._built import build, coupling_of, cut_copy
from slimdeploy.stages._importance import importance_of
from slimdeploy.stages.bench import bench
from slimdeploy.stages.decide import Means
from slimdeploy.stages.export import export
from slimdeploy.stages.finetune import OUTPUT as TUNED
from slimdeploy.stages.finetune import finetune
from slimdeploy.stages.latency import TABLE, latency_folder
from slimdeploy.stages.plan import read_plan, strongest
from slimdeploy.stages.prune import OUTPUT as PRUNED
from slimdeploy.stages.prune import PLAN, prune
from slimdeploy.stages.widths import Widths, units_of
from slimdeploy.targets import load_target
from slimdeploy.yolo import checkpoint

IMGSZ = 320
TARGET = load_target("cpu")
LR0 = DenseConfig().lr0
NEAR = 0.05  # of the speed-up asked for
HALVINGS = 8
BARS = {2.0: 1.0, 3.0: 2.5}  # points of mAP50-95 lost against dense
CONTROLS = ("slimming", "group-norm", "narrow", "small-input")
CONTENDERS = ("dense", "planner", *CONTROLS, "planner-distilled", "planner-shape")
CRITERIA = {f"planner-{name}": {"criterion": name} for name in ("bn_gamma", "magnitude", "taylor", "random")}
PLAIN = "planner-plain"
PLANNERS: Mapping[str, Mapping[str, Any]] = {
    "planner": {}, **CRITERIA, PLAIN: {"criterion": "bn_gamma", "reconstruct_images": 0},
}  # fmt: skip
PARTS = ("cut", "tuned", "scored")
NEW_WEIGHTS = ("narrow", "planner-shape")


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
        if name in PLANNERS:
            return self._planned(speedup, name), IMGSZ
        if name == "planner-distilled":
            return self._planned(speedup), IMGSZ
        if name == "planner-shape":
            return self._renewed(self._planned(speedup), speedup), IMGSZ
        families = {"slimming": self._slimmed, "group-norm": self._group_norm, "narrow": self._narrow}
        return self._matched(name, speedup, families[name]), IMGSZ

    def tuned(self, name: str, speedup: float) -> tuple[Path, int]:
        """Return a contender's checkpoint after its training, and its input size."""
        weights, side = self.cut(name, speedup)
        folder = name if name == "dense" else f"{speedup:g}/{name}"
        teacher = self.dense if name == "planner-distilled" else None
        epochs = self.budget.whole if name in NEW_WEIGHTS else self.budget.epochs
        return self._tuned(folder, weights, teacher=teacher, epochs=epochs, imgsz=side), side

    def before_tuning(self, name: str, speedup: float) -> float | None:
        """Return a contender's mAP50-95 after the cut and before its training; None for new weights."""
        if name in NEW_WEIGHTS:
            return None
        weights, side = self.cut(name, speedup)
        path = self.out / "before_tuning" / f"{sha256_file(weights)[:16]}-{side}.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            artifact = read_artifact(weights, imgsz=(side, side))
            found = score(artifact, read_dataset(self.budget.data), ValConfig(imgsz=side))
            write_json(path, {"schema": 1, "map50_95": found.map50_95})
        return float(read_json(path, what="accuracy")["map50_95"])

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

    def _step(
        self, folder: str, config: Any, weights: Path, make: Callable[[Path], Any], stage: str = "", **others: Input
    ) -> Path:
        inputs = {"weights": file_input(weights), **others}
        return ensure(Step(folder=folder, stage=stage or folder, config=config, inputs=inputs, make=make), self.out)

    def _measure_table(self, out: Path) -> None:
        latency_folder(self.dense, TARGET, LatencyConfig(imgsz=IMGSZ), out)

    def _planned(self, speedup: float, name: str = "planner") -> Path:
        """Return the planner's network."""
        config = PruneConfig(speedup=speedup, imgsz=IMGSZ, **PLANNERS[name])
        means = Means(target=TARGET, table=self.table, data=self.budget.data)
        make = lambda out: prune(self.dense, config, out, means=means)  # noqa: E731
        return self._step(f"{speedup:g}/{name}", config, self.dense, make, stage="prune", **means.inputs()) / PRUNED

    def _tuned(self, name: str, weights: Path, *, epochs: int, teacher: Path | None = None, imgsz: int = IMGSZ) -> Path:
        config = FinetuneConfig(
            epochs=epochs, imgsz=imgsz, seed=self.budget.seed, device="cpu", lr0=LR0, close_mosaic=max(1, epochs // 4)
        )
        make = lambda out: finetune(weights, self.budget.data, config, out, teacher=teacher)  # noqa: E731
        others = {"data": read_dataset(self.budget.data).as_input()}
        if teacher is not None:
            others["teacher"] = file_input(teacher)
        return self._step(f"seed{self.budget.seed}/{name}", config, weights, make, stage="finetune", **others) / TUNED

    def _renewed(self, planned: Path, speedup: float) -> Path:
        """Return the planner's shape with new weights; it is the same however the planner's own weights were fitted."""
        widths = {group.name: len(group.kept) for group in read_plan(planned.with_name(PLAN)).groups}
        shape = Input(name="shape", sha256=hashlib.sha256(json.dumps(widths, sort_keys=True).encode()).hexdigest())

        def make(out: Path) -> None:
            inputs = {"weights": file_input(self.dense), "shape": shape}
            with stage_run("renew", config=self.budget, inputs=inputs, out=out) as run:
                module, _ = checkpoint.load(planned)
                renew(module, self.budget.seed)
                checkpoint.save(module, run.folder / PRUNED, origin={"stage": "renew"})

        folder = f"{speedup:g}/renewed{self.budget.seed}"
        return self._step(folder, self.budget, self.dense, make, stage="renew", shape=shape) / PRUNED

    def _matched(self, name: str, speedup: float, cut: Callable[[float], nn.Module]) -> Path:
        """Return the control whose one number makes it as fast as asked, found by halving and measuring."""
        wanted = PruneConfig(speedup=speedup, imgsz=IMGSZ, criterion="bn_gamma", reconstruct_images=0)

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
