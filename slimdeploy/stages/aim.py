"""Plan to a latency: choose widths by a forecast, build, measure beside the dense network, correct, repeat."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from slimdeploy.bench import stats
from slimdeploy.bench.measure import measure
from slimdeploy.channels import Coupling
from slimdeploy.configs import BenchConfig, PruneConfig
from slimdeploy.errors import GateError, UsageError
from slimdeploy.outputs import scratch_folder
from slimdeploy.records import Artifact, PlannedLatency, PrunePlan, Target
from slimdeploy.stages._built import build, cut_copy
from slimdeploy.stages.plan import plan_of, strongest
from slimdeploy.stages.planner import Cost, Forecast, choose_widths, forecast_ms, saved_ms
from slimdeploy.stages.widths import Widths

if TYPE_CHECKING:
    from torch import nn

    from slimdeploy.stages._trials import Importance, Trials

ROUNDS = 12  # turns of dense and pruned in one attempt
MIDDLE = 0.5  # of the tolerance: an attempt this near needs no better one

log = logging.getLogger("slimdeploy.prune")


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a plan to a latency is made from.

    Attributes:
        module: the stock network; it is not changed.
        coupling: its groups.
        importance: one value a channel, for every group by its name.
        costs: what narrowing each unit costs.
        trials: the network on a few images.
        forecast: milliseconds by layer.
        target: where it shall be that quick.
        weights_sha256: the checkpoint that the plan is for.
    """

    module: nn.Module
    coupling: Coupling
    importance: Importance
    costs: tuple[Cost, ...]
    trials: Trials
    forecast: Forecast
    target: Target
    weights_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shot:
    """One attempt: its widths, what was planned, and what came of it; milliseconds.

    `interval` is the 95 % interval of the speed-up over the rounds, or None where nothing was measured.
    """

    widths: Widths
    planned_ms: float
    dense_ms: float
    measured_ms: float
    speedup: float
    asked_ms: float
    interval: tuple[float, float] | None = None

    @property
    def off(self) -> float:
        """By which share the latency lies above the one asked for."""
        return self.measured_ms / self.asked_ms - 1


def plan_by_measuring(aim: Aim, config: PruneConfig) -> PrunePlan:
    """Return a plan whose network was built and measured to be as quick as asked, within the tolerance.

    Attempts go on until one lies in the middle half of the tolerance, since a figure at its edge is often outside it
    when it is measured again. When none does, the nearest one within the tolerance is taken.

    Raises:
        UsageError: the dense network is quicker than that already.
        GateError: no plan is that quick, or none of the attempts came near enough; the message says what can be
            reached. Or a plan kills all positives.
        DeviceError: a worker process failed.
    """
    with scratch_folder() as folder:
        timing = _Timing(aim, config, Path(folder))
        shots: list[_Shot] = []
        budget_ms = timing.first_budget_ms()
        for number in range(config.attempts):
            shot = timing.shoot(budget_ms, number)
            shots.append(shot)
            nearest = min(shots, key=lambda attempt: abs(attempt.off))
            if abs(nearest.off) <= MIDDLE * config.latency_tolerance:
                return _plan(aim, config, nearest)
            within = abs(nearest.off) <= config.latency_tolerance
            if shot.off > 0 and shot.widths == timing.narrowest and not within:
                raise _out_of_reach(shot, config)
            last_to_come = number + 2 == config.attempts
            out_of_reach = last_to_come and all(attempt.off > 0 for attempt in shots)  # then know what can be reached
            budget_ms = 0.0 if out_of_reach and not within else _corrected(shots, timing.dense_planned_ms)
            if within and timing.known(budget_ms, shots):
                break  # the widths come in steps, and none lies nearer
    if abs(nearest.off) <= config.latency_tolerance:
        return _plan(aim, config, nearest)
    raise _missed(nearest, config)


def plan_by_forecast(aim: Aim, config: PruneConfig) -> PrunePlan:
    """Return a plan that is as quick as asked by the forecast alone; nothing is measured, and the plan says so.

    Raises:
        UsageError: the dense network is quicker than that already, by the forecast.
        GateError: no plan is that quick, by the forecast; or the plan kills all positives.
    """
    dense_ms = forecast_ms(aim.coupling, aim.coupling.whole(), aim.forecast)
    asked_ms = asked_latency_ms(config, dense_ms)
    widths = choose_widths(aim.coupling, aim.costs, aim.forecast, asked_ms)
    planned_ms = forecast_ms(aim.coupling, widths, aim.forecast)
    shot = _Shot(
        widths=widths, planned_ms=planned_ms, dense_ms=dense_ms, measured_ms=planned_ms,
        speedup=dense_ms / planned_ms, asked_ms=asked_ms,
    )  # fmt: skip
    if abs(shot.off) > config.latency_tolerance:
        raise _out_of_reach(shot, config)
    return _plan(aim, config, shot, measured=False)


class _Timing:
    """Builds artifacts and times them beside the dense one."""

    def __init__(self, aim: Aim, config: PruneConfig, folder: Path) -> None:
        self._aim, self._config, self._folder = aim, config, folder
        self._bench = BenchConfig(samples=config.samples, rounds=min(ROUNDS, config.samples))
        self.dense_planned_ms = forecast_ms(aim.coupling, aim.coupling.whole(), aim.forecast)
        # by milliseconds: a step that saves none by the forecast is never taken
        self.narrowest = choose_widths(aim.coupling, aim.costs, aim.forecast, 0.0)
        self._dense = self._built(aim.module, "dense")

    def first_budget_ms(self) -> float:
        """Measure the dense network alone, and return what to ask of the first plan by the forecast."""
        (found,) = measure([("dense", self._dense)], self._bench, backend=self._aim.target.runtime)
        dense_ms = 1e3 * median(found.samples_s)
        log.info("prune: dense takes %.2f ms, %.2f ms by the table", dense_ms, self.dense_planned_ms)
        return self.dense_planned_ms * asked_latency_ms(self._config, dense_ms) / dense_ms

    def known(self, budget_ms: float, shots: Sequence[_Shot]) -> bool:
        """Return whether the widths for a budget were measured already."""
        widths = self._widths(budget_ms)
        return any(shot.widths == widths for shot in shots)

    def _widths(self, budget_ms: float) -> Widths:
        return choose_widths(self._aim.coupling, self._aim.costs, self._aim.forecast, budget_ms)

    def shoot(self, budget_ms: float, number: int) -> _Shot:
        """Plan for a budget, build the network, and time it and the dense one in turns."""
        aim = self._aim
        widths = self._widths(budget_ms)
        aim.trials.require_alive(widths)
        kept = {name: strongest(aim.importance[name], width) for name, width in widths.items()}
        name = f"pruned{number}"
        artifact = self._built(cut_copy(aim.module, aim.coupling, kept), name)
        dense, pruned = measure([("dense", self._dense), (name, artifact)], self._bench, backend=aim.target.runtime)
        dense_ms, ratio = 1e3 * median(dense.samples_s), stats.ratio(dense, pruned)
        planned_ms = forecast_ms(aim.coupling, widths, aim.forecast)
        shot = _Shot(
            widths=widths, planned_ms=planned_ms, dense_ms=dense_ms, measured_ms=1e3 * median(pruned.samples_s),
            speedup=1 / ratio.value, interval=(1 / ratio.high, 1 / ratio.low),
            asked_ms=asked_latency_ms(self._config, dense_ms),
        )  # fmt: skip
        if self._config.speedup is not None:  # judged round by round, so that drift of the machine cancels out
            shot = dataclasses.replace(shot, measured_ms=dense_ms * ratio.value)
        log.info(
            "prune: attempt %d: planned %.2f ms, measured %.2f ms, %.2f times as fast [%.2f, %.2f]; asked for %.2f ms",
            number + 1, planned_ms, shot.measured_ms, shot.speedup, 1 / ratio.high, 1 / ratio.low, shot.asked_ms,
        )  # fmt: skip
        return shot

    def _built(self, module: nn.Module, name: str) -> Artifact:
        config = self._config
        return build(
            module, name, self._folder, target=self._aim.target, imgsz=config.imgsz, precision=config.precision
        )


def asked_latency_ms(config: PruneConfig, dense_ms: float) -> float:
    """Return the milliseconds that a budget asks for, of a network that takes `dense_ms`.

    Raises:
        UsageError: the network is that quick already.
    """
    budget, asked = config.budget
    by_budget: Mapping[str, Callable[[], float]] = {
        "speedup": lambda: dense_ms / asked,
        "latency_ms": lambda: asked,
        "fps": lambda: 1e3 / asked,
    }
    asked_ms = by_budget[budget]()
    if asked_ms >= dense_ms:
        raise UsageError(
            f"the network takes {dense_ms:.2f} ms already, and {asked_ms:.2f} ms are asked for",
            wanted=f"less than {dense_ms:.2f} ms: more than {1e3 / dense_ms:.1f} images a second, a speed-up above 1",
        )
    return asked_ms


def _corrected(shots: list[_Shot], most_ms: float) -> float:
    """Return the next budget by the forecast: off by as much the other way, within what was too slow and too quick."""
    last = shots[-1]
    low = max((s.planned_ms for s in shots if s.off < 0), default=0.0)
    high = min((s.planned_ms for s in shots if s.off > 0), default=most_ms)
    wish = last.planned_ms / (1 + last.off)
    return wish if low < wish < high else (low + high) / 2


def _plan(aim: Aim, config: PruneConfig, shot: _Shot, *, measured: bool = True) -> PrunePlan:
    reached = {"speedup": shot.speedup, "latency_ms": shot.measured_ms, "fps": 1e3 / shot.measured_ms}
    plan = plan_of(
        aim.coupling, aim.importance, shot.widths, config, reached=reached[config.budget[0]],
        weights_sha256=aim.weights_sha256,
    )  # fmt: skip
    latency = PlannedLatency(
        target=aim.target.name,
        precision=config.precision,
        source=aim.forecast.source,
        estimated=not aim.forecast.measured,
        asked_ms=shot.asked_ms,
        planned_ms=(forecast_ms(aim.coupling, aim.coupling.whole(), aim.forecast), shot.planned_ms),
        measured_ms=(shot.dense_ms, shot.measured_ms) if measured else None,
        speedup=shot.speedup,
        speedup_interval=shot.interval,
        saved_ms=saved_ms(aim.coupling, shot.widths, aim.forecast),
    )
    return dataclasses.replace(
        plan, latency=latency, sensitivities=aim.trials.alone, whole=aim.trials.whole(shot.widths)
    )


def _out_of_reach(shot: _Shot, config: PruneConfig) -> GateError:
    return GateError(
        f"{shot.asked_ms:.2f} ms cannot be reached: with every group as narrow as saves time the network takes "
        f"{shot.measured_ms:.2f} ms, {shot.speedup:.2f} times as fast as dense",
        wanted=f"{shot.measured_ms:.2f} ms or more",
        do="ask for less, take a smaller --imgsz, or start from a smaller network",
    )


def _missed(shot: _Shot, config: PruneConfig) -> GateError:
    return GateError(
        f"none of {config.attempts} plans came within {config.latency_tolerance:.0%} of {shot.asked_ms:.2f} ms: "
        f"the nearest takes {shot.measured_ms:.2f} ms, {shot.speedup:.2f} times as fast as dense",
        wanted="a machine that does nothing else meanwhile, or another figure",
        do="close other programs and run it again, or ask for the figure that can be reached",
    )
