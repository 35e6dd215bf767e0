"""`run` of the agent: every frame of a file, the newest of a camera, and a camera that goes away and comes back."""

from __future__ import annotations

import io
import json
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
