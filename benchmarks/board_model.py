"""How well the model of a board foretells published TensorRT latencies that it was not fitted to.

    python benchmarks/board_model.py --save
    python benchmarks/board_model.py --fit

The rates and the launch cost in targets/*.toml are fitted to ultralytics' table of YOLO11 n, s and m; `--fit` fits them
anew and prints them. Left out of the fit, and told here: the table of YOLO26, and every published figure of YOLOv8.
Nothing is measured: published milliseconds are compared with the model's.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from _results import result_path
from torch import nn
from ultralytics.nn.tasks import DetectionModel

from slimdeploy.channels import ConvLayer
from slimdeploy.latency.board import BoardModel
from slimdeploy.lineage import write_json
from slimdeploy.targets import load_target
from slimdeploy.yolo import macs

NAME = "board_model"
IMGSZ = (640, 640)
BAR = 0.25  # median absolute error on what was left out
PRECISIONS = ("fp32", "fp16", "int8")
# Milliseconds of fp32, fp16 and int8 engines, batch 1, 640x640, without pre- and postprocessing.
# docs/en/guides/nvidia-jetson.md of github.com/ultralytics/ultralytics: YOLO11 at 75231dff, YOLO26 at 8.4.32.
FITTED: Mapping[str, Mapping[str, Sequence[float]]] = {
    "orin-nano-8gb": {
        "yolo11n": (7.60, 4.91, 3.91), "yolo11s": (13.29, 7.30, 5.25), "yolo11m": (28.21, 13.99, 9.58),
    },
    "orin-nx-16gb": {
        "yolo11n": (8.05, 4.85, 4.37), "yolo11s": (14.13, 7.55, 5.63), "yolo11m": (30.72, 14.45, 10.19),
    },
    "agx-orin-64gb": {
        "yolo11n": (3.94, 2.60, 2.45), "yolo11s": (6.52, 3.68, 3.01), "yolo11m": (12.69, 6.79, 5.12),
    },
}  # fmt: skip
LEFT_OUT: Mapping[str, Mapping[str, Sequence[float]]] = {
    "orin-nano-8gb": {
        "yolo26n": (7.53, 4.57, 3.80), "yolo26s": (13.60, 7.17, 5.25), "yolo26m": (28.19, 13.59, 9.30),
        "yolov8n": (8.36, 4.43, 3.49),  # github.com/hokwangchoi/jetson-orin-nano-benchmarks, 91f5b77a: trtexec
    },
    "orin-nx-16gb": {
        "yolo26n": (7.01, 4.13, 3.49), "yolo26s": (12.62, 6.41, 4.78), "yolo26m": (24.69, 11.66, 8.22),
        "yolov8n": (8.7,), "yolov8s": (14.82,), "yolov8m": (33.28,),  # an older page of the same guide, fp32 alone
    },
    "agx-orin-64gb": {
        "yolo26n": (4.18, 2.62, 2.30), "yolo26s": (6.82, 3.76, 2.98), "yolo26m": (12.60, 6.24, 4.72),
    },
}  # fmt: skip


def layers_of(name: str) -> list[ConvLayer]:
    """Return the convolutions of a stock network as the board model takes them."""
    module = DetectionModel(f"{name}.yaml", verbose=False).eval()
    bones = macs.skeleton(module)
    positions = macs.arithmetic(bones, IMGSZ).positions
    convs = {path: layer for path, layer in bones.named_modules() if isinstance(layer, nn.Conv2d)}
    head = f"model.{len(bones.model) - 1}"
    if hasattr(bones.model[-1], "one2one_cv2"):  # its other branches serve training alone; an engine lacks them
        convs = {path: c for path, c in convs.items() if not path.startswith((f"{head}.cv2.", f"{head}.cv3."))}
    return [
        ConvLayer(
            name=path, outputs=conv.out_channels, inputs=conv.in_channels // conv.groups,
            kernel=conv.kernel_size[0] * conv.kernel_size[1], positions=positions[path], scalars_per_output=1,
            stride=conv.stride[0],
        )
        for path, conv in convs.items()
        if positions.get(path)
    ]  # fmt: skip


def network_ms(layers: Sequence[ConvLayer], model: BoardModel) -> float:
    """Return the milliseconds of a whole network by the model."""
    return sum(model.layer_ms(layer, layer.outputs, layer.inputs) for layer in layers)


def model_of(target: str, precision: str, gmacs_per_s: float, launch_us: float) -> BoardModel:
    """Return a target's model with given rates."""
    board = load_target(target)
    assert board.bandwidth_gbs is not None
    return BoardModel(
        name=target, precision=precision, gmacs_per_s=gmacs_per_s, launch_us=launch_us,
        bandwidth_gbs=board.bandwidth_gbs, alignment=board.alignment[precision],
    )  # fmt: skip


def fit(target: str, networks: Mapping[str, list[ConvLayer]]) -> tuple[dict[str, int], int]:
    """Return the rates by precision and the launch cost that are least wrong on what is fitted, by search on a grid."""
    published = FITTED[target]
    best: tuple[float, dict[str, int], int] = (math.inf, {}, 0)
    for launch_us in range(10, 81, 5):
        rates, wrong = {}, 0.0
        for number, precision in enumerate(PRECISIONS):
            tried = []
            for rate in (round(100 * 1.08**k) for k in range(25, 70)):
                model = model_of(target, precision, rate, launch_us)
                errors = [math.log(network_ms(networks[n], model) / ms[number]) ** 2 for n, ms in published.items()]
                tried.append((sum(errors), rate))
            error, rates[precision] = min(tried)
            wrong += error
        best = min(best, (wrong, rates, launch_us), key=lambda one: one[0])
    return best[1], best[2]


def check(published: Mapping[str, Mapping[str, Sequence[float]]], networks: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the models in targets/ say beside what was published."""
    rows = []
    for target, by_network in published.items():
        board = load_target(target)
        assert board.gmacs_per_s is not None
        assert board.launch_us is not None
        for network, figures in by_network.items():
            for precision, ms in zip(PRECISIONS, figures, strict=False):
                model = model_of(target, precision, board.gmacs_per_s[precision], board.launch_us)
                estimated = network_ms(networks[network], model)
                rows.append(
                    {"target": target, "network": network, "precision": precision, "published_ms": ms,
                     "estimated_ms": round(estimated, 3), "error": round(estimated / ms - 1, 4)}
                )  # fmt: skip
    return rows


def main() -> None:
    """Fit where asked; print the errors on what was fitted and on what was left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    parser.add_argument("--fit", action="store_true", help="fit anew and print what belongs into targets/*.toml")
    asked = parser.parse_args()
    names = {name for part in (FITTED, LEFT_OUT) for by_network in part.values() for name in by_network}
    networks = {name: layers_of(name) for name in sorted(names)}
    if asked.fit:
        for target in FITTED:
            rates, launch_us = fit(target, networks)
            print(f"{target}: gmacs_per_s = {rates}, launch_us = {launch_us}")
        return
    parts = {"fitted": check(FITTED, networks), "left out": check(LEFT_OUT, networks)}
    for row in itertools.chain(*parts.values()):
        print("{target:14} {network:8} {precision}: published {published_ms:6.2f} ms, model {estimated_ms:6.2f} ms, "
              "{error:+.0%}".format(**row))  # fmt: skip
    middles = {part: median(abs(row["error"]) for row in rows) for part, rows in parts.items()}
    for part, rows in parts.items():
        print(
            f"{part}: {middles[part]:.1%} in the middle, {max(abs(r['error']) for r in rows):.0%} at most, {len(rows)}"
        )
    print(f"bar for what was left out, {BAR:.0%} in the middle: {'met' if middles['left out'] <= BAR else 'NOT met'}")
    if asked.save:
        record = {"schema": 1, "benchmark": NAME, "bar": BAR, "middle_error": middles, **parts}
        write_json(result_path(NAME), record)


if __name__ == "__main__":
    main()
