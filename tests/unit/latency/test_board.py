"""The model of a board: what a layer takes, and what is said where nothing is known."""

from __future__ import annotations

import pytest
from synthetic_coupling import chain, conv

from slimdeploy.errors import TargetError
from slimdeploy.latency.board import BoardModel, board_forecast
from slimdeploy.stages.planner import forecast_ms
from slimdeploy.targets import list_targets, load_target


def board(**changes):
    settings = {"name": "board", "precision": "fp16", "gmacs_per_s": 1000, "bandwidth_gbs": 100.0, "launch_us": 10.0}
    return BoardModel(**{**settings, "alignment": 8, **changes})


def test_a_layer_with_much_arithmetic_takes_launch_and_arithmetic():
    layer = conv("big", 256, 256, positions=40 * 40)
    macs = 256 * 256 * 9 * 1600
    assert board().layer_ms(layer, 256, 256) == pytest.approx(0.01 + macs / 1000e9 * 1e3)


def test_a_layer_with_little_arithmetic_waits_for_the_memory():
    layer = conv("thin", 8, 8, kernel=1, positions=320 * 320)
    values = 8 * 320 * 320 * 2 + 64
    assert board().layer_ms(layer, 8, 8) == pytest.approx(0.01 + 2 * values / 100e9 * 1e3)


def test_a_small_layer_costs_its_launch_all_the_same():
    assert board().layer_ms(conv("tiny", 8, 8, kernel=1, positions=1), 8, 8) == pytest.approx(0.01, rel=0.01)


def test_channels_cost_as_many_as_the_hardware_computes_together():
    layer = conv("big", 256, 256, positions=40 * 40)
    assert board(alignment=32).layer_ms(layer, 97, 256) == board(alignment=32).layer_ms(layer, 128, 256)


def test_half_the_bytes_take_half_the_time_where_memory_decides():
    layer = conv("thin", 8, 8, kernel=1, positions=320 * 320)
    fp32, fp16 = (board(precision=one, launch_us=0.0).layer_ms(layer, 8, 8) for one in ("fp32", "fp16"))
    assert fp32 == pytest.approx(2 * fp16)


def test_layers_that_no_plan_narrows_are_a_fixed_cost():
    coupling = chain()
    fixed = type(coupling.layers[0])
    still = fixed(name="dfl", outputs=1, inputs=16, kernel=1, positions=400, scalars_per_output=0)
    with_dfl = type(coupling)(
        imgsz=coupling.imgsz, layers=(*coupling.layers, still), groups=coupling.groups, kept_whole=()
    )
    forecast = board_forecast(load_target("orin-nx-16gb"), with_dfl, "fp16")
    every = sum(forecast.layer_ms(layer, layer.outputs, layer.inputs) for layer in with_dfl.layers)
    assert forecast.fixed_ms == pytest.approx(forecast.layer_ms(still, 1, 16))
    assert forecast_ms(with_dfl, with_dfl.whole(), forecast) == pytest.approx(every)


def test_a_board_without_published_measurements_has_no_model():
    with pytest.raises(TargetError, match=r"no measurement of Jetson TX2 at fp16 was published"):
        board_forecast(load_target("tx2"), chain(), "fp16")


def test_a_target_that_runs_here_is_to_be_measured():
    with pytest.raises(TargetError, match=r"no latency table.*slimdeploy latency WEIGHTS --target cpu --imgsz 64"):
        board_forecast(load_target("cpu"), chain(), "fp32")


def test_the_boards_with_a_model_have_it_at_every_precision_and_say_where_from():
    known = [target for target in list_targets() if target.gmacs_per_s]
    assert {target.name for target in known} >= {"orin-nano-8gb", "orin-nx-16gb", "agx-orin-64gb"}
    for target in known:
        assert set(target.gmacs_per_s) == set(target.precisions)
        assert "estimated, not measured" in board_forecast(target, chain(), "fp16").source
