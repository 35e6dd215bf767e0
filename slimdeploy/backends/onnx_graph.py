"""Read an ONNX file without running it: how to feed it, what its weights and its arithmetic come to."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, ValueInfoProto

from slimdeploy.backends.protocol import INPUT, OUTPUT
from slimdeploy.errors import ArtifactError
from slimdeploy.records import PRECISIONS, ModelSpec

PRECISION_KEY = "slimdeploy_precision"
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_PASSING_WEIGHTS_ON = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "Identity"})
_EXPORT_IT = "export the checkpoint with 'slimdeploy export'"


def load_graph(path: Path) -> ModelProto:
    """Open an ONNX file.

    Raises:
        ArtifactError: the file is missing, truncated or no ONNX.
    """
    try:
        model = onnx.load(path)
    except FileNotFoundError as error:
        raise ArtifactError(f"no model at {path}", wanted="an .onnx file") from error
    except (DecodeError, IsADirectoryError, ValueError) as error:
        raise ArtifactError(f"{path} is truncated, damaged or no ONNX file", do=_EXPORT_IT + " again") from error
    if not model.graph.node or not model.graph.input:
        raise ArtifactError(f"{path} holds no graph", do=_EXPORT_IT + " again")
    return model


def read_spec(model: ModelProto, path: Path) -> tuple[ModelSpec, str]:
    """Return how to feed a network, and its precision, from the metadata that slimdeploy and ultralytics write.

    Args:
        model: the graph.
        path: where it came from, for messages.

    Raises:
        ArtifactError: the metadata is missing or damaged, or the graph has other inputs or dynamic shapes.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    missing = [key for key in ("task", "names", "imgsz", "stride", "batch") if key not in metadata]
    if missing:
        raise ArtifactError(
            f"{path} was made elsewhere: its metadata lacks {', '.join(missing)}",
            wanted="a model with its classes and input size in its metadata",
            do=_EXPORT_IT,
        )
    try:
        spec = _spec(metadata)
    except (ValueError, SyntaxError, TypeError, AttributeError) as error:
        raise ArtifactError(f"the metadata of {path} is damaged: {error}", do=_EXPORT_IT) from error
    _require_layout(model, spec, path)
    spec = replace(spec, outputs={one.name: (spec.batch, *shape_of(one)[1:]) for one in model.graph.output})
    precision = metadata.get(PRECISION_KEY) or _precision_of_weights(model)
    if precision not in PRECISIONS:
        raise ArtifactError(f"{path} names the precision {precision!r}", wanted=", ".join(PRECISIONS), do=_EXPORT_IT)
    return spec, precision


def _spec(metadata: Mapping[str, str]) -> ModelSpec:
    names: Any = ast.literal_eval(metadata["names"])
    height, width = ast.literal_eval(metadata["imgsz"])
    classes = tuple(str(names[i]) for i in sorted(names))
    return ModelSpec(
        task=metadata["task"],
        classes=classes,
        imgsz=(int(height), int(width)),
        stride=int(metadata["stride"]),
        batch=int(metadata["batch"]),
        dynamic_batch=metadata.get("dynamic") == "True",
    )


def _require_layout(model: ModelProto, spec: ModelSpec, path: Path) -> None:
    given = {i.name for i in model.graph.initializer}
    inputs = {i.name: shape_of(i) for i in model.graph.input if i.name not in given}
    outputs = [o.name for o in model.graph.output]
    wanted = (0 if spec.dynamic_batch else spec.batch, 3, *spec.imgsz)
    if inputs != {INPUT: wanted} or OUTPUT not in outputs:
        shown = ", ".join(f"{name} {list(shape)}" for name, shape in inputs.items())
        raise ArtifactError(
            f"{path} takes {shown} and gives {', '.join(outputs)}",
            wanted=f"{INPUT} {list(wanted)} and {OUTPUT}",
            do=_EXPORT_IT,
        )


def _precision_of_weights(model: ModelProto) -> str:
    types = {i.data_type for i in model.graph.initializer}
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        return "int8"
    return "fp16" if TensorProto.FLOAT16 in types else "fp32"


def shape_of(value: ValueInfoProto) -> tuple[int, ...]:
    """Return a tensor's shape; a dimension that is not static is 0."""
    return tuple(int(d.dim_value) for d in value.type.tensor_type.shape.dim)


def opset_of(model: ModelProto) -> int:
    """Return the version of ONNX's own operators that a graph is written in."""
    return next(int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx"))


def count_weights(model: ModelProto) -> int:
    """Return how many scalars the weights and biases of convolutions and matrix products hold.

    Constants such as shapes, anchors and strides are no weights and are left out.
    """
    sizes = {i.name: prod(i.dims) for i in model.graph.initializer}
    passed_on = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type in _PASSING_WEIGHTS_ON}
    weights = set()
    for name in (name for node in model.graph.node if node.op_type in WEIGHTED for name in node.input):
        stored = name
        while stored in passed_on:
            stored = passed_on[stored]
        weights.add(stored)
    return sum(sizes.get(name, 0) for name in weights)


def count_macs(model: ModelProto) -> int:
    """Return the multiply-accumulates of one image in convolutions and matrix products.

    Raises:
        ArtifactError: a shape is not static.
    """
    return sum(macs_by_node(model).values())


def macs_by_node(model: ModelProto) -> dict[str, int]:
    """Return the multiply-accumulates of one image in each convolution and matrix product, by the node's output.

    Raises:
        ArtifactError: a shape is not static.
    """
    graph = onnx.shape_inference.infer_shapes(_with_static_batch(model)).graph
    shapes = {i.name: tuple(i.dims) for i in graph.initializer}
    shapes |= {v.name: shape_of(v) for v in [*graph.value_info, *graph.input, *graph.output]}
    batch = max(shape_of(graph.input[0])[0], 1)
    found = {}
    for node in graph.node:
        if node.op_type in WEIGHTED:
            try:
                made, left, right = shapes[node.output[0]], shapes[node.input[0]], shapes[node.input[1]]
            except KeyError as error:
                raise ArtifactError(f"the shape of {error.args[0]!r} is not static", do=_EXPORT_IT) from error
            found[node.output[0]] = _macs(node.op_type, made, left, right) // batch
    return found


def _with_static_batch(model: ModelProto) -> ModelProto:
    """Return a graph whose dynamic batch, if it has one, is a single image."""
    if shape_of(model.graph.input[0])[0]:
        return model
    fixed = ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del fixed.graph.value_info[:]
    return fixed


def _macs(op_type: str, made: tuple[int, ...], left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Multiply-accumulates of one node; `right` is (C_out, C_in / groups, kh, kw) in a Conv."""
    if op_type == "Conv":
        return prod(made) * prod(right[1:])
    if op_type == "ConvTranspose":
        return prod(left) * prod(right[1:])
    return prod(made) * left[-1]
