"""Explicit Q/DQ: symmetric int8, float biases and head, one scale for both inputs of a residual sum."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from small_detector import concat_detector, residual_detector

from slimdeploy.stages import _int8, _ranges
from slimdeploy.stages._float16 import DECODING


@pytest.fixture
def detector():
    return residual_detector()


@pytest.fixture
def images():
    return np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)


@pytest.fixture
def limits(detector, images):
    found = _ranges.observe(detector, _int8.observed(detector), [images])
    return {name: one.peak for name, one in found.items()}


def run(model, images):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


def stored(model):
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def made_by(model):
    return {output: node for node in model.graph.node for output in node.output}


def test_the_head_is_found_from_the_output_back_to_its_last_convolution(detector):
    assert {one.node: one.why for one in _int8.head(detector)} == {
        "output": _int8.OUTPUT_CONV, "squash": DECODING, "average": DECODING, "place": DECODING,
    }  # fmt: skip


def test_what_int8_can_take_is_every_other_convolution_and_residual_sum(detector):
    assert _int8.quantisable(detector) == ("stem", "one", "sum1", "two", "sum2")
    assert _int8.observed(detector) == ("images", "stem", "a", "s", "c")


@pytest.mark.parametrize("pairs", [False, True])
def test_the_graph_is_valid_and_computes_nearly_the_same(detector, limits, images, pairs):
    made = _int8.quantised(detector, limits, weights_in_pairs=pairs)
    onnx.checker.check_model(made, full_check=True)
    assert np.abs(run(made, images) - run(detector, images)).max() < 0.1 * np.ptp(run(detector, images))


@pytest.mark.parametrize("pairs", [False, True])
def test_all_scales_are_symmetric_int8_and_weights_have_one_for_each_channel(detector, limits, pairs):
    made = _int8.quantised(detector, limits, weights_in_pairs=pairs)
    values = stored(made)
    nodes = [node for node in made.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    zero_points = [values[node.input[2]] for node in nodes]
    assert {zero.dtype for zero in zero_points} == {np.dtype(np.int8)}
    assert not any(zero.any() for zero in zero_points)
    weights = [n for n in nodes if n.op_type == "DequantizeLinear" and values[n.input[1]].ndim == 1]
    assert {values[n.input[1]].shape for n in weights} == {(4,)}
    assert len(weights) == 3


def test_biases_and_the_head_stay_float(detector, limits):
    makers = made_by(made := _int8.quantised(detector, limits))
    for node in made.graph.node:
        if node.op_type == "Conv" and len(node.input) == 3:
            assert node.input[2] not in makers, "a bias is computed"
        if node.name in ("output", "average"):
            assert node.input[1] in stored(detector)
    assert made_by(made)["logits"].input[0] == "t"


def test_both_inputs_of_a_residual_sum_share_a_scale(detector, limits):
    made = _int8.quantised(detector, limits)
    makers, values = made_by(made), stored(made)
    for name in ("sum1", "sum2"):
        node = next(n for n in made.graph.node if n.name == name)
        left, right = (values[makers[one].input[1]] for one in node.input)
        assert left == right


@pytest.mark.parametrize(("bits", "largest"), [(8, 127), (7, 64)])
def test_weights_of_7_bits_leave_room_for_a_sum_of_two_products_in_16(detector, limits, bits, largest):
    values = stored(_int8.quantised(detector, limits, weight_bits=bits))
    weights = [v for v in values.values() if v.dtype == np.int8 and v.ndim == 4]
    assert max(int(np.abs(v.astype(int)).max()) for v in weights) == largest
    assert 2 * 64 * 255 <= 2**15 - 1


def test_a_node_that_is_kept_has_a_float_weight_again(detector, limits):
    made = _int8.quantised(detector, limits, ["two"])
    assert next(n for n in made.graph.node if n.name == "two").input[1] == "w2"
    assert "w1" not in stored(made)


def test_weights_in_pairs_stay_float_and_are_quantised_in_the_graph(detector, limits):
    made = _int8.quantised(detector, limits, weights_in_pairs=True)
    assert stored(made)["w1"].dtype == np.float32
    assert any(n.op_type == "QuantizeLinear" and n.input[0] == "w1" for n in made.graph.node)


def test_a_channel_without_weights_gets_a_scale_that_float16_holds(detector, limits):
    tensor = next(i for i in detector.graph.initializer if i.name == "w1")
    values = numpy_helper.to_array(tensor).copy()
    values[0] = 0
    tensor.CopyFrom(numpy_helper.from_array(values, "w1"))
    scales = [v for name, v in stored(_int8.quantised(detector, limits)).items() if name.endswith("scale")]
    assert min(float(scale.min()) for scale in scales) >= 2.0**-14


def test_the_float32_graph_is_left_as_it_was(detector, limits):
    before = detector.SerializeToString()
    _int8.quantised(detector, limits)
    assert detector.SerializeToString() == before


def test_for_cpus_openvino_finds_behind_a_concat_what_onnx_runtime_finds():
    openvino = pytest.importorskip("openvino")
    detector, images = concat_detector(), np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)
    found = _ranges.observe(detector, _int8.observed(detector), [images])
    made = _int8.quantised(detector, {name: one.peak for name, one in found.items()}, weight_bits=7)
    core = openvino.Core()
    network = core.compile_model(core.read_model(made.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    exact, expected = run(detector, images), run(made, images)
    lost = np.abs(expected - exact).mean()
    assert 0 < lost < 0.05 * np.abs(exact).mean()
    assert np.abs(np.array(network(images)[0]) - exact).mean() < 1.1 * lost


def test_for_cpus_activations_are_unsigned_around_128_and_weights_have_seven_bits(detector, limits):
    made = _int8.quantised(detector, limits, weight_bits=7)
    values = stored(made)
    points = {values[n.input[2]].item() for n in made.graph.node if n.op_type == "QuantizeLinear"}
    assert points == {128}
    weights = [values[n.input[0]] for n in made.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in values]
    assert {one.dtype.name for one in weights} == {"int8"}
    assert max(int(np.abs(one).max()) for one in weights) == 64
