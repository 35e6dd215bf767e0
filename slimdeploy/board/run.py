"""Frames to detections: while the engine works on one frame, the next is prepared and the last is written down."""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Iterable, TextIO

import numpy as np

from slimdeploy.board.decode import decode
from slimdeploy.board.errors import SCHEMA, AgentError, ArtifactError, DeviceError, UsageError
from slimdeploy.board.frames import CLOSE_S, Frame, Latest, Source, leave_cores_to_the_engine, open_source
from slimdeploy.board.letterbox import Placement, letterbox
from slimdeploy.board.sessions import open_session
from slimdeploy.board.text import printable

if TYPE_CHECKING:
    from slimdeploy.board.boxes import Detections, Floats
    from slimdeploy.board.bundle import Bundle
    from slimdeploy.board.sessions import Engines, Session

BUFFERS = 2  # one that the engine reads, one that is filled meanwhile
WAIT_S = 0.1  # between looks at whether another thread stopped
FEWER = 0.02  # share of a video's frames, and at least FEWER_FRAMES, that it may announce and not have
FEWER_FRAMES = 2


@dataclass(frozen=True)
class Wishes:
    """What `run` is asked for.

    Attributes:
        conf: lowest score of a box, as ultralytics predicts.
        iou: NMS overlap above which the weaker box goes.
        max_det: boxes kept of a frame.
        frames: frames to stop after; 0 goes on.
        patience_s: how long a camera may be away; 0 waits for ever.
        annotate: a video to draw the boxes into; empty draws none.
    """

    conf: float = 0.25
    iou: float = 0.7
    max_det: int = 300
    frames: int = 0
    patience_s: float = 0.0
    annotate: str = ""

    def __post_init__(self) -> None:
        if not (0 <= self.conf <= 1 and 0 <= self.iou <= 1 and self.max_det >= 1):
            raise UsageError("thresholds out of range", wanted="--conf and --iou in 0..1, --max-det 1 or more")


@dataclass
class _Work:
    """A frame on its way: where its input lies, and what the engine made of it."""

    frame: Frame
    placement: Placement
    buffer: Floats
    head: Floats = field(default_factory=lambda: np.empty(0, dtype=np.float32))


def run(bundle: Bundle, engines: Engines, source: str, wishes: Wishes, out: TextIO) -> dict[str, Any]:
    """Write a JSON line for each frame of a source, and return how it went as a JSON-ready object.

    Raises:
        AgentError: a video ended before the frames that it announces.
        ArtifactError: the model or its engine is missing or damaged, or takes several images a call.
        DeviceError: a camera gave no frame.
        MissingDependency: OpenCV, or a runtime, is missing.
        UsageError: there is no such source, or an image of it does not decode.
    """
    if bundle.batch != 1:
        raise ArtifactError(f"the model takes {bundle.batch} images a call", wanted="1", do="export it with --batch 1")
    task = bundle.manifest["model"]["task"]
    if task != "detect":
        raise UsageError(
            f"the model's task is {task}",
            wanted="detect: the agent decodes boxes alone",
            do="run its engine from a program of your own; manifest.json says what each value of its output means",
        )
    began_s = time.perf_counter()
    opened = open_source(source)
    leave_cores_to_the_engine()
    session = open_session(bundle, engines)
    frames: Iterable[Frame] = Latest(opened, wishes.patience_s, _tell) if opened.live else opened.frames()
    writer = _Writer(bundle, wishes, out, lambda: getattr(frames, "dropped", 0))
    pipeline = _Pipeline(session, bundle.imgsz, writer.write)
    try:
        pipeline.follow(frames, wishes.frames)
    finally:
        if isinstance(frames, Latest):
            frames.close()
        pipeline.close()
        writer.close()
        session.close()
    _require_frames(opened, writer.count, wishes)
    seconds = time.perf_counter() - began_s
    return {
        "schema": SCHEMA,
        "simulated": engines.machine.simulated,
        "runtime": f"{session.runtime} {session.version}",
        "frames": writer.count,
        "boxes": writer.boxes,
        "dropped": getattr(frames, "dropped", 0),
        "seconds": round(seconds, 3),
        "first_frame_s": None if writer.first_s is None else round(writer.first_s - began_s, 3),
        "frames_per_s": round(writer.rate(), 2),
    }


def _require_frames(source: Source, count: int, wishes: Wishes) -> None:
    """Raise unless a source gave the frames that it has, as far as they were asked for."""
    if source.live and count == 0:
        raise DeviceError(
            f"{source.name} gave no frame within {wishes.patience_s:g} s",
            wanted="a camera, a stream or a pipeline that gives frames",
            do="check that it is on, or allow more with --patience",
        )
    wanted = min(source.announced, wishes.frames or source.announced)
    if not source.live and (count == 0 or wanted - count > max(FEWER_FRAMES, FEWER * wanted)):
        raise AgentError(
            f"{source.name} ended after {count} of {source.announced} frames",
            wanted="a video that is whole",
            do="copy it again; what was found in the frames before is written",
        )


def as_text(result: dict[str, Any]) -> str:
    """Return how `run` went as a line for a person."""
    dropped = f", {result['dropped']} dropped" if result["dropped"] else ""
    return (
        f"{result['frames']} frames{dropped}, {result['boxes']} boxes, {result['frames_per_s']:.1f} frames a second "
        f"in {result['runtime']}"
    )


class _Pipeline:
    """Three threads in a row: prepare, infer (the caller's), write. An error in one ends all and is raised again."""

    def __init__(self, session: Session, imgsz: tuple[int, int], write: Callable[[_Work], None]) -> None:
        self._session, self._imgsz, self._write = session, imgsz, write
        self._free: queue.Queue[Floats] = queue.Queue()
        self._ready: queue.Queue[_Work | None] = queue.Queue(1)
        self._done: queue.Queue[_Work | None] = queue.Queue(1)
        self._over = threading.Event()
        self._errors: list[BaseException] = []
        self._preparing: threading.Thread | None = None

    def close(self) -> None:
        """Wait for a frame that is being read: a process that ends within OpenCV's code is aborted."""
        if self._preparing is not None:
            self._preparing.join(CLOSE_S)

    def follow(self, frames: Iterable[Frame], most: int) -> None:
        """Work until the frames end, or `most` of them are done."""
        for _ in range(BUFFERS):
            self._free.put(np.empty((1, 3, *self._imgsz), dtype=np.float32))
        self._preparing = self._start(self._prepare, frames, most)
        finishing = self._start(self._finish)
        try:
            self._infer()
        finally:
            self._put(self._done, None)
            finishing.join()
            self._over.set()
        if self._errors:
            raise self._errors[0]

    def _start(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        def guarded() -> None:
            try:
                work(*arguments)
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
                self._errors.append(error)
                self._over.set()

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _prepare(self, frames: Iterable[Frame], most: int) -> None:
        for number, frame in enumerate(frames, start=1):
            buffer = self._get(self._free)
            if buffer is None:
                return
            _, placement = letterbox(frame.image, self._imgsz, out=buffer[0])
            self._put(self._ready, _Work(frame=frame, placement=placement, buffer=buffer))
            if number == most:
                break
        self._put(self._ready, None)

    def _infer(self) -> None:
        for work in iter(lambda: self._get(self._ready), None):
            head = self._session.run(work.buffer)[0]
            work.head = head if self._session.fresh else head.copy()
            self._free.put(work.buffer)
            self._put(self._done, work)

    def _finish(self) -> None:
        for work in iter(lambda: self._get(self._done), None):
            self._write(work)

    def _put(self, target: queue.Queue[Any], item: Any) -> None:
        while not self._over.is_set():
            try:
                return target.put(item, timeout=WAIT_S)
            except queue.Full:
                continue

    def _get(self, source: queue.Queue[Any]) -> Any:
        """The next item, or None once another thread has stopped."""
        while not self._over.is_set():
            try:
                return source.get(timeout=WAIT_S)
            except queue.Empty:
                continue
        return None


class _Writer:
    """Turns heads into JSON lines, and into an annotated video where one is wished for."""

    def __init__(self, bundle: Bundle, wishes: Wishes, out: TextIO, dropped: Callable[[], int]) -> None:
        self.count, self.boxes = 0, 0
        self.first_s: float | None = None
        self._last_s = 0.0
        self._classes, self._wishes, self._out, self._dropped = bundle.classes, wishes, out, dropped
        self._video: Any = None

    def write(self, work: _Work) -> None:
        """Write one frame down."""
        wishes = self._wishes
        scores = work.head.shape[0] - 4
        if scores != len(self._classes):
            raise ArtifactError(
                f"the network gives {scores} scores a box, and the bundle names {len(self._classes)} classes",
                wanted="a name for each",
                do="export it again",
            )
        found = decode(work.head, conf=wishes.conf, iou=wishes.iou, max_det=wishes.max_det, multi_label=False)
        xyxy = work.placement.to_original(found.xyxy)
        self._last_s = time.perf_counter()
        self.first_s = self.first_s or self._last_s
        line = {
            "frame": self.count,
            "source": work.frame.name,
            "size": list(work.placement.original),
            "latency_ms": round(1000 * (self._last_s - work.frame.taken_s), 2),
            "dropped": self._dropped(),
            "boxes": self._boxes(found, xyxy),
        }
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()
        self.count, self.boxes = self.count + 1, self.boxes + len(found.scores)
        if wishes.annotate:
            self._draw(work.frame, line["boxes"])

    def rate(self) -> float:
        """Frames a second from the first one written to the last."""
        seconds = self._last_s - (self.first_s or self._last_s)
        return (self.count - 1) / seconds if seconds > 0 else 0.0

    def close(self) -> None:
        """Finish the video."""
        if self._video is not None:
            self._video.release()

    def _boxes(self, found: Detections, xyxy: Floats) -> list[dict[str, Any]]:
        rows = zip(found.labels.tolist(), found.scores.tolist(), np.round(xyxy, 2).tolist())
        return [
            {"class": self._classes[label], "label": label, "score": round(score, 4), "xyxy": corners}
            for label, score, corners in rows
        ]

    def _draw(self, frame: Frame, boxes: Any) -> None:
        import cv2

        image = frame.image.copy()
        for box in boxes:
            left, top, right, bottom = (round(side) for side in box["xyxy"])
            cv2.rectangle(image, (left, top), (right, bottom), (0, 255, 0), 2)
            text = f"{box['class']} {box['score']:.2f}"
            cv2.putText(image, text, (left, max(12, top - 4)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 255, 0), 1)
        if self._video is None:
            size = (image.shape[1], image.shape[0])
            self._video = cv2.VideoWriter(self._wishes.annotate, cv2.VideoWriter.fourcc(*"mp4v"), 25.0, size)
            if not self._video.isOpened():
                raise UsageError(f"cannot write a video to {self._wishes.annotate}", wanted="a path ending in .mp4")
        self._video.write(image)


def _tell(what: str) -> None:
    sys.stderr.write(f"agent: {printable(what)}\n")
