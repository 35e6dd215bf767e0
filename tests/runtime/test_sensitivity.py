"""Layers return to float, the worthiest first, until the accuracy holds; where it cannot, the export stops."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_detector import residual_detector

from slimdeploy.errors import GateError
from slimdeploy.stages import _int8, _ranges
from slimdeploy.stages._sensitivity import Layer, damage, hold, rank

LAYERS = tuple(Layer(node=f"n{i}", damage=1.0 / (i + 1), share=0.1) for i in range(10))


def scored(needed):
    """A network that holds once `needed` layers have returned: 0.50 in float, 0.40 before."""
    tried = []

    def score(keep):
        tried.append(list(keep))
        return 0.5 if len(keep) >= needed else 0.4

    return score, tried


def run(score, **bounds):
    return hold(0.5, score, lambda: LAYERS, **({"max_drop": 0.5, "max_float_share": 0.85} | bounds))


def test_where_int8_holds_no_layer_is_looked_at():
    held = hold(0.5, lambda keep: 0.496, lambda: pytest.fail("asked"), max_drop=0.5, max_float_share=0.5)
    assert (held.returned, held.layers, held.int8) == ((), (), 0.496)


@pytest.mark.parametrize("needed", [1, 2, 3, 5, 6, 8])
def test_the_fewest_layers_that_hold_return_and_they_are_the_worthiest(needed):
    score, tried = scored(needed)
    held = run(score)
    assert [layer.node for layer in held.returned] == [f"n{i}" for i in range(needed)]
    assert len(tried) <= 8
    assert [one.why for one in held.keep] == ["returned to float for accuracy"] * needed


def test_where_too_much_would_return_the_gate_closes_and_tells_all_figures():
    score, tried = scored(9)
    with pytest.raises(GateError) as stopped:
        run(score)
    assert "loses 10.00 points of mAP50-95 (0.5000 to 0.4000)" in stopped.value.wrong
    assert "85% of the arithmetic" in stopped.value.wrong
    assert max(len(keep) for keep in tried) == 8


def test_the_list_says_what_returned_and_what_each_try_scored():
    record = run(scored(2)[0]).as_record()
    assert [layer["returned"] for layer in record["layers"]] == [True, True] + [False] * 8
    assert record["map50_95_by_layers_returned"]["0"] == 0.4
    assert record["map50_95_by_layers_returned"]["2"] == 0.5


def test_damage_for_little_arithmetic_comes_before_the_same_damage_for_much():
    cheap, dear = Layer(node="a", damage=0.1, share=0.01), Layer(node="b", damage=0.1, share=0.3)
    assert cheap.worth > dear.worth
    assert np.isfinite(Layer(node="sum", damage=0.1, share=0.0).worth)


def test_damage_is_none_for_equal_outputs_and_grows_with_boxes_and_scores():
    rng = np.random.default_rng(0)
    output = np.concatenate([rng.uniform(20, 80, (4, 30)), rng.uniform(0, 1, (2, 30))]).astype(np.float32)
    moved, lower = output.copy(), output.copy()
    moved[0] += 5
    lower[4:] *= 0.9
    assert damage([(output, output)]) == pytest.approx(0, abs=1e-6)
    assert damage([(output, moved)]) > 0.05
    assert damage([(output, lower)]) > 0.01


def test_every_layer_is_ranked_by_what_quantising_it_alone_does():
    """The second convolution's input is cut at a hundredth of its range, so it does the damage."""
    images = np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)
    model = with_rows(residual_detector())
    limits = {name: one.peak for name, one in _ranges.observe(model, _int8.observed(model), [images]).items()}
    found = rank(model, limits | {"stem": limits["stem"] / 100}, [images])
    assert {layer.node for layer in found} == set(_int8.quantisable(model))
    harmful = {layer.node for layer in found if layer.damage == max(one.damage for one in found)}
    assert harmful <= {"one", "sum1"}
    assert sum(layer.share for layer in found) < 1


def with_rows(model):
    """Give the network an output of a detector's form, (1, 6, anchors)."""
    graph = model.graph
    for node in list(graph.node):
        if node.name in ("squash", "average", "place"):
            graph.node.remove(node)
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 6, 64], np.int64), "shape"))
    graph.node.append(onnx.helper.make_node("Sigmoid", ["logits"], ["shares"], name="squash"))
    graph.node.append(onnx.helper.make_node("Reshape", ["shares", "shape"], ["output0"], name="rows"))
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info("output0", onnx.TensorProto.FLOAT, [1, 6, 64]))
    return model
