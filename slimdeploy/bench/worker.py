"""The worker process: one session, timed on request. Started by `process.Worker`, never by hand.

It reads one JSON object a line from stdin and answers each with one JSON object a line on what was its stdout; what
a runtime prints goes to stderr, and cannot disturb the answers. It ends when it is told to, or when stdin closes,
which is when its parent is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO

from slimdeploy._needs import needs
from slimdeploy.backends.protocol import INPUT, Backend, Session, Tensors
from slimdeploy.backends.registry import backend_for
from slimdeploy.bench import nvml
from slimdeploy.bench.environment import peak_memory_mib
from slimdeploy.bench.frames import Frames
from slimdeploy.bench.layers import layer_times, require_profiler
from slimdeploy.bench.offered import offer
from slimdeploy.errors import SlimdeployError
from slimdeploy.records import INFERENCE, Artifact, ModelSpec

INPUTS = 4  # different images, taken in turn
WINDOW_S = 0.2  # the warm-up compares medians of windows this long,
WINDOW_CALLS = (3, 200)  # of at least and at most this many calls
STABLE_WINDOWS = 3  # and ends when the last three
STABLE_WITHIN = 0.03  # lie within 3 % of one another
UNTIMED_CALLS = 2  # at the start of a turn, since another model's turn emptied the caches

Call = Callable[[], tuple[float, Any]]  # seconds, and what came out

Handlers = Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]  # by the name of the request


@dataclass(slots=True)
class Bench:
    """What the worker holds between requests."""

    session: Session | None = None
    feeds: tuple[Tensors, ...] = ()
    calls: int = 0
    backend: Backend | None = None
    artifact: Artifact | None = None
    threads: int = 0
    frames: Frames | None = None
    device_memory_mib: float | None = None

    def open(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Load the model; importing its runtime is not part of the time."""
        artifact = artifact_from_json(request["artifact"])
        backend = backend_for(artifact, request["backend"], trust=request["trust"])
        if request.get("profile"):
            require_profiler(backend)
        self.feeds = make_feeds(artifact.spec, batch=request["batch"], seed=request["seed"])
        held_mib = nvml.memory_used_mib()
        started = time.perf_counter()
        self.session = backend.open(artifact, threads=request["threads"])
        load_s = time.perf_counter() - started
        self.backend, self.artifact, self.threads = backend, artifact, request["threads"]
        if request.get("frames") is not None:
            self.frames = Frames.make(self.session, artifact.spec, batch=request["batch"], asked=request["frames"])
        self.device_memory_mib = _grown(held_mib)
        size = self.frames.size if self.frames else None
        return {"load_s": load_s, "backend": backend.name, "version": backend.version, "frame_size": size}

    def warm_up(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call until the median is stable, or the limit is reached."""
        started = time.perf_counter()
        call = self._in_scope(request)
        first_s, outputs = call()
        if request.get("scope", INFERENCE) == INFERENCE:
            assert self.artifact is not None
            batch, name = len(self.feeds[0][INPUT]), Path(self.artifact.path).name
            require_sound(outputs, self.artifact.spec, batch=batch, name=name)
        windows: list[list[float]] = []
        while not (stable := is_stable(windows)) and time.perf_counter() - started < request["limit_s"]:
            windows.append(_window(call))
        warmup_s = [sample for window in windows for sample in window]
        return {"first_s": first_s, "warmup_s": warmup_s, "stable": stable}

    def sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Time some calls, and go on for as long as asked; `cpu_s` is what this process worked over all of `wall_s`."""
        started, worked_s = time.perf_counter(), time.process_time()
        call = self._in_scope(request)
        samples_s: list[float] = []
        with _no_garbage_collection():
            for _ in range(UNTIMED_CALLS):
                call()
            ends = time.perf_counter() + request.get("duration_s", 0.0)
            while len(samples_s) < request["count"] or time.perf_counter() < ends:
                samples_s.append(call()[0])
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - worked_s
        return {"samples_s": samples_s, "wall_s": wall_s, "cpu_s": cpu_s, "calls": len(samples_s) + UNTIMED_CALLS}

    def offer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Look at the frames of a camera that does not wait."""
        assert self.frames is not None
        with _no_garbage_collection():
            for _ in range(UNTIMED_CALLS):
                self.frames.look(0)
            latency_s, dropped = offer(self.frames.look, fps=request["fps"], duration_s=request["duration_s"])
        return {"latency_s": latency_s, "dropped": dropped}

    def profile(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Tell the time of each layer, from the runtime's own profiler."""
        assert self.backend is not None
        assert self.artifact is not None
        layers = layer_times(self.backend, self.artifact, self.feeds[0], threads=self.threads, calls=request["calls"])
        return {"layers": [dataclasses.asdict(layer) for layer in layers]}

    def status(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Tell what this process loaded and needed."""
        modules = sorted({name.partition(".")[0] for name in sys.modules})
        return {
            "peak_memory_mib": peak_memory_mib(),
            "device_memory_mib": self.device_memory_mib,
            "modules": modules,
            "cpu_s": time.process_time(),
        }

    def handlers(self) -> Handlers:
        """Return what answers each request."""
        timed: Handlers = {"open": self.open, "warm_up": self.warm_up, "sample": self.sample, "offer": self.offer}
        return {**timed, "profile": self.profile, "status": self.status}

    def _in_scope(self, request: Mapping[str, Any]) -> Call:
        if request.get("scope", INFERENCE) == INFERENCE:
            return self._infer
        assert self.frames is not None
        return self.frames.call

    def _infer(self) -> tuple[float, Tensors]:
        assert self.session is not None
        feeds = self.feeds[self.calls % len(self.feeds)]
        self.calls += 1
        started = time.perf_counter()
        outputs = self.session.run(feeds)
        return time.perf_counter() - started, outputs


def _window(call: Call) -> list[float]:
    least, most = WINDOW_CALLS
    samples: list[float] = []
    ends = time.perf_counter() + WINDOW_S
    while len(samples) < least or (len(samples) < most and time.perf_counter() < ends):
        samples.append(call()[0])
    return samples


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _grown(before_mib: float | None) -> float | None:
    after_mib = nvml.memory_used_mib()
    return None if before_mib is None or after_mib is None else max(0.0, after_mib - before_mib)


def is_stable(windows: list[list[float]]) -> bool:
    """Return whether the medians of the last windows agree; each window holds seconds a call."""
    if len(windows) < STABLE_WINDOWS:
        return False
    medians = [median(window) for window in windows[-STABLE_WINDOWS:]]
    return max(medians) <= min(medians) * (1 + STABLE_WITHIN)


def artifact_from_json(plain: Mapping[str, Any]) -> Artifact:
    """Return the artifact that `records.as_json` turned into JSON."""
    spec = dict(plain["spec"])
    spec.update(classes=tuple(spec["classes"]), imgsz=tuple(spec["imgsz"]))
    return Artifact(**{**plain, "spec": ModelSpec(**spec)})


def make_feeds(spec: ModelSpec, *, batch: int, seed: int) -> tuple[Tensors, ...]:
    """Return seeded input images, float32 (batch, 3, H, W) in 0..1."""
    with needs("onnx"):
        import numpy as np
    chance = np.random.default_rng(seed)
    return tuple({INPUT: chance.random((batch, 3, *spec.imgsz), dtype=np.float32)} for _ in range(INPUTS))


def require_sound(outputs: Tensors, spec: ModelSpec, *, batch: int, name: str) -> None:
    """Raise ArtifactError if the model is broken or laid out otherwise, so that its speed means nothing."""
    from slimdeploy.backends.outputs import require_finite, require_layout

    require_layout(outputs, spec, batch, name)
    require_finite(outputs, name)


def serve(requests: Callable[[], bytes], answers: BinaryIO, handlers: Handlers) -> None:
    """Answer requests by the handler of their name until one says `close`."""
    while (request := json.loads(requests()))["do"] != "close":
        try:
            answer = handlers[request["do"]](request)
        except SlimdeployError as error:
            answer = error.as_json()
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def main(handlers: Handlers | None = None) -> None:
    """Keep stdin and stdout for the requests and answers alone, and serve; without `handlers`, time whole models."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which closes this process
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - Path.open has no devnull on Windows
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, lines), daemon=True).start()
    serve(lines.get, answers, handlers or Bench().handlers())


def _read(requests: BinaryIO, lines: queue.SimpleQueue[bytes]) -> None:
    for line in requests:
        lines.put(line)
    os._exit(0)  # the parent is gone: end at once, even in the middle of a call


if __name__ == "__main__":
    main()
