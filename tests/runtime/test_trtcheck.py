"""NVIDIA's own parser, without a GPU: what it accepts and builds, and what it refuses in which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from slimdeploy.bundle import trtcheck
from slimdeploy.bundle.trtcheck import check_graph

WHY_NOT = trtcheck._why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"NVIDIA's parser is not here: {WHY_NOT}")


def quantise(source: Path, out: Path, **options) -> Path:
    """Quantise a graph to int8 Q/DQ with ONNX Runtime's static quantizer."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            images = np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)
            self.left = iter([{"images": images}])

        def get_next(self):
            return next(self.left, None)

    quantization.quantize_static(str(source), str(out), Reader(), **options)
    return out


def symmetric(source: Path, out: Path) -> Path:
    """Quantise as TensorRT reads it: symmetric int8, weights per channel, no quantised bias."""
    from onnxruntime.quantization import QuantType

    extra = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    return quantise(source, out, per_channel=True, activation_type=QuantType.QInt8, extra_options=extra)


def write_nonzero(path: Path) -> Path:
    """Write a graph of one operator that TensorRT-RTX does not have."""
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["images"], ["found"], name="find")],
        "nonzero",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("found", TensorProto.INT64, [4, None])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_an_ordinary_graph_is_accepted_and_built(conv_model):
    verdict = check_graph(conv_model(), build=True)
    assert (verdict.outcome, verdict.complaints, verdict.reason, verdict.built) == ("accepted", (), "", True)
    assert verdict.parser.startswith("TensorRT-RTX 1.")


def test_onnx_runtimes_default_quantisation_is_refused_in_the_parsers_own_words(conv_model, tmp_path):
    verdict = check_graph(quantise(conv_model(), tmp_path / "int8.onnx"))
    assert verdict.outcome == "refused"
    complaint = verdict.complaints[0]
    assert (complaint.code, complaint.operator) == ("INVALID_NODE", "QuantizeLinear")
    assert complaint.node == "images_QuantizeLinear"
    assert "Non-zero zero point is not supported" in complaint.description


def test_symmetric_int8_without_quantised_bias_is_accepted_and_built(conv_model, tmp_path):
    verdict = check_graph(symmetric(conv_model(), tmp_path / "int8.onnx"), build=True)
    assert (verdict.outcome, verdict.complaints, verdict.built) == ("accepted", (), True)


def test_an_operator_that_it_does_not_have_is_refused_by_name(tmp_path):
    (complaint,) = check_graph(write_nonzero(tmp_path / "nonzero.onnx"), build=True).complaints
    assert (complaint.code, complaint.node, complaint.operator) == ("UNSUPPORTED_NODE", "find", "NonZero")
    assert "NonZero plugin" in complaint.description


def test_a_file_that_is_no_graph_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    verdict = check_graph(tmp_path / "model.onnx")
    assert verdict.outcome == "refused"
    assert verdict.complaints[0].description != ""


def test_a_missing_file_is_refused(tmp_path):
    (complaint,) = check_graph(tmp_path / "nowhere.onnx").complaints
    assert "cannot be found" in complaint.description


def test_a_library_that_does_not_load_is_reported_and_accepts_nothing(conv_model, tmp_path, monkeypatch):
    package = tmp_path / "onnxruntime_ep_nv_tensorrt_rtx"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "libtensorrt_rtx.so.9").write_bytes(b"no library")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    verdict = check_graph(conv_model())
    assert verdict.outcome == "not run"
    assert "libtensorrt_rtx.so.9" in verdict.reason
