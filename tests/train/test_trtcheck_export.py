"""NVIDIA's own parser reads every form of a YOLOv8n that is exported for its boards, and a refusal stops the export."""

from __future__ import annotations

import json
import sys

import numpy as np
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


@needs_parser
@pytest.mark.parametrize("weights", ["dense", "pruned"], indirect=True)
def test_both_int8_graphs_of_a_yolov8n_are_accepted_and_built(weights, tiny_data, tmp_path):
    config = ExportConfig(imgsz=(64, 64), precision="int8", check_images=2, calibration_images=4)
    bundle = export(weights, load_target("orin-nx-16gb"), config, tmp_path / "bundle", data=tiny_data)
    graphs = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["graphs"]
    assert {graph["file"]: graph["nvidia_parser"] for graph in graphs} == {
        "model.int8.onnx": "accepted", "model.int8-fp16.onnx": "accepted", "model.fp16.onnx": "accepted",
    }  # fmt: skip
    for graph in graphs[:2]:
        assert check_graph(bundle / graph["file"], build=True).built


@needs_parser
def test_onnx_runtimes_default_quantisation_is_refused_with_the_parsers_own_message(tiny_weights, tmp_path):
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Images(CalibrationDataReader):
        left = 1

        def get_next(self):
            self.left -= 1
            return {"images": np.ones((1, 3, 64, 64), np.float32)} if self.left >= 0 else None

    bundle = export(tiny_weights, load_target("cpu"), ExportConfig(imgsz=(64, 64), check_images=2), tmp_path / "bundle")
    quantize_static(bundle / "model.fp32.onnx", tmp_path / "default.onnx", Images(), op_types_to_quantize=["Conv"])
    verdict = check_graph(tmp_path / "default.onnx")
    assert verdict.outcome == "refused"
    said = str(verdict.complaints[0])
    assert said.startswith("INVALID_NODE at QuantizeLinear 'images_QuantizeLinear'")
    assert "Non-zero zero point is not supported" in said


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
