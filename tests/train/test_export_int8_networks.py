"""An int8 export of every task and family: calibrated on that task's labels, and at any batch and shape it runs."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from agent_process import run_agent
from small_bundle import put
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.tasks import guess_model_task, yaml_model_load

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.backends.registry import backend_for
from slimdeploy.bundle import verify
from slimdeploy.configs import ExportConfig
from slimdeploy.errors import UsageError
from slimdeploy.stages.export import export
from slimdeploy.targets import load_target
from slimdeploy.yolo import checkpoint

KINDS = {
    "detect": tasks.DetectionModel,
    "segment": tasks.SegmentationModel,
    "pose": tasks.PoseModel,
    "obb": tasks.OBBModel,
    "classify": tasks.ClassificationModel,
}
CLASSES = ("car", "van")
ROWS = {
    "detect": "{} 0.5 0.5 0.2 0.2\n",
    "segment": "{} 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6 0.3 0.5\n",
    "pose": "{} 0.5 0.5 0.2 0.2" + " 0.5 0.4 2" * 17 + "\n",
    "obb": "{} 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6\n",
    "classify": "",
}


def write_weights(name, folder):
    """Write a network of two classes with new weights and lively, bounded BatchNorm statistics."""
    known = yaml_model_load(f"{name}.yaml")
    task = guess_model_task(known)
    torch.manual_seed(0)
    module = KINDS[task](known, nc=len(CLASSES), verbose=False)
    module.task, module.names = task, dict(enumerate(CLASSES))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data = 0.5 + torch.rand(layer.num_features)
            layer.bias.data = 0.2 * torch.randn(layer.num_features)
    checkpoint.save(module, folder / "net.pt", origin={})
    return folder / "net.pt", task


def write_data(task, folder):
    """Write four images to train on and one to score, with labels as the task has them."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 1)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(folder / "images" / split / f"{i}.png"), rng.integers(0, 256, (64, 96, 3), dtype=np.uint8))
            (folder / "labels" / split / f"{i}.txt").write_text(ROWS[task].format(i % 2), encoding="utf-8")
    more = "kpt_shape: [17, 3]\n" if task == "pose" else ""
    text = f"train: images/train\nval: images/val\nnames: [{', '.join(CLASSES)}]\n{more}"
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return folder / "data.yaml"


def outputs_of(path, images, backend):
    artifact = read_artifact(path)
    session = backend_for(artifact, backend).open(artifact, threads=1)
    outputs = {name: np.array(value) for name, value in session.run({"images": images}).items()}
    session.close()
    return outputs


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        pytest.param("yolov8n-seg", {"imgsz": (64, 96)}, id="segment"),
        pytest.param("yolov8n-pose", {"imgsz": (96, 64), "batch": 2, "dynamic_batch": True}, id="pose, dynamic batch"),
        pytest.param("yolov8n-obb", {"imgsz": (64, 96), "batch": 2}, id="obb, batch of 2"),
        pytest.param("yolov8n-cls", {"imgsz": (64, 64), "batch": 2, "dynamic_batch": True}, id="classify"),
        pytest.param("yolov8n-p2", {"imgsz": (64, 96)}, id="a P2 head"),
        pytest.param("yolov8n-p6", {"imgsz": (64, 128), "batch": 2, "dynamic_batch": True}, id="a P6 head"),
        pytest.param("yolo11n", {"imgsz": (64, 96), "batch": 2, "dynamic_batch": True}, id="YOLO11"),
        pytest.param("yolo26n-seg", {"imgsz": (96, 64), "batch": 2}, id="YOLO26"),
    ],
)
def test_an_int8_graph_of_any_network_runs_on_both_runtimes_near_its_float_one(name, settings, tmp_path):
    weights, task = write_weights(name, tmp_path)
    data = write_data(task, tmp_path / "data")
    config = ExportConfig(precision="int8", calibration_images=4, check_images=2, **settings)
    bundle = export(weights, load_target("cpu-openvino"), config, tmp_path / "bundle", data=data)
    manifest = verify(bundle)
    shown = {"no object": 4} if task == "classify" else {"car": 2, "van": 2}
    assert manifest["calibration"]["classes"] == shown
    images = np.random.default_rng(1).random((config.batch, 3, *config.imgsz), dtype=np.float32)
    exact = outputs_of(bundle / "model.fp32.onnx", images, "onnxruntime")
    for backend in ("onnxruntime", "openvino"):
        found = outputs_of(bundle / "model.int8.onnx", images, backend)
        assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in exact.items()}
        for key, values in exact.items():
            error = np.sqrt(np.mean((found[key] - values) ** 2))
            assert 0 < error < 0.05 * np.sqrt(np.mean(values**2)), (backend, key)
    if config.dynamic_batch:
        alone = outputs_of(bundle / "model.int8.onnx", images[1:], "onnxruntime")
        together = outputs_of(bundle / "model.int8.onnx", images, "onnxruntime")
        assert all(np.allclose(alone[key][0], together[key][1], atol=1e-3) for key in alone)


def test_a_bound_on_the_drop_is_for_detectors_and_refused_before_any_work(tmp_path):
    weights, task = write_weights("yolov8n-seg", tmp_path)
    data = write_data(task, tmp_path / "data")
    config = ExportConfig(precision="int8", imgsz=(64, 64), max_drop=0.5)
    with pytest.raises(UsageError, match="task 'segment'; wanted: a detector, whose boxes can be scored; do: leave"):
        export(weights, load_target("cpu"), config, tmp_path / "out" / "bundle", data=data)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("network", ["yolov8n-cls", "yolov8n-seg", "yolov8n-pose", "yolov8n-obb", "yolo26n-pose"])
def test_the_agent_holds_a_network_of_another_task_to_the_rows_of_its_output(network, tmp_path):
    weights, task = write_weights(network, tmp_path)
    config = ExportConfig(imgsz=(64, 64), check_images=1)
    bundle = export(weights, load_target("cpu"), config, tmp_path / "bundle")
    good = run_agent(bundle, "check")
    assert (good.code, good.told["what"], good.told["missing"]) == (0, "rows", 0), good.err
    assert good.told["expected"] == (1 if task == "classify" else 50)
    golden = json.loads((bundle / "golden" / "expected.json").read_text(encoding="utf-8"))
    golden["rows"][0][-1] += 0.5
    put(bundle, "golden/expected.json", json.dumps(golden).encode())
    bad = run_agent(bundle, "check")
    assert (bad.code, "rows 1 are missing" in bad.err) == (5, True), bad.err
    if task != "classify":
        assert "manifest.json says what each value" in run_agent(bundle, "run", str(bundle)).err
