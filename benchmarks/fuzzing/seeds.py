"""Valid inputs of every reader; made once a process, and small, so that thousands of them are read in a minute."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))  # makers of small bundles, runs and networks

RECIPE = b"""title = "cars"
data = "data.yaml"
weights = "dense.pt"
target = "cpu"
imgsz = 320
seed = 7
[sparsify]
epochs = 3
sr = 0.02
[prune]
channels = 0.5
alignment = 8
[finetune]
epochs = 4
lr0 = 0.001
amp = true
device = "cpu"
distil = "both"
[export]
precisions = ["fp32", "fp16"]
imgsz = [320, 320]
[bench]
samples = 100
"""
SEARCH = b"""title = "search"
recipe = "recipe.toml"
objectives = ["map50_95", "p50_ms"]
sampler = "tpe"
[space]
imgsz = [256, 320]
prune.channels = { low = 0.1, high = 0.5 }
sparsify.sr = { low = 0.001, high = 0.1, log = true }
export.precision = ["fp32", "fp16"]
[constraints]
max_p50_ms = 30
[budget]
trials = 4
[trial]
cpus = 2
"""
FLEET = b"""[[board]]
name = "one"
address = "ssh://pilot@drone-1:22/srv/slimdeploy"
group = "field"
target = "orin-nano-8gb"
canary = true
[[board]]
name = "two"
address = "local:/tmp/board"
"""
ADDRESSES = (b"ssh://pilot@drone-1:22/srv/slimdeploy", b"local:/srv/board", b"ssh://[fe80::1%25eth0]:2222", b"ssh://h")
DATA = b"""path: .
train: images/train
val: images/val
names:
  0: car
  1: van
kpt_shape: [17, 3]
"""
DATA_NC = b"train: images/train\nval: [images/val, val.txt]\nnc: 2\nnames: [car, van]\n"
LABELS = b"0 0.5 0.5 0.2 0.2\n1 0.25 0.25 0.1 0.1\n0 0.1 0.1 0.2 0.1 0.2 0.2\n"
IMAGE_LIST = b"./images/val/0.png\nimages/val/1.png\n"
VISDRONE = b"684,8,273,116,0,0,0,0\n406,119,265,70,1,1,0,0\n255,22,119,128,1,4,0,1,\n"
TRTEXEC = b'{"Layers": [{"Name": "conv", "LayerType": "Convolution", "Outputs": [{"Dimensions": [1, 16, 8, 8]}]}]}'
PROFILE = b'[{"count": 10}, {"name": "conv", "timeMs": 5.0, "averageMs": 0.5, "percentage": 50.0}]'
HASH = "a" * 64
REQUESTS = tuple(
    json.dumps(one).encode()
    for one in (
        {"do": "ping"},
        {"do": "begin", "name": HASH, "files": {"manifest.json": 10, "golden/input.npy": 5}, "spare_bytes": 100},
        {"do": "activate", "name": HASH, "keep": 2},
        {"do": "bench", "name": HASH, "limit_s": 10.0, "options": ["--samples", "5"]},
        {"do": "prune", "keep": 1},
        {"do": "forget", "name": HASH},
        {"do": "install_service", "source": "/dev/video0", "udev": False, "start": False},
        {"do": "stage", "name": HASH, "timeouts_s": {"build": 10.0, "check": 10.0}, "runtime": ""},
    )
)
ANSWERS = tuple(
    json.dumps(one).encode()
    for one in (
        {"present": False, "received": {"a": 1}, "folder": f"/srv/staging/{HASH}/bundle"},
        {"current": HASH, "previous": None, "removed": [HASH]},
        {"samples_s": [0.1, 0.2], "backend": "onnxruntime", "version": "1", "threads": 2},
        {"error": "DeviceError", "wrong": "a", "wanted": "b", "do": "c"},
        {"removed": [HASH], "freed_bytes": 5, "current": None},
    )
)
TEGRASTATS = (
    b"RAM 534/3964MB (lfb 98x4MB) SWAP 5/1982MB (cached 1MB) CPU [16%@204,9%@204,0%@204,off] EMC_FREQ 0%@204 "
    b"GR3D_FREQ 0%@76 PLL@34C CPU@36.5C GPU@36C POM_5V_IN 1022/1022 VDD_IN 4500mW/4400mW cpu@40.5C tj@42C"
)
BOARD_FILES = (
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in1_label",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in1_input",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/curr1_input",
    "sys/class/thermal/thermal_zone0/type",
    "sys/class/thermal/thermal_zone0/temp",
    "sys/devices/platform/gpu.0/load",
    "var/lib/nvpmodel/status",
    "etc/nvpmodel.conf",
)
BOARD = b"\n---\n".join(
    (b"VDD_IN", b"5000", b"900", b"cpu-thermal", b"45500", b"321", b"pmode:0002", b"< POWER_MODEL ID=2 NAME=MAXN >")
)
UNIT = b"[Unit]\nDescription=x\n[Service]\nExecStart=x\n[X-Slimdeploy]\nRoot=/srv\nSource=/dev/video0\nPython=python3\n"
SOURCES = (b"/dev/video0", b"rtsp://user:secret@camera/stream", b"nvarguscamerasrc ! appsink", b"0")
SIGNERS = b"you@example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHpY9yP0mYl3PqLh8C0W0xXJ3rJrBq1s3b5l0B0Tqg5N\n"
SIGNATURE = b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n"
OPTIONS = (b"deepstream,triton ros2", b"640", b"384x640")
SETUP = json.dumps(
    {
        "batch": 16, "accumulate": 1, "workers": 2, "lr_factor": 0.5, "compute": "float32",
        "penalty": {"form": "proximal", "sr": 0.01}, "mended": [{"epoch": 1, "wrong": "NaN", "did": "less"}],
    }
).encode()  # fmt: skip
GOLDEN = json.dumps(
    {
        "schema": 1, "conf": 0.25, "iou": 0.7, "max_det": 300, "xyxy": [[1.0, 2.0, 9.0, 8.0]], "scores": [0.9],
        "classes": [0], "tolerance": {"box_px": 1.0, "score": 0.02},
    }
).encode()  # fmt: skip


def example(name: str) -> bytes:
    """Return a file of examples/, its paths in no variable."""
    return (ROOT / "examples" / name).read_bytes().replace(b"${SLIMDEPLOY_DATA}", b"/data")


@cache
def targets() -> tuple[bytes, ...]:
    """Return two targets."""
    return tuple((ROOT / "targets" / f"{name}.toml").read_bytes() for name in ("cpu", "orin-nano-8gb"))


def _written(write: Callable[[Path], Any], name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return (Path(folder) / name).read_bytes()


@cache
def search_folder() -> tuple[bytes, ...]:
    """Return the record of a search's folder."""
    from slimdeploy.files import parse_toml

    plain = {
        "schema": 1, "id": "0123456789ab", "search": parse_toml(SEARCH, where="search"),
        "recipe": parse_toml(RECIPE, where="recipe"), "place": "/recipes/recipe.toml", "data": "", "cache": "",
        "storage": "",
    }  # fmt: skip
    return (json.dumps(plain).encode(),)


@cache
def plan() -> tuple[bytes, ...]:
    """Return a plan by shares, and one by latency with all that can stand in it."""
    from synthetic_coupling import chain

    from slimdeploy.configs import PruneConfig
    from slimdeploy.records import PlannedLatency, Sensitivity
    from slimdeploy.stages.plan import make_plan, write_plan

    coupling = chain()
    importance = {group.name: tuple(map(float, range(group.width))) for group in coupling.groups}
    small = make_plan(coupling, importance, PruneConfig(channels=0.3, imgsz=64), weights_sha256=HASH)
    tried = Sensitivity(groups=("stem",), width=32, tried=16, damage=0.4, positives=(74, 24))
    latency = PlannedLatency(
        target="cpu", precision="fp32", source="table", estimated=False, asked_ms=2.0, planned_ms=(4.0, 2.0),
        measured_ms=(4.1, 2.1), speedup=1.95, saved_ms={"stem": 0.5},
    )  # fmt: skip
    whole = replace(
        small, budget="speedup", asked=2.0, reached=1.95, latency=latency, sensitivities=(tried,), whole=tried
    )
    return tuple(_written(lambda at, one=one: write_plan(one, at / "p"), "p") for one in (small, whole))


@cache
def table() -> tuple[bytes, ...]:
    """Return a latency table of made-up times."""
    from slimdeploy.latency.shapes import Kind
    from slimdeploy.latency.table import LatencyTable, LayerTime, WholeTime, write_table

    times = tuple(
        LayerTime(inputs=i, outputs=o, ms=0.1 * i * o, noise_ms=0.01, calls=9) for i in (8, 16) for o in (8, 16)
    )
    made = LatencyTable(
        target="cpu", backend="onnxruntime", backend_version="1", precision="fp32", threads=2, imgsz=(64, 64),
        alignment=8, network="chain", environment={"cores": 2},
        layers={Kind(kernel=kernel, stride=1, height=8, width=8): times for kernel in (1, 3)},
        wholes=tuple(WholeTime(layers_ms=ms, measured_ms=1 + 1.5 * ms, noise_ms=0.1) for ms in (1.0, 3.0)),
    )  # fmt: skip
    return (_written(lambda at: write_table(made, at / "t"), "t"),)


@cache
def _run() -> Path:
    """A recipe's folder with everything that a report shows, made once."""
    from synthetic_runs import end_to_end, layers, offered, power, whole_rows, write_recipe_run

    folder = Path(tempfile.mkdtemp(prefix="fuzz-seed-")) / "run"
    first, *others = whole_rows()
    short = [replace(row, latency=_short(row.latency)) for row in others[-1:]]  # intervals of each row take time
    whole = replace(
        first, latency=_short(first.latency), end_to_end=_short(end_to_end("dense", 0.02)), offered=offered(),
        power=(power(),), layers=layers(),
    )  # fmt: skip
    write_recipe_run(folder, [whole, *short])
    path = folder / "prune" / "run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["results"] |= {
        "latency": {
            "estimated": False, "asked_ms": 2.0, "target": "cpu", "speedup": 2.0, "source": "t", "measured_ms": [4, 2],
        },
        "sensitivities": [{"groups": ["a"], "positives": [74, 24], "damage": 0.5, "width": 32, "tried": 16}],
        "fit": {"layers": [{"before": 0.5, "after": 0.1}], "images": 64},
    }  # fmt: skip
    path.write_text(json.dumps(record), encoding="utf-8")
    return folder


def _short(latency: Any) -> Any:
    """Return a measurement with few samples, so that a report takes milliseconds."""
    return replace(latency, samples_s=latency.samples_s[:6], rounds=(2,) * 3)


def write_run(folder: Path) -> None:
    """Write a recipe's folder with everything that a report shows."""
    shutil.copytree(_run(), folder)


def report_part(name: str) -> tuple[bytes, ...]:
    """Return a file of that folder."""
    return ((_run() / name).read_bytes(),)


@cache
def run_record() -> tuple[bytes, ...]:
    """Return a run.json."""
    return (report_part("sparsify/run.json")[0], report_part("prune/run.json")[0])


@cache
def matches() -> tuple[bytes, ...]:
    """Return the matches of two models."""
    import numpy as np

    from slimdeploy.accuracy.matches import Matches, save

    def one(seed: int) -> Matches:
        chance = np.random.default_rng(seed)
        return Matches(
            image=np.sort(chance.integers(0, 4, 20)).astype(np.int32),
            labels=chance.integers(0, 2, 20).astype(np.int16),
            scores=chance.random(20).astype(np.float32), hits=chance.integers(0, 1024, 20).astype(np.uint16),
            objects=chance.integers(1, 5, (4, 2)).astype(np.int32), truths=HASH,
        )  # fmt: skip

    return (_written(lambda at: save(at / "m.npz", {"dense": one(0), "tuned": one(1)}), "m.npz"),)


@cache
def _bundle() -> dict[str, bytes]:
    """The files of a small bundle."""
    from small_bundle import write_small_bundle

    with tempfile.TemporaryDirectory() as folder:
        made = write_small_bundle(Path(folder) / "bundle", target="orin-nano-8gb")
        (made / "run.json").unlink()
        return {
            path.relative_to(made).as_posix(): path.read_bytes() for path in sorted(made.rglob("*")) if path.is_file()
        }


def manifest() -> tuple[bytes, ...]:
    """Return a bundle's manifest."""
    return (_bundle()["manifest.json"],)


@cache
def bundle_tar() -> tuple[bytes, ...]:
    """Return a bundle as a tar, the manifest first."""
    files = _bundle()
    return (_tar({"manifest.json": files["manifest.json"], **files}),)


@cache
def archive() -> tuple[bytes, ...]:
    """Return a bundle as a .tar.zst."""
    import zstandard

    return (zstandard.ZstdCompressor(level=3).compress(bundle_tar()[0]),)


@cache
def stage_tar() -> tuple[bytes, ...]:
    """Return a stage as the search's cache keeps it."""
    return (_tar({"bench.json": b"{}", "run.json": report_part("bench/run.json")[0]}),)


def _tar(files: dict[str, bytes]) -> bytes:
    import tarfile

    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as out:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
    return made.getvalue()


@cache
def golden_image() -> bytes:
    """Return the golden input of a bundle."""
    import numpy as np

    made = io.BytesIO()
    np.save(made, np.zeros((32, 32, 3), dtype=np.uint8))
    return made.getvalue()


@cache
def _png() -> bytes:
    import cv2
    import numpy as np

    return bytes(cv2.imencode(".png", np.full((40, 60, 3), 90, dtype=np.uint8))[1])


def write_data(folder: Path) -> None:
    """Write a data set of three images."""
    for place in ("train/0", "val/0", "val/1"):
        for kind, suffix, content in (("images", "png", _png()), ("labels", "txt", b"0 0.5 0.5 0.2 0.2\n")):
            path = folder / kind / f"{place}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    (folder / "val.txt").write_bytes(IMAGE_LIST)
    (folder / "data.yaml").write_bytes(DATA.replace(b"kpt_shape: [17, 3]\n", b""))


@cache
def onnx_models() -> tuple[bytes, ...]:
    """Return a small detector in float32, one whose weights pass through other nodes, and one with a dynamic batch."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def model(weight: str, batch: int | str, *nodes: Any) -> bytes:
        stored = [
            numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w0"),
            numpy_helper.from_array(np.ones((6, 4, 1, 1), np.float32), "w1"),
            numpy_helper.from_array(np.array([0, 6, 1024], np.int64), "shape"),
        ]
        graph = helper.make_graph(
            [
                *nodes,
                helper.make_node("Conv", ["images", weight], ["c0"], pads=[1, 1, 1, 1]),
                helper.make_node("Relu", ["c0"], ["r0"]),
                helper.make_node("Conv", ["r0", "w1"], ["c1"]),
                helper.make_node("Reshape", ["c1", "shape"], ["output0"]),
            ],
            "detector",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 32, 32])],
            [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, 6, 1024])],
            stored,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        known = {"task": "detect", "stride": 32, "batch": 1, "imgsz": [32, 32], "names": {0: "car", 1: "van"}}
        known |= {"dynamic": "True"} if batch == "batch" else {}
        onnx.helper.set_model_props(made, {key: str(value) for key, value in known.items()})
        return bytes(made.SerializeToString())

    through = helper.make_node("Identity", ["w0"], ["passed"])
    return (model("w0", 1), model("passed", 1, through), model("w0", "batch"))


@cache
def checkpoint() -> tuple[bytes, ...]:
    """Return a small YOLOv8 with random weights."""
    import logging

    import torch
    from ultralytics.nn.tasks import DetectionModel

    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    settings = {
        "nc": 2, "depth_multiple": 0.33, "width_multiple": 0.0625,
        "backbone": [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [128, 3, 2]], [-1, 1, "C2f", [128, True]]],
        "head": [[[2], 1, "Detect", [2]]],
    }  # fmt: skip
    module = DetectionModel(settings, ch=3, verbose=False)
    module.names, module.task, module.args = {0: "car", 1: "van"}, "detect", {"imgsz": 64, "task": "detect"}
    made = io.BytesIO()
    torch.save({"model": module.half(), "ema": None, "epoch": -1, "train_args": {"imgsz": 64}}, made)
    return (made.getvalue(),)


@cache
def training_request() -> tuple[bytes, ...]:
    """Return what an unfinished training keeps of its settings."""
    from slimdeploy.configs import FinetuneConfig
    from slimdeploy.lineage import config_dict, versions

    plain = {
        "schema": 1, "stage": "finetune", "fingerprint": HASH, "config": config_dict(FinetuneConfig()),
        "inputs": {"weights": {"name": "w.pt", "sha256": HASH}}, "paths": {"weights": "/w.pt"}, "out": "/out",
        "versions": versions(),
    }  # fmt: skip
    return (json.dumps(plain).encode(),)
