"""Which graphs a target gets."""

from __future__ import annotations

import dataclasses

import pytest

from slimdeploy.configs import ExportConfig
from slimdeploy.errors import UsageError
from slimdeploy.stages._forms import forms_for
from slimdeploy.targets import list_targets, load_target

INT8 = ExportConfig(precision="int8")


def told(name, config=INT8):
    return [(form.file, form.opset) for form in forms_for(load_target(name), config)]


@pytest.mark.parametrize(
    ("name", "graphs"),
    [
        pytest.param("cpu", [("model.int8.onnx", 17), ("model.fp32.onnx", 17)], id="a CPU"),
        pytest.param("xavier-nx", [("model.int8.onnx", 13), ("model.fp16.onnx", 13)], id="TensorRT 8 alone"),
        pytest.param(
            "orin-nx-16gb",
            [("model.int8.onnx", 17), ("model.int8-fp16.onnx", 19), ("model.fp16.onnx", 17)],
            id="TensorRT 8 and 10",
        ),
        pytest.param("thor-t5000", [("model.int8-fp16.onnx", 19), ("model.fp16.onnx", 17)], id="TensorRT 10 alone"),
        pytest.param(
            "cuda",
            [("model.int8.onnx", 17), ("model.int8-fp16.onnx", 19), ("model.fp16.onnx", 17)],
            id="any TensorRT",
        ),
    ],
)
def test_int8_comes_in_the_forms_that_the_targets_tensorrt_builds_with_a_float_graph_beside_it(name, graphs):
    assert told(name) == graphs


@pytest.mark.parametrize(
    "target", [one for one in list_targets() if "int8" in one.precisions], ids=lambda one: one.name
)
def test_every_int8_bundle_holds_a_float_graph(target):
    forms = forms_for(target, INT8)
    assert forms[0].precision == "int8"
    assert forms[-1].precision in ("fp16", "fp32")


def test_weights_are_stored_in_pairs_for_tensorrt_8_alone():
    assert [form.weights_in_pairs for form in forms_for(load_target("orin-nx-16gb"), INT8)] == [True, False, False]
    assert not any(form.weights_in_pairs for form in forms_for(load_target("cpu"), INT8))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_float_export_is_one_graph(precision):
    assert told("jetson", ExportConfig(precision=precision)) == [(f"model.{precision}.onnx", 13)]


def test_an_opset_that_was_asked_for_is_taken():
    assert told("orin-nx-16gb", ExportConfig(opset=15)) == [("model.fp32.onnx", 15)]


def test_an_opset_above_the_targets_is_refused():
    with pytest.raises(UsageError, match=r"opset 17 is above what the target jetson reads; wanted: 13 or less"):
        forms_for(load_target("jetson"), ExportConfig(opset=17))


def test_a_config_below_the_least_opset_is_refused():
    with pytest.raises(UsageError, match="opset 9"):
        dataclasses.replace(INT8, opset=9)
