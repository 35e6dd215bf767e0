"""A float32 graph becomes a typed float16 one that is valid, runs, and stays float32 where it must."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from slimdeploy.stages import _float16, _graph


def weight(name, *shape, scale=0.1):
    values = np.random.default_rng(len(name)).normal(0, scale, shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


@pytest.fixture
def detector():
    """A head in small: a convolution, an upsampling, and a decoding with a convolution without bias in it."""
    nodes = [
        helper.make_node("Conv", ["images", "w", "b"], ["features"], name="backbone", pads=[1, 1, 1, 1]),
        helper.make_node("Resize", ["features", "", "scales"], ["large"], name="upsample", mode="nearest"),
        helper.make_node("Conv", ["large", "w2", "b2"], ["logits"], name="head"),
        helper.make_node("Reshape", ["logits", "shape"], ["rows"], name="move"),
        helper.make_node("Sigmoid", ["rows"], ["shares"], name="squash"),
        helper.make_node("Conv", ["shares", "mean"], ["distance"], name="average"),
        helper.make_node("Mul", ["distance", "stride"], ["output0"], name="scale"),
    ]
    stored = [
        weight("w", 4, 3, 3, 3), weight("b", 4), weight("w2", 4, 4, 1, 1), weight("b2", 4), weight("mean", 1, 4, 1, 1),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
        numpy_helper.from_array(np.array([1, 4, 16, 16], np.int64), "shape"),
        numpy_helper.from_array(np.array(640, np.float32), "stride"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 1, 16, 16])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture
def images():
    return np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)


def run(model, images):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


def types(model):
    """Element type of every activation, by name."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.input, *graph.output]}


def test_what_decodes_is_found_behind_the_last_convolution_with_a_bias(detector):
    assert [one.node for one in _float16.decoding(detector)] == ["squash", "average", "scale"]


def test_convolutions_become_float16_and_the_decoding_stays_float32(detector):
    found = types(_float16.to_float16(detector, [one.node for one in _float16.decoding(detector)]))
    assert {found[name] for name in ("features", "large", "logits", "rows")} == {TensorProto.FLOAT16}
    assert {found[name] for name in ("images", "shares", "distance", "output0")} == {TensorProto.FLOAT}


@pytest.mark.parametrize("keep", [(), ("head",), ("backbone", "upsample"), ("squash", "average", "scale")])
def test_any_mixture_is_valid_onnx_with_float32_ends_and_nearly_the_same_output(detector, images, keep):
    typed = _float16.to_float16(detector, keep)
    onnx.checker.check_model(typed, full_check=True)
    found, expected = run(typed, images), run(detector, images)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 0.5  # of values up to 640


def test_the_float32_graph_is_left_as_it_was(detector):
    before = detector.SerializeToString()
    _float16.to_float16(detector, ())
    assert detector.SerializeToString() == before


def test_a_tensor_that_several_nodes_take_is_cast_once(detector):
    detector.graph.node.extend(
        [
            helper.make_node("Sigmoid", ["features"], ["gate"], name="gate"),
            helper.make_node("Mul", ["features", "gate"], ["gated"], name="gated"),
        ]
    )
    typed = _float16.to_float16(detector, ("gate", "gated"))
    assert [n.input[0] for n in typed.graph.node if n.op_type == "Cast"].count("features") == 1


def test_activations_that_float16_cannot_hold_are_found_and_stay_float32(detector, images):
    stored = next(i for i in detector.graph.initializer if i.name == "b")
    stored.CopyFrom(numpy_helper.from_array(np.array([90_000, 0, 0, 0], np.float32), "b"))
    peaks = _graph.activation_peaks(detector, [images])
    assert peaks["features"] == pytest.approx(90_000, rel=1e-3)
    kept = {one.node: one.why for one in _float16.overflowing(detector, peaks)}
    assert set(kept) == {"backbone", "upsample", "head"}
    assert "reaches 900" in kept["backbone"]
    decoding = [one.node for one in _float16.decoding(detector)]
    assert np.isfinite(run(_float16.to_float16(detector, [*kept, *decoding]), images)).all()


def test_a_weight_that_float16_cannot_hold_is_found(detector):
    stored = next(i for i in detector.graph.initializer if i.name == "w2")
    stored.CopyFrom(numpy_helper.from_array(np.full((4, 4, 1, 1), 70_000, np.float32), "w2"))
    assert [(one.node, one.why) for one in _float16.overflowing(detector, {})] == [("head", "a weight of 70000")]


def test_peaks_are_the_largest_magnitudes_over_all_images(detector, images):
    low, high = (_graph.activation_peaks(detector, [x])["features"] for x in (images, images * 100))
    both = _graph.activation_peaks(detector, [images, images * 100])["features"]
    assert both == max(low, high) > low
