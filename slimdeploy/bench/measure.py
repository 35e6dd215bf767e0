"""Time several models side by side: one worker process each, taking turns, so that drift hits all alike."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from slimdeploy._cores import usable_cores
from slimdeploy.bench.checks import Observed, doubts
from slimdeploy.bench.environment import busy_s, environment
from slimdeploy.bench.process import Worker
from slimdeploy.configs import BenchConfig
from slimdeploy.errors import UsageError
from slimdeploy.records import Artifact, Measurement, as_json

SCOPE = "inference"  # the bare session call: no image reading, no NMS
PROGRESS_S = 2.0

log = logging.getLogger("slimdeploy.bench")


@dataclass(slots=True)
class _Course:
    """One artifact on its way through the measurement."""

    name: str
    artifact: Artifact
    worker: Worker
    opened: dict[str, Any] = field(default_factory=dict)
    warmed: dict[str, Any] = field(default_factory=dict)
    turns: list[dict[str, Any]] = field(default_factory=list)
    peak_memory_mib: float | None = None


def measure(
    artifacts: Sequence[tuple[str, Artifact]], config: BenchConfig, *, backend: str = "", trust: bool = False
) -> list[Measurement]:
    """Time every artifact: synchronous calls, one at a time, in rounds A B A B.

    Args:
        artifacts: names as shown, each once, and model files.
        config: how many samples, rounds and threads.
        backend: runtime for all of them; empty takes the default of each file's format.
        trust: let PyTorch unpickle whatever a checkpoint names.

    Returns:
        One measurement an artifact, in the order given.

    Raises:
        UsageError: nothing to measure, or a name that comes twice.
        ArtifactError: a runtime cannot open or run a file.
        MissingDependency: a runtime is not installed.
        DeviceError: a worker process died, or gave no answer in time.
    """
    names = [name for name, _ in artifacts]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"the models to measure are called {names}", wanted="one or more, each with its own name")
    known = environment()
    with contextlib.ExitStack() as closing:
        courses = []
        for name, artifact in artifacts:
            worker = Worker(name, threads=config.threads, timeout_s=config.timeout_s)
            courses.append(_Course(name=name, artifact=artifact, worker=closing.enter_context(worker)))
        for course in courses:
            _open(course, config, backend=backend, trust=trust)
        for course in courses:
            _warm_up(course, config)
        _take_turns(courses, config)
        for course in courses:
            course.peak_memory_mib = course.worker.ask("status")["peak_memory_mib"]
    return [_measurement(course, config, known) for course in courses]


def batch_of(artifact: Artifact, config: BenchConfig) -> int:
    """Return the images a call: an exported file brings its own, a checkpoint takes the config's."""
    return config.batch if artifact.format == "pt" else artifact.spec.batch


def _open(course: _Course, config: BenchConfig, *, backend: str, trust: bool) -> None:
    log.info("opening %s", course.name)
    course.opened = course.worker.ask(
        "open",
        artifact=as_json(course.artifact),
        backend=backend,
        trust=trust,
        threads=config.threads or usable_cores(),
        batch=batch_of(course.artifact, config),
        seed=config.seed,
    )


def _warm_up(course: _Course, config: BenchConfig) -> None:
    log.info("warming up %s in %s", course.name, course.opened["backend"])
    course.warmed = course.worker.ask("warm_up", limit_s=config.warmup_limit_s)


def _take_turns(courses: Sequence[_Course], config: BenchConfig) -> None:
    started = told = time.perf_counter()
    for number, count in enumerate(split(config.samples, config.rounds), start=1):
        for course in courses:
            course.turns.append(_turn(course, count))
        now = time.perf_counter()
        if now - told >= PROGRESS_S and number < config.rounds:
            told, left_s = now, (now - started) / number * (config.rounds - number)
            log.info("round %d of %d, about %.0f s left", number, config.rounds, left_s)


def _turn(course: _Course, count: int) -> dict[str, Any]:
    before_s = busy_s()
    turn = course.worker.ask("sample", count=count)
    after_s = busy_s()
    if before_s is not None and after_s is not None:
        turn["other_s"] = max(0.0, after_s - before_s - turn["cpu_s"])
    return turn


def split(samples: int, rounds: int) -> tuple[int, ...]:
    """Return how many samples each round takes; they differ by one at most and add up to `samples`."""
    return tuple(samples // rounds + (number < samples % rounds) for number in range(rounds))


def _measurement(course: _Course, config: BenchConfig, known: dict[str, Any]) -> Measurement:
    samples_s = tuple(sample for turn in course.turns for sample in turn["samples_s"])
    other_cores = _other_cores(course.turns)
    observed = Observed(
        samples_s=samples_s,
        warmup_s=sum(course.warmed["warmup_s"]),
        stable=course.warmed["stable"],
        other_cores=other_cores,
        environment=known,
    )
    load = {} if other_cores is None else {"other_cores_busy": round(other_cores, 3)}
    return Measurement(
        artifact=course.name,
        sha256=course.artifact.sha256,
        backend=course.opened["backend"],
        scope=SCOPE,
        threads=config.threads or usable_cores(),
        batch=batch_of(course.artifact, config),
        samples_s=samples_s,
        load_s=course.opened["load_s"],
        first_s=course.warmed["first_s"],
        warmup_s=tuple(course.warmed["warmup_s"]),
        rounds=tuple(len(turn["samples_s"]) for turn in course.turns),
        peak_memory_mib=course.peak_memory_mib,
        environment={**known, "runtime_version": course.opened["version"], **load},
        warnings=doubts(observed),
    )


def _other_cores(turns: Sequence[dict[str, Any]]) -> float | None:
    if any("other_s" not in turn for turn in turns):
        return None
    return float(sum(turn["other_s"] for turn in turns) / sum(turn["wall_s"] for turn in turns))
