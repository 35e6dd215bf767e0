"""A service on the board flies what is current: installed when asked for alone, and a release it cannot run goes back.

systemd itself is a stand-in among the simulated board's programs, since no test may change this machine's services.
"""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess

import pytest
from simulated_board import write_program

CAMERA = "/dev/video0"
AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
# Notes each request, and with which model the service starts; a service whose model is called bad ends at once.
STAND_IN = """\
echo "$*" >> {log}
IFS= read -r model < {root}/current/bundle/model.fp32.onnx
case "$*" in
*enable*) [ ! -e {log}.refuse ] || {{ echo "Failed to enable unit"; exit 1; }} ;;
*restart*) echo "started with $model" >> {log} ;;
*is-active*) [ "$model" != bad ] ;;
esac"""


@pytest.fixture
def board(make_board):
    """A board with a stand-in for systemd; `log` is what was asked of it."""
    board = make_board()
    board.log = board.folder / "systemctl.log"
    for name in ("systemctl", "loginctl", "udevadm"):
        write_program(board.folder / "system" / "usr" / "bin" / name, STAND_IN.format(log=board.log, root=board.root))
    base = board.folder / ("system/etc/systemd/system" if AS_ROOT else "home/.config/systemd/user")
    board.unit = base / "slimdeploy.service"
    return board


def started(board) -> list[str]:
    return [line.split()[-1] for line in board.log.read_text(encoding="utf-8").splitlines() if "started" in line]


@pytest.fixture
def serving(board, make_bundle, slimdeploy):
    """A board whose service flies the release `old`."""
    code, _, stderr = slimdeploy("ship", make_bundle(b"old"), "--to", board.address, "--install-service", CAMERA)
    assert code == 0, stderr
    return board


def test_nothing_is_installed_unless_it_is_asked_for(board, make_bundle, slimdeploy):
    assert slimdeploy("ship", make_bundle(b"new"), "--to", board.address)[0] == 0
    assert not board.unit.exists()
    assert not board.log.exists()


def test_an_installed_service_flies_each_new_release_and_the_one_rolled_back_to(serving, make_bundle, slimdeploy):
    assert started(serving) == ["old"]
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", serving.address)
    assert code == 0, stderr
    assert slimdeploy("ship", "--rollback", "--to", serving.address)[0] == 0
    assert started(serving) == ["old", "new", "old"]
    assert f"service: runs on {CAMERA}" in slimdeploy("ship", "--status", "--to", serving.address)[1]


def test_a_release_with_which_the_service_does_not_stay_up_is_taken_back(serving, make_bundle, slimdeploy):
    code, _, stderr = slimdeploy("ship", make_bundle(b"bad"), "--to", serving.address)
    assert (code, serving.model()) == (4, b"old"), stderr
    assert "the service does not stay up with the release" in stderr
    assert "flies again" in stderr
    assert "journalctl" in stderr
    assert started(serving) == ["old", "bad", "old"]


def test_a_systemd_that_refuses_leaves_the_release_from_before_and_no_unit(board, make_bundle, slimdeploy):
    slimdeploy("ship", make_bundle(b"old"), "--to", board.address)
    (board.folder / "systemctl.log.refuse").touch()
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", board.address, "--install-service", CAMERA)
    assert (code, board.model(), board.unit.exists()) == (4, b"old", False), stderr
    assert "Failed to enable unit" in stderr


def test_a_board_without_systemd_is_told_and_keeps_what_flew(make_board, make_bundle, slimdeploy):
    board = make_board()
    slimdeploy("ship", make_bundle(b"old"), "--to", board.address)
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", board.address, "--install-service", CAMERA)
    assert (code, board.model(), "the board has no systemd" in stderr) == (4, b"old", True), stderr


def test_a_service_is_installed_for_what_flies_already_and_removed_again(board, make_bundle, slimdeploy):
    slimdeploy("ship", make_bundle(b"old"), "--to", board.address)
    code, stdout, stderr = slimdeploy("ship", "--install-service", CAMERA, "--to", board.address)
    assert (code, started(board)) == (0, ["old"]), stderr
    assert f"service: runs on {CAMERA}" in stdout
    code, stdout, stderr = slimdeploy("ship", "--remove-service", "--to", board.address)
    assert (code, board.unit.exists(), "service removed" in stdout) == (0, False, True), stderr
    assert "disable --now slimdeploy.service" in board.log.read_text(encoding="utf-8")
    assert slimdeploy("ship", "--remove-service", "--to", board.address)[0] == 4


def test_systemd_accepts_the_unit_and_runs_the_agent_of_the_current_release(serving):
    analyze = shutil.which("systemd-analyze", path="/usr/bin:/bin")
    if analyze is not None:
        ended = subprocess.run([analyze, "verify", str(serving.unit)], capture_output=True, text=True)
        assert (ended.returncode, "slimdeploy" in ended.stderr) == (0, False), ended.stderr
    unit = configparser.ConfigParser(interpolation=None)
    unit.read_string(serving.unit.read_text(encoding="utf-8"))
    assert unit.sections() == ["Unit", "Service", "Install", "X-Slimdeploy"]
    start = unit["Service"]["ExecStart"]
    assert f'"{serving.current / "agent.pyz"}" "run" "{CAMERA}" "--cache"' in start


def test_a_rule_starts_the_service_when_its_camera_appears_where_root_ships(board, make_bundle, slimdeploy):
    more = ("--install-service", "1", "--udev-rule")
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", board.address, *more)
    rule = board.folder / "system/etc/udev/rules.d/99-slimdeploy.rules"
    if not AS_ROOT:
        assert (code, "udev rules are written by root alone" in stderr) == (4, True), stderr
        return
    assert code == 0, stderr
    assert 'KERNEL=="video1"' in rule.read_text(encoding="utf-8")
    assert slimdeploy("ship", "--remove-service", "--to", board.address)[0] == 0
    assert not rule.exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        pytest.param(("--install-service", "photos"), "a service on 'photos'", id="a folder"),
        pytest.param(("--udev-rule",), "a udev rule without a service", id="a rule alone"),
    ],
)
def test_a_service_that_cannot_be_is_told_before_anything_is_sent(board, make_bundle, slimdeploy, more, says):
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", board.address, *more)
    assert (code, says in stderr, board.root.exists()) == (2, True, False), stderr
