"""Turn a float32 graph into one with explicit Q/DQ, as NVIDIA's parser, ONNX Runtime and OpenVINO all read it.

Symmetric everywhere: weights for each output channel, activations for the whole tensor, biases left alone. In
front of every convolution stands a pair of quantisation and dequantisation, and both inputs of a residual sum share
one scale, so that TensorRT adds them as int8. The convolutions that end the head, DFL and sigmoid stay float.

The arithmetic is that of ONNX Runtime's quantizer: with the options below NVIDIA's parser accepts what it writes, it
comes with a package that is needed anyway, and one call replaces the inserting of nodes; NVIDIA's Model Optimizer
would bring torch and a choice of nodes of its own. ONNX Runtime's defaults, though, are refused by the parser.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from onnx import ModelProto, NodeProto
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from slimdeploy.stages._float16 import DECODING, KeptFloat

OUTPUT_CONV = "output convolution of the head"

# The least scale is float16's least normal number, so that both int8 graphs can hold the same scales.
_LEAST_SCALE = 2.0**-14
_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "MinimumRealRange": 254 * _LEAST_SCALE,
    "OpTypesToExcludeOutputQuantization": ["Conv", "Add"],
}


def head(model: ModelProto) -> tuple[KeptFloat, ...]:
    """Return the nodes that no int8 graph quantises: the last convolutions, and what decodes behind them.

    The convolution inside the decoding, which averages the distances, is told by having no bias.
    """
    maker = {name: node for node in model.graph.node for name in node.output}
    found: dict[str, str] = {}
    todo = [o.name for o in model.graph.output]
    while todo:
        node = maker.get(todo.pop())
        if node is None or node.name in found:
            continue
        ends = is_biased_conv(node)
        found[node.name] = OUTPUT_CONV if ends else DECODING
        todo += [] if ends else node.input
    return tuple(KeptFloat(node=n.name, why=found[n.name]) for n in model.graph.node if n.name in found)


def is_biased_conv(node: NodeProto) -> bool:
    """Return whether a node is a convolution of the network proper, BatchNorm folded into its bias."""
    return bool(node.op_type == "Conv" and len(node.input) == 3)


def quantisable(model: ModelProto) -> tuple[str, ...]:
    """Return the names of the convolutions and residual sums that int8 can take, in the graph's order."""
    stay = {one.node for one in head(model)}
    stored = {i.name for i in model.graph.initializer}
    return tuple(
        node.name
        for node in model.graph.node
        if node.name not in stay and (is_biased_conv(node) or (node.op_type == "Add" and not stored & set(node.input)))
    )


def observed(model: ModelProto) -> tuple[str, ...]:
    """Return the names of the activations whose ranges an int8 graph needs, each once."""
    chosen = set(quantisable(model))
    stored = {i.name for i in model.graph.initializer}
    names = [name for node in model.graph.node if node.name in chosen for name in node.input if name not in stored]
    return tuple(dict.fromkeys(names))


def quantised(
    model: ModelProto,
    limits: Mapping[str, float],
    keep: Iterable[str] = (),
    *,
    weights_in_pairs: bool = False,
    weight_bits: int = 8,
) -> ModelProto:
    """Return an int8 form of a float32 graph.

    Args:
        model: the graph, its constants stored as initializers; it is not changed.
        limits: magnitude at which each activation is cut off, for all that `observed` names.
        keep: nodes out of `quantisable` that stay float.
        weights_in_pairs: store weights as float32 with a quantisation of their own behind them, as TensorRT 8 wants
            (it refuses stored int8: github.com/microsoft/onnxruntime/issues/11535); else as int8, a quarter the size.
        weight_bits: 8; or 7, of which int8 kernels without VNNI add two products in 16 bits without overflow. With 8 a
            dense YOLOv8n lost most of its mAP on OpenVINO held to AVX2. With 7 activations are uint8 around 128, the
            same levels: OpenVINO 2026.4 turns int8 behind a Concat into uint8, and its scores then lie several times
            as far from float ones as ONNX Runtime's.
    """
    chosen = [name for name in quantisable(model) if name not in frozenset(keep)]
    nodes = {node.name: node for node in model.graph.node}
    ranges = _shared([nodes[name] for name in chosen], limits)
    data = {name: TensorData(lowest=-np.float32(top), highest=np.float32(top)) for name, top in ranges.items()}
    fresh = ModelProto()
    fresh.CopyFrom(model)
    quantizer = QDQQuantizer(
        fresh, True, weight_bits == 7, QuantType.QInt8, QuantType.QUInt8 if weight_bits == 7 else QuantType.QInt8,
        TensorsData(CalibrationMethod.MinMax, data), chosen, [], ["Conv", "Add"],
        {**_OPTIONS, "AddQDQPairToWeight": weights_in_pairs},
    )  # fmt: skip
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    made: ModelProto = quantizer.model.model
    return made


def _shared(chosen: Iterable[NodeProto], limits: Mapping[str, float]) -> dict[str, float]:
    """Give both inputs of a residual sum the wider range of the two, through chains of sums."""
    sums = [node.input for node in chosen if node.op_type == "Add"]
    shared = dict(limits)
    changed = True
    while changed:
        changed = False
        for left, right in sums:
            widest = max(shared[left], shared[right])
            changed = changed or (shared[left], shared[right]) != (widest, widest)
            shared[left] = shared[right] = widest
    return shared
