"""How well the latency table foretells the latency of 20 randomly pruned YOLOv8n.

    python benchmarks/latency_prediction.py --folder runs/prediction --save
    python benchmarks/latency_prediction.py --folder runs/prediction --table table.json --networks 6 --samples 60

Without `--table`, `slimdeploy latency --target cpu --imgsz 640` makes it first, and the seconds of that whole process
are kept. Each network keeps a random width in every group, and is exported and timed as `slimdeploy bench` does.
Building them takes most of the time and needs no quiet: `--build` does it alone, for a table of the same input size,
and a second run only measures what was built.

Bars: every network within 10 % of what was measured; the table within 10 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from _results import result_path

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.bench import stats
from slimdeploy.bench.environment import environment
from slimdeploy.bench.measure import measure
from slimdeploy.channels import Coupling
from slimdeploy.configs import BenchConfig
from slimdeploy.latency.table import LatencyTable, read_table
from slimdeploy.lineage import write_json
from slimdeploy.records import Artifact, as_json
from slimdeploy.stages._built import build, coupling_of, cut_copy
from slimdeploy.stages.latency import CLASSES
from slimdeploy.stages.planner import forecast_ms
from slimdeploy.stages.widths import Widths, random_widths, units_of
from slimdeploy.targets import load_target
from slimdeploy.yolo import training

NAME = "latency_prediction"
BAR = 0.10
TABLE_BAR_S = 600.0
LATENCY = [sys.executable, "-c", "from slimdeploy.cli import main; main()", "latency", "--target", "cpu"]
FIRST_SEED = 1000  # far from the seeds of the whole networks that a table is fitted with
TOGETHER = 7  # networks measured in one go, each in a process of its own

Built = tuple[str, Widths, Artifact, Coupling]


def tabled(path: Path, imgsz: int) -> float:
    """Make the table of YOLOv8n as a user does; return the seconds of the whole process."""
    began = time.perf_counter()
    subprocess.run([*LATENCY, "--imgsz", str(imgsz), "--out", str(path)], check=True)
    seconds = time.perf_counter() - began
    met = "met" if seconds <= TABLE_BAR_S else "NOT met"
    print(f"table made in {seconds:.0f} s (bar {TABLE_BAR_S:.0f} s: {met})")
    return seconds


def built(table: LatencyTable, count: int, folder: Path) -> list[Built]:
    """Return randomly pruned networks, exported into `folder` unless they lie there already."""
    target = load_target(table.target)
    module = training.new_network("yolov8n.yaml", CLASSES, seed=0)
    coupling = coupling_of(module, table.imgsz[0])
    table.require_fits(coupling)
    made = []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        widths = random_widths(units_of(coupling.groups, table.alignment), seed)
        name = f"random{seed}"
        path = folder / name / f"model.{table.precision}.onnx"
        if not path.exists():
            cut = cut_copy(module, coupling, {group: range(width) for group, width in widths.items()})
            build(cut, name, folder, target=target, imgsz=table.imgsz[0], precision=table.precision)
        made.append((name, widths, read_artifact(path), coupling))
    return made


def rows_of(table: LatencyTable, networks: list[Built], samples: int) -> list[dict[str, Any]]:
    """Measure the networks and put the table's figure beside each."""
    config = BenchConfig(samples=samples, rounds=6, threads=table.threads)
    rows = []
    for start in range(0, len(networks), TOGETHER):
        part = networks[start : start + TOGETHER]
        timed = measure([(name, artifact) for name, _, artifact, _ in part], config, backend=table.backend)
        for (name, widths, artifact, coupling), one in zip(part, timed, strict=True):
            measured_ms = 1e3 * median(one.samples_s)
            predicted_ms = forecast_ms(coupling, widths, table)
            rows.append(
                {"network": name, "macs": artifact.macs, "measured_ms": measured_ms, "predicted_ms": predicted_ms,
                 "error": predicted_ms / measured_ms - 1, "spread": stats.spread(one.samples_s),
                 "measurement": as_json(one)}
            )  # fmt: skip
    return rows


def main() -> None:
    """Build, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, help="what slimdeploy latency wrote; without it, it is made and timed")
    parser.add_argument("--imgsz", type=int, default=640, help="of a table that is made")
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--samples", type=int, default=60, help="timed calls of each network")
    parser.add_argument("--folder", type=Path, default=Path("latency_prediction"), help="where networks are built")
    parser.add_argument("--build", action="store_true", help="build the networks and stop")
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    seconds = None if asked.table else tabled(asked.folder / "table.json", asked.imgsz)
    table = read_table(asked.table or asked.folder / "table.json")
    networks = built(table, asked.networks, asked.folder)
    if asked.build:
        return
    rows = rows_of(table, networks, asked.samples)
    for row in rows:
        print("{network}: measured {measured_ms:6.2f} ms, predicted {predicted_ms:6.2f} ms, {error:+.1%}, "
              "calls vary by {spread:.0%}".format(**row))  # fmt: skip
    errors = sorted(abs(row["error"]) for row in rows)
    within = sum(error <= BAR for error in errors)
    print(f"error {median(errors):.1%} in the middle, {errors[-1]:.1%} at most")
    print(
        f"bar, every network within {BAR:.0%}: {within} of {len(rows)}, {'met' if within == len(rows) else 'NOT met'}"
    )
    if asked.save:
        shapes = sum(map(len, table.layers.values()))
        known = {"shapes": shapes, "noise": table.noise, "fit": table.fit, "imgsz": table.imgsz, "seconds": seconds}
        record = {"schema": 1, "benchmark": NAME, "bar": BAR, "rows": rows, "environment": environment()}
        record["table"] = known
        write_json(result_path(NAME), record)


if __name__ == "__main__":
    main()
