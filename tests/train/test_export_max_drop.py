"""An int8 export that is held to its accuracy: what returns to float is in the graph and on record, or nothing is."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import onnx
import pytest

from slimdeploy.accuracy.matches import Matches
from slimdeploy.bundle import verify
from slimdeploy.cli import main
from slimdeploy.configs import ExportConfig
from slimdeploy.records import Accuracy
from slimdeploy.stages import _int8, _sensitivity
from slimdeploy.stages._accuracy_gate import Gate, Score
from slimdeploy.stages.export import export
from slimdeploy.targets import load_target

CONFIG = ExportConfig(precision="int8", imgsz=(64, 64), calibration_images=4, check_images=1, max_drop=0.5)
WORST = ("/model.0/conv/Conv", "/model.1/conv/Conv", "/model.2/cv1/conv/Conv")


def scored(needed):
    """Scores in place of those of a trained network: int8 holds once `needed` convolutions are float again.

    Of 40 images with an object each, the graph finds all, or leaves out every sixth.
    """

    def score(self, artifact):
        model = onnx.load(artifact.path)
        stored = {i.name for i in model.graph.initializer}
        back = [n.name for n in model.graph.node if n.name in WORST and n.input[1] in stored]
        holds = artifact.precision != "int8" or len(back) >= needed
        accuracy = Accuracy(
            map50=0.9, map50_95=0.6 if holds else 0.5, precision=0.9, recall=0.9, per_class={}, images=40, boxes=40,
            data="tiny (val)",
        )  # fmt: skip
        return Score(accuracy=accuracy, matches=matches(40 if holds else 33))

    return score


def matches(hits):
    """Return the matches of a detector that is right in the first `hits` of 40 images and finds nothing in others."""
    return Matches(
        image=np.arange(hits, dtype=np.int32),
        labels=np.zeros(hits, dtype=np.int16),
        scores=np.full(hits, 0.9, dtype=np.float32),
        hits=np.full(hits, 0x3FF, dtype=np.uint16),
        objects=np.ones((40, 1), dtype=np.int32),
        truths="the same",
    )


@pytest.fixture
def ranked(monkeypatch):
    """A ranking in place of some sixty sessions; `rank` itself is tested on a small network."""

    def rank(model, limits, inputs):
        assert set(WORST) < set(_int8.quantisable(model))
        return tuple(
            _sensitivity.Layer(node=name, damage=0.3 - 0.1 * place, share=0.1) for place, name in enumerate(WORST)
        )

    monkeypatch.setattr(_sensitivity, "rank", rank)
    monkeypatch.setattr(_sensitivity, "JointDamage", lambda *args: lambda keep: 0.2 if len(keep) < 2 else 0.001)


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
    assert told["drop_interval"] == {"model.int8.onnx": [0.0, 0.0], "model.int8-fp16.onnx": [0.0, 0.0]}
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
    error = capsys.readouterr().err
    assert re.search(r"int8 loses 1\d\.\d\d points of mAP50-95 \[\d", error)
    assert "with 2 layers (20% of the arithmetic) in float" in error
    assert list(tmp_path.iterdir()) == []
