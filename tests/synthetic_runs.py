"""Write run folders with made-up figures, for tests of what reads them. No figure here was measured."""

from __future__ import annotations

import json
import random
from pathlib import Path

from slimdeploy.records import (
    Accuracy,
    Evaluation,
    Found,
    Interval,
    LayerTime,
    Measurement,
    Offered,
    Power,
    Row,
    Scene,
    Seen,
    as_json,
)

MACHINE = {"cpu_model": "Synthetic CPU", "cores_usable": 2, "os": "synthetic", "versions": {"onnxruntime": "0.0"}}
EDGES = [i / 20 for i in range(61)]
ROUNDS = 10
FIGURES = {"ap75": 0.6, "ap_small": 0.4, "ap_medium": 0.7, "ar1": 0.2, "ar10": 0.6, "ar": 0.75, "ar_small": 0.5}
JPEG = (  # 8 by 8 grey pixels
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7"
    "gYKBTmCNl4x9lnN+gXz/wAALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAv/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAI"
    "AQEAAD8AD//Z"
)


def measurement(name, median_s, *, samples=200, rounds=ROUNDS, seed=0, **changes):
    """Return made-up timed calls around a median; the rounds drift alike for every name."""
    chance = random.Random(f"{name}{seed}")
    drift = [1 + 0.03 * (i % 3) for i in range(rounds)]
    per_round = samples // rounds
    calls = [
        median_s * drift[i] * (1 + 0.01 * abs(chance.gauss(0, 1)) + (0.2 if chance.random() < 0.02 else 0))
        for i in range(rounds)
        for _ in range(per_round)
    ]
    fields = {
        "artifact": name, "sha256": "0" * 64, "backend": "onnxruntime", "scope": "inference", "threads": 2, "batch": 1,
        "samples_s": tuple(calls), "load_s": 0.1, "first_s": 2 * median_s, "warmup_s": (median_s,) * 3,
        "rounds": (per_round,) * rounds, "peak_memory_mib": 120.0, "environment": MACHINE,
    }  # fmt: skip
    return Measurement(**{**fields, **changes})


def accuracy(map50_95, **changes):
    """Return made-up scores."""
    fields = {
        "map50": min(1.0, map50_95 + 0.24), "map50_95": map50_95, "precision": 0.9, "recall": 0.85,
        "per_class": {"car": map50_95}, "images": 4, "boxes": 40, "data": "synthetic, val",
    }  # fmt: skip
    return Accuracy(**{**fields, **changes})


def row(name, *, parameters=3_000_000, scored=None, latency=None, **changes):
    """Return a made-up row; sizes follow from the parameters."""
    fields = {
        "name": name, "file": "model.fp32.onnx", "format": "onnx", "precision": "fp32", "parameters": parameters,
        "size_bytes": 4 * parameters, "macs": 1400 * parameters, "accuracy": scored, "latency": latency,
    }  # fmt: skip
    return Row(**{**fields, **changes})


def whole_rows(*, rendered=False):
    """Return the rows of a recipe: the tuned network is 2.1 times as fast as the dense one."""
    made = {
        "dense": (3_011_043, 0.702, 0.0910), "sparse": (3_011_043, 0.691, 0.0912), "pruned": (873_211, 0.104, 0.0434),
        "tuned": (873_211, 0.681, 0.0433), "tuned-fp16": (873_211, 0.680, 0.0431),
    }  # fmt: skip
    return [
        row(
            name, parameters=parameters, scored=accuracy(score, rendered=rendered, figures=FIGURES),
            latency=measurement(name, median_s),
            difference=None if name == "dense" else difference(100 * (score - 0.702)),
        )
        for name, (parameters, score, median_s) in made.items()
    ]  # fmt: skip


def power(idle_w=3.0, mean_w=9.0, meter="jetson"):
    """Return made-up readings of a meter."""
    samples = tuple((i / 10, mean_w + 0.3 * (i % 3 - 1)) for i in range(30))
    return Power(
        meter=meter, rails=("VDD_IN",), idle_w=idle_w, mean_w=mean_w, joules_an_image=0.05, samples=samples
    )  # fmt: skip


def end_to_end(name, median_s, **changes):
    """Return made-up timed calls from decoded frame to final boxes."""
    environment = {**MACHINE, "frame_size_px": (360, 640)}
    return measurement(name, median_s, **{"scope": "end to end", "environment": environment, **changes})


def offered(median_s=0.02, **changes):
    """Return made-up frames of a camera."""
    fields = {"fps": 30.0, "frames": 100, "dropped": 3, "late": 7, "latency_s": (median_s,) * 90 + (3 * median_s,) * 7}
    return Offered(**{**fields, **changes})


def layers(scale=1.0, width=64):
    """Return made-up times of a few layers."""
    return (
        LayerTime(name="/model.0/conv/Conv", operator="Conv", seconds=0.004 * scale, width=width),
        LayerTime(name="/model.0/act/Mul", operator="Mul", seconds=0.001 * scale, width=width),
        LayerTime(name="/model.22/cv2.0/Conv", operator="Conv", seconds=0.005 * scale, width=width // 2),
        LayerTime(name="Reorder_7", operator="Reorder", seconds=0.0005, width=None),
    )


def difference(points, **changes):
    """Return a made-up difference of mAP50-95."""
    fields = {"points": points, "low": points - 0.8, "high": points + 0.7, "images": 590, "resamples": 1000}
    return Interval(**{**fields, **changes})


def evaluation(names, *, classes=("car",), scenes=True):
    """Return made-up curves, confusions and scenes of some models."""
    side = len(classes) + 1
    counts = tuple(tuple(80 if x == y else 7 + x for x in range(side)) for y in range(side))
    curve = tuple(max(0.0, 1 - (i / 100) ** 4) for i in range(101))
    found = [
        Found(xyxy=(10 + 40 * i, 20, 40 + 40 * i, 50), score=0.9 - i / 10, label=i % len(classes), right=i < 2)
        for i in range(3)
    ]
    seen = {name: Seen(found=tuple(found), missed=((20, 60, 50, 90),)) for name in names}
    kinds = ("typical", "worst") if scenes else ()
    return Evaluation(
        classes=tuple(classes), precision=dict.fromkeys(names, curve), confusion=dict.fromkeys(names, counts),
        judged=names[-1], scenes=tuple(Scene(file=f"{kind}.jpg", size=(120, 160), why=kind, jpeg=JPEG, seen=seen)
                                       for kind in kinds),
    )  # fmt: skip


def write_evaluation(folder: Path, found):
    """Write an evaluation beside a bench.json."""
    (folder / "evaluation.json").write_text(json.dumps({"schema": 1, **as_json(found)}), encoding="utf-8")


def write_bench(folder: Path, rows, *, title="Synthetic run", notes=()):
    """Write a folder as `slimdeploy bench` does."""
    results = {"schema": 1, "title": title, "rows": [as_json(one) for one in rows], "notes": list(notes)}
    write_stage(folder, "bench", {})
    (folder / "bench.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def write_stage(folder: Path, stage, results, **changes):
    """Write a folder with the run.json of one stage."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "schema": 1, "stage": stage, "fingerprint": "f" * 64, "config": {"seed": 0, "imgsz": 640},
        "inputs": {"weights": {"name": "in.pt", "sha256": "a" * 64}}, "outputs": {f"{stage}.pt": "b" * 64},
        "results": results, "versions": {"slimdeploy": "0.0", "python": "3.0"}, "seconds": 12.5, **changes,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def history(epochs, *, start, gain, scales=False):
    """Return made-up epochs of a training; with scales, more of them become small from epoch to epoch."""
    chance = random.Random(epochs)
    return [
        {
            "epoch": i + 1,
            "seconds": 3.0,
            "loss": {
                f"{name}_loss": value * (1.2 - i / epochs) for name, value in (("box", 2), ("cls", 3), ("dfl", 1))
            },
            "map50": min(0.95, start + gain * i / epochs + 0.2 + 0.01 * chance.random()),
            "map50_95": start + gain * i / epochs + 0.01 * chance.random(),
            "scales": {"below_0.1": 0.5 * i / epochs, "below_0.01": 0.3 * i / epochs, "below_0.001": 0.2 * i / epochs},
            "scale_histogram": _histogram(i / epochs, chance) if scales else None,
        }
        for i in range(epochs)
    ]


def _histogram(share, chance):
    counts = [0] * 60
    for _ in range(3000):
        small = chance.random() < share * 0.6
        gamma = abs(chance.gauss(0, 0.03)) if small else abs(chance.gauss(1.0 - 0.3 * share, 0.25))
        counts[min(59, int(gamma * 20))] += 1
    return counts


def write_recipe_run(folder: Path, rows=None):
    """Write a recipe's folder: every stage with its run.json, the plan, and the bench's rows."""
    write_stage(folder / "train", "train", {"history": history(30, start=0.2, gain=0.5)})
    sparse = {"history": history(12, start=0.66, gain=0.03, scales=True), "scale_edges": EDGES}
    write_stage(folder / "sparsify", "sparsify", sparse)
    write_stage(folder / "prune", "prune", {"parameters": [3_011_043, 873_211]})
    groups = [
        {"name": f"model.{i}.conv", "width": 16 << (i // 6), "kept": list(range((8 << (i // 6)) if i % 3 else 16)),
         "layers": [f"model.{i}.conv"], "tied_to": ""}
        for i in range(22)
    ]  # fmt: skip
    plan = {"schema": 1, "groups": groups, "kept_whole": []}
    (folder / "prune" / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    write_stage(folder / "finetune", "finetune", {"history": history(20, start=0.5, gain=0.19)})
    for name in ("dense", "tuned"):
        write_stage(folder / "export" / name, "export", {})
    write_stage(folder / "previous" / "prune" / "abc", "prune", {})
    write_bench(folder / "bench", rows if rows is not None else whole_rows())
    write_evaluation(folder / "bench", evaluation([one.name for one in whole_rows()]))
    return folder
