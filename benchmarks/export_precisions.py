"""What each precision costs and gives: mAP50-95, latency, size and export time of every form of some networks.

    python benchmarks/export_precisions.py --data aerial_cars/data.yaml --imgsz 320 dense=dense.pt tuned=tuned.pt --save

Every network is exported at fp32, fp16 and int8 with each calibrator, scored on the val split in PyTorch, ONNX Runtime
and OpenVINO, and timed on both runtimes; OpenVINO also held to AVX2, as on a CPU without VNNI. Each figure is kept
below --out, in a folder of the data set's and the network's name, as soon as it is known, so a run that was stopped
goes on where it was. Every data set has a result of its own.

Bars: fp32 and fp16 within 0.1 points of mAP50-95 of PyTorch, int8 within 0.5; int8 on OpenVINO without VNNI 1.5 times
as fast as fp32 for a dense network and 1.3 times for a pruned one; YOLOv8n exported at fp32 within 10 s, and at int8
with 512 images within 3 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _results import result_path

from slimdeploy.accuracy.evaluate import score
from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.bench.environment import environment
from slimdeploy.bench.measure import measure
from slimdeploy.bench.stats import ratio, summary
from slimdeploy.configs import BenchConfig, ExportConfig, ValConfig
from slimdeploy.data.calibration import choose
from slimdeploy.data.dataset import read_dataset
from slimdeploy.lineage import sha256_file, write_json
from slimdeploy.records import as_json
from slimdeploy.stages import _parity, _ranges
from slimdeploy.stages._forms import Graphs, forms_for
from slimdeploy.targets import load_target
from slimdeploy.yolo import checkpoint

NAME = "export_precisions"
CALIBRATORS = ("percentile", "minmax", "entropy", "mse")
FORMS = ("fp32", "fp16", *(f"int8-{rule}" for rule in CALIBRATORS))
TIMED = ("fp32", "fp16", "int8-percentile")
RUNTIMES = ("onnxruntime", "openvino")
WITHOUT_VNNI = "openvino, AVX2"
OF = "of.json"  # what a folder's figures are of
STEPS = ("export", "accuracy", "latency")
_ISA = "ONEDNN_MAX_CPU_ISA"  # what OpenVINO's kernels may use; read by its worker processes as they start


class Bench:
    """One network, and where what is known of it lies."""

    def __init__(self, name: str, weights: Path, options: argparse.Namespace) -> None:
        self.name, self.weights, self.options = name, weights, options
        self.dataset = read_dataset(options.data)
        self.folder = options.out / f"{self.dataset.name}-{options.imgsz}" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.pruned = checkpoint.load(weights)[1].pruned
        self._require_same()

    def _require_same(self) -> None:
        """End where the figures that the folder keeps are of something else than what is asked for."""
        asked = {
            "weights": sha256_file(self.weights),
            "data": self.dataset.as_input().sha256,
            "images": self.options.images,
            "samples": self.options.samples,
        }
        path = self.folder / OF
        if not path.exists():
            write_json(path, asked)
        kept = json.loads(path.read_text(encoding="utf-8"))
        if other := [key for key, value in asked.items() if kept.get(key) != value]:
            raise SystemExit(
                f"{self.folder} keeps figures of other {', '.join(other)}: remove it, or name another --out"
            )

    def kept(self, key: str, make: Callable[[], Any]) -> Any:
        """Return a figure, made now unless it was kept."""
        path = self.folder / f"{key.replace(', ', '-')}.json"
        if not path.exists():
            print(f"{self.name}: {key}", file=sys.stderr, flush=True)
            write_json(path, {"value": make()})
        return json.loads(path.read_text(encoding="utf-8"))["value"]

    def file(self, form: str) -> Path:
        """The ONNX file of a form."""
        return self.folder / form / f"model.{form.split('-')[0]}.onnx"

    def export(self, form: str) -> dict[str, Any]:
        """Export in a process of its own; return what it took and gave."""
        precision, _, rule = form.partition("-")
        argv = ["export", str(self.weights), "--precision", precision, "--imgsz", str(self.options.imgsz)]
        argv += ["--data", str(self.options.data), "--out", str(self.folder / form), "--json"]
        argv += ["--calibrator", rule, "--calibration-images", str(self.options.images)] if rule else []
        shutil.rmtree(self.folder / form, ignore_errors=True)  # of a run that was stopped
        started = time.perf_counter()
        code = "from slimdeploy.cli import main; main()"
        subprocess.run([sys.executable, "-c", code, *argv], check=True, stdout=subprocess.DEVNULL)
        taken_s = time.perf_counter() - started
        return {"seconds": round(taken_s, 2), "size_bytes": self.file(form).stat().st_size}

    def other_rules(self) -> dict[str, Any]:
        """Write the int8 graph by every other calibrator, from one pass over the same images."""
        side = self.options.imgsz
        config = ExportConfig(precision="int8", imgsz=(side, side), calibration_images=self.options.images)
        module, known = checkpoint.load(self.weights)
        graphs, form = Graphs(module, known, config, []), forms_for(load_target("cpu"), config)[0]
        chosen = choose(self.dataset, config.calibration_images, seed=config.seed)
        histograms = graphs.histograms(form.opset, _parity.read_batches(chosen.images, config))
        sizes = {}
        for rule in CALIBRATORS[1:]:
            path = self.file(f"int8-{rule}")
            path.parent.mkdir(exist_ok=True)
            graphs.write(form, path, limits={name: _ranges.limit(one, rule) for name, one in histograms.items()})
            sizes[f"int8-{rule}"] = {"size_bytes": path.stat().st_size}
        return sizes

    def accuracy(self, form: str, runtime: str) -> float:
        """mAP50-95 on the val split, in 0..1."""
        side = self.options.imgsz
        path = self.weights if form == "torch" else self.file(form)
        artifact = read_artifact(path, imgsz=(side, side))
        found = score(artifact, self.dataset, ValConfig(imgsz=side), backend=runtime)
        return found.map50_95

    def latency(self, runtime: str) -> dict[str, Any]:
        """Time the forms in turns on one runtime; return raw samples, p50, and int8 against fp32."""
        if runtime == WITHOUT_VNNI:
            os.environ[_ISA] = "AVX2"
        try:
            named = [(form, read_artifact(self.file(form))) for form in TIMED]
            config = BenchConfig(samples=self.options.samples, rounds=10, warmup_limit_s=5.0)
            measured = measure(named, config, backend=runtime.split(",")[0])
        finally:
            os.environ.pop(_ISA, None)
        against = ratio(measured[0], measured[-1])
        return {
            "p50_ms": {one.artifact: round(summary(one).p50_s * 1e3, 3) for one in measured},
            "int8_speedup": {"value": 1 / against.value, "low": 1 / against.high, "high": 1 / against.low},
            "measurements": [as_json(one) for one in measured],
        }

    def collect(self, steps: tuple[str, ...]) -> dict[str, Any]:
        """Return every figure of the steps asked for."""
        known: dict[str, Any] = {"weights": self.weights.name, "sha256": sha256_file(self.weights)}
        known["pruned"] = self.pruned
        known["export"] = {form: self.kept(f"export {form}", lambda form=form: self.export(form)) for form in TIMED}
        known["export"] |= self.kept("other calibrators", self.other_rules)
        if "accuracy" in steps:
            known["torch_map50_95"] = self.kept("torch", lambda: self.accuracy("torch", "pytorch"))
            known["map50_95"] = {
                runtime: {
                    form: self.kept(f"mAP {form} {runtime}", lambda f=form, r=runtime: self.accuracy(f, r))
                    for form in FORMS
                }
                for runtime in RUNTIMES
            }
        if "latency" in steps:
            known["latency"] = {
                one: self.kept(f"latency {one}", lambda one=one: self.latency(one)) for one in (*RUNTIMES, WITHOUT_VNNI)
            }
        return known


def show(name: str, known: dict[str, Any]) -> None:
    """Print one network's figures."""
    torch = known["torch_map50_95"]
    print(f"{name}: PyTorch mAP50-95 {torch:.4f}")
    for form in FORMS:
        exported = known["export"][form]
        line = f"  {form:16} {exported['size_bytes'] / 1e6:6.2f} MB"
        line += f", exported in {exported['seconds']:.1f} s" if "seconds" in exported else ""
        for runtime in RUNTIMES:
            line += f", {runtime} {100 * (known['map50_95'][runtime][form] - torch):+.2f} points"
        print(line)
    for runtime, found in known["latency"].items():
        times = ", ".join(f"{form} {p50:.2f} ms" for form, p50 in found["p50_ms"].items())
        gain = found["int8_speedup"]
        print(f"  {runtime:16} {times}; int8 {gain['value']:.2f} times fp32 [{gain['low']:.2f}, {gain['high']:.2f}]")


def missed(known: dict[str, Any]) -> list[str]:
    """Return a sentence for every bar that a network's figures do not meet."""
    faults = []
    for runtime, scores in known["map50_95"].items():
        for form, bar in (("fp32", 0.1), ("fp16", 0.1), ("int8-percentile", 0.5)):
            points = 100 * (scores[form] - known["torch_map50_95"])
            if abs(points) > bar:
                faults.append(f"{form} on {runtime} is {points:+.2f} points from PyTorch, the bar is {bar}")
    gain, least = known["latency"][WITHOUT_VNNI]["int8_speedup"]["value"], 1.3 if known["pruned"] else 1.5
    if gain < least:
        faults.append(f"int8 is {gain:.2f} times as fast as fp32 on {WITHOUT_VNNI}, the bar is {least}")
    for form, most in (("fp32", 10), ("int8-percentile", 180)):
        if (taken := known["export"][form]["seconds"]) > most:
            faults.append(f"the export of {form} took {taken:.1f} s, the bar is {most} s")
    return faults


def main() -> None:
    """Measure every network named, print the figures beside the bars, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NAME=WEIGHTS")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--images", type=int, default=512, help="calibration images")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("runs") / NAME)
    parser.add_argument("--step", choices=STEPS, help="stop after this one")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args()
    steps = STEPS[: STEPS.index(options.step) + 1] if options.step else STEPS
    found = {}
    for one in options.networks:
        name, _, weights = one.partition("=")
        found[name] = Bench(name, Path(weights), options).collect(steps)
    if steps == STEPS:
        for name, known in found.items():
            show(name, known)
            known["missed"] = missed(known)
            print(*(f"  missed: {fault}" for fault in known["missed"] or ["nothing"]), sep="\n")
        if options.save:
            data = {"name": read_dataset(options.data).name, "imgsz": options.imgsz, "images": options.images}
            path = result_path(f"{NAME}-{data['name']}")
            write_json(path, {"schema": 1, "data": data, "networks": found, "environment": environment()})
            print(path)


if __name__ == "__main__":
    main()
