"""The unit and the rule that the agent offers: both scopes, and words that systemd would read otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from slimdeploy.board import service
from slimdeploy.board.errors import DeviceError, UsageError
from slimdeploy.board.machine import Machine
from slimdeploy.bundle.agent import write_agent

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="boards run Linux")
ROOT = Path("/data/flight")


@pytest.mark.parametrize(("system", "wanted_by"), [(True, "multi-user.target"), (False, "default.target")])
def test_the_unit_starts_with_the_board_for_root_and_for_a_user(system, wanted_by):
    text = service.unit_text(ROOT, "0", system=system, python="/usr/bin/python3")
    assert f"WantedBy={wanted_by}\n" in text
    assert '"/usr/bin/python3" "/data/flight/current/bundle/agent.pyz" "run" "0"' in text


def test_what_systemd_would_read_otherwise_is_escaped():
    text = service.unit_text(ROOT, 'v4l2src device="/dev/video0" ! a%b$c\\', system=True)
    assert '"v4l2src device=\\"/dev/video0\\" ! a%%b$$c\\\\"' in text


@pytest.mark.parametrize(
    "source",
    [
        "photos",
        "flight.mp4",
        "",
        "rtsp://a\nExecStartPre=/bin/sh",
        "rtsp://h/\u2028Root=/other",
        "rtsp://h/\r",
        "\u0663",
        "\u00b2",
    ],
)
def test_a_source_that_ends_or_breaks_out_of_its_line_is_refused(source):
    with pytest.raises(UsageError, match="a service cannot watch"):
        service.unit_text(ROOT, source, system=True)


def test_there_is_no_rule_for_a_stream():
    with pytest.raises(UsageError, match="no udev rule"):
        service.rule_text("rtsp://camera/stream")


def test_a_users_service_lies_in_the_users_home_and_one_of_another_folder_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    program = tmp_path / "usr" / "bin"
    program.mkdir(parents=True)
    for name in ("systemctl", "loginctl"):
        (program / name).write_text("#!/bin/sh\n[ $0 != */loginctl ]\n", encoding="utf-8")
        (program / name).chmod(0o755)
    machine = Machine(tmp_path)
    service.install(ROOT, machine, "0", udev=False, system=False)
    assert (tmp_path / ".config/systemd/user/slimdeploy.service").is_file()
    assert service.told(ROOT, machine)["system"] is False
    with pytest.raises(DeviceError, match="the board's service runs /data/flight"):
        service.install(Path("/elsewhere"), machine, "0", udev=False, system=False)
    assert service.told(Path("/elsewhere"), machine) is None


def test_the_agent_shows_the_unit_and_changes_nothing(tmp_path):
    write_agent(tmp_path / "agent.pyz")
    argv = [sys.executable, str(tmp_path / "agent.pyz"), "service", "--root", str(tmp_path / "flight"), "--udev-rule"]
    ended = subprocess.run(argv, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "[Service]" in ended.stdout
    assert 'KERNEL=="video0"' in ended.stdout
    assert not (tmp_path / "flight").exists()


@pytest.mark.parametrize("root", ["/r\n[Service]\nExecStartPre=/bin/x", "/r\0", "/r\u2028Source=0", "/r\x1b[2J"])
def test_a_folder_that_breaks_out_of_its_line_is_refused(root):
    with pytest.raises(UsageError, match="holds a control character"):
        service.unit_text(Path(root), "0", system=True)


@pytest.mark.parametrize("between", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_only_a_line_feed_parts_the_lines_of_a_unit(tmp_path, between):
    unit = tmp_path / "etc/systemd/system" / service.UNIT
    unit.parent.mkdir(parents=True)
    text = f"[X-Slimdeploy]\nRoot=/data/flight\nSource=rtsp://h/{between}Root=/other\n"  # as an older version wrote it
    unit.write_text(text, encoding="utf-8", newline="")
    assert service.service_of(Path("/other"), Machine(tmp_path)) is None
    assert service.service_of(ROOT, Machine(tmp_path)) is not None


def test_a_python_whose_path_holds_a_dollar_is_started_by_its_own_name():
    assert 'ExecStart="/opt/$x/%%h/python" "' in service.unit_text(ROOT, "0", system=True, python="/opt/$x/%h/python")
