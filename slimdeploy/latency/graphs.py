"""One convolution as an ONNX graph of its own, in the form that an exported detector gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from slimdeploy.backends.protocol import INPUT, OUTPUT
from slimdeploy.latency.shapes import Kind

OPSET = 17
IR_VERSION = 8  # of opset 17
Shape = tuple[int, ...]
PATTERN = 2048  # weights that repeat: a layer then travels to a board as some kB, and takes as long as any other
TYPES: dict[str, Any] = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16)}


def write_layer(kind: Kind, inputs: int, outputs: int, path: Path, *, precision: str = "fp32") -> tuple[int, ...]:
    """Write a convolution followed by SiLU.

    Args:
        kind: form, kernel, stride and size.
        inputs: input channels; 1 for a depthwise convolution.
        outputs: output channels.
        path: the .onnx file to write.
        precision: of weights and activations, fp32 or fp16.

    Returns:
        The shape of its input, (1, channels, H, W).
    """
    dtype = TYPES[precision]
    node, weight_shape, read, made = _convolution(kind, inputs, outputs)
    spread = (inputs * kind.kernel**2) ** -0.5  # keeps the outputs about as large as the inputs
    weight = np.resize(np.random.default_rng(0).standard_normal(PATTERN) * spread, weight_shape).astype(dtype)
    tensor = helper.np_dtype_to_tensor_dtype(dtype)
    gate = helper.make_node("Sigmoid", ["sum"], ["gate"])
    product = helper.make_node("Mul", ["sum", "gate"], [OUTPUT])
    graph = helper.make_graph(
        [node, gate, product],
        "layer",
        [helper.make_tensor_value_info(INPUT, tensor, read)],
        [helper.make_tensor_value_info(OUTPUT, tensor, made)],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.zeros(outputs, dtype), "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    path.write_bytes(model.SerializeToString())
    return read


def _convolution(kind: Kind, inputs: int, outputs: int) -> tuple[NodeProto, Shape, Shape, Shape]:
    """Return the node, and the shapes of its weight, its input and its output; a linear layer is a 1x1 convolution."""
    kernel, stride, height, width = kind.kernel, kind.stride, kind.height, kind.width
    small, large = (height, width), (height * stride, width * stride)
    operands = [INPUT, "weight", "bias"], ["sum"]
    sides = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2}
    if kind.form == "transposed":  # its positions are those of its input
        node = helper.make_node("ConvTranspose", *operands, **sides)
        return node, (inputs, outputs, kernel, kernel), (1, inputs, *small), (1, outputs, *large)
    groups = outputs if kind.form == "depthwise" else 1
    node = helper.make_node("Conv", *operands, **sides, pads=[kernel // 2] * 4, group=groups)
    return node, (outputs, inputs, kernel, kernel), (1, inputs * groups, *large), (1, outputs, *small)
