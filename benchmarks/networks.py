"""Every network that slimdeploy promises, pruned, exported and opened by ultralytics alone: what comes of it.

    python benchmarks/networks.py --save                        # all of them, an hour on 2 cores
    python benchmarks/networks.py yolov8n-seg yolo26n --save    # a few; they join what today's result holds

For each: new weights, what `slimdeploy prune --channels 0.5` does, what `slimdeploy export` does, which compares the
ONNX file with PyTorch, then `YOLO(file)` of both files in a process that cannot import slimdeploy. Bar: every network
passes every step.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _results import latest, result_path

from slimdeploy.bench.environment import environment
from slimdeploy.configs import ExportConfig, PruneConfig
from slimdeploy.lineage import read_json, read_run, write_json
from slimdeploy.stages.export import export
from slimdeploy.stages.prune import prune
from slimdeploy.targets import load_target

NAME = "networks"
TASKS = {"": "detect", "-seg": "segment", "-pose": "pose", "-obb": "obb", "-cls": "classify"}
FAMILIES = ("yolov8", "yolo11", "yolo26")
NETWORKS = (
    *(f"{family}{scale}{task}" for family in FAMILIES for task in TASKS for scale in "nsmlx"),
    *(f"yolov8{scale}-{head}" for head in ("p2", "p6") for scale in "nsmlx"),
)
COUNTED_AT, CLASSIFY_AT = 640, 224  # sides of the input that stock networks' figures are given at, in pixels
AT_ONCE = 4  # networks whose checkpoints lie on the disk together

MAKE = """
import sys
from pathlib import Path
import torch
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.tasks import guess_model_task, yaml_model_load
from slimdeploy.yolo import checkpoint
kinds = {
    "detect": tasks.DetectionModel, "segment": tasks.SegmentationModel, "pose": tasks.PoseModel,
    "obb": tasks.OBBModel, "classify": tasks.ClassificationModel,
}
for name in sys.argv[2:]:
    torch.manual_seed(0)
    known = yaml_model_load(f"{name}.yaml")
    module = kinds[guess_model_task(known)](known, verbose=False)
    module.task = guess_model_task(known)
    for layer in module.modules():  # lively statistics: signals of new weights fade on their way to the head
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        module.train()(torch.rand(2, 3, 128, 128))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.03
    checkpoint.save(module, Path(sys.argv[1]) / f"{name}.pt", origin={})
"""

# What a user without slimdeploy does. Training must stop at the mark: it would regrow the dense network.
STOCK = """
import json, sys
import numpy as np

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("slimdeploy", "torch_pruning"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
from pathlib import Path
from ultralytics import YOLO
image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)

def predicts(path, task, imgsz):
    found = YOLO(path, task=task).predict(image, imgsz=imgsz, conf=0.0, verbose=False)[0]
    held = {"segment": found.masks, "pose": found.keypoints, "obb": found.obb, "classify": found.probs}
    return held.get(task, found.boxes) is not None

def trains(path, data):
    try:
        YOLO(path).train(data=data, epochs=1, imgsz=64, batch=2, workers=0, plots=False, amp=False, project="runs")
    except KeyError as error:
        return str(error)
    return "it trained"

for line in sys.stdin:
    asked = json.loads(line)
    answer = {"parameters": sum(p.numel() for p in YOLO(asked["pt"]).model.parameters())}
    answer |= {kind: predicts(asked[kind], asked["task"], asked["imgsz"]) for kind in ("pt", "onnx")}
    answer["training"] = trains(asked["pt"], asked["data"])
    print("ANSWER" + json.dumps(answer), flush=True)
"""


def make(names: Sequence[str], folder: Path) -> None:
    """Write a checkpoint of each network with new weights, in a process of its own."""
    subprocess.run([sys.executable, "-c", MAKE, str(folder), *names], check=True, stdout=subprocess.DEVNULL)


def slim(name: str, folder: Path, *, counted_at: int, imgsz: int) -> dict[str, Any]:
    """Prune and export a network whose checkpoint lies in a folder, and return what that gave.

    Args:
        name: the network.
        folder: where its checkpoint lies, and where its own folder is made.
        counted_at: side of the input that MACs are counted at, in pixels.
        imgsz: side of the input that it is exported at, in pixels.
    """
    weights, out = folder / f"{name}.pt", folder / name
    out.mkdir()
    pruned = prune(weights, PruneConfig(channels=0.5, imgsz=counted_at), out / "pruned")
    bundle = export(pruned, load_target("cpu"), ExportConfig(imgsz=(imgsz, imgsz), check_images=2), out / "bundle")
    manifest, results = read_json(bundle / "manifest.json", what="manifest"), read_run(pruned.parent)["results"]
    return {
        "network": name,
        "task": manifest["model"]["task"],
        "groups": results["groups"],
        "parameters": results["parameters"],
        "macs": results["macs"],
        "macs_at": counted_at,
        "outputs": {manifest[kind]["name"]: manifest[kind]["shape"] for kind in manifest if kind in OUTPUTS},
        "check": manifest["check"],
        "pt": str(pruned),
        "onnx": str(bundle / manifest["model"]["file"]),
    }


OUTPUTS = ("output", "prototypes")


def open_with_stock(rows: Sequence[dict[str, Any]], folder: Path, imgsz: int) -> list[dict[str, Any]]:
    """Open, predict with and try to train every pruned file where slimdeploy cannot be imported."""
    data = {task: _data(task, folder / "data" / task) for task in {row["task"] for row in rows}}
    asked = [{k: row[k] for k in ("pt", "onnx", "task")} | {"imgsz": imgsz, "data": data[row["task"]]} for row in rows]
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-I", "-c", STOCK], input="\n".join(map(json.dumps, asked)), cwd=folder, env=variables,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    return [json.loads(line.removeprefix("ANSWER")) for line in done.stdout.splitlines() if line.startswith("ANSWER")]


def _data(task: str, folder: Path) -> str:
    """Write the smallest data set that ultralytics takes for a task: two grey images, without labels."""
    import cv2
    import numpy as np

    places = ("train/0", "train/1", "val/0", "val/1") if task == "classify" else ("images/train", "images/val")
    for place in places:
        (folder / place).mkdir(parents=True)
        cv2.imwrite(str(folder / place / "0.png"), np.full((64, 64, 3), 114, dtype=np.uint8))
    if task == "classify":
        return str(folder)
    more = "kpt_shape: [17, 3]\n" if task == "pose" else ""
    text = f"path: {folder}\ntrain: images/train\nval: images/val\nnames: {{0: thing}}\n{more}"
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return str(folder / "data.yaml")


def wrong(row: dict[str, Any], stock: dict[str, Any]) -> list[str]:
    """Return a sentence for everything that did not go as promised."""
    (dense, pruned), (dense_macs, pruned_macs) = row["parameters"], row["macs"]
    faults = {
        "it is not smaller": pruned < 0.5 * dense and pruned_macs < 0.5 * dense_macs,
        "ultralytics counts other parameters": stock["parameters"] == pruned,
        "ultralytics does not predict with the checkpoint": stock["pt"],
        "ultralytics does not predict with the ONNX file": stock["onnx"],
        f"stock training does not refuse it: {stock['training']}": "slimdeploy finetune" in stock["training"],
    }
    return [fault for fault, holds in faults.items() if not holds]


def walk(names: Sequence[str], imgsz: int) -> list[dict[str, Any]]:
    """Take networks through every step and return a row for each."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(names, folder)
        rows = [
            slim(name, folder, counted_at=CLASSIFY_AT if name.endswith("-cls") else COUNTED_AT, imgsz=imgsz)
            for name in names
        ]
        answers = open_with_stock(rows, folder, imgsz)
    for row, answer in zip(rows, answers, strict=True):
        row["wrong"] = wrong(row, answer)
        del row["pt"], row["onnx"]
    return rows


def keep(rows: Sequence[dict[str, Any]], imgsz: int) -> None:
    """Put rows into today's result, beside those of other networks that the newest one holds already."""
    path, held = result_path(NAME), []
    with contextlib.suppress(FileNotFoundError):
        held = read_json(latest(NAME), what="result")["rows"]
    merged = {row["network"]: row for row in [*held, *rows]}
    record = {
        "schema": 1,
        "benchmark": NAME,
        "exported_at": imgsz,
        "rows": [merged[name] for name in NETWORKS if name in merged],
        "environment": environment(),
    }
    write_json(path, record)


def main() -> int:
    """Take every network through every step, print a line for each, and keep the result where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, help="such as yolov8n-seg; all without it")
    parser.add_argument("--imgsz", type=int, default=128, help="side of the input that is exported, in pixels")
    parser.add_argument("--save", action="store_true", help="keep the rows under benchmarks/results/, after every few")
    options = parser.parse_args()
    faults = 0
    for start in range(0, len(options.networks), AT_ONCE):
        rows = walk(options.networks[start : start + AT_ONCE], options.imgsz)
        for row in rows:
            (p0, p1), (m0, m1) = row["parameters"], row["macs"]
            print(
                f"{row['network']}: {p0 / 1e6:.2f} to {p1 / 1e6:.2f} M parameters, {m0 / 1e9:.2f} to {m1 / 1e9:.2f} "
                f"GMACs at {row['macs_at']}, {'; '.join(row['wrong']) or 'passes'}",
                flush=True,
            )
        faults += sum(bool(row["wrong"]) for row in rows)
        if options.save:
            keep(rows, options.imgsz)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
