"""`run` of the agent: every frame of a file, the newest of a camera, and a camera that goes away and comes back."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
from agent_process import run_agent
from bright_detector import squares

from slimdeploy.board.bundle import read_bundle
from slimdeploy.board.errors import DeviceError, UsageError
from slimdeploy.board.frames import Frame, Latest, Source, open_source
from slimdeploy.board.machine import Machine
from slimdeploy.board.run import Wishes, run
from slimdeploy.board.sessions import Engines


@pytest.fixture
def engines(tmp_path):
    return Engines(machine=Machine(), cache=tmp_path)


def frames_of(count):
    for _ in range(count):
        yield Frame(image=squares(), name="camera", taken_s=time.perf_counter())


def test_every_image_of_a_folder_gives_a_line_with_its_boxes(bundle, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(folder / name), squares())
    ended = run_agent(bundle, "run", str(folder), "--out", str(tmp_path / "lines"))
    assert ended.code == 0, ended.err
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text(encoding="utf-8").splitlines()]
    assert [line["source"] for line in lines] == ["a.png", "b.png"]
    assert lines[0]["size"] == [64, 96]
    assert {box["class"]: box["xyxy"] for box in lines[0]["boxes"]} == {
        "red": [16, 8, 24, 16],
        "blue": [64, 32, 72, 40],
    }
    assert (ended.told["frames"], ended.told["boxes"], ended.told["dropped"]) == (2, 4, 0)


def test_boxes_come_in_the_pixels_of_the_frame(bundle, tmp_path):
    cv2.imwrite(str(tmp_path / "big.png"), cv2.resize(squares(), (192, 128), interpolation=cv2.INTER_NEAREST))
    ended = run_agent(bundle, "run", str(tmp_path / "big.png"), "--out", str(tmp_path / "lines"))
    assert ended.code == 0, ended.err
    (line,) = (tmp_path / "lines").read_text(encoding="utf-8").splitlines()
    assert [32, 16, 48, 32] in [box["xyxy"] for box in json.loads(line)["boxes"]]


def test_a_video_is_read_whole_and_drawn_into_another(bundle, tmp_path):
    video = cv2.VideoWriter(str(tmp_path / "in.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (96, 64))
    for _ in range(20):
        video.write(squares())
    video.release()
    ended = run_agent(bundle, "run", str(tmp_path / "in.avi"), "--annotate", str(tmp_path / "out.mp4"))
    assert (ended.code, ended.told["frames"]) == (0, 20), ended.err
    there, image = cv2.VideoCapture(str(tmp_path / "out.mp4")).read()
    assert there
    assert image[8, 20, 1] > 100  # a green line where the red square begins


def test_it_stops_after_as_many_frames_as_asked_for(bundle, engines, tmp_path):
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"{i}.png"), squares())
    assert run(read_bundle(bundle), engines, str(tmp_path), Wishes(frames=3), io.StringIO())["frames"] == 3


def test_old_frames_of_a_camera_are_dropped_and_not_queued():
    camera = Latest(Source("camera", True, lambda: frames_of(50)), 0.2, lambda told: None)
    time.sleep(0.1)
    assert len(list(camera)) == 1
    assert camera.dropped == 49


def test_a_camera_that_goes_away_and_comes_back_goes_on(monkeypatch):
    monkeypatch.setattr("slimdeploy.board.frames.RETRY_S", 0.01)
    visits, told = iter([1, 0, 0, 1]), []
    camera = Latest(Source("camera", True, lambda: frames_of(next(visits, 0))), 0.2, told.append)
    taken = list(camera)
    assert 1 <= len(taken) <= 2
    assert len(taken) + camera.dropped == 2
    assert told[:3] == ["camera went away; waiting for it", "camera is back", "camera went away; waiting for it"]


def test_an_engine_that_fails_ends_the_run_with_its_error(bundle, engines, tmp_path, monkeypatch):
    class Broken:
        runtime, version = "onnxruntime", "1"

        def run(self, images):
            raise DeviceError("the engine stopped")

        def close(self):
            pass

    monkeypatch.setattr("slimdeploy.board.run.open_session", lambda bundle, engines: Broken())
    for i in range(9):
        cv2.imwrite(str(tmp_path / f"{i}.png"), squares())
    with pytest.raises(DeviceError, match="the engine stopped"):
        run(read_bundle(bundle), engines, str(tmp_path), Wishes(), io.StringIO())


def test_an_output_that_fails_ends_the_run_and_does_not_hang(bundle, engines, tmp_path):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError("no space left")

    for i in range(9):
        cv2.imwrite(str(tmp_path / f"{i}.png"), squares())
    with pytest.raises(OSError, match="no space left"):
        run(read_bundle(bundle), engines, str(tmp_path), Wishes(), Full())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda path: None, "no source", id="missing"),
        pytest.param(lambda path: path.mkdir(), "no images in", id="empty folder"),
        pytest.param(lambda path: path.write_bytes(b"no video"), "does not open as a video", id="no video"),
    ],
)
def test_a_source_that_is_none_is_refused(tmp_path, make, says):
    make(tmp_path / "given")
    with pytest.raises(UsageError, match=says):
        open_source(str(tmp_path / "given"))


def test_an_image_that_does_not_decode_is_named(bundle, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    ended = run_agent(bundle, "run", str(tmp_path / "broken.png"))
    assert ended.code == 2
    assert "broken.png does not decode" in ended.err


def test_what_kind_of_source_is_named_tells_whether_it_is_live():
    assert open_source("0").live
    assert open_source("rtsp://camera/stream").live
    assert open_source("/dev/video7").live


def test_a_pipeline_without_gstreamer_says_what_is_missing(bundle):
    if "GStreamer:                   YES" in cv2.getBuildInformation():
        pytest.skip("this OpenCV has GStreamer")
    ended = run_agent(bundle, "run", "videotestsrc ! videoconvert ! appsink")
    assert (ended.code, ended.told["error"]) == (3, "MissingDependency")


@pytest.fixture
def video(tmp_path):
    """A video of 300 frames, each compressed alone, so that a part of it can be damaged."""
    path = tmp_path / "in.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (96, 64))
    for _ in range(300):
        writer.write(squares())
    writer.release()
    return path


def frames_in(path) -> int:
    capture = cv2.VideoCapture(str(path))
    return sum(1 for _ in iter(lambda: capture.read()[0], False))


def test_a_damaged_video_is_no_success(bundle, video, tmp_path):
    content = bytearray(video.read_bytes())
    begin, end = content.index(b"movi") + 2500, len(content) - 8000  # behind which lies the index
    content[begin:end] = bytes(end - begin)
    video.write_bytes(content)
    ended = run_agent(bundle, "run", str(video), "--out", str(tmp_path / "lines"))
    assert (ended.code, ended.told["error"]) == (1, "AgentError")
    written = len((tmp_path / "lines").read_text(encoding="utf-8").splitlines())
    assert 0 < written < 300
    assert f"ended after {written} of 300 frames" in ended.told["wrong"]


def test_a_video_of_which_fewer_frames_are_asked_for_is_whole(bundle, video, tmp_path):
    ended = run_agent(bundle, "run", str(video), "--frames", "5", "--out", str(tmp_path / "lines"))
    assert (ended.code, ended.told["frames"]) == (0, 5)


def test_a_camera_that_gives_nothing_is_no_success(bundle, engines, monkeypatch):
    silent = Source("camera", True, lambda: frames_of(0))
    monkeypatch.setattr("slimdeploy.board.run.open_source", lambda given: silent)
    with pytest.raises(DeviceError, match="camera gave no frame within"):
        run(read_bundle(bundle), engines, "0", Wishes(patience_s=0.2), io.StringIO())


@pytest.mark.skipif(sys.platform == "win32", reason="boards run Linux")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_ended_finishes_its_video(bundle, video, tmp_path, number, code):
    out, drawn = tmp_path / "lines", tmp_path / "drawn.mp4"
    argv = [sys.executable, str(bundle / "agent.pyz"), "run", str(video), "--annotate", str(drawn), "--out", str(out)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as started:
        ends = time.monotonic() + 60
        while time.monotonic() < ends and not (out.exists() and out.read_text(encoding="utf-8").count("\n") > 2):
            time.sleep(0.01)
        started.send_signal(number)
        said = started.communicate(timeout=60)[1]
    lines = out.read_text(encoding="utf-8").count("\n")
    assert (started.returncode, frames_in(drawn)) == (code, lines), said
    assert 0 < lines < 300


def in_a_shell(bundle, line: str) -> subprocess.CompletedProcess[str]:
    """Run the agent with what a shell does to its streams; `AGENT` in the line stands for it."""
    agent = f"{sys.executable} {bundle / 'agent.pyz'}"
    return subprocess.run(["bash", "-c", line.replace("AGENT", agent)], capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        pytest.param("AGENT run {video} >&-", 2, "stdout is closed", id="run, stdout closed"),
        pytest.param("AGENT run {video} --out {video}.txt >&-", 0, "done, but", id="run to a file, stdout closed"),
        pytest.param("AGENT run {video} --json > /dev/full", 4, "No space left", id="run, stdout full"),
        pytest.param("AGENT probe --json > /dev/full", 1, "No space left", id="probe, stdout full"),
        pytest.param("AGENT probe >&-", 1, "stdout is closed", id="probe, stdout closed"),
        pytest.param("AGENT build --json > /dev/full", 0, "done, but", id="build, stdout full"),
        pytest.param("AGENT run {video}.none --json > /dev/full", 2, "no source", id="an error, stdout full"),
        pytest.param(
            "AGENT run {video} | head -n 1 > /dev/null; exit ${{PIPESTATUS[0]}}", 1, "nobody reads", id="reader gone"
        ),
    ],
)
def test_a_stdout_that_takes_nothing_is_told_in_one_line(bundle, video, line, code, says):
    ended = in_a_shell(bundle, line.format(video=video))
    assert (ended.returncode, says in ended.stderr) == (code, True), ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_closed_streams_do_not_become_files_of_the_run(bundle, video, tmp_path):
    assert in_a_shell(bundle, f"AGENT run {video} --out {tmp_path / 'lines'} <&- >&- 2>&-").returncode == 0
    assert all(line.startswith("{") for line in (tmp_path / "lines").read_text(encoding="utf-8").splitlines())


def test_a_camera_is_named_by_ascii_digits_alone(tmp_path):
    for odd in ("\u00b2", "\u0663"):
        with pytest.raises(UsageError, match="no source"):
            open_source(odd)


def test_a_model_of_another_task_is_refused(bundle, tmp_path):
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    manifest["model"]["task"] = "segment"
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    ended = run_agent(bundle, "run", str(tmp_path))
    assert (ended.code, ended.told["error"]) == (2, "UsageError")
    assert "the model's task is segment" in ended.err


def test_thresholds_out_of_range_are_refused(bundle):
    assert run_agent(bundle, "run", "0", "--conf", "2").code == 2


def test_a_read_that_never_comes_back_is_told_and_ends_when_patience_does(monkeypatch):
    from slimdeploy.board import frames

    monkeypatch.setattr(frames, "CLOSE_S", 0.1)
    hung = threading.Event()

    def never():
        hung.wait()
        yield from ()

    said = []
    latest = Latest(Source("camera", True, never), 0.2, said.append)
    assert list(latest) == []
    latest.close()
    hung.set()
    assert said[0] == "camera gives no frame"


def test_a_head_that_the_engine_writes_over_is_kept_for_the_one_that_reads_it(bundle, engines, tmp_path, monkeypatch):
    """A stand-in for TensorRT's session, whose output lies in one place: each frame still gets its own boxes."""
    from slimdeploy.board import run as running
    from slimdeploy.board.sessions import open_session

    class Overwriting:
        runtime, version, fresh, graph = "tensorrt", "0", False, "m"

        def __init__(self):
            self._inside, self._head = open_session(bundle, engines), None

        def run(self, images):
            head = self._inside.run(images)
            self._head = np.empty_like(head) if self._head is None else self._head
            self._head[...] = head
            return self._head

        def close(self):
            self._inside.close()

    bundle = read_bundle(bundle)
    monkeypatch.setattr(running, "open_session", lambda *_: Overwriting())
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        cv2.imwrite(str(folder / f"{number}.png"), np.roll(squares(), 8 * number, axis=1))
    out = io.StringIO()
    run(bundle, engines, str(folder), Wishes(), out)
    lines = [json.loads(line)["boxes"] for line in out.getvalue().splitlines()]
    left = [[box["xyxy"][0] for box in boxes if box["class"] == "red"] for boxes in lines]
    assert left == [[16.0 + 8 * number] for number in range(6)]
