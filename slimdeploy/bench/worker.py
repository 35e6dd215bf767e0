"""The worker process: one session, timed on request. Started by `process.Worker`, never by hand.

It reads one JSON object a line from stdin and answers each with one JSON object a line on what was its stdout; what
a runtime prints goes to stderr, and cannot disturb the answers. It ends when it is told to, or when stdin closes,
which is when its parent is gone.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, BinaryIO

from slimdeploy._needs import needs
from slimdeploy.backends.protocol import INPUT, Session, Tensors
from slimdeploy.backends.registry import backend_for
from slimdeploy.bench.environment import peak_memory_mib
from slimdeploy.errors import ArtifactError, SlimdeployError
from slimdeploy.records import Artifact, ModelSpec

INPUTS = 4  # different images, taken in turn
WINDOW_S = 0.2  # the warm-up compares medians of windows this long,
WINDOW_CALLS = (3, 200)  # of at least and at most this many calls
STABLE_WINDOWS = 3  # and ends when the last three
STABLE_WITHIN = 0.03  # lie within 3 % of one another
UNTIMED_CALLS = 2  # at the start of a turn, since another model's turn emptied the caches

Handlers = Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]  # by the name of the request


@dataclass(slots=True)
class Bench:
    """What the worker holds between requests."""

    session: Session | None = None
    feeds: tuple[Tensors, ...] = ()
    calls: int = 0

    def open(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Load the model; importing its runtime is not part of the time."""
        artifact = artifact_from_json(request["artifact"])
        backend = backend_for(artifact, request["backend"], trust=request["trust"])
        self.feeds = make_feeds(artifact.spec, batch=request["batch"], seed=request["seed"])
        started = time.perf_counter()
        self.session = backend.open(artifact, threads=request["threads"])
        load_s = time.perf_counter() - started
        return {"load_s": load_s, "backend": backend.name, "version": backend.version}

    def warm_up(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call until the median is stable, or the limit is reached."""
        started = time.perf_counter()
        first_s, outputs = self._call()
        refuse_non_finite(outputs)
        windows: list[list[float]] = []
        while not (stable := is_stable(windows)) and time.perf_counter() - started < request["limit_s"]:
            windows.append(self._window())
        warmup_s = [sample for window in windows for sample in window]
        return {"first_s": first_s, "warmup_s": warmup_s, "stable": stable}

    def sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Time some calls; `cpu_s` is what this process worked over all of `wall_s`."""
        started, worked_s = time.perf_counter(), time.process_time()
        gc.collect()
        gc.disable()
        try:
            for _ in range(UNTIMED_CALLS):
                self._call()
            samples_s = [self._call()[0] for _ in range(request["count"])]
        finally:
            gc.enable()
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - worked_s
        return {"samples_s": samples_s, "wall_s": wall_s, "cpu_s": cpu_s}

    def status(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Tell what this process loaded and needed."""
        modules = sorted({name.partition(".")[0] for name in sys.modules})
        return {"peak_memory_mib": peak_memory_mib(), "modules": modules, "cpu_s": time.process_time()}

    def handlers(self) -> Handlers:
        """Return what answers each request."""
        return {"open": self.open, "warm_up": self.warm_up, "sample": self.sample, "status": self.status}

    def _window(self) -> list[float]:
        least, most = WINDOW_CALLS
        samples: list[float] = []
        ends = time.perf_counter() + WINDOW_S
        while len(samples) < least or (len(samples) < most and time.perf_counter() < ends):
            samples.append(self._call()[0])
        return samples

    def _call(self) -> tuple[float, Tensors]:
        assert self.session is not None
        feeds = self.feeds[self.calls % len(self.feeds)]
        self.calls += 1
        started = time.perf_counter()
        outputs = self.session.run(feeds)
        return time.perf_counter() - started, outputs


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


def refuse_non_finite(outputs: Tensors) -> None:
    """Raise ArtifactError if an output holds NaN or infinity: such a model is broken, and its speed means nothing."""
    import numpy as np

    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise ArtifactError(
                f"the model's output {name} holds NaN or infinity for an ordinary image",
                wanted="finite numbers",
                do="export it again, or take another precision",
            )


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
