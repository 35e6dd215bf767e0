"""How the fit after a cut stands up to less and less of a network, and to half precision.

    python benchmarks/prune_fit.py --data aerial_cars/data.yaml --work work --save

Trains a YOLOv8n (kept in `--work`), removes shares of its multiply-accumulates, and fits the weights that stay, once
for exact inputs and once as slimdeploy does, for inputs with an error. Of each network: the agreement with the dense
one on training images, mAP50-95 of both there, and how far scores move when the input, every weight and every
activation are rounded to half precision.

Bars: at every share, half precision moves the scores of slimdeploy's fit at most twice as far as those of the dense
network, and that fit loses at most half a point of mAP50-95 against the fit for exact inputs.
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path
from typing import Any

import torch
from _results import result_path
from torch import nn

from slimdeploy.bench.environment import environment
from slimdeploy.configs import DenseConfig, PruneConfig
from slimdeploy.data.dataset import Dataset, read_dataset
from slimdeploy.lineage import write_json
from slimdeploy.records import Checkpoint
from slimdeploy.stages import _agreement, _reconstruct
from slimdeploy.stages._trials import trial_images
from slimdeploy.stages.decide import Means, decide
from slimdeploy.stages.train import train
from slimdeploy.yolo import checkpoint, heads, reconstruct

SHARES = (0.6, 0.85, 0.94, 0.98)  # of the multiply-accumulates
USED = reconstruct.ERRORS  # those that slimdeploy tries, until a layer passes on no more error than the whole one
ERRORS = ((0.0,), USED)  # of each input, as a share of its root mean square
IMAGES = 16  # on which half precision is tried
MOST_TIMES, MOST_POINTS = 2.0, 0.5  # the bars


def main() -> int:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    dataset = read_dataset(asked.data)
    weights = asked.work / "dense" / "dense.pt"
    if not weights.exists():
        asked.work.mkdir(parents=True, exist_ok=True)
        train(asked.data, DenseConfig(epochs=asked.epochs, imgsz=asked.imgsz), weights.parent)
    module, known = checkpoint.load(weights)
    pictures, _ = trial_images(asked.data, known.classes, asked.imgsz, IMAGES)
    inputs = torch.stack([torch.from_numpy(picture) for picture in pictures])
    rows = []
    dense = rounding(module, inputs, known)
    print("dense", dense, flush=True)
    for share in asked.shares:
        config = PruneConfig(macs=share, imgsz=asked.imgsz, least_agreement=0.0)
        plan = decide(module, known, config, Means(data=asked.data))
        for errors in ERRORS:
            reconstruct.ERRORS = errors
            kept = {group.name: group.kept for group in plan.plan.groups}
            cut, fit = _reconstruct.cut_and_fit(module, plan.coupling, kept, config, asked.data)
            row = {"share": share, "errors": errors, "macs": plan.plan.macs, **rounding(cut, inputs, known)}
            rows.append(row | judged(module, cut, known, config, dataset, fit.images))
            print(rows[-1], flush=True)
    missed = bars(rows, dense)
    result = {
        "schema": 1, "data": dataset.name, "imgsz": asked.imgsz, "epochs": asked.epochs, "dense": dense, "rows": rows,
        "bars": {"times": MOST_TIMES, "points": MOST_POINTS}, "missed": missed, "environment": environment(),
    }  # fmt: skip
    if asked.save:
        write_json(result_path("prune_fit"), result)
    print("bars missed:", missed or "none")
    return 1 if missed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the YAML of a detection data set")
    parser.add_argument("--work", type=Path, required=True, help="where the dense network is kept")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--save", action="store_true", help="keep the result in benchmarks/results")
    return parser.parse_args()


def rounding(module: nn.Module, inputs: torch.Tensor, known: Checkpoint) -> dict[str, float]:
    """Return how far scores move in half precision, as a share of all scores' root mean square."""
    exact = scores(module, inputs, known)
    halved = copy.deepcopy(module)
    for layer in halved.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.half().float()
            layer.register_forward_hook(lambda _layer, _inputs, output: output.half().float())
    moves = {
        "input": scores(module, inputs.half().float(), known) - exact,
        "half": scores(halved, inputs.half().float(), known) - exact,
    }
    size = exact.norm()
    return {f"{name}_relative": float(move.norm() / size) for name, move in moves.items()} | {
        f"{name}_largest": float(move.abs().max()) for name, move in moves.items()
    }


def scores(module: nn.Module, inputs: torch.Tensor, known: Checkpoint) -> torch.Tensor:
    return heads.class_scores(torch.from_numpy(heads.raw_rows(module, inputs.numpy())), len(known.classes))


def judged(
    module: nn.Module, cut: nn.Module, known: Checkpoint, config: PruneConfig, dataset: Dataset, fitted: int
) -> dict[str, Any]:
    """Return what the cut network finds beside the dense one."""
    paths = _agreement.images_to_judge(dataset, fitted, macs=1)
    agreement = _agreement.agreement_with(module, cut, known, config, dataset, paths)
    if agreement is None:
        sys.exit("the dense network finds too little: train it for more epochs")
    return {
        "agreement": agreement.share, "dense": agreement.dense, "matched": agreement.matched, "fitted_on": fitted,
        "map50_95": agreement.map50_95, "images": agreement.images,
    }  # fmt: skip


def bars(rows: list[dict[str, Any]], dense: dict[str, float]) -> list[str]:
    """Return the bars that were missed, in words."""
    missed = []
    used = [row for row in rows if row["errors"] == USED]
    plain = {row["share"]: row["map50_95"][1] for row in rows if row["errors"] == ERRORS[0]}
    for row in used:
        times = row["half_relative"] / dense["half_relative"]
        if times > MOST_TIMES:
            missed.append(f"at {row['share']:g}, half precision moves scores {times:.2f} times as far as dense")
        points = 100 * (plain[row["share"]] - row["map50_95"][1])
        if points > MOST_POINTS:
            missed.append(f"at {row['share']:g}, {points:.2f} points less than without an error")
    return missed


if __name__ == "__main__":
    sys.exit(main())
