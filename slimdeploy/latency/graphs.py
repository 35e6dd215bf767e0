"""One convolution as an ONNX graph of its own, in the form that an exported detector gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from slimdeploy.backends.protocol import INPUT, OUTPUT
from slimdeploy.latency.shapes import Kind

OPSET = 17
IR_VERSION = 8  # of opset 17
TYPES: dict[str, Any] = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16)}


def write_layer(kind: Kind, inputs: int, outputs: int, path: Path, *, precision: str = "fp32") -> tuple[int, ...]:
    """Write a convolution followed by SiLU.

    Args:
        kind: kernel, stride and size of the output.
        inputs: input channels.
        outputs: output channels.
        path: the .onnx file to write.
        precision: of weights and activations, fp32 or fp16.

    Returns:
        The shape of its input, (1, inputs, H, W).
    """
    kernel, dtype = kind.kernel, TYPES[precision]
    chance = np.random.default_rng(0)
    spread = (inputs * kernel * kernel) ** -0.5  # keeps the outputs about as large as the inputs
    weight = (chance.standard_normal((outputs, inputs, kernel, kernel)) * spread).astype(dtype)
    shape = (1, inputs, kind.height * kind.stride, kind.width * kind.stride)
    tensor = helper.np_dtype_to_tensor_dtype(dtype)
    conv = helper.make_node(
        "Conv", [INPUT, "weight", "bias"], ["sum"], kernel_shape=[kernel] * 2, strides=[kind.stride] * 2,
        pads=[kernel // 2] * 4,
    )  # fmt: skip
    gate = helper.make_node("Sigmoid", ["sum"], ["gate"])
    product = helper.make_node("Mul", ["sum", "gate"], [OUTPUT])
    graph = helper.make_graph(
        [conv, gate, product],
        "layer",
        [helper.make_tensor_value_info(INPUT, tensor, shape)],
        [helper.make_tensor_value_info(OUTPUT, tensor, (1, outputs, kind.height, kind.width))],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.zeros(outputs, dtype), "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    path.write_bytes(model.SerializeToString())
    return shape
