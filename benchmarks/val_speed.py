"""How long scoring an ONNX takes, whole command, beside `yolo val` on the same file.

    SLIMDEPLOY_DATA=/path/to/data python benchmarks/val_speed.py model.fp32.onnx --save

Bar: 1.5 times as fast as `yolo val` on the 590 images of aerial_cars. Commands take turns, so that drift of the machine
hits all alike. `yolo val` is run as it comes, and once more without its plots, which slimdeploy does not draw here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from _results import result_path

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.bench.environment import environment
from slimdeploy.lineage import write_json

NAME = "val_speed"
BAR = 1.5
REPEATS = 3
SLIMDEPLOY = "from slimdeploy.cli import main; main()"
YOLO = "from ultralytics.cfg import entrypoint; entrypoint()"


def commands(model: Path, data: Path, folder: Path) -> dict[str, list[str]]:
    """Return what is timed, by its name."""
    slimdeploy = [sys.executable, "-c", SLIMDEPLOY, "val", str(model), "--data", str(data), "--json"]
    side = read_artifact(model).spec.imgsz[0]
    yolo = [sys.executable, "-c", YOLO, "val", f"model={model}", f"data={data}", f"imgsz={side}", "device=cpu"]
    yolo += [f"project={folder}"]
    return {"slimdeploy val": slimdeploy, "yolo val": yolo, "yolo val plots=False": [*yolo, "plots=False"]}


def run(command: list[str], folder: Path) -> tuple[float, str]:
    """Return how long a command took, in seconds, and what it printed."""
    started = time.perf_counter()
    ended = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if ended.returncode != 0:
        sys.exit(f"{' '.join(command[3:])} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    return seconds, ended.stdout


def main() -> None:
    """Time the commands in turns, print the ratios beside the bar, and write the result where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="an ONNX of a detector of vehicles, such as aerial_cars.py makes")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    options = parser.parse_args()
    data = Path(os.environ["SLIMDEPLOY_DATA"]) / "aerial_cars" / "data.yaml"
    samples_s: dict[str, list[float]] = {}
    known = environment()
    with tempfile.TemporaryDirectory() as folder:
        timed = commands(options.model.resolve(), data.resolve(), Path(folder))
        for _ in range(options.repeats):
            for name, command in timed.items():
                seconds, said = run(command, Path(folder))
                samples_s.setdefault(name, []).append(seconds)
                if name == "slimdeploy val":
                    row = json.loads(said)["rows"][0]
    p50_s = {name: median(samples) for name, samples in samples_s.items()}
    ratios = {name: p50_s[name] / p50_s["slimdeploy val"] for name in p50_s}
    print(f"{row['accuracy']['images']} images, mAP50-95 {row['accuracy']['map50_95']:.3f}")
    for name, seconds in p50_s.items():
        print(f"{name}: median {seconds:.2f} s of {options.repeats}, {ratios[name]:.2f} times slimdeploy's")
    print(f"bar {BAR} times against yolo val: {'met' if ratios['yolo val'] >= BAR else 'NOT met'}")
    if options.save:
        record = {
            "schema": 1,
            "benchmark": NAME,
            "model": {key: row[key] for key in ("file", "parameters", "macs", "precision")},
            "images": row["accuracy"]["images"],
            "bar": BAR,
            "median_s": p50_s,
            "times_as_slimdeploy": ratios,
            "samples_s": samples_s,
            "environment": known,
        }
        write_json(result_path(NAME), record)


if __name__ == "__main__":
    main()
