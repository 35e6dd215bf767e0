"""`run` on a real RTSP server: frames come, and a camera that goes away is waited for until it is back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="boards run Linux")
SERVER = Path(__file__).parents[2] / "rtsp_server.py"
WITH_GSTREAMER = shutil.which("python3", path="/usr/bin") or "python3"  # Debian's own, which has its packages
ASKED = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; " + (
    "Gst.init(None); raise SystemExit(Gst.ElementFactory.find('x264enc') is None)"
)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def camera():
    """A camera that can be switched on and off."""
    if subprocess.run([WITH_GSTREAMER, "-c", ASKED], capture_output=True).returncode:
        pytest.skip("no RTSP server here: apt install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-ugly")
    made = Camera(free_port())
    yield made
    made.off()


class Camera:
    """One RTSP server in a process of its own."""

    def __init__(self, port: int) -> None:
        self.port, self.url = port, f"rtsp://127.0.0.1:{port}/scene"
        self._process = None
        self.on()

    def on(self) -> None:
        self._process = subprocess.Popen([WITH_GSTREAMER, str(SERVER), str(self.port)], stdout=subprocess.PIPE)
        assert self._process.stdout.readline() == b"ready\n"

    def off(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def start(bundle, tmp_path):
    """Start `agent.pyz run` on a source; gives the process, and functions that read what it has said so far."""
    started = []

    def run(*arguments):
        out, err = tmp_path / "lines.jsonl", (tmp_path / "stderr.txt").open("wb")
        argv = [sys.executable, str(bundle / "agent.pyz"), "run", *arguments, "--out", str(out), "--json"]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=err, env=environment)
        started.append((process, err))
        return process, lambda: frames(out), lambda: (tmp_path / "stderr.txt").read_text(encoding="utf-8")

    yield run
    for process, err in started:
        process.kill()
        process.wait()
        process.stdout.close()
        err.close()


def frames(path: Path) -> list[dict]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def until(holds, what: str) -> None:
    ends = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < ends, what
        time.sleep(0.1)


def test_frames_of_a_stream_are_looked_at(camera, start):
    process, lines, said = start(camera.url, "--frames", "5")
    assert process.wait(90) == 0, said()
    assert [line["frame"] for line in lines()] == list(range(5))
    assert all(line["size"] == [128, 192] and line["boxes"] for line in lines())
    assert {box["class"] for box in lines()[-1]["boxes"]} == {"red"}


def test_a_camera_that_goes_away_is_waited_for_and_its_frames_go_on(camera, start):
    process, lines, said = start(camera.url)
    until(lambda: len(lines()) >= 5, said())
    camera.off()
    until(lambda: "went away; waiting for it" in said(), "the camera's end was not noticed")
    before = len(lines())
    camera.on()
    until(lambda: len(lines()) >= before + 5, said())
    assert f"{camera.url} is back" in said()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


def test_a_camera_that_stays_away_ends_the_run_when_patience_does(camera, start):
    process, lines, said = start(camera.url, "--patience", "2")
    until(lambda: len(lines()) >= 3, said())
    camera.off()
    assert process.wait(60) == 0, said()
    assert "went away" in said()


def test_a_camera_that_was_never_there_is_waited_for_within_patience(camera, start):
    camera.off()
    process, lines, said = start(camera.url, "--patience", "2")
    assert process.wait(60) == 4, said()
    assert "gave no frame within 2 s" in said()
    assert lines() == []
