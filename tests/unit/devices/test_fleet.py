"""A fleet's file is read strictly, canaries go first, and no board is begun once too many have failed."""

from __future__ import annotations

import threading
import time

import pytest

from slimdeploy.configs import FleetConfig
from slimdeploy.devices.address import parse_address
from slimdeploy.devices.fleet import FleetBoard, read_fleet
from slimdeploy.errors import DeviceError, SlimdeployError, UsageError
from slimdeploy.stages.fleet import chosen, run_fleet

FLEET = """
[[board]]
name = "one"
address = "ssh://pilot@drone-1"
group = "test"
target = "orin-nano-8gb"
canary = true

[[board]]
name = "two"
address = "ssh://pilot@drone-2:2222/data/flight"
"""


def fleet_file(tmp_path, text):
    path = tmp_path / "fleet.toml"
    path.write_text(text, encoding="utf-8")
    return path


def boards(*names, canaries=()):
    return [FleetBoard(name=n, address=parse_address(f"ssh://{n}"), canary=n in canaries) for n in names]


def work_that_fails_on(*bad):
    def work(board):
        if board.name in bad:
            raise DeviceError(f"{board.name} failed")
        return {"release": "a" * 64}

    return work


def outcome(results):
    return ["failed" if "error" in one else "skipped" if "skipped" in one else "ok" for one in results]


def test_a_fleet_is_read_in_the_files_order(tmp_path):
    one, two = read_fleet(fleet_file(tmp_path, FLEET))
    assert (one.name, one.group, one.target, one.canary) == ("one", "test", "orin-nano-8gb", True)
    assert (two.address.port, two.address.root, two.canary) == (2222, "/data/flight", False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("board = 1", "is no fleet", id="no boards"),
        pytest.param("", "is no fleet", id="empty"),
        pytest.param("[[board]", "cannot be read", id="no TOML"),
        pytest.param('[[board]]\nname = "one"', "lacks its name or its address", id="no address"),
        pytest.param(FLEET.replace("group", "grup"), "unknown key 'grup'", id="misspelt key"),
        pytest.param(FLEET.replace("true", '"yes"'), "canary of one is 'yes'", id="wrong type"),
        pytest.param(FLEET.replace("orin-nano-8gb", "orin-nano"), "no target 'orin-nano'", id="unknown target"),
        pytest.param(FLEET.replace('"two"', '"one"'), "the name 'one' twice", id="name twice"),
        pytest.param(
            FLEET.replace("ssh://pilot@drone-1", "drone-1"), "the address 'drone-1'", id="no address of a board"
        ),
        pytest.param(
            FLEET.replace("ssh://pilot@drone-1", r"local:/r\n[Service]\nExecStartPre=/bin/x"),
            r"the address 'local:/r\\n\[Service",
            id="address with a line break",
        ),
        pytest.param(FLEET.replace('"two"', r'"two\u001b[2J"'), "name 'two", id="name with an escape sequence"),
        pytest.param(FLEET.replace('"test"', r'"te\u2028st"'), "group 'te", id="group with a line separator"),
        pytest.param("a = " + "[" * 5000, "cannot be read", id="nested deeply"),
        pytest.param("a = " + "9" * 5000, "cannot be read|is no fleet", id="long number"),
    ],
)
def test_a_fleet_that_is_wrong_is_refused(tmp_path, text, says):
    with pytest.raises(SlimdeployError, match=says):
        read_fleet(fleet_file(tmp_path, text))


def test_a_group_that_no_board_is_in_is_refused(tmp_path):
    fleet = read_fleet(fleet_file(tmp_path, FLEET))
    assert [board.name for board in chosen(fleet, "test")] == ["one"]
    with pytest.raises(UsageError, match="no board is in the group 'prod'"):
        chosen(fleet, "prod")


def test_when_the_canary_fails_no_other_board_is_begun():
    results = run_fleet(
        boards("one", "two", "three", canaries=["two"]), FleetConfig(max_failures=9), work_that_fails_on("two")
    )
    assert outcome(results) == ["skipped", "failed", "skipped"]


def test_the_first_board_is_the_canary_where_none_is_named():
    results = run_fleet(boards("one", "two"), FleetConfig(max_failures=9), work_that_fails_on("one"))
    assert outcome(results) == ["failed", "skipped"]


def test_no_board_is_begun_once_too_many_have_failed():
    fleet = boards("one", "two", "three", "four", "five")
    results = run_fleet(fleet, FleetConfig(parallel=1, max_failures=1), work_that_fails_on("two", "three"))
    assert outcome(results) == ["ok", "failed", "failed", "skipped", "skipped"]


def test_no_more_boards_are_shipped_to_at_once_than_allowed():
    lock, now, most = threading.Lock(), 0, 0

    def work(_):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return {}

    run_fleet(boards(*"abcdefgh"), FleetConfig(parallel=3), work)
    assert most == 3
