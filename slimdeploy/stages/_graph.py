"""What an export does to a graph after torch wrote it: simplify, mark, check, measure peaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxsim
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from slimdeploy import __version__
from slimdeploy.backends.onnx_graph import PRECISION_KEY, opset_of
from slimdeploy.backends.protocol import INPUT
from slimdeploy.configs import ExportConfig
from slimdeploy.errors import StageFailed
from slimdeploy.records import Checkpoint

BATCH = "batch"  # name of a dynamic first dimension
_PEAK = "_slimdeploy_peak"


def simplified(path: Path, *, opset: int) -> ModelProto:
    """Read what torch wrote, simplify it, and store every constant as an initializer.

    Raises:
        StageFailed: the simplifier changed what the graph computes, or the opset is not the one asked for.
    """
    model, same = onnxsim.simplify(onnx.load(path))
    if not same:
        raise StageFailed("onnxsim's simplified graph differs from torch's", do="report this as a bug")
    if opset_of(model) != opset:
        raise StageFailed(
            f"torch wrote opset {opset_of(model)}", wanted=f"opset {opset}, which the target reads",
            do="install a torch whose exporter honours the opset",
        )  # fmt: skip
    _store_constants(model)
    return model


def _store_constants(model: ModelProto) -> None:
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    for node in constants:
        tensor = TensorProto()
        tensor.CopyFrom(helper.get_node_attr_value(node, "value"))
        tensor.name = node.output[0]
        model.graph.initializer.append(tensor)
        model.graph.node.remove(node)


def with_dynamic_batch(model: ModelProto) -> ModelProto:
    """Return a graph that was traced with one image, made to take any number of them.

    The images of a batch meet only where shapes are stored: every Reshape then keeps the first dimension of what it
    is given.
    """
    made = ModelProto()
    made.CopyFrom(model)
    stored = {i.name: i for i in made.graph.initializer}
    for node in made.graph.node:
        if node.op_type == "Reshape" and node.input[1] in stored:
            tensor = stored[node.input[1]]
            shape = numpy_helper.to_array(tensor).copy()
            if shape[0] == 1:
                shape[0] = 0  # as it comes
                tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del made.graph.value_info[:]
    return made


def metadata(known: Checkpoint, config: ExportConfig, *, precision: str) -> dict[str, str]:
    """Return the metadata of an exported file: the keys that ultralytics reads, and the precision."""
    keypoints = {"kpt_shape": str(list(known.kpt_shape))} if known.kpt_shape else {}
    return {
        "description": "network exported by slimdeploy",
        "license": "code AGPL-3.0; the licence of the weights is their owner's",
        "task": known.task,
        "stride": str(known.stride),
        "batch": str(config.batch),
        "dynamic": str(config.dynamic_batch),
        "imgsz": str(list(config.imgsz)),
        "names": str(dict(enumerate(known.classes))),
        "channels": "3",
        **keypoints,
        PRECISION_KEY: precision,
    }


def finish(model: ModelProto, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a graph with its metadata, after ONNX's own full check.

    Raises:
        StageFailed: the check refuses the graph.
    """
    model.producer_name, model.producer_version, model.doc_string = "slimdeploy", __version__, ""
    helper.set_model_props(model, dict(metadata))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise StageFailed(f"the exported graph is not valid ONNX: {error}", do="report this as a bug") from error
    path.write_bytes(model.SerializeToString(deterministic=True))


def activation_peaks(model: ModelProto, inputs: Sequence[NDArray[np.float32]]) -> dict[str, float]:
    """Return the largest magnitude of every float activation over some inputs.

    Args:
        model: a float32 graph; it is not changed.
        inputs: batches, each of shape (B, 3, H, W).
    """
    watched = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    names = [v.name for v in watched.graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT]
    for name in names:
        for op_type in ("ReduceMax", "ReduceMin"):
            output = f"{name}{_PEAK}_{op_type}"
            watched.graph.node.append(helper.make_node(op_type, [name], [output], name=output, keepdims=0))
            watched.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [o.name for o in session.get_outputs() if _PEAK in o.name]
    peaks = dict.fromkeys(names, 0.0)
    for images in inputs:
        for output, value in zip(outputs, session.run(outputs, {INPUT: images}), strict=True):
            name = output.split(_PEAK)[0]
            peaks[name] = max(peaks[name], abs(float(value)))
    return peaks
