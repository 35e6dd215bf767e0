"""The headline, the speed-ups and the Pareto front."""

import pytest
from synthetic_runs import accuracy, measurement, row, whole_rows

from slimdeploy.records import Interval, Report
from slimdeploy.report.findings import Speedup, compared_row, headline, pareto_front, speedup, speedups


def report(*rows):
    return Report(title="Synthetic", rows=tuple(rows))


def test_the_headline_compares_the_dense_with_the_tuned_network():
    said = headline(report(*whole_rows()))
    assert said.startswith("tuned against dense: 2.1")
    assert "times as fast [2." in said
    assert said.endswith(
        "on ONNX Runtime CPU, 71 % fewer parameters, mAP50-95 0.681 against 0.702, -2.1 points [-2.9, -1.4]."
    )


@pytest.mark.parametrize(
    ("low", "high", "images", "said"),
    [
        pytest.param(-2.9, -1.3, 590, "against 0.702, -2.1 points [-2.9, -1.3].", id="worse"),
        pytest.param(-2.9, 0.3, 590, "against 0.702, -2.1 points [-2.9, +0.3]: no difference shown.", id="perhaps"),
        pytest.param(-2.9, -1.3, 8, "[-2.9, -1.3]: too few images to tell.", id="few images"),
    ],
)
def test_the_headline_gives_the_interval_of_the_loss(low, high, images, said):
    found = Interval(points=-2.1, low=low, high=high, images=images, resamples=1000)
    rows = [row("dense", scored=accuracy(0.702)), row("tuned", scored=accuracy(0.681), difference=found)]
    assert headline(report(*rows)).endswith(said)


def test_the_headline_says_that_scenes_were_rendered():
    assert "(rendered scenes, not photographs)" in headline(report(*whole_rows(rendered=True)))


def test_a_speed_interval_that_holds_1_is_no_difference():
    same = [row(name, latency=measurement(name, 0.05)) for name in ("dense", "tuned")]
    assert "no difference of speed shown" in headline(report(*same))


def test_a_slower_model_is_not_called_as_fast():
    slower = [row("dense", latency=measurement("dense", 0.05)), row("tuned", latency=measurement("tuned", 0.1))]
    assert "0.50 times as fast" in headline(report(*slower))


def test_what_was_not_measured_is_said_and_not_made_up():
    said = headline(report(row("dense"), row("tuned", parameters=1_500_000)))
    assert said == "tuned against dense: speed not compared, 50 % fewer parameters, accuracy not measured."


def test_a_single_model_has_a_headline_of_its_own():
    said = headline(report(row("dense", scored=accuracy(0.7), latency=measurement("dense", 0.05))))
    assert said.startswith("dense: p50 5")
    assert said.endswith(" ms on ONNX Runtime CPU, mAP50-95 0.700.")


def test_two_runtimes_are_both_named():
    rows = [
        row("dense", latency=measurement("dense", 0.1)),
        row("tuned", latency=measurement("tuned", 0.05, backend="openvino")),
    ]
    assert "on OpenVINO CPU against ONNX Runtime CPU" in headline(report(*rows))


def test_more_parameters_are_called_more():
    rows = (row("dense", parameters=1_000_000), row("tuned", parameters=1_500_000))
    assert "50 % more parameters" in headline(report(*rows))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(["dense", "tuned", "tuned-fp16"], "tuned", id="the tuned one, not its exports"),
        pytest.param(["dense", "pruned"], "pruned", id="the last one where none is tuned"),
        pytest.param(["a: tuned", "b: dense", "b: tuned"], "b: tuned", id="the last tuned one of several runs"),
    ],
)
def test_the_headline_is_about(names, expected):
    assert compared_row(report(*map(row, names))).name == expected


def test_speed_ups_cancel_the_drift_that_hits_all_models_alike():
    found = speedup(measurement("dense", 0.08), measurement("tuned", 0.04))
    assert found.low <= 2 <= found.high
    assert found.high - found.low < 0.02  # the rounds drift by 6 %


def test_the_first_row_has_no_speed_up_of_its_own():
    first, *others = speedups(report(*whole_rows()))
    assert first is None
    assert None not in others


def test_measurements_in_different_rounds_are_not_compared():
    assert speedup(measurement("dense", 0.08), measurement("tuned", 0.04, rounds=8)) is None


def test_too_few_rounds_show_no_difference():
    timed = [measurement(name, s, rounds=2) for name, s in (("dense", 0.08), ("tuned", 0.04))]
    assert not speedup(*timed).shown
    assert "speed not compared, for too few rounds" in headline(
        report(*(row(one.artifact, latency=one) for one in timed))
    )


def test_an_interval_beside_1_is_not_rounded_to_1():
    found = Speedup(ratio=1.01, low=1.002, high=1.02, rounds=10)
    assert found.interval == "[1.002, 1.020]"


def test_the_pareto_front_holds_what_nothing_beats_in_both():
    figures = {"dense": (0.09, 0.70), "pruned": (0.04, 0.10), "tuned": (0.041, 0.68), "poor": (0.08, 0.60)}
    rows = [row(n, latency=measurement(n, s), scored=accuracy(a)) for n, (s, a) in figures.items()]
    assert [one.name for one in pareto_front(report(*rows, row("unmeasured")))] == ["pruned", "tuned", "dense"]
