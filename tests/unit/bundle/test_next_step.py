"""The last line of an export is a command that works on the target."""

from __future__ import annotations

import pytest

from slimdeploy.bundle.next_step import build_command, next_step, with_shapes
from slimdeploy.records import ModelSpec
from slimdeploy.targets import load_target

FP32 = {"file": "model.fp32.onnx"}
FP16 = {"file": "model.fp16.onnx", "build": build_command(("8.5.2",), "fp16", "model.fp16.onnx")}
TRTEXEC = "/usr/src/tensorrt/bin/trtexec --onnx=b/model.onnx --saveEngine=model.engine"


@pytest.mark.parametrize(
    ("tensorrt", "precision", "flags"),
    [
        pytest.param(("8.2.1",), "fp32", "", id="fp32 needs no flag"),
        pytest.param(("8.2.1",), "fp16", " --fp16", id="TensorRT 8 is weakly typed"),
        pytest.param(("8.5.2", "10.3.0"), "fp16", " --fp16", id="TensorRT 10 still knows --fp16"),
        pytest.param(("10.3.0", "10.16.2"), "fp16", " --stronglyTyped", id="TensorRT 10 reads the graph's types"),
        pytest.param(("10.16.2", "11.4.1"), "fp16", " --stronglyTyped", id="TensorRT 11 ignores --stronglyTyped"),
        pytest.param(("11.4.1",), "fp16", "", id="TensorRT 11 always reads them"),
        pytest.param(("8.5.2", "11.4.1"), "fp16", " --fp16  # without --fp16 on TensorRT 11", id="no flag fits all"),
        pytest.param((), "fp16", " --fp16", id="versions unknown"),
    ],
)
def test_an_engine_is_built_with_flags_that_the_targets_tensorrt_knows(tensorrt, precision, flags):
    assert build_command(tensorrt, precision, "b/model.onnx") == TRTEXEC + flags


@pytest.mark.parametrize(
    ("tensorrt", "body", "flags"),
    [
        pytest.param(("8.5.2", "10.3.0"), "float32", " --int8 --fp16", id="float32 body, flags"),
        pytest.param(("8.5.2", "10.3.0"), "float16", " --stronglyTyped", id="float16 body, from TensorRT 10 on"),
        pytest.param(("10.16.2", "11.4.1"), "float16", " --stronglyTyped", id="TensorRT 11 ignores it"),
        pytest.param(("11.4.1",), "float16", "", id="TensorRT 11 alone"),
    ],
)
def test_an_int8_graph_is_built_by_its_body(tensorrt, body, flags):
    assert build_command(tensorrt, "int8", "b/model.onnx", body=body) == TRTEXEC + flags


@pytest.mark.parametrize("name", ["jetson", "nano", "orin-nano-8gb", "thor-t5000"])
def test_a_board_gets_one_command_to_run_beside_the_copied_folder(name):
    line = next_step(load_target(name), FP16, "runs/out/bundle")
    assert "\n" not in line
    assert (
        "run beside it: /usr/src/tensorrt/bin/trtexec --onnx=bundle/model.fp16.onnx --saveEngine=model.engine" in line
    )


@pytest.mark.parametrize(
    ("name", "command"),
    [
        pytest.param("cpu", "slimdeploy bench runs/bundle/model.fp32.onnx", id="the default runtime"),
        pytest.param(
            "cpu-openvino", "slimdeploy bench runs/bundle/model.fp32.onnx --backend openvino", id="another runtime"
        ),
        pytest.param("cuda", "slimdeploy bench runs/bundle/model.fp32.onnx", id="a CUDA host"),
    ],
)
def test_a_host_is_told_to_measure(name, command):
    assert next_step(load_target(name), FP32, "runs/bundle") == f"measure it: {command}"


def test_a_folder_with_a_space_is_quoted():
    assert "'my bundle/model.fp32.onnx'" in next_step(load_target("cpu"), FP32, "my bundle")


def test_a_dynamic_batch_is_built_from_one_image_to_the_most():
    spec = ModelSpec(task="detect", classes=("car",), imgsz=(384, 640), batch=4, dynamic_batch=True)
    built = with_shapes(build_command(("8.5.2", "11.4.1"), "fp16", "m.onnx"), spec)
    assert (
        "--fp16 --minShapes=images:1x3x384x640 --optShapes=images:4x3x384x640 --maxShapes=images:4x3x384x640  #"
        in built
    )
