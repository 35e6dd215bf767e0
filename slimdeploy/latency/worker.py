"""The worker process that times single convolutions; it imports the target's runtime and neither torch nor YOLO.

Started by `bench.process.Worker`, never by hand.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from slimdeploy._needs import needs
from slimdeploy.backends.protocol import INPUT, Session
from slimdeploy.backends.registry import backend_for
from slimdeploy.bench import worker
from slimdeploy.bench.stats import SIGMAS_PER_MAD, mad
from slimdeploy.latency.measure import CALLS
from slimdeploy.latency.shapes import Kind
from slimdeploy.outputs import scratch_folder
from slimdeploy.records import Artifact, ModelSpec

UNTIMED_CALLS = 3


def time_layer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Build one convolution, open it in the runtime, call it, and return its median and noise in milliseconds."""
    with needs("onnx"):
        import numpy as np

        from slimdeploy.latency.graphs import TYPES, write_layer
    with scratch_folder() as folder:
        path = Path(folder) / "layer.onnx"
        kind, precision = Kind(**request["kind"]), request["precision"]
        shape = write_layer(kind, request["inputs"], request["outputs"], path, precision=precision)
        artifact = _as_artifact(path, precision)
        backend = backend_for(artifact, request["backend"])
        session = backend.open(artifact, threads=request["threads"])
    feeds = {INPUT: np.random.default_rng(0).random(shape, dtype=np.float32).astype(TYPES[precision])}
    samples_s = _timed(session, feeds, request["budget_s"])
    session.close()
    return {
        "ms": 1e3 * median(samples_s),
        "noise_ms": 1e3 * SIGMAS_PER_MAD * mad(samples_s),
        "calls": len(samples_s),
        "backend": backend.name,
        "version": backend.version,
    }


def _as_artifact(path: Path, precision: str) -> Artifact:
    """Return the file as backends take it; what describes a detector is left empty."""
    spec = ModelSpec(task="layer", classes=(), imgsz=(0, 0))
    return Artifact(
        path=str(path), format="onnx", precision=precision, sha256="", spec=spec, parameters=0, macs=0, size_bytes=0
    )


def _timed(session: Session, feeds: Mapping[str, Any], budget_s: float) -> list[float]:
    for _ in range(UNTIMED_CALLS):
        session.run(feeds)
    least, most = CALLS
    samples_s: list[float] = []
    ends = time.perf_counter() + budget_s
    while len(samples_s) < least or (len(samples_s) < most and time.perf_counter() < ends):
        started = time.perf_counter()
        session.run(feeds)
        samples_s.append(time.perf_counter() - started)
    return samples_s


if __name__ == "__main__":
    worker.main({"time_layer": time_layer})
