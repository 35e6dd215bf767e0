"""The board's agent on an ordinary CPU: start to first detection, frames a second at 720p, memory, decoding.

    python benchmarks/agent.py BUNDLE --images FOLDER --save

BUNDLE is an export of a YOLOv8n at 640 for the target cpu; of the photographs in FOLDER a 720p video is made. The agent
and `YOLO("model.onnx").predict(stream=True)` run on the same file in turns, each in a new process; the bare session is
timed in another, on one input. Bars: first detection within 2 s; at least 0.95 of the bare session's rate, and ahead of
ultralytics in start-up, memory and frames a second at the same boxes; 250 MB; decoding an 8400-anchor, 10-class output
with 300 boxes kept within 3 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from _results import result_path

from slimdeploy.bench.environment import environment
from slimdeploy.board.decode import decode
from slimdeploy.lineage import write_json

NAME = "agent"
ROUNDS = 3
BARS = {"first_s": 2.0, "of_bare": 0.95, "memory_mib": 250.0, "decode_ms": 3.0}
BARE = """
import sys, time, json
import numpy as np
from pathlib import Path
from slimdeploy.board.bundle import read_bundle
from slimdeploy.board.onnxruntime_session import open_model
bundle = read_bundle(Path(sys.argv[1]))
session = open_model(bundle)
images = np.random.default_rng(0).random((1, 3, *bundle.imgsz), dtype=np.float32)
for _ in range(5): session.run(images)
begun = time.perf_counter()
for _ in range(int(sys.argv[2])): session.run(images)
print(json.dumps({"frames_per_s": int(sys.argv[2]) / (time.perf_counter() - begun)}))
"""
STOCK = """
import sys, time, json, resource
from ultralytics import YOLO
model, boxes, begun, count = YOLO(sys.argv[1], task="detect"), [], 0.0, 0
for result in model.predict(sys.argv[2], stream=True, imgsz=640, conf=0.25, iou=0.7, verbose=False, device="cpu"):
    boxes.append(result.boxes.xyxy.numpy().tolist())
    count += 1
    begun = begun or time.perf_counter()
    if count == 1: print("first", flush=True)
rate = (count - 1) / (time.perf_counter() - begun)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"frames_per_s": rate, "memory_mib": peak, "boxes": boxes}))
"""
AGENT = """
import sys, resource, runpy, os
sys.argv = sys.argv[1:]
try: runpy.run_path(sys.argv[0], run_name="__main__")
finally: sys.stderr.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
"""


def write_video(images: Path, path: Path, frames: int) -> None:
    """Write photographs as a 720p video, each a few frames long."""
    photographs = sorted(images.glob("*.jpg"))[: max(1, frames // 5)]
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (1280, 720))
    for i in range(frames):
        video.write(cv2.resize(cv2.imread(str(photographs[i * len(photographs) // frames])), (1280, 720)))
    video.release()


def timed(argv: list[str]) -> dict[str, Any]:
    """Run a process; return the seconds to its first line, its last line as JSON, all lines, and its stderr."""
    started_s = time.perf_counter()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        first_s = time.perf_counter() - started_s
        out, err = process.communicate()
    lines = [first, *out.splitlines()]
    return {"first_s": first_s, "told": json.loads(lines[-1]), "lines": lines[:-1], "err": err.strip()}


def agent(bundle: Path, video: Path) -> dict[str, Any]:
    """Run the agent on the video."""
    argv = [
        sys.executable,
        "-c",
        AGENT,
        str(bundle / "agent.pyz"),
        "run",
        str(video),
        "--bundle",
        str(bundle),
        "--json",
    ]
    ended = timed(argv)
    boxes = [[box["xyxy"] for box in json.loads(line)["boxes"]] for line in ended["lines"]]
    memory_mib = float(ended["err"].splitlines()[-1])
    rate = ended["told"]["frames_per_s"]
    return {"first_s": ended["first_s"], "frames_per_s": rate, "memory_mib": memory_mib, "boxes": boxes}


def stock(model: Path, video: Path) -> dict[str, Any]:
    """Run ultralytics on the video."""
    ended = timed([sys.executable, "-c", STOCK, str(model), str(video)])
    return {"first_s": ended["first_s"], **ended["told"]}


def largest_difference(first: list[Any], second: list[Any]) -> float:
    """Return the largest move of a corner, in pixels; infinite where another number of boxes was found."""
    worst = 0.0
    for ours, theirs in zip(first, second, strict=True):
        if len(ours) != len(theirs):
            return float("inf")
        if ours:
            worst = max(worst, float(np.abs(np.array(ours) - np.array(theirs)).max()))
    return worst


def decode_ms() -> list[float]:
    """Return milliseconds of decoding an output of 8400 anchors and 10 classes with 300 boxes kept, 100 times."""
    rng = np.random.default_rng(0)
    head = np.zeros((14, 8400), dtype=np.float32)
    head[:2], head[2:4] = rng.uniform(0, 640, (2, 8400)), rng.uniform(8, 30, (2, 8400))
    chosen = rng.choice(8400, 420, replace=False)
    head[4 + rng.integers(0, 10, 420), chosen] = rng.uniform(0.3, 0.9, 420)
    taken = []
    for _ in range(100):
        started_s = time.perf_counter()
        kept = decode(head, conf=0.25, iou=0.7, max_det=300, multi_label=False)
        taken.append(1000 * (time.perf_counter() - started_s))
    assert len(kept.scores) == 300
    return taken


def main() -> None:
    """Measure, print each figure beside its bar, and write the result where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    given = parser.parse_args()
    model = next(given.bundle.glob("*.onnx"))
    rounds: dict[str, list[dict[str, Any]]] = {"agent": [], "bare": [], "ultralytics": []}
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        write_video(given.images, video, given.frames)
        for _ in range(ROUNDS):
            rounds["bare"].append(bare(given.bundle))
            rounds["agent"].append(agent(given.bundle, video))
            rounds["ultralytics"].append(stock(model, video))
    difference_px = largest_difference(rounds["agent"][0].pop("boxes"), rounds["ultralytics"][0].pop("boxes"))
    for one in (*rounds["agent"][1:], *rounds["ultralytics"][1:]):
        one.pop("boxes")
    taken_ms = decode_ms()
    show(rounds, difference_px, statistics.median(taken_ms))
    if given.save:
        record = {
            "schema": 1, "benchmark": NAME, "bars": BARS, "frames": given.frames, "rounds": rounds,
            "largest_difference_px": difference_px, "decode_ms": taken_ms, "environment": environment(),
        }  # fmt: skip
        write_json(result_path(NAME), record)


def bare(bundle: Path) -> dict[str, Any]:
    """Time the session alone, in a process of its own."""
    out = subprocess.run([sys.executable, "-c", BARE, str(bundle), "60"], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def show(rounds: dict[str, list[dict[str, Any]]], difference_px: float, decoded_ms: float) -> None:
    """Print the medians beside the bars."""
    middle = {
        who: {name: statistics.median(one[name] for one in each) for name in each[0]} for who, each in rounds.items()
    }
    ours, theirs = middle["agent"], middle["ultralytics"]
    shares = [a["frames_per_s"] / b["frames_per_s"] for a, b in zip(rounds["agent"], rounds["bare"], strict=True)]
    print(f"first detection: {ours['first_s']:.2f} s (bar 2), ultralytics {theirs['first_s']:.2f} s")
    print(f"frames a second: {ours['frames_per_s']:.2f}, ultralytics {theirs['frames_per_s']:.2f}")
    print(f"of the bare session's rate: {statistics.median(shares):.3f} (bar 0.95)")
    print(f"memory: {ours['memory_mib']:.0f} MiB (bar 250), ultralytics {theirs['memory_mib']:.0f} MiB")
    print(f"largest difference of a box: {difference_px:.3f} px; decoding: {decoded_ms:.2f} ms (bar 3)")


if __name__ == "__main__":
    main()
