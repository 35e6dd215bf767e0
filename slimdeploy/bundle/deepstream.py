"""DeepStream: nvinfer's configuration, labels, and the graph with the output that DeepStream-Yolo's parser reads.

That parser takes one row a box: left, top, right, bottom, score, class. The operators behind the head that make it
are in every TensorRT from 8.2 on, TopK with a constant K. nvinfer builds the engine itself, where it first runs, and
does the NMS.

Source: github.com/marcoslucianops/DeepStream-Yolo, 2ccf5298.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from slimdeploy.backends.protocol import INPUT, OUTPUT
from slimdeploy.bundle.dropin import Model, write_text
from slimdeploy.bundle.labels import labels_text

GRAPH = "model.ds.onnx"
ROWS = "output"  # (B, anchors, 6)
TAKES = "input"
_MODES = {"fp32": 0, "int8": 1, "fp16": 2}  # nvinfer's network-mode


def write(model: Model, folder: Path) -> None:
    """Write `config_infer_primary.txt`, `labels.txt` and `model.ds.onnx`."""
    onnx.save(with_rows(onnx.load(model.path), classes=len(model.classes)), folder / GRAPH)
    write_text(folder / "labels.txt", labels_text(model.classes))
    write_text(folder / "config_infer_primary.txt", config(model))


def with_rows(model: ModelProto, *, classes: int) -> ModelProto:
    """Return a detector's graph with one row a box in place of the raw head.

    Args:
        model: gives (B, 4 + classes, anchors); it is not changed.
        classes: how many.
    """
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    head = graph.output[0].type.tensor_type.shape
    batch, anchors = head.dim[0].dim_param or head.dim[0].dim_value, head.dim[2].dim_value
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(0.5, np.float32), "ds_half"),
            numpy_helper.from_array(np.array([2, 2, classes], np.int64), "ds_parts"),
            numpy_helper.from_array(np.array([1], np.int64), "ds_one"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Transpose", [OUTPUT], ["ds_rows"], name="ds_rows", perm=[0, 2, 1]),
            helper.make_node("Split", ["ds_rows", "ds_parts"], ["ds_centre", "ds_size", "ds_scores"], "ds_cut", axis=2),
            helper.make_node("Mul", ["ds_size", "ds_half"], ["ds_reach"], name="ds_reach"),
            helper.make_node("Sub", ["ds_centre", "ds_reach"], ["ds_low"], name="ds_low"),
            helper.make_node("Add", ["ds_centre", "ds_reach"], ["ds_high"], name="ds_high"),
            helper.make_node("TopK", ["ds_scores", "ds_one"], ["ds_best", "ds_place"], name="ds_best", axis=2),
            helper.make_node("Cast", ["ds_place"], ["ds_label"], name="ds_label", to=TensorProto.FLOAT),
            helper.make_node("Concat", ["ds_low", "ds_high", "ds_best", "ds_label"], [ROWS], name="ds_join", axis=2),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(ROWS, TensorProto.FLOAT, [batch, anchors, 6]))
    graph.input[0].name = TAKES
    for node in graph.node:
        node.input[:] = [TAKES if name == INPUT else name for name in node.input]
    onnx.checker.check_model(made, full_check=True)
    return made


def config(model: Model) -> str:
    """Return nvinfer's configuration, a GLib key file.

    The network is no int8 one: what nvinfer makes of explicit Q/DQ is not established.
    """
    height, width = model.imgsz
    return f"""\
# Build the parser's library once on the board: CUDA_VER=12.6 make -C nvdsinfer_custom_impl_Yolo, in a checkout of
# github.com/marcoslucianops/DeepStream-Yolo, and put the folder here. CUDA_VER is that of the board's JetPack.
[property]
gpu-id=0
net-scale-factor=0.0039215697906911373
model-color-format=0
onnx-file={GRAPH}
model-engine-file={GRAPH}_b{model.batch}_gpu0_{model.precision}.engine
labelfile-path=labels.txt
infer-dims=3;{height};{width}
batch-size={model.batch}
network-mode={_MODES[model.precision]}
num-detected-classes={len(model.classes)}
interval=0
gie-unique-id=1
process-mode=1
network-type=0
cluster-mode=2
maintain-aspect-ratio=1
symmetric-padding=1
parse-bbox-func-name=NvDsInferParseYolo
custom-lib-path=nvdsinfer_custom_impl_Yolo/libnvdsinfer_custom_impl_Yolo.so
engine-create-func-name=NvDsInferYoloCudaEngineGet

[class-attrs-all]
nms-iou-threshold=0.45
pre-cluster-threshold=0.25
topk=300
"""
