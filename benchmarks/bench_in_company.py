"""Does measuring a model beside others change its figure? It must not: whoever waits must cost nothing.

One command:

    python benchmarks/bench_in_company.py --save

times YOLOv8n at 320 px alone and beside two others, in turns (alone, in company, alone, ...), and asks each runtime
what its process works while it waits. Bar: the two lie within 3 % of each other.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _results import result_path

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.bench.environment import environment
from slimdeploy.bench.measure import measure
from slimdeploy.bench.process import Worker
from slimdeploy.bench.stats import ratio, round_medians, summary
from slimdeploy.configs import BenchConfig, ExportConfig
from slimdeploy.lineage import write_json
from slimdeploy.records import Artifact, Measurement, as_json

NAME = "bench_in_company"
IMGSZ = 320
IDLE_S = 2.0
QUIET_CORES = 0.1  # more work than this by others, and the figures say little
COMPANY = 2
BAR = 0.03  # measuring in company equals measuring alone

log = logging.getLogger("slimdeploy.benchmarks")


def make_models(folder: Path) -> list[Artifact]:
    """Export YOLOv8n with new weights, once for the model and once for each of its companions."""
    from slimdeploy.stages.export import export
    from slimdeploy.targets import load_target
    from slimdeploy.yolo import checkpoint, training

    made = [folder / f"bundle-{seed}" / "model.fp32.onnx" for seed in range(1 + COMPANY)]
    if all(path.exists() for path in made):
        return [read_artifact(path) for path in made]
    folder.mkdir(parents=True, exist_ok=True)
    artifacts = []
    for seed in range(1 + COMPANY):
        weights = folder / f"{seed}.pt"
        checkpoint.save(training.new_network("yolov8n.yaml", ("car", "van"), seed=seed), weights, origin={"seed": seed})
        config = ExportConfig(imgsz=(IMGSZ, IMGSZ), check_images=1)
        bundle = export(weights, load_target("cpu"), config, folder / f"bundle-{seed}")
        artifacts.append(read_artifact(bundle / "model.fp32.onnx"))
    return artifacts


def joined(parts: Sequence[Measurement]) -> Measurement:
    """Return the same model's measurements as one, each as a round of its own."""
    samples_s = tuple(sample for part in parts for sample in part.samples_s)
    return dataclasses.replace(parts[0], samples_s=samples_s, rounds=tuple(len(part.samples_s) for part in parts))


def compare(artifacts: Sequence[Artifact], config: BenchConfig, *, repeats: int, backend: str) -> dict[str, Any]:
    """Time the first artifact alone and in company, in turns."""
    named = list(zip(("model", "other 1", "other 2"), artifacts, strict=True))
    alone, company = [], []
    for number in range(1, repeats + 1):
        log.info("%s: repeat %d of %d", backend, number, repeats)
        alone += measure(named[:1], config, backend=backend)
        company += measure(named, config, backend=backend)[:1]
    one, other = joined(alone), joined(company)
    found = ratio(one, other)
    others = {
        k: [m.environment.get("other_cores_busy") for m in v] for k, v in (("alone", alone), ("company", company))
    }
    loads = [load for side in others.values() for load in side if load is not None]
    return {
        "p50_ms_alone": 1000 * summary(one).p50_s,
        "p50_ms_in_company": 1000 * summary(other).p50_s,
        "ratio": found.value,
        "ratio_interval": [found.low, found.high],
        "difference_shown": found.shown,
        "idle_cores": idle_cores(artifacts[0], config, backend=backend),
        "other_cores_busy": others,
        "quiet_machine": max(loads) <= QUIET_CORES if loads else None,
        "round_p50_ms": {"alone": _ms(round_medians(one)), "company": _ms(round_medians(other))},
    }


def idle_cores(artifact: Artifact, config: BenchConfig, *, backend: str) -> float:
    """Return how many cores a worker keeps busy right after its turn, while it waits."""
    with Worker("waiting", threads=config.threads, timeout_s=config.timeout_s) as worker:
        worker.ask(
            "open", artifact=as_json(artifact), backend=backend, trust=False, threads=config.threads, batch=1, seed=0
        )
        worker.ask("sample", count=10)
        before_s = worker.ask("status")["cpu_s"]
        time.sleep(IDLE_S)
        return float(worker.ask("status")["cpu_s"] - before_s) / IDLE_S


def _ms(seconds: Sequence[float]) -> list[float]:
    return [round(1000 * one, 4) for one in seconds]


def main() -> None:
    """Measure every runtime asked for, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=8, help="turns of alone and in company; 6 or more")
    parser.add_argument("--samples", type=int, default=60, help="timed calls of each model in each turn")
    parser.add_argument("--backends", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--models", type=Path, help="a folder of exports to make, or to use where it is there")
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    logging.getLogger("slimdeploy.bench").setLevel(logging.WARNING)
    config = BenchConfig(samples=options.samples, rounds=10, threads=environment()["cores_usable"], warmup_limit_s=3.0)
    with tempfile.TemporaryDirectory() as folder:
        artifacts = make_models(options.models or Path(folder))
        known = environment()
        found = {name: compare(artifacts, config, repeats=options.repeats, backend=name) for name in options.backends}
    record = {
        "schema": 1,
        "benchmark": NAME,
        "what": f"YOLOv8n at {IMGSZ} px alone and beside {COMPANY} others, p50 of the inference call",
        "config": dataclasses.asdict(config) | {"repeats": options.repeats},
        "environment": known,
        "backends": found,
    }
    if options.save:
        write_json(result_path(NAME), record)
    for name, one in found.items():
        low, high = one["ratio_interval"]
        print(
            f"{name}: {one['p50_ms_alone']:.2f} ms alone, {one['p50_ms_in_company']:.2f} ms in company, ratio "
            f"{one['ratio']:.3f} [{low:.3f}, {high:.3f}], waiting keeps {one['idle_cores']:.4f} cores busy"
            f"{'; the machine was not quiet, so run it again' if one['quiet_machine'] is False else ''}; "
            f"bar {BAR:.0%}: {'met' if abs(one['ratio'] - 1) <= BAR else 'NOT met'}"
        )


if __name__ == "__main__":
    main()
