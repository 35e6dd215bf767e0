"""What the agent finds on a board: a recorded root stands for one, and everything read there is marked."""

from __future__ import annotations

import json

import pytest
from simulated_board import write_board

from slimdeploy.board import jetpack
from slimdeploy.board.machine import Machine, this_machine
from slimdeploy.board.probe import as_text, probe


@pytest.fixture
def facts(tmp_path):
    return probe(Machine(write_board(tmp_path / "root")), tmp_path)


def test_a_board_is_told_by_the_part_number_of_its_module(facts):
    assert facts["board"]["parts"] == ["p3768-0000", "p3767-0005"]
    assert facts["board"]["model"].startswith("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super")


def test_its_versions_are_read_from_the_system(facts):
    assert facts["jetpack"] == {"l4t": "36.4.4", "version": "6.2.1"}
    assert facts["tensorrt"]["version"] == "10.3.0.30"
    assert facts["cuda"] == "12.6.11"


def test_power_mode_clock_and_memory_are_read(facts):
    assert facts["power_mode"] == "2 MAXN_SUPER"
    assert facts["gpu_clock"] == {"mhz": 1020.0, "min_mhz": 306.0, "max_mhz": 1020.0, "locked": False}
    assert facts["memory"] == {"total_mib": 7620, "available_mib": 6000}
    assert facts["disk_free_mib"] > 0


def test_a_recorded_root_is_marked_as_simulated(facts):
    assert facts["simulated"] is True
    assert facts["board"]["model"].endswith("(simulated board)")
    assert "(simulated board)" in as_text(facts)
    json.dumps(facts)


def test_an_ordinary_computer_is_no_jetson_and_nothing_is_made_up(tmp_path):
    facts = probe(Machine(tmp_path), tmp_path)
    assert facts["board"] == {"model": None, "compatible": [], "parts": []}
    assert (facts["jetpack"]["version"], facts["cuda"], facts["power_mode"], facts["gpu_clock"]) == (None,) * 4
    assert facts["tensorrt"] == {"version": None, "python": False, "trtexec": None}
    assert "no Jetson" in as_text(facts)


def test_the_real_system_is_looked_at_unless_a_root_is_named(tmp_path):
    assert not this_machine({}).simulated
    assert this_machine({"SLIMDEPLOY_BOARD_ROOT": str(tmp_path)}).root == tmp_path


@pytest.mark.parametrize(
    ("line", "l4t", "version"),
    [
        ("# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic", "36.4.4", "6.2.1"),
        ("# R38 (release), REVISION: 2.0, GCID: 41844464", "38.2.0", "7.0"),
        ("# R35 (release), REVISION: 3.1, GCID: 32790763, BOARD: t186ref", "35.3.1", "5.1.1"),
        ("# R32 (release), REVISION: 7.1, GCID: 29689809, BOARD: t186ref", "32.7.1", "4.6.1"),
        ("# R99 (release), REVISION: 1", "99.1.0", None),
        ("something else", None, None),
    ],
)
def test_the_release_line_gives_l4t_and_jetpack(line, l4t, version):
    assert (jetpack.l4t_of(line), jetpack.jetpack_of(jetpack.l4t_of(line))) == (l4t, version)
