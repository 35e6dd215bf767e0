"""Turn a float32 graph into a typed float16 one, whose precision then holds on every runtime.

Convolutions and what joins them become float16. Input and output stay float32, and so does the decoding of boxes
behind the last convolutions: a coordinate of 640 pixels has steps of half a pixel in float16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

LIMIT = 65504.0  # largest finite float16
SAFETY = 2.0  # room above the peaks seen, for images not seen
DECODING = "decoding of boxes and scores"

_MOVES_ONLY = frozenset({"Reshape", "Concat", "Transpose", "Split", "Slice"})
_FLOAT_ONLY_INPUTS = {"Resize": (1, 2)}  # region and scales have types of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFloat:
    """A node that stays float32, and why."""

    node: str
    why: str


def overflowing(model: ModelProto, peaks: Mapping[str, float]) -> tuple[KeptFloat, ...]:
    """Return the nodes that float16 could not hold.

    Args:
        model: the float32 graph.
        peaks: largest magnitude seen of each activation, by tensor name.
    """
    stored = {i.name: _peak(numpy_helper.to_array(i)) for i in model.graph.initializer if _is_float(i)}
    found = []
    for node in model.graph.node:
        seen = max((peaks.get(name, 0.0) for name in [*node.input, *node.output]), default=0.0)
        weight = max((stored.get(name, 0.0) for name in node.input), default=0.0)
        if seen * SAFETY > LIMIT:
            found.append(KeptFloat(node=node.name, why=f"an activation reaches {seen:.0f}"))
        elif weight > LIMIT:
            found.append(KeptFloat(node=node.name, why=f"a weight of {weight:.0f}"))
    return tuple(found)


def decoding(model: ModelProto) -> tuple[KeptFloat, ...]:
    """Return the nodes behind the head's last layers that compute; those that only move data are left out.

    The convolution inside the decoding itself, which averages the distances, is told by having no bias.
    """
    maker = {name: node for node in model.graph.node for name in node.output}
    behind: set[str] = set()
    todo = [o.name for o in model.graph.output]
    while todo:
        node = maker.get(todo.pop())
        if node is not None and node.name not in behind and not _ends_the_network(node):
            behind.add(node.name)
            todo += node.input
    kept: list[KeptFloat] = []
    for node in model.graph.node:
        computes = node.op_type not in _MOVES_ONLY or _follows(node, {k.node for k in kept}, maker)
        if node.name in behind and computes:
            kept.append(KeptFloat(node=node.name, why=DECODING))
    return tuple(kept)


def _ends_the_network(node: NodeProto) -> bool:
    return node.op_type in ("Conv", "Gemm") and len(node.input) == 3


def _follows(node: NodeProto, kept: set[str], maker: Mapping[str, NodeProto]) -> bool:
    return any(name in maker and maker[name].name in kept for name in node.input)


def to_float16(model: ModelProto, keep: Iterable[str]) -> ModelProto:
    """Return a typed float16 form of a float32 graph.

    Args:
        model: the graph, its constants stored as initializers; it is not changed.
        keep: names of the nodes that stay float32.
    """
    return _Conversion(model, frozenset(keep)).convert()


class _Conversion:
    """One pass over the nodes, in order: each asks for its inputs in its own type, and casts are made on demand."""

    def __init__(self, model: ModelProto, keep: frozenset[str]) -> None:
        self.model, self.keep = model, keep
        self.weights = {i.name: i for i in model.graph.initializer}
        self.types = _element_types(model)  # as they are in the float32 graph
        self.half: set[str] = set()  # activations that now are float16
        self.nodes: list[NodeProto] = []
        self.made: dict[str, TensorProto] = {}  # initializers of the new graph
        self.casts: dict[tuple[str, bool], str] = {}

    def convert(self) -> ModelProto:
        for node in self.model.graph.node:
            self._add(node)
        for output in self.model.graph.output:
            self._restore(output.name)
        graph = self.model.graph
        made = GraphProto(name=graph.name, node=self.nodes, initializer=self.made.values())
        made.input.extend(graph.input)
        made.output.extend(graph.output)
        typed = helper.make_model(made, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)
        return onnx.shape_inference.infer_shapes(typed, strict_mode=True)

    def _add(self, node: NodeProto) -> None:
        half = node.name not in self.keep
        fresh = NodeProto()
        fresh.CopyFrom(node)
        for i, name in enumerate(node.input):
            wants_half = half and i not in _FLOAT_ONLY_INPUTS.get(node.op_type, ())
            fresh.input[i] = self._as_input(name, half=wants_half)
        self.nodes.append(fresh)
        if half:
            self.half.update(o for o in node.output if self.types.get(o) == TensorProto.FLOAT)

    def _as_input(self, name: str, *, half: bool) -> str:
        if name in self.weights:
            return self._as_weight(name, half=half and _is_float(self.weights[name]))
        if self.types.get(name) != TensorProto.FLOAT or (name in self.half) == half:
            return name
        return self._cast(name, half=half)

    def _as_weight(self, name: str, *, half: bool) -> str:
        fresh = f"{name}_float16" if half else name
        if fresh not in self.made:
            tensor = self.weights[name]
            if half:
                tensor = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), fresh)
            self.made[fresh] = tensor
        return fresh

    def _cast(self, name: str, *, half: bool) -> str:
        if (name, half) not in self.casts:
            fresh = f"{name}_to_{'float16' if half else 'float32'}"
            to = TensorProto.FLOAT16 if half else TensorProto.FLOAT
            self.nodes.append(helper.make_node("Cast", [name], [fresh], name=fresh, to=to))
            self.casts[name, half] = fresh
        return self.casts[name, half]

    def _restore(self, output: str) -> None:
        """Let a graph's output be float32 again where the node that makes it became float16."""
        if output in self.half:
            inner = f"{output}_float16"
            for node in self.nodes:
                node.output[:] = [inner if name == output else name for name in node.output]
                node.input[:] = [inner if name == output else name for name in node.input]
            self.nodes.append(helper.make_node("Cast", [inner], [output], name=f"{output}_cast", to=TensorProto.FLOAT))


def _element_types(model: ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    return {value.name: value.type.tensor_type.elem_type for value in values}


def _is_float(tensor: TensorProto) -> bool:
    return bool(tensor.data_type == TensorProto.FLOAT)


def _peak(values: NDArray[np.float32]) -> float:
    return float(np.abs(values).max(initial=0.0))
