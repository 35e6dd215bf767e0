"""Where frames come from: a folder or file of images, a video, a camera, a stream or a GStreamer pipeline."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator

from slimdeploy.board.errors import MissingDependency, UsageError

if TYPE_CHECKING:
    from slimdeploy.board.boxes import Pixels

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
STREAMS = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://")
_NUMBER = re.compile(r"[0-9]{1,6}\Z")  # of a camera
RETRY_S = 0.5  # between two tries to open a camera that went away
SILENT_S = 10.0  # after which a camera that gives nothing is told of
MOST_FRAMES = 1e9  # a file that announces more does not know
CLOSE_S = 5.0  # for the last read of a camera that hangs; OpenCV itself gives up a stream after 30 s


@dataclass(frozen=True)
class Frame:
    """One image and where it came from.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        name: file name, or what names the camera.
        taken_s: when it was read, on the clock of time.perf_counter.
    """

    image: Pixels
    name: str
    taken_s: float


@dataclass(frozen=True)
class Source:
    """A place that frames come from.

    Attributes:
        name: as given.
        live: whether frames come at their own pace, so that old ones are dropped and not waited for.
        frames: gives the frames; of a live source it ends when the camera goes away, and can be asked again.
        announced: how many frames a file says that it has, or 0 where it does not.
    """

    name: str
    live: bool
    frames: Callable[[], Iterator[Frame]]
    announced: int = 0


def is_live(given: str) -> bool:
    """Return whether a source gives its frames at its own pace: a pipeline, a camera or a stream."""
    return "!" in given or _is_camera(given) or given.lower().startswith(STREAMS)


def _is_camera(given: str) -> bool:
    return _NUMBER.match(given) is not None or given.startswith("/dev/video")


def open_source(given: str) -> Source:
    """Return the source that a person named: a path, a camera's number or device, an address, a pipeline with `!`.

    Raises:
        MissingDependency: OpenCV is missing, or was built without what the source needs.
        UsageError: there is nothing of this name.
    """
    cv2 = _opencv()
    if "!" in given:
        return _pipeline(cv2, given)
    if _is_camera(given):
        camera: Any = int(given) if _NUMBER.match(given) else given
        return Source(given, True, lambda: _captured(cv2, given, camera))
    if given.lower().startswith(STREAMS):
        return Source(given, True, lambda: _captured(cv2, given, given))
    path = Path(given)
    if path.is_dir():
        images = sorted(one for one in path.iterdir() if one.suffix.lower() in IMAGES)
        if not images:
            raise UsageError(f"no images in {path}", wanted=f"files ending in {', '.join(IMAGES)}")
        return Source(given, False, lambda: _images(cv2, images), len(images))
    if not path.is_file():
        raise UsageError(f"no source {given}", wanted="a folder, a file, a camera's number, an address or a pipeline")
    if path.suffix.lower() in IMAGES:
        return Source(given, False, lambda: _images(cv2, [path]))
    capture = cv2.VideoCapture(given)
    if not capture.isOpened():
        raise UsageError(f"{path} does not open as a video", wanted="a file that OpenCV reads")
    announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    return Source(
        given, False, lambda: _captured(cv2, path.name, given), int(announced) if 0 < announced < MOST_FRAMES else 0
    )


class Latest:
    """Reads a live source in a thread and keeps its newest frame alone: an older one that nobody took is dropped.

    A camera that goes away is opened again when it comes back.

    Args:
        source: a live source.
        patience_s: how long a camera may be away before the frames end; 0 waits for ever.
        tell: is told when the camera goes away and comes back.
    """

    def __init__(self, source: Source, patience_s: float, tell: Callable[[str], None]) -> None:
        self.dropped = 0
        self._source, self._patience_s, self._tell = source, patience_s, tell
        self._frame: Frame | None = None
        self._over = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __iter__(self) -> Iterator[Frame]:
        """Give the newest frame each time; wait where there is none yet."""
        while True:
            frame = self._newest()
            if frame is None:
                return
            yield frame

    def _newest(self) -> Frame | None:
        """The newest frame, once there is one; None at the end, also of a read that OpenCV never comes back from."""
        with self._changed:
            if not self._changed.wait_for(
                self._ready, self._patience_s + 2 * RETRY_S if self._patience_s else SILENT_S
            ):
                self._tell(f"{self._source.name} gives no frame")
                if self._patience_s:
                    return None
                self._changed.wait_for(self._ready)
            frame, self._frame = self._frame, None
        return frame

    def _ready(self) -> bool:
        return self._frame is not None or self._over

    def close(self) -> None:
        """Stop reading, and wait for a read that is going on: OpenCV aborts a process that ends within one."""
        self._end()
        self._reader.join(CLOSE_S)

    def _end(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _read(self) -> None:
        seen_s, away = time.perf_counter(), False
        while not self._over and not self._given_up(seen_s):
            for frame in self._source.frames():
                if self._over:
                    return
                if away:
                    self._tell(f"{self._source.name} is back")
                seen_s, away = time.perf_counter(), False
                self._put(frame)
            if not away and not self._over:
                self._tell(f"{self._source.name} went away; waiting for it")
            away = True
            time.sleep(RETRY_S)
        self._end()

    def _given_up(self, seen_s: float) -> bool:
        return 0 < self._patience_s < time.perf_counter() - seen_s

    def _put(self, frame: Frame) -> None:
        with self._changed:
            self.dropped += self._frame is not None
            self._frame = frame
            self._changed.notify_all()


def leave_cores_to_the_engine() -> None:
    """Let OpenCV scale frames in the thread that asks: its helpers would wait, spinning, for cores that are taken."""
    _opencv().setNumThreads(1)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependency(
            "this Python has no OpenCV, which reads images and videos",
            wanted="the module cv2",
            do="install python3-opencv (JetPack brings it), or pip install opencv-python-headless",
        ) from error
    return cv2


def _pipeline(cv2: Any, given: str) -> Source:
    if "GStreamer:                   YES" not in cv2.getBuildInformation():
        raise MissingDependency(
            "this OpenCV was built without GStreamer",
            wanted="one that reads pipelines",
            do="use JetPack's python3-opencv, or name a file, a camera or an address",
        )
    whole = given if "appsink" in given else f"{given} ! videoconvert ! video/x-raw,format=BGR ! appsink drop=1"
    return Source(given, True, lambda: _captured(cv2, "pipeline", whole, cv2.CAP_GSTREAMER))


def _captured(cv2: Any, name: str, *opened_by: Any) -> Iterator[Frame]:
    capture = cv2.VideoCapture(*opened_by)
    try:
        while True:
            there, image = capture.read()
            if not there:
                return
            yield Frame(image=image, name=name, taken_s=time.perf_counter())
    finally:
        capture.release()


def _images(cv2: Any, paths: list[Path]) -> Iterator[Frame]:
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise UsageError(f"{path} does not decode", wanted="an image that OpenCV reads")
        yield Frame(image=image, name=path.name, taken_s=time.perf_counter())
