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
speed-up comes nearest. All is trained at the learning rate that dense was trained at. `--contenders` may also name
planner-bn_gamma, planner-magnitude, planner-taylor and planner-random, the planner with another criterion, and
planner-plain, which ranks by BatchNorm scales and leaves the weights that stay as they are.

The work has three parts, and `--until` stops after one: `cut` measures and wants a quiet machine, `tuned` trains, so
that several processes can share it by `--contenders` and `--speedups`, `scored` times and scores. Taken to one core
(`taskset -c 0`), all of it measures and trains with one thread.

Bars: at 2.0 the planner loses at most 1.0 point of mAP50-95 against dense, at 3.0 at most 2.5, and is ahead of
slimming, group-norm, narrow and small-input at every speed-up. `docs/at_latency.png` and the README's table are made of
the result by `latency_table.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from _results import latest, result_path
from contenders import BARS, CONTENDERS, CONTROLS, CRITERIA, PARTS, PLAIN, Budget, Suite

from slimdeploy.accuracy import matches
from slimdeploy.accuracy.bootstrap import paired_bootstrap
from slimdeploy.data.dataset import read_dataset
from slimdeploy.lineage import read_json, sha256_file, write_json
from slimdeploy.records import as_json

NAME = "accuracy_at_latency"
OTHERS = (*CRITERIA, PLAIN)


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


def judged(suite: Suite, names: Sequence[str], speedup: float) -> list[dict[str, Any]]:
    """Return a row for every contender, with its difference to dense and to the planner and their intervals."""
    folder = suite.scored(names, speedup)
    rows = read_json(folder / "bench.json", what="bench results")["rows"]
    found = matches.load(folder / matches.FILE)
    dense = rows[0]
    for row in rows:
        row["asked_speedup"], row["seed"] = speedup, suite.budget.seed
        row["before_tuning_map50_95"] = suite.before_tuning(row["name"], speedup)
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
    parser.add_argument("--contenders", nargs="+", choices=(*CONTENDERS, *OTHERS), default=list(CONTENDERS))
    parser.add_argument("--until", choices=PARTS, default="scored", help="the last part of the work to do")
    parser.add_argument(
        "--reduced", action="store_true", help="speed-up 2.0, one seed, one epoch of every eighth image"
    )
    parser.add_argument("--save", action="store_true", help="put the result into benchmarks/results/")
    asked = parser.parse_args()
    if asked.reduced:
        asked.seeds, asked.speedups = [0], [2.0]
    asked.contenders = sorted(set(asked.contenders), key=[*CONTENDERS, *OTHERS].index)
    if asked.until == "scored" and asked.contenders[0] != "dense":
        parser.error("--contenders to score without dense, which every figure is compared with")
    return asked


def save(told: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Keep the result; what the newest one holds of other speed-ups and seeds, trained alike, stays in it."""
    name = f"{NAME}-{told['data']}"
    path, before = result_path(name), {}
    with contextlib.suppress(FileNotFoundError):
        before = read_json(latest(name), what="result")
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
                rows += judged(suite, asked.contenders, speedup)
    tell(rows)
    if asked.save:
        told = {
            "data": asked.data, "dense_sha256": sha256_file(asked.dense), "epochs": epochs, "whole_epochs": whole,
            "reduced": asked.reduced,
        }  # fmt: skip
        save({"schema": 1, "benchmark": NAME, **told}, rows)


if __name__ == "__main__":
    main()
