"""Small ONNX models, so that real runtimes answer in milliseconds."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import surface_tensorrt
from onnx import TensorProto, helper, numpy_helper

from slimdeploy.board import cudart

SIDE = 32
CLASSES = ("car", "van")


def write_conv(path: Path, *, width: int = 8, repeats: int = 1, broken: bool = False, seed: int = 0) -> Path:
    """Write a model of a detector's form: convolutions, then (1, 4 + nc, anchors).

    Args:
        path: the .onnx to write.
        width: channels of every convolution but the last.
        repeats: convolutions of that width.
        broken: whether the output is NaN.
        seed: of the weights.
    """
    rng = np.random.default_rng(seed)
    channels = [3, *[width] * repeats, 4 + len(CLASSES)]
    nodes, weights, last = [], [], "images"
    for i, (taken, given) in enumerate(itertools.pairwise(channels)):
        values = rng.normal(0, 0.2, (given, taken, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(values * (np.nan if broken else 1), f"w{i}"))
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        last = f"c{i}"
    weights.append(numpy_helper.from_array(np.array([1, channels[-1], SIDE * SIDE], dtype=np.int64), "shape"))
    nodes.append(helper.make_node("Reshape", [last, "shape"], ["output0"]))
    graph = helper.make_graph(
        nodes,
        "conv",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, channels[-1], SIDE * SIDE])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    metadata = {"task": "detect", "stride": 32, "batch": 1, "imgsz": [SIDE, SIDE], "names": dict(enumerate(CLASSES))}
    helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    onnx.save(model, path)
    return path


@pytest.fixture
def conv_model(tmp_path) -> Callable[..., Path]:
    """Write a small detector, `conv_model("name", width=8)`, and return its path."""
    return lambda name="model", **shape: write_conv(tmp_path / f"{name}.onnx", **shape)


@pytest.fixture(scope="module")
def two_models(tmp_path_factory) -> list[Path]:
    """Write two small detectors that no test changes."""
    folder = tmp_path_factory.mktemp("models")
    return [write_conv(folder / "dense.onnx"), write_conv(folder / "pruned.onnx", width=4)]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return surface_tensorrt.write_cudart(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def use(monkeypatch, library):
    """Put a version of TensorRT, and a libcudart, where the TensorRT session looks for them."""

    def put(version, **shape):
        module = surface_tensorrt.module(version, **shape)
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        monkeypatch.setattr(cudart, "LIBRARIES", (str(library),))
        return module

    return put
