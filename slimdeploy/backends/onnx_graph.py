"""Read an ONNX file without running it: how to feed it, what its weights and its arithmetic come to."""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, ValueInfoProto

from slimdeploy.backends.onnx_check import WEIGHTED, require_sound, stored_behind
from slimdeploy.backends.protocol import INPUT, OUTPUT
from slimdeploy.board.text import brief
from slimdeploy.configs import LARGEST_SIDE_PX
from slimdeploy.errors import ArtifactError, UsageError
from slimdeploy.files import read_bytes
from slimdeploy.records import PRECISIONS, ModelSpec

PRECISION_KEY = "slimdeploy_precision"
TASKS = ("detect", "segment", "pose", "obb", "classify")
LIMIT_BYTES = 2 << 30  # of a protobuf message
MOST_CLASSES = 10_000
MOST_IMAGES = 4096  # a call
MORE_ROWS = ("segment", "pose", "obb")  # tasks whose output holds more rows than boxes and scores
_EXPORT_IT = "export the checkpoint with 'slimdeploy export'"
_COUNT = re.compile(r"[0-9]{1,6}", re.ASCII)
_SIDES = re.compile(r"[\[(]\s*([0-9]{1,6})\s*,\s*([0-9]{1,6})\s*,?\s*[\])]", re.ASCII)
# One class of what Python shows of a dict, such as {0: 'car', 1: "driver's cab"}.
_NAME = re.compile(r"\s*([0-9]{1,6})\s*:\s*('(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|-?[0-9.]{1,20})\s*", re.ASCII)
_UNREADABLE = (DecodeError, ValueError, TypeError, RecursionError, MemoryError)


def load_graph(path: Path) -> ModelProto:
    """Open an ONNX file and check that its graph can be read; see `onnx_check.require_sound`.

    Raises:
        ArtifactError: the file is missing, truncated or no ONNX, or its graph is damaged.
    """
    try:
        raw = read_bytes(path, what="model", limit_bytes=LIMIT_BYTES, wanted="an .onnx file")
    except UsageError as error:
        raise ArtifactError(error.wrong, wanted=error.wanted, do=error.do) from error
    model = ModelProto()
    try:
        model.ParseFromString(raw)
    except _UNREADABLE as error:
        raise ArtifactError(
            f"{path} cannot be opened: it is truncated, damaged or no ONNX file", do=_EXPORT_IT + " again"
        ) from error
    require_sound(model, path)
    return model


def read_spec(model: ModelProto, path: Path) -> tuple[ModelSpec, str]:
    """Return how to feed a network, and its precision, from the metadata that slimdeploy and ultralytics write.

    Args:
        model: the graph.
        path: where it came from, for messages.

    Raises:
        ArtifactError: the metadata is missing or damaged, or the graph has other inputs, outputs or dynamic shapes.
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
        if len(metadata) < len(model.metadata_props):
            raise ValueError("it names a key twice")
        spec = _spec(metadata)
    except ValueError as error:
        raise ArtifactError(f"the metadata of {path} is damaged: {error}", do=_EXPORT_IT) from error
    _require_input(model, spec, path)
    spec = replace(spec, outputs={one.name: (spec.batch, *shape_of(one)[1:]) for one in model.graph.output})
    _require_scores(spec, path)
    precision = metadata.get(PRECISION_KEY) or _precision_of_weights(model)
    if precision not in PRECISIONS:
        raise ArtifactError(
            f"{path} names the precision {brief(precision)}", wanted=", ".join(PRECISIONS), do=_EXPORT_IT
        )
    return spec, precision


def _spec(metadata: Mapping[str, str]) -> ModelSpec:
    sides = _SIDES.fullmatch(metadata["imgsz"].strip())
    if sides is None:
        raise ValueError(f"imgsz is {brief(metadata['imgsz'])} and not a height and a width")
    if metadata["task"] not in TASKS:
        raise ValueError(f"the task is {brief(metadata['task'])} and none of {', '.join(TASKS)}")
    return ModelSpec(
        task=metadata["task"],
        classes=_classes(metadata["names"]),
        imgsz=(_bounded("imgsz", sides[1], LARGEST_SIDE_PX), _bounded("imgsz", sides[2], LARGEST_SIDE_PX)),
        stride=_bounded("stride", metadata["stride"], LARGEST_SIDE_PX),
        batch=_bounded("batch", metadata["batch"], MOST_IMAGES),
        dynamic_batch=metadata.get("dynamic") == "True",
    )


def _bounded(key: str, text: str, most: int) -> int:
    if not _COUNT.fullmatch(text.strip()) or not 1 <= int(text) <= most:
        raise ValueError(f"{key} is {brief(text)} and not in 1..{most}")
    return int(text)


def _classes(text: str) -> tuple[str, ...]:
    """Return the class names that a dict's text holds; it is taken apart here, since evaluating it may not end."""
    inner = text.strip()
    if not (inner.startswith("{") and inner.endswith("}")):
        raise ValueError(f"names is {brief(text)} and not such as {{0: 'car'}}")
    found: list[str] = []
    at, end = 1, len(inner) - 1
    while at < end:
        entry = _NAME.match(inner, at, end)
        if entry is None or int(entry[1]) != len(found) or len(found) >= MOST_CLASSES:
            raise ValueError(f"names is {brief(text)} and does not number its classes from 0 on")
        found.append(str(literal_eval(entry[2])) if entry[2][0] in "'\"" else entry[2])
        if entry.end() < end and inner[entry.end()] != ",":
            raise ValueError(f"names is {brief(text)} and lacks a comma")
        at = entry.end() + 1
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise ValueError(f"two classes are called {brief(twice)}")
    return tuple(found)


def _require_input(model: ModelProto, spec: ModelSpec, path: Path) -> None:
    given = {i.name for i in model.graph.initializer}
    inputs = {i.name: i for i in model.graph.input if i.name not in given}
    shapes = {name: shape_of(one) for name, one in inputs.items()}
    outputs = [o.name for o in model.graph.output]
    wanted = (0 if spec.dynamic_batch else spec.batch, 3, *spec.imgsz)
    if shapes != {INPUT: wanted} or OUTPUT not in outputs:
        shown = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ArtifactError(
            f"{path} takes {shown or 'nothing'} and gives {', '.join(outputs)}",
            wanted=f"{INPUT} {list(wanted)} and {OUTPUT}",
            do=_EXPORT_IT,
        )
    if (kind := inputs[INPUT].type.tensor_type.elem_type) != TensorProto.FLOAT:
        known = TensorProto.DataType.Name(kind).lower() if kind in TensorProto.DataType.values() else f"type {kind}"
        raise ArtifactError(
            f"{path} takes its images as {known}",
            wanted="float32 images, also where the graph computes in half precision",
            do=f"{_EXPORT_IT} --precision fp16, which keeps them; ultralytics' half=True does not",
        )


def _require_scores(spec: ModelSpec, path: Path) -> None:
    """Compare the class names with the scores that the graph gives, as far as its shape tells them."""
    shape = spec.outputs[OUTPUT]
    if len(shape) < 2:  # what the graph does not tell, running it will
        return
    rows, least = shape[1], len(spec.classes) + (0 if spec.task == "classify" else 4)
    if rows and (rows < least if spec.task in MORE_ROWS else rows != least):
        scores = rows - (least - len(spec.classes))
        raise ArtifactError(
            f"{path} names {len(spec.classes)} classes and gives {max(scores, 0)} scores a box",
            wanted="a name for each score",
            do=f"{_EXPORT_IT}, from a checkpoint whose names are whole",
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
    """Return the version of ONNX's own operators that a graph is written in; 0 where it does not say."""
    return next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def count_weights(model: ModelProto) -> int:
    """Return how many scalars the weights and biases of convolutions and matrix products hold.

    Constants such as shapes, anchors and strides are no weights and are left out.
    """
    sizes = {i.name: prod(i.dims) for i in model.graph.initializer}
    return sum(sizes.get(name, 0) for name in stored_behind(model))


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
    try:
        graph = onnx.shape_inference.infer_shapes(_with_static_batch(model)).graph
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, *_UNREADABLE) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ArtifactError(f"the shapes of the graph do not fit together: {reason}", do=_EXPORT_IT) from error
    shapes = {i.name: tuple(i.dims) for i in graph.initializer}
    shapes |= {v.name: shape_of(v) for v in [*graph.value_info, *graph.input, *graph.output]}
    batch = max(shape_of(graph.input[0])[0], 1)
    found = {}
    for node in graph.node:
        if node.op_type in WEIGHTED:
            try:
                made, left, right = shapes[node.output[0]], shapes[node.input[0]], shapes[node.input[1]]
            except KeyError as error:
                raise ArtifactError(f"the shape of {brief(error.args[0])} is not static", do=_EXPORT_IT) from error
            for name, sides in zip((node.output[0], *node.input), (made, left, right), strict=False):
                if not sides or min(sides) < 1:
                    raise ArtifactError(f"the shape of {brief(name)} is not static", do=_EXPORT_IT)
            found[node.output[0]] = _macs(node.op_type, made, left, right) // batch
    return found


def _with_static_batch(model: ModelProto) -> ModelProto:
    """Return a graph whose dynamic batch, if it has one, is a single image."""
    if shape_of(model.graph.input[0])[0]:
        return model
    fixed = ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        for first in value.type.tensor_type.shape.dim[:1]:
            first.dim_value = 1
    del fixed.graph.value_info[:]
    return fixed


def _macs(op_type: str, made: tuple[int, ...], left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Multiply-accumulates of one node; `right` is (C_out, C_in / groups, kh, kw) in a Conv."""
    if op_type == "Conv":
        return prod(made) * prod(right[1:])
    if op_type == "ConvTranspose":
        return prod(left) * prod(right[1:])
    return prod(made) * left[-1]
