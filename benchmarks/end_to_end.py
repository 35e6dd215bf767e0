"""What whole frames cost beyond the bare session, and whether the boxes are those of ultralytics.

    SLIMDEPLOY_DATA=/path/to/data python benchmarks/end_to_end.py model.fp32.onnx --save

Bar: from decoded frame to final boxes, at least 0.97 of the images a second of the bare session on the same artifact,
at the boxes of `YOLO(model).predict`. Frames are photographs of aerial_cars. Two ways are timed, in turns with the bare
session (one session, every core): one frame after the other through the same session, and a stream of frames, as many
at once as there are cores, with a session of one core each. ultralytics' own predict is timed beside them.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _results import result_path

from slimdeploy.accuracy.detector import Detector, Thresholds
from slimdeploy.accuracy.lanes import in_order, open_lanes
from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.backends.protocol import INPUT
from slimdeploy.backends.registry import backend_for
from slimdeploy.bench.environment import environment
from slimdeploy.board.letterbox import letterbox
from slimdeploy.data.dataset import read_dataset
from slimdeploy.data.images import read_image
from slimdeploy.lineage import write_json
from slimdeploy.records import Artifact

NAME = "end_to_end"
BAR = 0.97
FRAMES = 64
ROUNDS = 8
BOX_TOLERANCE_PX = 0.01  # of a corner: what another order of float32 additions can do
SCORE_TOLERANCE = 1e-4
BARE, ONE_BY_ONE, STREAM, PREDICT = "bare session", "one by one", "stream", "YOLO.predict"


def ways(artifact: Artifact, lanes: list[Any], frames: list[Any]) -> dict[str, Callable[[], object]]:
    """Return what is timed, by its name; each goes over all frames once."""
    from ultralytics import YOLO

    session = backend_for(artifact).open(artifact)
    inputs = [letterbox(frame, artifact.spec.imgsz)[0][None] for frame in frames]
    detect = Detector(session, artifact.spec)
    detectors = {id(lane): Detector(lane, artifact.spec) for lane in lanes}
    yolo = YOLO(artifact.path, task="detect")
    settings = {"imgsz": artifact.spec.imgsz[0], "device": "cpu", "verbose": False}

    def look(frame: Any, lend: Any) -> object:
        with lend() as lane:
            return detectors[id(lane)]([frame])

    return {
        BARE: lambda: [session.run({INPUT: one}) for one in inputs],
        ONE_BY_ONE: lambda: [detect([frame])[0] for frame in frames],
        STREAM: lambda: [found[0] for found in in_order(frames, lanes, look)],
        PREDICT: lambda: [yolo.predict(frame, **settings)[0].boxes for frame in frames],
    }


def differences(ours: list[Any], theirs: list[Any]) -> dict[str, float]:
    """Return how far the boxes of two ways lie apart: the numbers of boxes, corners in pixels, scores."""
    pairs = [(one, other) for one, other in zip(ours, theirs, strict=True) if len(one.scores) == len(other.conf)]
    shifts = [np.abs(one.xyxy - other.xyxy.numpy()).max(initial=0) for one, other in pairs]
    changes = [np.abs(one.scores - other.conf.numpy()).max(initial=0) for one, other in pairs]
    return {
        "boxes": sum(len(one.scores) for one in ours),
        "frames_of_another_number_of_boxes": len(ours) - len(pairs),
        "largest_shift_px": float(max(shifts)),
        "largest_change_of_a_score": float(max(changes)),
    }


def timed(all_ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return images a second of each way in each round."""
    rates: dict[str, list[float]] = {name: [] for name in all_ways}
    for way in all_ways.values():
        way()  # untimed
    for _ in range(rounds):
        for name, way in all_ways.items():
            started = time.perf_counter()
            way()
            rates[name].append(FRAMES / (time.perf_counter() - started))
    return rates


def main() -> None:
    """Compare boxes, time the ways in turns, print them beside the bar, and write the result where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", help="ONNX files of detectors of vehicles, batch 1")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    options = parser.parse_args()
    dataset = read_dataset(Path(os.environ["SLIMDEPLOY_DATA"]) / "aerial_cars" / "data.yaml")
    paths = dataset.images("val")
    frames = [read_image(path) for path in paths[:: len(paths) // FRAMES][:FRAMES]]
    known, found = environment(), {}
    for model in options.models:
        artifact = read_artifact(model)
        with open_lanes(backend_for(artifact), artifact) as lanes:
            all_ways = ways(artifact, lanes, frames)
            apart = differences(all_ways[ONE_BY_ONE](), all_ways[PREDICT]())
            rates = timed(all_ways, options.rounds)
        shares = {
            name: median(one / bare for one, bare in zip(rate, rates[BARE], strict=True))
            for name, rate in rates.items()
        }
        same = not apart["frames_of_another_number_of_boxes"] and apart["largest_shift_px"] <= BOX_TOLERANCE_PX
        same = same and apart["largest_change_of_a_score"] <= SCORE_TOLERANCE
        print(f"{model}: {apart['boxes']} boxes in {FRAMES} frames, {'the same' if same else 'NOT the same'} as those "
              f"of predict: {apart['largest_shift_px']:.2g} px, {apart['largest_change_of_a_score']:.2g}")  # fmt: skip
        for name, rate in rates.items():
            print(f"  {name}: {median(rate):.1f} images/s, {shares[name]:.3f} of the bare session")
        for name in (ONE_BY_ONE, STREAM):
            print(f"  bar {BAR} {name}: {'met' if shares[name] >= BAR and same else 'NOT met'}")
        found[f"{model.parent.name}/{model.name}"] = {
            "parameters": artifact.parameters, "macs": artifact.macs, "share_of_bare": shares, "images_per_s": rates,
            "apart_from_predict": apart, "same_boxes": same,
        }  # fmt: skip
    if options.save:
        record = {
            "schema": 1, "benchmark": NAME, "bar": BAR, "frames": FRAMES, "rounds": options.rounds, "models": found,
            "thresholds": dataclasses.asdict(Thresholds()), "environment": known,
        }  # fmt: skip
        write_json(result_path(NAME), record)


if __name__ == "__main__":
    main()
