"""How a search stands: what is done, what runs, what is best so far, how long it may still take."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from slimdeploy.search.spec import OBJECTIVES, Spec
from slimdeploy.search.study import OPEN, Record
from slimdeploy.search.trial import DONE, FAILED, STOPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A search at one moment.

    Attributes:
        spec: what is searched.
        records: the trials so far.
        running: of each trial at work: its stage, and seconds since it began.
        elapsed_s: since this run of the search began.
    """

    spec: Spec
    records: tuple[Record, ...]
    running: Mapping[int, tuple[str, float]] = dataclasses.field(default_factory=dict)
    elapsed_s: float = 0.0

    def having(self, state: str) -> list[Record]:
        """Return the trials of one state."""
        return [one for one in self.records if one.state == state]

    @property
    def front(self) -> list[Record]:
        """The Pareto front of the trials that meet every constraint."""
        return front(self.records, self.spec.objectives)

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest may take, by the median of what took place so far; None before the first has ended."""
        took = [one.seconds for one in self.records if one.seconds is not None]
        left = self.spec.config.trials - len(self.records) + len(self.having(OPEN))
        if not took:
            return None
        left_s = median(took) * left / max(1, len(self.running))
        hours = self.spec.config.hours
        return left_s if hours is None else max(0.0, min(left_s, 3600 * hours - self.elapsed_s))


def front(records: Sequence[Record], objectives: Sequence[str]) -> list[Record]:
    """Return the trials that meet every constraint and that no other such trial beats in every objective."""
    able = [one for one in records if one.state == DONE and one.met]
    costs = {
        one.number: tuple(-one.figures[n] if OBJECTIVES[n] else one.figures[n] for n in objectives) for one in able
    }
    kept: list[tuple[float, ...]] = []
    for cost in sorted(set(costs.values())):  # what comes later beats nothing that came before
        if not any(all(a <= b for a, b in zip(other, cost, strict=True)) for other in kept):
            kept.append(cost)
    best = set(kept)
    return [one for one in able if costs[one.number] in best]


def as_document(view: View) -> dict[str, Any]:
    """Return a search as the object that `--json` prints."""
    best = {one.number for one in view.front}
    return {
        "title": view.spec.title,
        "objectives": list(view.spec.objectives),
        "constraints": dict(view.spec.constraints),
        "trials": view.spec.config.trials,
        "counts": {state: len(view.having(state)) for state in (DONE, STOPPED, FAILED, OPEN)},
        "running": {number: {"stage": stage, "seconds": s} for number, (stage, s) in view.running.items()},
        "left_s": view.left_s,
        "front": sorted(best),
        "records": [{**dataclasses.asdict(one), "front": one.number in best} for one in view.records],
    }


def rows(view: View, *, most: int = 0) -> list[tuple[str, ...]]:
    """Return the trials as rows of cells under `header`: the front and the newest first; 0 for all."""
    best = {one.number for one in view.front}
    order = sorted(view.records, key=lambda one: (one.number not in best, -one.number))
    shown = order[:most] if most else sorted(view.records, key=lambda one: one.number)
    return [_cells(one, view, one.number in best) for one in shown]


def header(spec: Spec) -> tuple[str, ...]:
    """Return the table's heading."""
    return ("trial", *(one.name for one in spec.space), *spec.objectives, "")


def _cells(one: Record, view: View, best: bool) -> tuple[str, ...]:
    values = [shown(one.values.get(setting.name)) for setting in view.spec.space]
    figures = [shown(one.figures.get(name)) for name in view.spec.objectives]
    return (str(one.number), *values, *figures, _remark(one, view, best))


def _remark(one: Record, view: View, best: bool) -> str:
    if one.state == OPEN:
        stage, seconds = view.running.get(one.number, ("waits", 0.0))
        return f"{stage} {duration(seconds)}" if seconds else stage
    if one.state == DONE:
        return "front" if best else "" if one.met else "misses a constraint"
    return one.state


def shown(value: Any) -> str:
    """Return a value as a cell."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Return seconds as text, such as `2 h 05 min`."""
    minutes, hours = round(seconds / 60), round(seconds / 60) // 60
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{hours} h {minutes % 60:02d} min"


def headline(view: View) -> str:
    """Return the line above the table: what is done, running and left, and the best of each objective."""
    counts = [f"{len(view.having(state))} {word}" for state, word in ((DONE, "done"), (STOPPED, "stopped early"))]
    counts += [f"{len(view.having(FAILED))} failed", f"{len(view.running)} running"]
    left = f", {duration(view.left_s)} left" if view.left_s else ""
    front_now = view.front
    best = [
        f"{name} {shown((max if OBJECTIVES[name] else min)(one.figures[name] for one in front_now))}"
        for name in view.spec.objectives
        if front_now
    ]
    told = f"best so far: {', '.join(best)}" if best else "no trial meets every constraint yet"
    return f"{', '.join(counts)} of {view.spec.config.trials} trials{left}; {told}"


def failures(view: View) -> list[str]:
    """Return a line for each trial that failed or was stopped early, and why."""
    return [f"trial {one.number} {one.state}: {one.why}" for one in view.records if one.state in (FAILED, STOPPED)]
