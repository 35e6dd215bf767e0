"""A detector in small, with residual sums, a head and a decoding: what int8 treats each in its own way."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper


def weight(name, *shape):
    values = np.random.default_rng(len(name)).normal(0, 0.3, shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def residual_detector() -> ModelProto:
    """A network in small: two residual sums in a row, a head's output convolution, and a decoding."""
    nodes = [
        helper.make_node("Conv", ["images", "w", "b"], ["stem"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["stem", "w1", "b1"], ["a"], name="one", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["stem", "a"], ["s"], name="sum1"),
        helper.make_node("Conv", ["s", "w2", "b2"], ["c"], name="two", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["s", "c"], ["t"], name="sum2"),
        helper.make_node("Conv", ["t", "w3", "b3"], ["logits"], name="output"),
        helper.make_node("Sigmoid", ["logits"], ["shares"], name="squash"),
        helper.make_node("Conv", ["shares", "mean"], ["distance"], name="average"),
        helper.make_node("Add", ["distance", "grid"], ["output0"], name="place"),
    ]
    stored = [
        weight("w", 4, 3, 3, 3), weight("b", 4), weight("w1", 4, 4, 3, 3), weight("b1", 4), weight("w2", 4, 4, 3, 3),
        weight("b2", 4), weight("w3", 6, 4, 1, 1), weight("b3", 6), weight("mean", 1, 6, 1, 1),
        numpy_helper.from_array(np.array(2, np.float32), "grid"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 1, 8, 8])],
        stored,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def concat_detector() -> ModelProto:
    """A block as C2f in small: two activations, negative in part, joined and read by a convolution."""

    def silu(name):
        gate = helper.make_node("Sigmoid", [name], [f"{name}_gate"], name=f"{name}_gate")
        return [gate, helper.make_node("Mul", [name, f"{name}_gate"], [f"{name}_act"], name=f"{name}_act")]

    nodes = [
        helper.make_node("Conv", ["images", "w", "b"], ["stem"], name="stem", pads=[1, 1, 1, 1]),
        *silu("stem"),
        helper.make_node("Conv", ["stem_act", "w1", "b1"], ["a"], name="one", pads=[1, 1, 1, 1]),
        *silu("a"),
        helper.make_node("Concat", ["stem_act", "a_act"], ["both"], name="join", axis=1),
        helper.make_node("Conv", ["both", "wide", "b2"], ["c"], name="two"),
        *silu("c"),
        helper.make_node("Conv", ["c_act", "w3", "b3"], ["output0"], name="output"),
    ]
    stored = [
        weight("w", 16, 3, 3, 3), weight("b", 16), weight("w1", 16, 16, 3, 3), weight("b1", 16),
        weight("wide", 16, 32, 1, 1), weight("b2", 16), weight("w3", 6, 16, 1, 1), weight("b3", 6),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "concat",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, 32, 32])],
        stored,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
