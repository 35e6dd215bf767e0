"""Time the engine on the board, one call after another, and record what the board drew meanwhile."""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np

from slimdeploy.board import power, probe
from slimdeploy.board.errors import SCHEMA, UsageError
from slimdeploy.board.onnxruntime_session import usable_cores
from slimdeploy.board.sessions import open_session
from slimdeploy.board.telemetry import Sample, Sampler, mean_power_mw

if TYPE_CHECKING:
    from slimdeploy.board.boxes import Floats
    from slimdeploy.board.bundle import Bundle
    from slimdeploy.board.sessions import Engines, Session

SCOPE = "inference"  # the bare session call: no image reading, no NMS; as on the desk
WINDOW = 20  # calls whose medians must agree before the warm-up ends
SETTLED = 0.02
SLOWED = 0.98  # a GPU clock below this share of its highest, in a call, was not let run


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        samples: timed calls.
        rounds: parts that they are recorded in.
        warmup_limit_s: longest warm-up; it ends earlier, once the median is stable.
        seed: of the input.
        power_mode: name of the power mode to hold; empty leaves it.
        lock_clocks: keep all clocks at their highest.
    """

    samples: int = 200
    rounds: int = 10
    warmup_limit_s: float = 10.0
    seed: int = 0
    power_mode: str = ""
    lock_clocks: bool = False


def bench(bundle: Bundle, engines: Engines, plan: Plan) -> dict[str, Any]:
    """Return a measurement as the desk records it, with the board's telemetry, as a JSON-ready object.

    Raises:
        ArtifactError: the model or its engine is missing or damaged.
        DeviceError: the engine fails, or the board does not take the power mode or the clocks.
        UsageError: fewer samples than rounds, or an unknown power mode.
    """
    if not plan.samples >= plan.rounds >= 1:
        raise UsageError(f"{plan.samples} samples in {plan.rounds} rounds", wanted="1 or more a round")
    with power.held(engines.machine, mode=plan.power_mode, lock_clocks=plan.lock_clocks):
        before = probe.probe(engines.machine, bundle.folder)
        timed = _timed(bundle, engines, plan)
        after = probe.gpu_clock(engines.machine)
    return {
        "schema": SCHEMA,
        "simulated": engines.machine.simulated,
        "graph": timed.graph,
        "measurement": _measurement(bundle, engines, plan, timed, before),
        "telemetry": {
            "samples": [dataclasses.asdict(one) for one in timed.telemetry],
            "mean_power_mw": mean_power_mw(timed.telemetry),
            "gpu_clock_before": before["gpu_clock"],
            "gpu_clock_after": after,
        },
    }


@dataclass(frozen=True)
class _Timed:
    """What the clock and the sensors told of one session."""

    runtime: str
    version: str
    graph: str
    load_s: float
    first_s: float
    warmup_s: list[float]
    samples_s: list[float]
    telemetry: list[Sample]


def _timed(bundle: Bundle, engines: Engines, plan: Plan) -> _Timed:
    shape = (bundle.batch, 3, *bundle.imgsz)
    inputs = np.random.default_rng(plan.seed).random(shape, dtype=np.float32)  # timing does not depend on what is seen
    started_s = time.perf_counter()
    session = open_session(bundle, engines)
    load_s = time.perf_counter() - started_s
    try:
        first_s = _call(session, inputs)
        warmup_s = _warm_up(session, inputs, plan.warmup_limit_s)
        with Sampler(root=engines.machine.root) as sampler:
            samples_s = [_call(session, inputs) for _ in range(plan.samples)]
    finally:
        session.close()
    names = (session.runtime, session.version, session.graph)
    return _Timed(*names, load_s, first_s, warmup_s, samples_s, sampler.samples)


def _measurement(bundle: Bundle, engines: Engines, plan: Plan, timed: _Timed, before: dict[str, Any]) -> dict[str, Any]:
    model = bundle.manifest["model"]
    return {
        "artifact": str(model["name"]),
        "sha256": bundle.manifest["files"][timed.graph]["sha256"],
        "backend": timed.runtime,
        "scope": SCOPE,
        "threads": engines.threads or usable_cores(),
        "batch": bundle.batch,
        "samples_s": timed.samples_s,
        "load_s": timed.load_s,
        "first_s": timed.first_s,
        "warmup_s": timed.warmup_s,
        "rounds": _rounds(plan),
        "peak_memory_mib": _peak_memory_mib(),
        "environment": {"board": before, "runtime_version": timed.version},
        "warnings": _warnings(timed.telemetry, before["gpu_clock"], simulated=engines.machine.simulated),
    }


def as_text(result: dict[str, Any]) -> str:
    """Return what was measured as lines for a person."""
    taken, telemetry = result["measurement"], result["telemetry"]
    p50_s, p90_s = statistics.median(taken["samples_s"]), _p90_s(taken["samples_s"])
    lines = [
        f"{taken['artifact']} ({result['graph']}) in {taken['backend']} {taken['environment']['runtime_version']}"
        + (", on a simulated board" if result["simulated"] else ""),
        f"p50 {1000 * p50_s:.2f} ms, p90 {1000 * p90_s:.2f} ms, {taken['batch'] / p50_s:.1f} images a second",
    ]
    if telemetry["mean_power_mw"] is not None:
        joules = telemetry["mean_power_mw"] / 1000 * p50_s
        lines.append(f"mean power {telemetry['mean_power_mw'] / 1000:.2f} W, {1000 * joules:.1f} mJ a call")
    return "\n".join([*lines, *(f"warning: {one}" for one in taken["warnings"])])


def _call(session: Session, inputs: Floats) -> float:
    started_s = time.perf_counter()
    session.run(inputs)
    return time.perf_counter() - started_s


def _warm_up(session: Session, inputs: Floats, limit_s: float) -> list[float]:
    """Call until the medians of two windows agree, or the time is up; return every call's seconds."""
    taken_s: list[float] = []
    while sum(taken_s) < limit_s:
        taken_s.append(_call(session, inputs))
        if len(taken_s) >= 2 * WINDOW and len(taken_s) % WINDOW == 0:
            earlier, later = (statistics.median(one) for one in (taken_s[-2 * WINDOW : -WINDOW], taken_s[-WINDOW:]))
            if abs(later - earlier) <= SETTLED * earlier:
                break
    return taken_s


def _rounds(plan: Plan) -> list[int]:
    return [plan.samples // plan.rounds + (i < plan.samples % plan.rounds) for i in range(plan.rounds)]


def _p90_s(samples_s: Sequence[float]) -> float:
    return statistics.quantiles(samples_s, n=10, method="inclusive")[-1] if len(samples_s) > 1 else samples_s[0]


def _warnings(samples: Sequence[Sample], clock: dict[str, Any] | None, *, simulated: bool) -> list[str]:
    """What a reader must know before trusting the figure."""
    found = ["measured on a simulated board: recorded files stand for its system"] if simulated else []
    if clock is None or not clock["max_mhz"]:
        return found
    clocks = [one.gpu_mhz for one in samples if one.gpu_mhz is not None]
    slow = sum(one < SLOWED * clock["max_mhz"] for one in clocks)
    if slow:
        found.append(
            f"the GPU's clock was below its highest in {slow} of {len(clocks)} samples: throttled or not locked"
        )
    if not clock["locked"]:
        found.append("the GPU's clock may move; hold it with --lock-clocks, as root")
    return found


def _peak_memory_mib() -> float | None:
    """Peak resident memory of this process; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
