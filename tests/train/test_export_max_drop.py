"""An int8 export that is held to its accuracy: what returns to float is in the graph and on record, or nothing is."""

from __future__ import annotations

import json
import sys

import onnx
import pytest

from slimdeploy.bundle import verify
from slimdeploy.cli import main
from slimdeploy.configs import ExportConfig
from slimdeploy.records import Accuracy
from slimdeploy.stages import _int8, _sensitivity
from slimdeploy.stages._accuracy_gate import Gate
from slimdeploy.stages.export import export
from slimdeploy.targets import load_target

CONFIG = ExportConfig(precision="int8", imgsz=(64, 64), calibration_images=4, check_images=1, max_drop=0.5)
WORST = ("/model.0/conv/Conv", "/model.1/conv/Conv", "/model.2/cv1/conv/Conv")


def scored(needed):
    """Scores in place of those of a trained network: int8 holds once `needed` convolutions are float again."""

    def score(self, artifact):
        model = onnx.load(artifact.path)
        stored = {i.name for i in model.graph.initializer}
        back = [n.name for n in model.graph.node if n.name in WORST and n.input[1] in stored]
        holds = artifact.precision != "int8" or len(back) >= needed
        return Accuracy(
            map50=0.9, map50_95=0.6 if holds else 0.5, precision=0.9, recall=0.9, per_class={}, images=8, boxes=8,
            data="tiny (val)",
        )  # fmt: skip

    return score


@pytest.fixture
def ranked(monkeypatch):
    """A ranking in place of some sixty sessions; `rank` itself is tested on a small network."""

    def rank(model, limits, inputs):
        assert set(WORST) < set(_int8.quantisable(model))
        return tuple(
            _sensitivity.Layer(node=name, damage=0.3 - 0.1 * place, share=0.1) for place, name in enumerate(WORST)
        )

    monkeypatch.setattr(_sensitivity, "rank", rank)


def test_layers_return_until_it_holds_and_the_bundle_tells_which(
    tiny_weights, tiny_data, tmp_path, monkeypatch, ranked
):
    monkeypatch.setattr(Gate, "_score_file", scored(2))
    target = load_target("orin-nx-16gb")
    bundle = export(tiny_weights, target, CONFIG, tmp_path / "bundle", data=tiny_data)
    manifest = verify(bundle)
    told = manifest["accuracy"]
    assert told["returned"] == list(WORST[:2])
    assert told["drop_points"] == {"model.int8.onnx": 0.0, "model.int8-fp16.onnx": 0.0}
    whys = {one["node"]: one["why"] for one in manifest["model"]["float_nodes"]}
    assert [whys[name] for name in WORST[:2]] == ["returned to float for accuracy"] * 2
    layers = json.loads((bundle / "sensitivity.json").read_text(encoding="utf-8"))["layers"]
    assert [layer["returned"] for layer in layers] == [True, True, False]


def test_where_it_cannot_hold_the_export_ends_with_5_and_no_bundle(
    tiny_weights, tiny_data, tmp_path, monkeypatch, capsys, ranked
):
    monkeypatch.setattr(Gate, "_score_file", scored(9))
    flags = ["--precision", "int8", "--imgsz", "64", "--calibration-images", "4", "--max-drop", "0.5"]
    argv = ["slimdeploy", "export", tiny_weights, *flags, "--data", tiny_data, "--out", tmp_path / "bundle"]
    monkeypatch.setattr(sys, "argv", [str(one) for one in argv])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 5
    assert "int8 loses 10.00 points of mAP50-95 (0.6000 to 0.5000)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
