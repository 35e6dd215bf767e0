"""Whether an ONNX graph can be read at all: whole nodes, no cycle, plain shapes, finite weights, all in one file.

A file that somebody sent may be anything. What is checked here, the readers of graphs need not ask again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from slimdeploy.board.text import brief
from slimdeploy.errors import ArtifactError

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
PASSING_WEIGHTS_ON = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "Identity"})
_LEAST_INPUTS = dict.fromkeys(WEIGHTED, 2) | dict.fromkeys(PASSING_WEIGHTS_ON, 1)
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_LARGEST_SIDE = 1 << 31  # of any tensor; no runtime takes more
_AGAIN = "export the checkpoint with 'slimdeploy export' again"


def require_sound(model: ModelProto, path: Path) -> None:
    """Check what every reader of a graph relies on.

    Args:
        model: the graph, its external data not loaded.
        path: where it came from, for messages.

    Raises:
        ArtifactError: the graph is empty, has broken nodes, a cycle, a name twice or a shape that none can have,
            weights in other files, or fewer of them than their shapes say.
    """
    try:
        _require_one_file(model, path)
        _require_parts(model.graph, path)
        _require_shapes(model.graph, path)
        _require_order(model.graph, path)
        _require_values(model.graph, path)
    except RecursionError as error:  # graphs in attributes of graphs
        raise _damaged(path, "it is nested too deeply") from error


def stored_behind(model: ModelProto) -> set[str]:
    """Return the names of what is stored and reaches a convolution or a matrix product, perhaps cast or quantised."""
    passed_on = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type in PASSING_WEIGHTS_ON}
    found = set()
    for name in (name for node in model.graph.node if node.op_type in WEIGHTED for name in node.input):
        stored = name
        while stored in passed_on:
            stored = passed_on[stored]
        found.add(stored)
    return found


def _damaged(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(f"{path} is damaged or no detector: {reason}", wanted="a whole .onnx file", do=_AGAIN)


def _require_one_file(model: ModelProto, path: Path) -> None:
    """Refuse external data: size, hash and bundle would be those of the graph without its weights."""
    for tensor in _tensors(model.graph):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        named = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        missing = "beside it" if _is_file(path.parent, named) else "which is missing"
        there = "outside its folder" if _leads_outside(named) else missing
        raise ArtifactError(
            f"{path} keeps its weights in another file, {brief(named)}, {there}",
            wanted="a single .onnx file, since that is what is measured, hashed and shipped",
            do="onnx.save(onnx.load(FILE), NEW_FILE) in Python writes one where both are there",
        )


def _leads_outside(name: str) -> bool:
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    return not name or ".." in parts or PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).anchor)


def _is_file(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file()
    except ValueError:  # a NUL in the name
        return False


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner) if inner.node or inner.initializer else ()


def _require_parts(graph: GraphProto, path: Path) -> None:
    if not graph.node or not graph.input or not graph.output:
        raise ArtifactError(f"{path} holds no graph", do=_AGAIN)
    for node in graph.node:
        if len(node.input) < _LEAST_INPUTS.get(node.op_type, 0) or not any(node.output):
            raise _damaged(path, f"the node {brief(node.name)} ({brief(node.op_type)}) lacks inputs or outputs")
        if node.op_type in _LEAST_INPUTS and not (node.output[0] and all(node.input[: _LEAST_INPUTS[node.op_type]])):
            raise _damaged(path, f"the node {brief(node.name)} ({node.op_type}) has inputs or outputs without a name")
    made = [name for node in graph.node for name in node.output if name]
    known = [*(one.name for one in graph.initializer), *(one.values.name for one in graph.sparse_initializer)]
    for what, names in (
        ("input", [one.name for one in graph.input]),
        ("output", [one.name for one in graph.output]),
        ("stored tensor", known),
    ):
        if twice := _twice(names):
            raise _damaged(path, f"it has the {what} {brief(twice)} twice")
    if twice := _twice([*made, *known]) or _twice([*made, *(one.name for one in graph.input)]):
        raise _damaged(path, f"{brief(twice)} is made twice, or made from itself in a cycle")
    if missing := {one.name for one in graph.output} - {*made, *known, *(one.name for one in graph.input)}:
        raise _damaged(path, f"nothing makes its output {brief(min(missing))}")


def _twice(names: Iterable[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _require_shapes(graph: GraphProto, path: Path) -> None:
    for one in graph.input:
        if not one.type.tensor_type.shape.dim:
            raise _damaged(path, f"{brief(one.name)} has no shape")
    shapes: dict[str, Iterable[int]] = {one.name: one.dims for one in graph.initializer}
    shapes |= {one.name: _sides(one) for one in (*graph.input, *graph.output, *graph.value_info)}
    for name, sides in shapes.items():
        if any(not 0 <= side < _LARGEST_SIDE for side in sides):
            raise _damaged(path, f"{brief(name)} has the shape {brief(list(sides))}")


def _sides(value: ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _require_order(graph: GraphProto, path: Path) -> None:
    """Refuse a graph with a cycle: whoever follows its names from node to node would never arrive."""
    makers: Mapping[str, int] = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    waits = [{makers[name] for name in _read_by(node) if name in makers} for node in graph.node]
    readers: list[list[int]] = [[] for _ in waits]
    for place, made_by in enumerate(waits):
        for maker in made_by:
            readers[maker].append(place)
    left = [len(made_by) for made_by in waits]
    ready = [place for place, count in enumerate(left) if not count]
    done = 0
    while ready:
        done += 1
        for reader in readers[ready.pop()]:
            left[reader] -= 1
            if not left[reader]:
                ready.append(reader)
    if done < len(waits):
        node = graph.node[next(place for place, count in enumerate(left) if count)]
        raise _damaged(path, f"the graph has a cycle at the node {brief(node.name)} ({brief(node.op_type)})")


def _read_by(node: NodeProto) -> Iterator[str]:
    """Give the names that a node reads, those in its inner graphs among them."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for one in inner.node:
                yield from _read_by(one)


def _require_values(graph: GraphProto, path: Path) -> None:
    for tensor in graph.initializer:
        if tensor.data_type not in TensorProto.DataType.values() or not tensor.data_type:
            raise _damaged(path, f"{brief(tensor.name)} has no known type")
        size = _BYTES.get(tensor.data_type)
        if size and tensor.raw_data and len(tensor.raw_data) != size * prod(tensor.dims):
            raise _damaged(path, f"the values of {brief(tensor.name)} do not fill its shape")


_BYTES = {
    TensorProto.FLOAT: 4,
    TensorProto.FLOAT16: 2,
    TensorProto.DOUBLE: 8,
    TensorProto.INT64: 8,
    TensorProto.INT8: 1,
}


def require_finite(model: ModelProto, path: Path) -> None:
    """Check the weights of a graph that is to be run; what cannot be right anyway is found before that takes minutes.

    Args:
        model: the graph.
        path: where it came from, for messages.

    Raises:
        ArtifactError: a weight is NaN or infinite, or any other constant is NaN.
    """
    weights = stored_behind(model)
    for tensor in model.graph.initializer:
        if tensor.data_type not in _FLOATS:
            continue
        try:
            values = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError, AttributeError, MemoryError, OverflowError) as error:
            raise _damaged(path, f"the values of {brief(tensor.name)} do not fill its shape") from error
        broken = not np.isfinite(values).all() if tensor.name in weights else np.isnan(values).any()
        if broken:
            raise ArtifactError(
                f"{path.name} gives NaN or infinity: its weights {brief(tensor.name)} hold some",
                wanted="finite weights",
                do="train or export it again, or take another precision",
            )
