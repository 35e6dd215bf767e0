"""Which graphs a target gets."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from pathlib import Path

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


def test_weights_for_cpus_have_seven_bits_since_some_have_no_vnni():
    assert [forms_for(load_target(name), INT8)[0].weight_bits for name in ("cpu", "cpu-openvino")] == [7, 7]
    assert {form.weight_bits for form in forms_for(load_target("orin-nx-16gb"), INT8)} == {8}


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


def test_the_readmes_table_says_what_every_target_gets():
    text = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.split("| target | `--precision int8` writes |")[1].splitlines()[2:7]]
    told: dict[str, set[str]] = {}
    above: set[str] = set()
    for row in rows:
        names, graphs, beside = row.strip("|").split("|")
        above = set(re.findall(r"`(model[^`]+)`", graphs)) | (above if "the same" in graphs else set())
        files = above | set(re.findall(r"`(model[^`]+)`", beside))
        for pattern in re.findall(r"`([^`]+)`", names):
            matched = [one.name for one in list_targets() if fnmatch.fnmatch(one.name, pattern)]
            told |= dict.fromkeys(matched, files)
        above -= {"model.fp16.onnx", "model.fp32.onnx"}
    for target in list_targets():
        precision = "int8" if "int8" in target.precisions else "fp16"
        files = {form.file for form in forms_for(target, ExportConfig(precision=precision))}
        assert told[target.name] == files, target.name
