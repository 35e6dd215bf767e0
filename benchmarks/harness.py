"""Does the harness tell what a bare loop around the same session tells, and the same again when it is asked again?

    python benchmarks/harness.py model.fp32.onnx --save

Bars: its p50 lies within 2 % of the bare loop's, and two of its measurements of one artifact within 3 % of each other,
or the harness warned. The bare loop is what onnxruntime_perf_test does: a process of its own, the session with the same
options, one call after the other, and nothing of slimdeploy. Both take turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from _results import result_path

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.bench.environment import environment
from slimdeploy.bench.measure import measure
from slimdeploy.bench.stats import summary
from slimdeploy.configs import BenchConfig
from slimdeploy.lineage import write_json

NAME = "harness"
BARE_BAR = 0.02
AGAIN_BAR = 0.03
REPEATS = 6
SAMPLES = 150
WARM_UP = 60
BARE = """
import json, sys, time
import numpy, onnxruntime
path, threads, warm_up, samples = sys.argv[1], *map(int, sys.argv[2:])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
options.add_session_config_entry("session.force_spinning_stop", "1")
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
given = session.get_inputs()[0]
chance = numpy.random.default_rng(0)
feeds = [{given.name: chance.random(given.shape, dtype=numpy.float32)} for _ in range(4)]
for i in range(warm_up):
    session.run(None, feeds[i % 4])
taken = []
for i in range(samples):
    started = time.perf_counter()
    session.run(None, feeds[i % 4])
    taken.append(time.perf_counter() - started)
print(json.dumps(taken))
"""


def bare_s(model: Path, threads: int) -> list[float]:
    """Return seconds a call of the bare loop."""
    command = [sys.executable, "-c", BARE, str(model), str(threads), str(WARM_UP), str(SAMPLES)]
    taken: list[float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return taken


def main() -> None:
    """Measure in turns, print the differences beside the bars, and write the result where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="an ONNX")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    options = parser.parse_args()
    known, artifact = environment(), read_artifact(options.model)
    config = BenchConfig(samples=SAMPLES, threads=known["cores_usable"], warmup_limit_s=5.0)
    turns: list[dict[str, Any]] = []
    for _ in range(options.repeats):
        bare = bare_s(options.model, config.threads)
        (ours,) = measure([("model", artifact)], config)
        turns.append({"bare_s": bare, "harness_s": ours.samples_s, "p50_bare_s": median(bare),
                      "p50_harness_s": summary(ours).p50_s, "warnings": ours.warnings})  # fmt: skip
    off = median(turn["p50_harness_s"] / turn["p50_bare_s"] for turn in turns) - 1
    again = [
        {
            "difference": abs(two["p50_harness_s"] / one["p50_harness_s"] - 1),
            "warned": bool(one["warnings"] or two["warnings"]),
        }
        for one, two in itertools.pairwise(turns)
    ]
    silent = [pair["difference"] for pair in again if not pair["warned"]]
    worst = max(pair["difference"] for pair in again)
    print(f"harness against the bare loop: {off:+.2%} in the median of {len(turns)} turns; bar {BARE_BAR:.0%}: "
          f"{'met' if abs(off) <= BARE_BAR else 'NOT met'}")  # fmt: skip
    print(f"again: at most {worst:.2%} apart; {len(silent)} of {len(again)} pairs without a warning, at most "
          f"{max(silent, default=0):.2%} apart; bar {AGAIN_BAR:.0%} or a warning: "
          f"{'met' if max(silent, default=0) <= AGAIN_BAR else 'NOT met'}")  # fmt: skip
    if options.save:
        record = {
            "schema": 1, "benchmark": NAME, "bars": {"bare": BARE_BAR, "again": AGAIN_BAR}, "off_bare": off,
            "again": again, "turns": turns, "config": dataclasses.asdict(config),
            "model": {"parameters": artifact.parameters, "macs": artifact.macs, "imgsz": artifact.spec.imgsz},
            "environment": known,
        }  # fmt: skip
        write_json(result_path(NAME), record)


if __name__ == "__main__":
    main()
