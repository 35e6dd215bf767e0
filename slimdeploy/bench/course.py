"""One model on its way through the measurement: what its worker answered, and the records that come of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slimdeploy._cores import usable_cores
from slimdeploy.bench.checks import Observed, doubts
from slimdeploy.bench.environment import busy_s
from slimdeploy.bench.power import PowerLog, Window
from slimdeploy.bench.process import Worker
from slimdeploy.configs import BenchConfig
from slimdeploy.errors import DeviceError
from slimdeploy.records import END_TO_END, INFERENCE, Artifact, LayerTime, Measurement, Offered, Power, as_json

PROFILED_CALLS = 20  # means of fewer jump about
CALLS_AT_LEAST = 3  # in a turn whose length is given in seconds


@dataclass(slots=True, kw_only=True)
class Course:
    """One artifact and its worker.

    Attributes:
        name: as shown.
        artifact: the model file.
        worker: the process that runs it.
        config: how it is measured.
        opened: the worker's answer to `open`.
        warmed: its answer to `warm_up`, by scope.
        turns: its answers to `sample`, by scope, in order.
        offered: its answer to `offer`.
        layers: its answer to `profile`.
        status: its answer to `status`.
        failed: why it has no figures, once it died or hung.
    """

    name: str
    artifact: Artifact
    worker: Worker
    config: BenchConfig
    opened: dict[str, Any] = field(default_factory=dict)
    warmed: dict[str, dict[str, Any]] = field(default_factory=dict)
    turns: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    offered: dict[str, Any] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    failed: DeviceError | None = None

    @property
    def batch(self) -> int:
        """Images a call: an exported file brings its own, a checkpoint takes the config's."""
        return self.config.batch if self.artifact.format == "pt" else self.artifact.spec.batch

    def open(self, *, backend: str, trust: bool, images: Sequence[str]) -> None:
        """Load the model."""
        asked = {"images": list(images), "seed": self.config.seed}
        self.opened = self.worker.ask(
            "open",
            artifact=as_json(self.artifact),
            backend=backend,
            trust=trust,
            threads=self.config.threads or usable_cores(),
            batch=self.batch,
            seed=self.config.seed,
            profile=self.config.profile,
            frames=asked if self.config.end_to_end or self.config.fps else None,
        )

    def warm_up(self, scope: str) -> None:
        """Call until the median is stable."""
        self.warmed[scope] = self.worker.ask("warm_up", scope=scope, limit_s=self.config.warmup_limit_s)

    def take_turn(self, scope: str, count: int) -> None:
        """Time one round's calls."""
        duration_s = self.config.duration_s / self.config.rounds
        before_s, started_s = busy_s(), time.perf_counter()
        turn = self.worker.ask("sample", scope=scope, count=count, duration_s=duration_s, takes_s=duration_s)
        turn["window"] = (started_s, time.perf_counter())
        after_s = busy_s()
        if before_s is not None and after_s is not None:
            turn["other_s"] = max(0.0, after_s - before_s - turn["cpu_s"])
        self.turns.setdefault(scope, []).append(turn)

    def look_at_offered(self) -> None:
        """Offer frames at the camera's rate."""
        known = {"fps": self.config.fps, "duration_s": self.config.offered_s}
        self.offered = self.worker.ask("offer", **known, takes_s=self.config.offered_s)

    def take_profile(self) -> None:
        """Ask the runtime's profiler."""
        self.layers = self.worker.ask("profile", calls=PROFILED_CALLS)["layers"]

    def ask_status(self) -> None:
        """Ask what the worker needed."""
        self.status = self.worker.ask("status")

    def measurement(self, scope: str, known: Mapping[str, Any]) -> Measurement | None:
        """Return the timed calls of one scope, or None where they were not asked for or the worker failed."""
        if self.failed or scope not in self.turns:
            return None
        turns, warmed = self.turns[scope], self.warmed[scope]
        samples_s = tuple(sample for turn in turns for sample in turn["samples_s"])
        other_cores = _other_cores(turns)
        load = {} if other_cores is None else {"other_cores_busy": round(other_cores, 3)}
        size = {"frame_size_px": self.opened["frame_size"]} if scope == END_TO_END else {}
        warmup_s = tuple(warmed["warmup_s"])
        return Measurement(
            artifact=self.name,
            sha256=self.artifact.sha256,
            backend=self.opened["backend"],
            scope=scope,
            threads=self.config.threads or usable_cores(),
            batch=self.batch,
            samples_s=samples_s,
            load_s=self.opened["load_s"],
            first_s=warmed["first_s"],
            warmup_s=warmup_s,
            rounds=tuple(len(turn["samples_s"]) for turn in turns),
            peak_memory_mib=self.status["peak_memory_mib"],
            device_memory_mib=self.status["device_memory_mib"],
            environment={**known, "runtime_version": self.opened["version"], **load, **size},
            warnings=doubts(
                Observed(
                    samples_s=samples_s,
                    warmup_s=sum(warmup_s),
                    stable=warmed["stable"],
                    other_cores=other_cores,
                    environment=known,
                )
            ),
        )

    def frames_offered(self) -> Offered | None:
        """Return what became of the frames offered, or None where none were."""
        if self.failed or not self.offered:
            return None
        latency_s, period_s = tuple(self.offered["latency_s"]), 1 / self.config.fps
        return Offered(
            fps=self.config.fps,
            frames=len(latency_s) + self.offered["dropped"],
            dropped=self.offered["dropped"],
            late=sum(one > period_s for one in latency_s),
            latency_s=latency_s,
        )

    def power(self, log: PowerLog, idle: Window) -> tuple[Power, ...]:
        """Return what each meter said while the bare session ran."""
        turns = self.turns.get(INFERENCE, [])
        if self.failed or not turns:
            return ()
        images = self.batch * sum(turn["calls"] for turn in turns)
        return log.power(idle=idle, busy=[turn["window"] for turn in turns], images=images)

    def layer_times(self) -> tuple[LayerTime, ...]:
        """Return the time of each layer; () where none was asked for."""
        return () if self.failed else tuple(LayerTime(**layer) for layer in self.layers)


def turn_counts(config: BenchConfig) -> tuple[int, ...]:
    """Return the least number of calls of each round."""
    if config.duration_s:
        return (CALLS_AT_LEAST,) * config.rounds
    return split(config.samples, config.rounds)


def split(samples: int, rounds: int) -> tuple[int, ...]:
    """Return how many samples each round takes; they differ by one at most and add up to `samples`."""
    return tuple(samples // rounds + (number < samples % rounds) for number in range(rounds))


def _other_cores(turns: Sequence[Mapping[str, Any]]) -> float | None:
    if any("other_s" not in turn for turn in turns):
        return None
    return float(sum(turn["other_s"] for turn in turns) / sum(turn["wall_s"] for turn in turns))
