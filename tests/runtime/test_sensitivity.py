"""Layers return to float, the worthiest first, until the accuracy holds; where it cannot, the export stops."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_detector import residual_detector

from slimdeploy.errors import GateError
from slimdeploy.records import Interval
from slimdeploy.stages import _int8, _ranges
from slimdeploy.stages._sensitivity import LOOKS, JointDamage, Layer, damage, hold, rank

LAYERS = tuple(Layer(node=f"n{i}", damage=1.0 / (i + 1), share=0.1) for i in range(10))


def interval(points, half=0.3):
    return Interval(points=points, low=points - half, high=points + half, images=100, resamples=10)


class StandInJudge:
    """An int8 graph that loses 2 points until `needed` layers are float, and then 0.1; all layers do so `gain` points.

    `looks` holds how many layers were float at each judgement.
    """

    def __init__(self, needed, gain=None):
        self.needed, self._gain, self.looks = needed, gain, []

    def drop(self, keep):
        self.looks.append(len(keep))
        return interval(0.1 if len(keep) >= self.needed else 2.0)

    def gain(self, keep):
        return interval((1.9 if len(keep) >= self.needed else 0.0) if self._gain is None else self._gain)

    def damage(self, keep):
        return 0.01 if len(keep) >= self.needed else 0.21 - 0.15 * len(keep) / self.needed


def run(judge, damage=None, **bounds):
    bounds = {"max_drop": 0.5, "max_float_share": 0.85} | bounds
    return hold(judge, lambda: LAYERS, damage or judge.damage, **bounds)


def test_where_int8_holds_no_layer_is_looked_at():
    held = hold(
        StandInJudge(0), lambda: pytest.fail("asked"), lambda keep: pytest.fail("asked"),
        max_drop=0.5, max_float_share=0.5,
    )  # fmt: skip
    assert (held.returned, held.layers, held.drop.points) == ((), (), 0.1)


@pytest.mark.parametrize("needed", [1, 2, 3, 5, 6, 8])
def test_the_fewest_layers_that_hold_return_and_they_are_the_worthiest(needed):
    judge = StandInJudge(needed)
    held = run(judge)
    assert [layer.node for layer in held.returned] == [f"n{i}" for i in range(needed)]
    assert judge.looks == [0, needed]
    assert [kept.why for kept in held.keep] == ["returned to float for accuracy"] * needed


def test_the_val_split_is_looked_at_a_few_times_at_most():
    judge = StandInJudge(99)
    with pytest.raises(GateError):
        run(judge, damage=lambda keep: 0.2 / (1 + len(keep)))  # training images promise what val does not keep
    assert len(judge.looks) <= 1 + LOOKS


def test_a_gain_that_may_be_chance_does_not_hold():
    judge = StandInJudge(2, gain=0.1)  # its interval is [-0.2, 0.4]
    with pytest.raises(GateError, match=r"by layers whose return shows a gain"):
        run(judge)


def test_layers_that_do_not_lower_the_error_are_not_judged():
    judge = StandInJudge(99)
    with pytest.raises(GateError) as stopped:
        run(judge, damage=lambda keep: 0.2 - 0.001 * len(keep))
    assert judge.looks == [0]
    assert "int8 loses 2.00 points of mAP50-95 [1.70, 2.30], over 100 images" in stopped.value.wrong
    assert "no layer's return to float lowers its error by much" in stopped.value.wrong
    assert "--max-drop 2" in stopped.value.do


def test_where_too_much_would_return_the_gate_closes_and_names_all_figures():
    judge = StandInJudge(9)
    with pytest.raises(GateError) as stopped:
        run(judge, damage=lambda keep: 0.2 - 0.02 * len(keep))
    assert max(judge.looks) == 8
    assert "with 8 layers (80% of the arithmetic) in float 2.00 [1.70, 2.30]" in stopped.value.wrong


def test_the_record_says_what_returned_and_what_each_count_did():
    record = run(StandInJudge(2)).as_record()
    assert [layer["returned"] for layer in record["layers"]] == [True, True] + [False] * 8
    assert record["drop_by_layers_returned"]["0"]["points"] == 2.0
    assert record["drop_by_layers_returned"]["2"] == {
        "points": 0.1,
        "low": pytest.approx(-0.2),
        "high": pytest.approx(0.4),
    }
    assert record["damage_by_layers_returned"]["2"] == 0.01


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


@pytest.fixture(scope="module")
def cut_off():
    """A network, limits that cut the second convolution's input off at a hundredth of its range, and its images."""
    images = np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)
    model = with_rows(residual_detector())
    limits = {name: seen.peak for name, seen in _ranges.observe(model, _int8.observed(model), [images]).items()}
    return model, limits | {"stem": limits["stem"] / 100}, [images]


def test_every_layer_is_ranked_by_what_quantising_it_alone_does(cut_off):
    layers = rank(*cut_off)
    assert {layer.node for layer in layers} == set(_int8.quantisable(cut_off[0]))
    harmful = {layer.node for layer in layers if layer.damage == max(each.damage for each in layers)}
    assert harmful <= {"one", "sum1"}
    assert sum(layer.share for layer in layers) < 1


def test_the_joint_damage_falls_when_what_does_it_returns(cut_off):
    joint = JointDamage(*cut_off)
    everything = _int8.quantisable(cut_off[0])
    assert joint(["one", "sum1"]) < 0.8 * joint([])
    assert joint(everything) == pytest.approx(0, abs=1e-6)


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
