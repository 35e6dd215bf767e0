"""Which machine a figure was taken on."""

from __future__ import annotations

import pytest

from slimdeploy.bench.environment import environment
from slimdeploy.bench.machines import machines, same_machine

DESK = {"cpu_model": "Intel Xeon", "cores": 2, "machine": "x86_64"}
JETSON = {  # as the board's agent tells it
    "board": {
        "board": {"model": "NVIDIA Jetson Orin Nano", "parts": []}, "machine": "aarch64", "cores_usable": 6,
        "power_mode": "15W",
    },
    "runtime_version": "10.3",
}  # fmt: skip


def test_another_version_of_a_runtime_makes_another_machine():
    known = environment()
    assert same_machine(known, {**known, "load_average_1min": 99.0})
    assert not same_machine(known, {**known, "versions": {}})


def test_another_power_mode_of_a_board_is_another_setting():
    assert not same_machine(JETSON, {**JETSON, "board": {**JETSON["board"], "power_mode": "7W"}})


@pytest.mark.parametrize(
    ("other", "named"),
    [
        pytest.param({**DESK, "cpu_model": "AMD EPYC"}, "AMD EPYC, 2 cores, x86_64", id="processor"),
        pytest.param({**DESK, "cores": 16}, "Intel Xeon, 16 cores, x86_64", id="cores"),
        pytest.param(
            {**DESK, "gpus": [{"name": "NVIDIA H100"}]}, "Intel Xeon, 2 cores, NVIDIA H100, x86_64", id="card"
        ),
        pytest.param({**DESK, "board": {"model": "Raspberry Pi 5"}}, "Raspberry Pi 5, Intel Xeon", id="board"),
        pytest.param(JETSON, "NVIDIA Jetson Orin Nano, aarch64", id="a board by its agent"),
    ],
)
def test_machines_are_told_apart(other, named):
    first, second = machines([DESK, other])
    assert first == "Intel Xeon, 2 cores, x86_64"
    assert second.startswith(named)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({**DESK, "load_average_1min": 3.0, "affinity": [0]}, id="its state"),
        pytest.param({"cpu_model": "Intel Xeon"}, id="a run that recorded less"),
        pytest.param({}, id="a run that recorded nothing"),
        pytest.param({**DESK, "board": {"power_mode": "15W"}}, id="a power mode"),
    ],
)
def test_what_is_not_recorded_of_both_tells_no_machines_apart(other):
    assert len(machines([DESK, other])) == 1


def test_two_boards_are_told_apart_and_two_power_modes_of_one_are_not():
    nx = {"board": {**JETSON["board"], "board": {"model": "NVIDIA Jetson Orin NX"}}}
    low = {"board": {**JETSON["board"], "power_mode": "7W"}}
    assert machines([JETSON, nx, low]) == ["NVIDIA Jetson Orin Nano, aarch64", "NVIDIA Jetson Orin NX, aarch64"]
