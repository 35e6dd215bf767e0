"""What `slimdeploy prune --channels 0.5` takes and gives, for stock YOLOv8 n, s, m, l and x.

    python benchmarks/prune_scales.py --save
    python benchmarks/prune_scales.py --speedup --save
    python benchmarks/prune_scales.py --data aerial_cars/data.yaml --save

Bar: YOLOv8x within 20 s and 4 GB. Each is a whole process, imports, reading and writing included. With `--speedup` the
same of `prune --speedup 1.2 --target orin-nx-16gb`, planned by the model of that board, with sensitivities measured on
rendered scenes; bar: YOLOv8x within 60 s and 6 GB. With `--data` that is done on its images, channels ranked and
weights fitted on them; there is no bar for that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _results import result_path

from slimdeploy.bench.environment import environment
from slimdeploy.data.dataset import read_dataset
from slimdeploy.lineage import write_json

SCALES = ("n", "s", "m", "l", "x")
BY_SHARE = ("prune_scales", ("--channels", "0.5"), 20.0, 4.0)  # name, budget, seconds and GB of the bar
BY_SPEED = ("plan_scales", ("--speedup", "1.2", "--target", "orin-nx-16gb"), 60.0, 6.0)
FITTED = ("fit_scales", BY_SPEED[1], float("inf"), float("inf"))
CLASSES = [f"class {number}" for number in range(80)]

MAKE = """
import json
import sys
from pathlib import Path
from slimdeploy.yolo import checkpoint, training
module = training.new_network(sys.argv[1], tuple(json.loads(sys.argv[2])), seed=0)
checkpoint.save(module, Path(sys.argv[3]), origin={})
"""

PRUNE = """
import sys
from slimdeploy.bench.environment import peak_memory_mib
from slimdeploy.cli import main
try:
    main()
finally:
    sys.stderr.write(f"peak_memory_mib {peak_memory_mib()}")
"""


def measure(scale: str, folder: Path, budget: tuple[str, ...], classes: Sequence[str]) -> dict[str, Any]:
    """Prune one network of the scale in a process of its own, and return what that took and gave."""
    weights, out = folder / f"{scale}.pt", folder / f"{scale}-pruned"
    made = [sys.executable, "-c", MAKE, f"yolov8{scale}.yaml", json.dumps(classes), str(weights)]
    subprocess.run(made, check=True)
    argv = [sys.executable, "-c", PRUNE, "prune", str(weights), *budget, "--json", "--out", str(out)]
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    taken_s, after = time.perf_counter() - started, os.times()
    shown = json.loads(done.stdout)
    return {
        "network": f"yolov8{scale}",
        "seconds": round(taken_s, 2),
        "cpu_s": round(after.children_user + after.children_system - before.children_user - before.children_system, 2),
        "peak_memory_mib": round(float(done.stderr.rpartition("peak_memory_mib ")[2]), 1),
        "groups": shown["groups"],
        "reached": shown["reached"],
        "parameters": shown["parameters"],
        "macs_at_640": shown["macs"],
        "size_bytes": [weights.stat().st_size, Path(shown["weights"]).stat().st_size],
    }


def main() -> None:
    """Measure every scale, print a line for each, and write the result where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    parser.add_argument("--speedup", action="store_true", help="plan to a latency by the model of a board")
    parser.add_argument("--data", type=Path, help="likewise, and fit the weights that stay on this data set's images")
    parser.add_argument("--scales", nargs="+", choices=SCALES, default=list(SCALES))
    asked = parser.parse_args()
    name, budget, bar_s, bar_gb = FITTED if asked.data else BY_SPEED if asked.speedup else BY_SHARE
    classes = list(read_dataset(asked.data).classes) if asked.data else CLASSES
    given = (*budget, "--data", str(asked.data)) if asked.data else budget
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for scale in asked.scales:
            rows.append(row := measure(scale, Path(folder), given, classes))
            (p0, p1), (m0, m1) = row["parameters"], row["macs_at_640"]
            print(
                f"{row['network']}: {row['seconds']:.1f} s ({row['cpu_s']:.1f} s of CPU), "
                f"{row['peak_memory_mib']:.0f} MiB, {row['groups']} groups, "
                f"{p0 / 1e6:.2f} to {p1 / 1e6:.2f} M parameters, {m0 / 1e9:.2f} to {m1 / 1e9:.2f} GMACs"
            )
    largest = rows[-1]
    met = largest["seconds"] <= bar_s and largest["peak_memory_mib"] * 2**20 <= bar_gb * 1e9
    if not asked.data:
        print(f"bar for {largest['network']}, {bar_s:.0f} s and {bar_gb:.0f} GB: {'met' if met else 'NOT met'}")
    if asked.save:
        record = {
            "schema": 1,
            "benchmark": name,
            "command": f"slimdeploy prune WEIGHTS {' '.join(budget)}",
            "data": asked.data.parent.name if asked.data else None,
            "bar_s": None if asked.data else bar_s,
            "bar_gb": None if asked.data else bar_gb,
            "rows": rows,
            "environment": environment(),
        }
        write_json(result_path(name), record)


if __name__ == "__main__":
    main()
