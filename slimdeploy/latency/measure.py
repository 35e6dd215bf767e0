"""Time every convolution of a network in a worker process, going on where an earlier measurement stopped."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimdeploy._cores import usable_cores
from slimdeploy._progress import Progress
from slimdeploy.bench.process import Worker
from slimdeploy.configs import LatencyConfig
from slimdeploy.fields import mismatch
from slimdeploy.latency.shapes import Kind, Widths, count
from slimdeploy.latency.table import LayerTime

WORKER = "slimdeploy.latency.worker"
CALLS = (8, 400)  # of a layer: timed, at least and at most

Ask = Callable[[Kind, Widths], dict[str, Any]]  # times one convolution: `ms`, `noise_ms`, `calls`, `backend`, `version`

log = logging.getLogger("slimdeploy.latency")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTimes:
    """What was measured: times by kind, the runtime's name and version, and its threads where it tells them."""

    layers: Mapping[Kind, tuple[LayerTime, ...]]
    backend: str
    version: str
    threads: int | None = None


@contextmanager
def worker_here(config: LatencyConfig, backend: str) -> Iterator[Ask]:
    """Give what times convolutions in a worker process on this machine.

    Raises:
        DeviceError: the worker died, or gave no answer in time.
    """
    with Worker("the latency table", threads=config.threads, timeout_s=config.timeout_s, module=WORKER) as worker:
        yield lambda kind, widths: _ask(worker, kind, widths, config, backend)


def time_layers(
    wanted: Mapping[Kind, tuple[Widths, ...]], config: LatencyConfig, ask: Ask, *, where: str, progress: Path
) -> LayerTimes:
    """Time convolutions one by one.

    Args:
        wanted: widths by kind.
        config: precision, threads, and how long each is timed.
        ask: times one.
        where: the runtime, or the board, which an earlier measurement must share to be gone on with.
        progress: a file that each time is added to, one JSON object a line. What it holds of the same settings is not
            measured again; it is left for the caller to remove.

    Raises:
        DeviceError: the worker died, or gave no answer in time.
        ArtifactError: the runtime cannot run a convolution.
        MissingDependency: the runtime is not installed.
    """
    done = _resumed(progress, config, where)
    total, begun = count(wanted), len(done)
    if begun:
        log.info("latency: %d of %d layers measured already", begun, total)
    text = "latency: {done} of {total} layers, about {left_s:.0f} s left"
    far = Progress(log, text, total=total, before=begun)
    with progress.open("a", encoding="utf-8") as stream:
        for kind, widths in wanted.items():
            for inputs, outputs in widths:
                if (key := _key(kind, inputs, outputs)) in done:
                    continue
                done[key] = ask(kind, (inputs, outputs))
                stream.write(json.dumps({"key": key, **done[key]}) + "\n")
                stream.flush()
                far.at(len(done))
    layers = {kind: tuple(_layer_time(done, kind, at) for at in widths) for kind, widths in wanted.items()}
    last = next(reversed(done.values()))
    return LayerTimes(layers=layers, backend=last["backend"], version=last["version"], threads=last.get("threads"))


def _ask(worker: Worker, kind: Kind, widths: Widths, config: LatencyConfig, backend: str) -> dict[str, Any]:
    return worker.ask(
        "time_layer",
        kind=dataclasses.asdict(kind),
        inputs=widths[0],
        outputs=widths[1],
        precision=config.precision,
        threads=config.threads or usable_cores(),
        budget_s=config.layer_s,
        backend=backend,
    )


def _key(kind: Kind, inputs: int, outputs: int) -> str:
    return f"{kind}: {inputs} to {outputs}"


def _layer_time(done: Mapping[str, Mapping[str, Any]], kind: Kind, widths: Widths) -> LayerTime:
    found = done[_key(kind, *widths)]
    return LayerTime(
        inputs=widths[0], outputs=widths[1], ms=found["ms"], noise_ms=found["noise_ms"], calls=found["calls"]
    )


def _resumed(progress: Path, config: LatencyConfig, where: str) -> dict[str, dict[str, Any]]:
    """Return what an earlier, interrupted measurement of the same settings left; start the file if there is none."""
    settings = {
        "backend": where, "precision": config.precision, "threads": config.threads or usable_cores(),
        "layer_s": config.layer_s,
    }  # fmt: skip
    lines = progress.read_text(encoding="utf-8", errors="replace").split("\n") if progress.exists() else []
    rows = [row for row in map(_parsed, lines) if row is not None]
    if not rows or rows[0] != settings:
        progress.write_text(json.dumps(settings) + "\n", encoding="utf-8")
        return {}
    return {row.pop("key"): row for row in rows[1:] if _is_timed(row)}


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # the line that was being written when the measurement was stopped
        return None
    return row if isinstance(row, dict) else None


_TIMED: Mapping[str, Any] = {
    "key": str, "ms": float, "noise_ms": float, "calls": int, "backend": str, "version": str, "threads": int | None,
}  # fmt: skip


def _is_timed(row: Mapping[str, Any]) -> bool:
    return not any(mismatch(hint, row.get(key)) for key, hint in _TIMED.items()) and row["ms"] > 0
