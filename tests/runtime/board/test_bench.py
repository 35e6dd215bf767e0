"""`bench` of the agent: the desk's own measurement record, with the board's telemetry, and the board left as found."""

from __future__ import annotations

import pytest
from agent_process import run_agent
from simulated_board import write_board, write_program

from slimdeploy.board import power
from slimdeploy.board.errors import DeviceError, UsageError
from slimdeploy.board.machine import Machine
from slimdeploy.records import Measurement

# A board's nvpmodel and jetson_clocks: the mode lies in a file, and every command is written down.
NVPMODEL = """
here="$(dirname "$0")"; echo "nvpmodel $*" >> "$here/asked"
case "$1" in
-q) echo "NV Power Mode: MODE"; cat "$here/mode" ;;
-m) [ -e "$here/stuck" ] || echo "$2" > "$here/mode" ;;
esac
"""
CLOCKS = 'here="$(dirname "$0")"; echo "jetson_clocks $1" >> "$here/asked"; [ "$1" = --store ] && touch "$2"; exit 0'


@pytest.fixture
def root(tmp_path):
    root = write_board(tmp_path / "root")
    write_program(root / "usr/bin/nvpmodel", NVPMODEL)
    write_program(root / "usr/bin/jetson_clocks", CLOCKS)
    (root / "usr/bin/mode").write_text("2\n", encoding="utf-8")
    return root


def asked(root):
    return (root / "usr/bin/asked").read_text(encoding="utf-8").splitlines()


def test_the_record_is_the_one_of_the_desk(bundle):
    ended = run_agent(bundle, "bench", "--samples", "20", "--rounds", "3")
    assert ended.code == 0, ended.err
    taken = Measurement(**ended.told["measurement"])
    assert (len(taken.samples_s), list(taken.rounds), taken.scope) == (20, [7, 7, 6], "inference")
    assert taken.backend == "onnxruntime"
    assert taken.peak_memory_mib > 10
    assert ended.told["simulated"] is False


def test_on_a_board_power_and_clocks_are_recorded_and_a_simulated_one_is_marked(bundle, root):
    told = run_agent(bundle, "bench", "--samples", "50", root=root).told
    assert told["simulated"] is True
    assert "simulated board" in told["measurement"]["warnings"][0]
    assert told["telemetry"]["mean_power_mw"] == pytest.approx(5500)  # 5000 mV at 1100 mA, as written there
    assert told["telemetry"]["samples"][0]["rails_included"] == ["VDD_IN"]
    assert told["telemetry"]["gpu_clock_before"]["max_mhz"] == 1020


def test_a_clock_below_its_highest_is_a_warning(bundle, root):
    (root / "sys/class/devfreq/17000000.gpu/cur_freq").write_text("612000000\n", encoding="utf-8")
    told = run_agent(bundle, "bench", "--samples", "20", root=root).told
    assert any("below its highest" in one for one in told["measurement"]["warnings"])


def test_the_power_mode_and_the_clocks_are_put_back(bundle, root):
    ended = run_agent(bundle, "bench", "--samples", "10", "--power-mode", "25W", "--lock-clocks", root=root)
    assert ended.code == 0, ended.err
    assert [one for one in asked(root) if "-q" not in one] == [
        "nvpmodel -m 1", "jetson_clocks --store", "jetson_clocks ", "jetson_clocks --restore", "nvpmodel -m 2",
    ]  # fmt: skip
    assert (root / "usr/bin/mode").read_text(encoding="utf-8") == "2\n"


def test_they_are_put_back_when_the_measurement_fails(root):
    with pytest.raises(ZeroDivisionError), power.held(Machine(root), mode="15W", lock_clocks=True):
        _ = 1 / 0
    assert asked(root)[-2:] == ["jetson_clocks --restore", "nvpmodel -m 2"]


def test_a_board_that_does_not_switch_is_told(root):
    (root / "usr/bin/stuck").touch()
    with pytest.raises(DeviceError, match="did not switch to 15W"), power.held(Machine(root), mode="15W"):
        raise AssertionError("the mode was not held")


def test_an_unknown_power_mode_is_refused_with_those_of_the_board(root):
    with pytest.raises(UsageError, match="15W, 25W, MAXN_SUPER"), power.held(Machine(root), mode="99W"):
        raise AssertionError("there is no such mode")


def test_a_computer_that_is_no_jetson_knows_no_power_mode(bundle, tmp_path):
    ended = run_agent(bundle, "bench", "--power-mode", "MAXN", root=tmp_path)
    assert (ended.code, ended.told["error"]) == (2, "UsageError")
    assert run_agent(bundle, "bench", "--lock-clocks", root=tmp_path).code == 4


def test_more_rounds_than_samples_are_refused(bundle):
    assert run_agent(bundle, "bench", "--samples", "2", "--rounds", "3").code == 2
