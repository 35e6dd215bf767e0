"""The latency table: interpolated, levelled, written, read, and refused where it does not fit."""

from __future__ import annotations

import dataclasses
import json

import pytest
from synthetic_coupling import Blocks, chain, conv

from slimdeploy.errors import UsageError
from slimdeploy.latency.shapes import to_measure
from slimdeploy.latency.table import Grid, LatencyTable, LayerTime, WholeTime, fitted, read_table, write_table
from slimdeploy.stages.planner import forecast_ms
from slimdeploy.targets import load_target

COUPLING = chain()


def table(**changes):
    """The times of a made-up machine, as if they had been measured."""
    layers = {}
    for kind, widths in to_measure(COUPLING, 8).items():
        like = conv("any", 1, 1, kernel=kind.kernel**2, positions=kind.height * kind.width)
        layers[kind] = tuple(
            LayerTime(inputs=i, outputs=o, ms=Blocks().layer_ms(like, o, i), noise_ms=0.01, calls=9) for i, o in widths
        )
    settings = {
        "target": "cpu", "backend": "onnxruntime", "backend_version": "1.0", "precision": "fp32", "threads": 2,
        "imgsz": (64, 64), "alignment": 8, "network": "chain", "layers": layers, "environment": {"cores": 2},
        "wholes": (WholeTime(layers_ms=1.0, measured_ms=2.5, noise_ms=0.0),
                   WholeTime(layers_ms=3.0, measured_ms=5.5, noise_ms=0.0)),
    }  # fmt: skip
    return LatencyTable(**{**settings, **changes})


def test_between_measured_widths_times_are_interpolated():
    grid = Grid({(8, 8): 1.0, (16, 8): 2.0, (8, 16): 3.0, (16, 16): 4.0})
    assert grid.at(8, 8) == 1.0
    assert grid.at(12, 8) == 1.5
    assert grid.at(12, 12) == 2.5


def test_below_the_narrowest_widths_stand_the_narrowest():
    assert Grid({(8, 8): 1.0, (16, 16): 4.0, (8, 16): 2.0, (16, 8): 2.0}).at(3, 1) == 1.0


def test_a_narrower_convolution_never_takes_longer_whatever_the_noise():
    grid = Grid({(8, 8): 1.0, (8, 16): 5.0, (8, 24): 3.0, (8, 32): 6.0})
    times = [grid.at(8, outputs) for outputs in range(8, 33)]
    assert times == sorted(times)


def test_whole_networks_give_the_fixed_cost_and_the_factor():
    assert fitted([(1.0, 2.5), (3.0, 5.5)]) == pytest.approx((1.0, 1.5))


def test_a_single_network_gives_a_fixed_cost_alone():
    assert fitted([(3.0, 5.0)]) == pytest.approx((2.0, 1.0))


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param([(1.0, 3.0), (2.0, 2.0)], id="the larger network was quicker"),
        pytest.param([(1.0, 1.0), (2.0, 4.0)], id="less than nothing for no layers"),
    ],
)
def test_noise_makes_no_layer_and_no_network_cost_less_than_nothing(pairs):
    fixed, factor = fitted(pairs)
    assert fixed >= 0
    assert factor > 0


def test_a_network_takes_the_fixed_cost_and_its_share_of_every_layer():
    alone = sum(Blocks(fixed_ms=0).layer_ms(layer, layer.outputs, layer.inputs) for layer in COUPLING.layers)
    assert forecast_ms(COUPLING, COUPLING.whole(), table()) == pytest.approx(1.0 + 1.5 * alone)


def test_a_table_survives_being_written_and_read(tmp_path):
    write_table(table(), tmp_path / "table.json")
    assert read_table(tmp_path / "table.json") == table()


def test_a_table_of_a_board_says_which_and_whether_it_was_simulated_and_is_not_timed_here(tmp_path):
    write_table(table(device="ssh://drone", simulated=True), tmp_path / "table.json")
    known = read_table(tmp_path / "table.json")
    assert (known.here, known.measured, table().here) == (False, True, True)
    assert "cpu at ssh://drone, a simulated board and no Jetson, with onnxruntime" in known.source


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"layers": 3}, id="layers that are no list"),
        pytest.param({"wholes": []}, id="no whole network"),
        pytest.param({"surprise": 1}, id="an unknown key"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, change):
    path = tmp_path / "table.json"
    write_table(table(), path)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(UsageError, match="no latency table"):
        read_table(path)


def test_a_table_of_another_runtime_is_refused():
    with pytest.raises(UsageError, match=r"measured with onnxruntime.*openvino"):
        table().require_made_for(load_target("cpu-openvino"), "fp32")


def test_a_table_of_another_precision_is_refused():
    with pytest.raises(UsageError, match="measured at fp32"):
        table().require_made_for(load_target("cpu"), "fp16")


def test_a_table_of_another_input_size_is_refused():
    with pytest.raises(UsageError, match=r"inputs of 64x64.*slimdeploy latency"):
        table().require_fits(chain(side=128))


def test_a_table_that_lacks_a_layer_is_refused_by_the_layers_name():
    wider = dataclasses.replace(COUPLING.layers[3], outputs=640)
    with pytest.raises(UsageError, match="lacks cv2: 3x3 stride 1"):
        table().require_fits(dataclasses.replace(COUPLING, layers=(*COUPLING.layers[:3], wider, COUPLING.layers[4])))


def test_a_table_fits_the_network_that_it_was_measured_for():
    assert table().require_fits(COUPLING) is None
