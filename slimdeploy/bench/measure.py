"""Time several models side by side: one worker process each, taking turns, so that drift hits all alike."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from slimdeploy._progress import Progress
from slimdeploy.backends.artifacts import require_finite_weights
from slimdeploy.bench.course import Course, turn_counts
from slimdeploy.bench.environment import environment, state
from slimdeploy.bench.power import PowerLog, Window, meters
from slimdeploy.bench.process import Worker
from slimdeploy.configs import BenchConfig
from slimdeploy.errors import DeviceError, UsageError
from slimdeploy.records import END_TO_END, INFERENCE, Artifact, LayerTime, Measurement, Offered, Power

log = logging.getLogger("slimdeploy.bench")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All that was measured of one artifact; what was not asked for is None or ().

    Attributes:
        name: as shown.
        latency: of the bare session; None where the worker failed.
        end_to_end: from decoded frame to final boxes.
        offered: frames offered at a camera's rate.
        power: what each meter said.
        layers: time of each layer.
        failed: why there are no figures: the worker died or hung.
    """

    name: str
    latency: Measurement | None
    end_to_end: Measurement | None = None
    offered: Offered | None = None
    power: tuple[Power, ...] = ()
    layers: tuple[LayerTime, ...] = ()
    failed: DeviceError | None = None


def measure(
    artifacts: Sequence[tuple[str, Artifact]], config: BenchConfig, *, backend: str = "", trust: bool = False
) -> list[Measurement]:
    """Time the bare session of every artifact; see `measure_all`, of which it takes no failure."""
    found = []
    for one in measure_all(artifacts, config, backend=backend, trust=trust):
        if one.latency is None:
            raise one.failed or DeviceError(f"{one.name} was not timed")
        found.append(one.latency)
    return found


def measure_all(
    artifacts: Sequence[tuple[str, Artifact]],
    config: BenchConfig,
    *,
    backend: str = "",
    trust: bool = False,
    images: Sequence[str] = (),
) -> list[Measured]:
    """Time every artifact: synchronous calls, one at a time, in rounds A B A B.

    A worker that dies, or gives no answer in time, ends its own measurement and no other one.

    Args:
        artifacts: names as shown, each once, and model files.
        config: what is measured, with how many samples, rounds and threads.
        backend: runtime for all of them; empty takes the default of each file's format.
        trust: let PyTorch unpickle whatever a checkpoint names.
        images: image files to look at from frame to boxes; without any, seeded noise.

    Returns:
        What was measured of each artifact, in the order given.

    Raises:
        UsageError: nothing to measure, or a name that comes twice.
        ArtifactError: a runtime cannot open or run a file.
        MissingDependency: a runtime is not installed.
        DeviceError: every worker process died, or gave no answer in time.
    """
    names = [name for name, _ in artifacts]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"the models to measure are called {names}", wanted="one or more, each with its own name")
    for _, artifact in artifacts:
        require_finite_weights(artifact)
    known = environment()
    with contextlib.ExitStack() as closing:
        power = closing.enter_context(PowerLog(meters()))
        courses = [_course(name, artifact, config, closing) for name, artifact in artifacts]
        idle = _run(courses, config, power, lambda one: one.open(backend=backend, trust=trust, images=images))
    known = {**known, "after": state()}
    return [_measured(course, known, power, idle) for course in courses]


def _course(name: str, artifact: Artifact, config: BenchConfig, closing: contextlib.ExitStack) -> Course:
    worker = closing.enter_context(Worker(name, threads=config.threads, timeout_s=config.timeout_s))
    return Course(name=name, artifact=artifact, worker=worker, config=config)


def _run(courses: Sequence[Course], config: BenchConfig, power: PowerLog, open_one: Callable[[Course], None]) -> Window:
    """Take every course through the measurement; return when all workers were waiting."""
    scopes = (INFERENCE, END_TO_END) if config.end_to_end else (INFERENCE,)
    _each(courses, "opening {name}", open_one)
    idle = _rest(config, power)
    for scope in scopes:
        _each(courses, "warming up {name} in {backend}", Course.warm_up, scope)
    _take_turns(courses, config, scopes)
    if config.fps:
        _each(courses, f"offering {config.fps:g} frames a second to {{name}}", Course.look_at_offered)
    if config.profile:
        _each(courses, "profiling {name}", Course.take_profile)
    _each(courses, "", Course.ask_status)
    return idle


def _each(courses: Sequence[Course], told: str, step: Callable[..., None], *how: Any) -> None:
    """Take a step with every course whose worker lives."""
    for course in courses:
        if course.failed is not None:
            continue
        if told:
            log.info(told.format(name=course.name, backend=course.opened.get("backend", "")))
        try:
            step(course, *how)
        except DeviceError as error:
            course.failed = error
            log.warning("%s; the others go on", error.wrong)
    failures = [course.failed for course in courses if course.failed is not None]
    if len(failures) == len(courses):
        raise failures[0]


def _rest(config: BenchConfig, power: PowerLog) -> Window:
    started_s = time.perf_counter()
    if power.meters:
        log.info("measuring the idle power for %g s", config.idle_s)
        time.sleep(config.idle_s)
    return started_s, time.perf_counter()


def _take_turns(courses: Sequence[Course], config: BenchConfig, scopes: Sequence[str]) -> None:
    far = Progress(log, "round {done} of {total}, about {left_s:.0f} s left", total=config.rounds)
    for number, count in enumerate(turn_counts(config), start=1):
        for scope in scopes:
            _each(courses, "", Course.take_turn, scope, count)
        far.at(number)


def _measured(course: Course, known: dict[str, object], power: PowerLog, idle: Window) -> Measured:
    return Measured(
        name=course.name,
        latency=course.measurement(INFERENCE, known),
        end_to_end=course.measurement(END_TO_END, known),
        offered=course.frames_offered(),
        power=course.power(power, idle),
        layers=course.layer_times(),
        failed=course.failed,
    )
