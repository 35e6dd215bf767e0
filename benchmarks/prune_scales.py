"""What `slimdeploy prune --channels 0.5` takes and gives, for stock YOLOv8 n, s, m, l and x.

    python benchmarks/prune_scales.py --save

Bar: YOLOv8x within 20 s and 4 GB. Each is a whole process, imports, reading and writing included.
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
from typing import Any

from _results import result_path

from slimdeploy.bench.environment import environment
from slimdeploy.lineage import write_json

NAME = "prune_scales"
SCALES = ("n", "s", "m", "l", "x")
BAR_S, BAR_GB = 20.0, 4.0
CLASSES = 80

MAKE = """
import sys
from pathlib import Path
from slimdeploy.yolo import checkpoint, training
module = training.new_network(sys.argv[1], tuple(f"class {i}" for i in range(int(sys.argv[2]))), seed=0)
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


def measure(scale: str, folder: Path) -> dict[str, Any]:
    """Prune one network of the scale in a process of its own, and return what that took and gave."""
    weights, out = folder / f"{scale}.pt", folder / f"{scale}-pruned"
    subprocess.run([sys.executable, "-c", MAKE, f"yolov8{scale}.yaml", str(CLASSES), str(weights)], check=True)
    argv = [sys.executable, "-c", PRUNE, "prune", str(weights), "--channels", "0.5", "--json", "--out", str(out)]
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
    save = parser.parse_args().save
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for scale in SCALES:
            rows.append(row := measure(scale, Path(folder)))
            (p0, p1), (m0, m1) = row["parameters"], row["macs_at_640"]
            print(
                f"{row['network']}: {row['seconds']:.1f} s ({row['cpu_s']:.1f} s of CPU), "
                f"{row['peak_memory_mib']:.0f} MiB, {row['groups']} groups, "
                f"{p0 / 1e6:.2f} to {p1 / 1e6:.2f} M parameters, {m0 / 1e9:.2f} to {m1 / 1e9:.2f} GMACs"
            )
    largest = rows[-1]
    met = largest["seconds"] <= BAR_S and largest["peak_memory_mib"] * 2**20 <= BAR_GB * 1e9
    print(f"bar for {largest['network']}, {BAR_S:.0f} s and {BAR_GB:.0f} GB: {'met' if met else 'NOT met'}")
    if save:
        record = {
            "schema": 1,
            "benchmark": NAME,
            "command": "slimdeploy prune WEIGHTS --channels 0.5",
            "bar_s": BAR_S,
            "bar_gb": BAR_GB,
            "rows": rows,
            "environment": environment(),
        }
        write_json(result_path(NAME), record)


if __name__ == "__main__":
    main()
