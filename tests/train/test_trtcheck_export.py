"""NVIDIA's own parser reads every form of a YOLOv8n that is exported for its boards, and a refusal stops the export."""

from __future__ import annotations

import json
import sys

import onnx
import pytest

from slimdeploy.bundle import trtcheck
from slimdeploy.bundle.trtcheck import check_graph
from slimdeploy.cli import main
from slimdeploy.configs import ExportConfig, PruneConfig
from slimdeploy.stages import _graph
from slimdeploy.stages.export import export
from slimdeploy.stages.prune import prune
from slimdeploy.targets import load_target

WHY_NOT = trtcheck._why_not()
needs_parser = pytest.mark.skipif(bool(WHY_NOT), reason=f"NVIDIA's parser is not here: {WHY_NOT}")


@pytest.fixture(scope="module")
def pruned(tiny_weights, tmp_path_factory):
    return prune(tiny_weights, PruneConfig(channels=0.5, imgsz=64), tmp_path_factory.mktemp("pruned") / "p")


@pytest.fixture
def weights(request, tiny_weights):
    return tiny_weights if request.param == "dense" else request.getfixturevalue("pruned")


@needs_parser
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("weights", ["dense", "pruned"], indirect=True)
def test_an_exported_yolov8n_is_accepted_and_built(weights, precision, tmp_path):
    config = ExportConfig(imgsz=(64, 64), precision=precision, check_images=2)
    bundle = export(weights, load_target("jetson"), config, tmp_path / "bundle")
    board = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["board"]
    assert board["nvidia_parser"] == "accepted"
    assert board["nvidia_parser_version"].startswith("TensorRT-RTX 1.")
    assert check_graph(bundle / f"model.{precision}.onnx", build=True).built


def invoke(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["slimdeploy", "export", *map(str, arguments), "--imgsz", "64"])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, capsys.readouterr()


@needs_parser
def test_a_graph_that_the_parser_refuses_ends_with_its_message_and_no_bundle(
    tiny_weights, tmp_path, monkeypatch, capsys
):
    finish = _graph.finish

    def finish_with_nonzero(model, path, *rest):
        finish(model, path, *rest)
        written = onnx.load(path)
        written.graph.node.append(onnx.helper.make_node("NonZero", ["output0"], ["found"], name="find"))
        onnx.save(written, path)

    monkeypatch.setattr(_graph, "finish", finish_with_nonzero)
    code, printed = invoke(monkeypatch, capsys, tiny_weights, "--target", "jetson", "--out", tmp_path / "bundle")
    assert code == 5
    (line,) = [line for line in printed.err.splitlines() if "refuses" in line]
    assert "model.fp32.onnx: UNSUPPORTED_NODE at NonZero 'find': Assertion failed" in line
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_without_the_parser_the_export_says_so_and_names_the_pip_line(tiny_weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trtcheck, "is_installed", lambda _module: False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(trtcheck.platform, "machine", lambda: "x86_64")
    code, printed = invoke(monkeypatch, capsys, tiny_weights, "--target", "jetson", "--out", tmp_path / "bundle")
    assert code == 0
    (line,) = [line for line in printed.out.splitlines() if line.startswith("parser:")]
    assert line == (
        'parser: NVIDIA\'s was not run: the extra trtcheck is not installed: pip install "slimdeploy[trtcheck]"'
    )


def test_for_a_cpu_the_parser_is_not_asked_and_not_spoken_of(tiny_weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trtcheck, "check_graph", lambda _graph: pytest.fail("asked"))
    code, printed = invoke(monkeypatch, capsys, tiny_weights, "--json", "--out", tmp_path / "bundle")
    assert code == 0
    board = json.loads(printed.out)["board"]
    assert board["nvidia_parser"] == "not run"
    assert board["nvidia_parser_reason"] == "a target of the kind cpu has no TensorRT"
