"""Images a second while training on a CPU: ultralytics' stock trainer against slimdeploy's, at the same losses.

    SLIMDEPLOY_DATA=... python benchmarks/training_throughput.py --save

Both train a YOLOv8n at 320 px from the same new weights, each in processes of its own, in turns. Both also take a few
plain steps on one fixed batch, whose losses must agree: faster must not mean other.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NAME = "training_throughput"
BAR = 1.9
IMGSZ, BATCH, STEPS = 320, 16, 5
LOSS_TOLERANCE = 1e-3  # of the loss: another order of sums, and nothing more
CHILD = "--child"


class Enough(Exception):
    """Raised in a training that has been timed for long enough."""


def child(kind: str, data: Path, batches: int, folder: Path) -> dict[str, Any]:
    """Train for some batches in this process, and return seconds a batch and the losses of the fixed steps."""
    trainer = stock(data, folder) if kind == "stock" else ours(data, folder)
    ends: list[float] = []
    losses: list[float] = []

    def on_batch_end(_: Any) -> None:
        ends.append(time.perf_counter())
        if len(ends) > batches:
            raise Enough

    trainer.add_callback("on_train_start", lambda trainer: losses.extend(fixed_steps(trainer)))
    trainer.add_callback("on_train_batch_end", on_batch_end)
    try:
        trainer.train()
    except Enough:
        import torch

        seconds = [later - earlier for earlier, later in itertools.pairwise(ends)]
        return {"batch_s": seconds, "losses": losses, "threads": torch.get_num_threads()}
    raise RuntimeError("the training ended before it was timed")


def stock(data: Path, folder: Path) -> Any:
    """Return ultralytics' own trainer, as it trains where slimdeploy is not installed."""
    import torch
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    trainer = DetectionTrainer(overrides=settings(data, folder))
    trainer.model = DetectionModel("yolov8n.yaml", nc=1, verbose=False)
    return trainer


def ours(data: Path, folder: Path) -> Any:
    """Return slimdeploy's trainer as its stages set it up."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    from slimdeploy.configs import DenseConfig
    from slimdeploy.yolo import process, progress, training
    from slimdeploy.yolo.trainers import KeepingTrainer

    process.keep_freed_memory()
    torch.manual_seed(0)
    config = DenseConfig(epochs=2, imgsz=IMGSZ, batch=BATCH, device="cpu", close_mosaic=0)
    progress.write_setup(folder, training.first_setup(config, None))
    trainer = KeepingTrainer(overrides=settings(data, folder))
    trainer.model = DetectionModel("yolov8n.yaml", nc=1, verbose=False)
    return trainer


def settings(data: Path, folder: Path) -> dict[str, Any]:
    """Return the settings of both: ultralytics' defaults but for what makes the run short."""
    return {
        "task": "detect", "model": "yolov8n.yaml", "data": str(data), "epochs": 2, "imgsz": IMGSZ, "batch": BATCH,
        "nbs": BATCH, "device": "cpu", "optimizer": "AdamW", "lr0": 0.002, "close_mosaic": 0, "plots": False,
        "verbose": False, "pretrained": False, "project": str(folder), "name": "run", "exist_ok": True, "seed": 0,
    }  # fmt: skip


def fixed_steps(trainer: Any) -> list[float]:
    """Return the losses of some plain steps on one batch without augmentation, with a copy of the network."""
    import torch

    torch.manual_seed(0)
    network = copy.deepcopy(trainer.model).train()
    batch = trainer.preprocess_batch(next(iter(trainer.test_loader)))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)
    losses = []
    for _ in range(STEPS):
        loss, _items = network(batch)
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.sum().detach()))
    return losses


def run_child(kind: str, data: Path, batches: int) -> dict[str, Any]:
    """Run one of the two in a fresh process, whose environment says nothing of threads."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, __file__, CHILD, kind, str(data), str(batches), folder]
        done = subprocess.run(argv, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    return found


def rate(runs: list[dict[str, Any]]) -> float:
    """Return images a second, by the median batch over all runs."""
    return BATCH / statistics.median(second for run in runs for second in run["batch_s"])


def main() -> None:
    """Time both in turns."""
    if CHILD in sys.argv:
        kind, data, batches, folder = sys.argv[2:6]
        print(json.dumps(child(kind, Path(data), int(batches), Path(folder))))
        return
    from _results import result_path

    from slimdeploy.bench.environment import environment
    from slimdeploy.lineage import versions, write_json

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of both")
    parser.add_argument("--batches", type=int, default=12, help="timed batches a turn")
    parser.add_argument("--save", action="store_true", help="write the result to benchmarks/results/")
    options = parser.parse_args()
    data = Path(os.environ["SLIMDEPLOY_DATA"]) / "aerial_cars" / "data.yaml"
    runs: dict[str, list[dict[str, Any]]] = {"stock": [], "ours": []}
    for _ in range(options.rounds):
        for kind, found in runs.items():
            found.append(run_child(kind, data, options.batches))
    rates = {kind: rate(found) for kind, found in runs.items()}
    ratios = sorted(rate([ours]) / rate([stock]) for stock, ours in zip(runs["stock"], runs["ours"], strict=True))
    apart = max(abs(a - b) / b for a, b in zip(runs["ours"][0]["losses"], runs["stock"][0]["losses"], strict=True))
    print(
        f"stock {rates['stock']:.1f}, slimdeploy {rates['ours']:.1f} images a second: {statistics.median(ratios):.2f} "
        f"times [{ratios[0]:.2f}, {ratios[-1]:.2f}] over {options.rounds} turns (bar: {BAR})"
    )
    print(f"losses of the same {STEPS} steps differ by at most {apart:.2g} of their value (bar: {LOSS_TOLERANCE:g})")
    if options.save:
        path = result_path(NAME)
        write_json(path, {
            "schema": 1, "benchmark": NAME, "environment": environment(), "versions": versions(), "bar": BAR,
            "what": f"YOLOv8n at {IMGSZ} px, batch {BATCH}, AdamW, aerial_cars; first batch of each run left out",
            "images_per_s": rates, "ratio": statistics.median(ratios), "ratios": ratios,
            "largest_loss_difference": apart, "loss_bar": LOSS_TOLERANCE, "runs": runs,
        })  # fmt: skip
        print(path)


if __name__ == "__main__":
    main()
