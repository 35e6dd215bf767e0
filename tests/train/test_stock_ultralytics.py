"""A pruned file in an environment where slimdeploy cannot be imported: an ordinary ultralytics checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from slimdeploy.configs import PruneConfig
from slimdeploy.stages.prune import prune
from slimdeploy.yolo import checkpoint

SIDE = 64

BLOCKED = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("slimdeploy", "torch_pruning"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
try:
    import slimdeploy
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("slimdeploy can be imported")
from ultralytics import YOLO
weights, data, image = sys.argv[1:]
model = YOLO(weights)
"""

USES = """
parameters = lambda: sum(p.numel() for p in model.model.parameters())
found = {"parameters": parameters()}
found["predicted"] = list(model.predict(image, imgsz=64, conf=0.0, verbose=False)[0].boxes.data.shape)
model = YOLO(weights)  # predicting folds BatchNorm
scores = model.val(data=data, imgsz=64, batch=8, workers=0, plots=False, verbose=False, project="runs")
found["map"] = float(scores.box.map)
found["onnx"] = YOLO(weights).export(format="onnx", imgsz=64, simplify=False, verbose=False)
print("FOUND" + json.dumps(found))
"""

TRAINS = """
try:
    model.train(data=data, epochs=1, imgsz=64, batch=8, workers=0, plots=False, amp=False, project="runs")
except KeyError as error:
    print("REFUSED" + str(error))
else:
    print("TRAINED" + str(sum(p.numel() for p in model.model.parameters())))
"""


@pytest.fixture(scope="module")
def pruned(tiny_weights, tmp_path_factory):
    return prune(tiny_weights, PruneConfig(channels=0.5, imgsz=SIDE), tmp_path_factory.mktemp("stock") / "pruned")


@pytest.fixture
def stock_python(pruned, tiny_data, tmp_path):
    """Run a script after `BLOCKED`, isolated from this checkout, and return its stdout."""
    shutil.copytree(tiny_data.parent, tmp_path / "data")
    weights = shutil.copy(pruned, tmp_path / "pruned.pt")
    data, image = tmp_path / "data" / "data.yaml", tmp_path / "data" / "images" / "val" / "0.png"
    data.write_text(f"path: {tmp_path / 'data'}\n" + data.read_text(encoding="utf-8"), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "YOLO_CONFIG_DIR": str(tmp_path), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false",
    }  # fmt: skip

    def run(script):
        done = subprocess.run(
            [sys.executable, "-I", "-c", BLOCKED + script, str(weights), str(data), str(image)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_stock_ultralytics_predicts_validates_and_exports_a_pruned_file(stock_python, pruned, tmp_path):
    found = json.loads(stock_python(USES).partition("FOUND")[2])
    assert found["parameters"] == checkpoint.load(pruned)[1].parameters
    assert found["predicted"][1] == 6  # x, y, x, y, score, class
    assert 0 <= found["map"] <= 1
    assert (tmp_path / "pruned.onnx").stat().st_size > 4 * 0.9 * found["parameters"]
    assert found["onnx"].endswith("pruned.onnx")


def test_stock_training_of_a_pruned_file_fails_and_names_slimdeploy_finetune(stock_python, tmp_path):
    said = stock_python(TRAINS)
    assert "slimdeploy finetune" in said.partition("REFUSED")[2]
    assert "TRAINED" not in said
    assert list(tmp_path.rglob("runs/**/*.pt")) == []
