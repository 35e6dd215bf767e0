"""What a report finds: the sentence on top, each model's speed-up, and the Pareto front."""

from __future__ import annotations

from dataclasses import dataclass

from slimdeploy.bench import stats
from slimdeploy.records import Accuracy, Interval, Measurement, Report, Row

RENDERED = "rendered scenes, not photographs"
RUNTIMES = {"onnxruntime": "ONNX Runtime CPU", "openvino": "OpenVINO CPU", "pytorch": "PyTorch", "tensorrt": "TensorRT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """How many times as fast a model is as the first one.

    Attributes:
        ratio: latency of the first model over that of this one: the median over the rounds.
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
        rounds: rounds that it rests on.
    """

    ratio: float
    low: float
    high: float
    rounds: int

    @property
    def enough(self) -> bool:
        """Whether there were rounds enough for an interval to mean anything."""
        return self.rounds >= stats.MIN_ROUNDS

    @property
    def shown(self) -> bool:
        """Whether a difference is shown: enough rounds, and an interval that does not hold 1."""
        return self.enough and not self.low <= 1 <= self.high

    @property
    def digits(self) -> int:
        """Decimals that tell the interval's ends from 1."""
        return next((d for d in (2, 3, 4) if 1.0 not in (round(self.low, d), round(self.high, d))), 4)

    @property
    def times(self) -> str:
        """The ratio as shown."""
        return f"{self.ratio:.{self.digits}f}"

    @property
    def interval(self) -> str:
        """The interval as shown, in brackets."""
        return f"[{self.low:.{self.digits}f}, {self.high:.{self.digits}f}]"


def speedup(first: Measurement | None, other: Measurement | None) -> Speedup | None:
    """Return how many times as fast `other` is as `first`; None where one was not timed, or in other rounds."""
    if first is None or other is None or len(first.rounds) != len(other.rounds):
        return None
    found = stats.ratio(other, first)
    return Speedup(ratio=found.value, low=found.low, high=found.high, rounds=found.rounds)


def speedups(report: Report) -> tuple[Speedup | None, ...]:
    """Return each row's speed-up against the first row; None for the first row and for what was not timed."""
    first, *others = report.rows
    return (None, *(speedup(first.latency, row.latency) for row in others))


def compared_row(report: Report) -> Row:
    """Return the row that the headline is about: the last one named `tuned`, else the last one."""
    tuned = [row for row in report.rows if row.name.rsplit(": ")[-1] == "tuned"]
    return (tuned or list(report.rows))[-1]


def headline(report: Report) -> str:
    """Return the comparison of the first row with the tuned one in one sentence."""
    first, chosen = report.rows[0], compared_row(report)
    if chosen is first:
        return f"{first.name}: {_speed_of(first)}, {_scored(first.accuracy)}."
    clauses = [
        _speed_clause(first.latency, chosen.latency),
        _parameters_clause(first.parameters, chosen.parameters),
        _accuracy_clause(first.accuracy, chosen),
    ]
    return f"{chosen.name} against {first.name}: {', '.join(clause for clause in clauses if clause)}."


def points(found: Interval) -> str:
    """Return a difference of mAP50-95 with its interval, in points, with decimals that tell its ends from 0."""
    ends = (found.low, found.high)
    digits = next((d for d in (1, 2, 3) if all(round(end, d) for end in ends if end)), 3)
    return f"{found.points:+.{digits}f} points [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"


def pareto_front(report: Report) -> tuple[Row, ...]:
    """Return the rows that no other row beats in both median latency and mAP50-95, fastest first."""
    measured = [(stats.summary(row.latency).p50_s, row) for row in report.rows if row.latency and row.accuracy]
    front: list[Row] = []
    best = -1.0
    for _, row in sorted(measured, key=lambda pair: (pair[0], -_map(pair[1]))):
        if _map(row) > best:
            front.append(row)
            best = _map(row)
    return tuple(front)


def where(latency: Measurement) -> str:
    """Return the runtime and the device that a measurement was made with, as shown."""
    return RUNTIMES.get(latency.backend, latency.backend)


def _map(row: Row) -> float:
    return row.accuracy.map50_95 if row.accuracy else 0.0


def _speed_of(row: Row) -> str:
    if row.latency is None:
        return "latency not measured"
    return f"p50 {1000 * stats.summary(row.latency).p50_s:.1f} ms on {where(row.latency)}"


def _scored(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return "accuracy not measured"
    return f"mAP50-95 {accuracy.map50_95:.3f}{_kind(accuracy)}"


def _speed_clause(first: Measurement | None, other: Measurement | None) -> str:
    found = speedup(first, other)
    if first is None or other is None or found is None:
        return "speed not compared"
    place = where(other) if where(other) == where(first) else f"{where(other)} against {where(first)}"
    fast = f"{found.times} times as fast {found.interval}"
    if found.shown:
        return f"{fast} on {place}"
    if not found.enough:
        return f"speed not compared, for too few rounds ({fast} on {place})"
    return f"no difference of speed shown ({fast}) on {place}"


def _parameters_clause(first: int, other: int) -> str:
    if not first or not other:
        return ""
    if first == other:
        return "as many parameters"
    share = abs(1 - other / first)
    return f"{share:.0%} {'fewer' if other < first else 'more'} parameters".replace("%", " %")


def _accuracy_clause(first: Accuracy | None, chosen: Row) -> str:
    other, found = chosen.accuracy, chosen.difference
    if first is None or other is None:
        return _scored(other)
    said = f"mAP50-95 {other.map50_95:.3f} against {first.map50_95:.3f}"
    if found is not None:
        unknown = "" if found.shown else ": no difference shown" if found.enough else ": too few images to tell"
        said += f", {points(found)}{unknown}"
    return f"{said}{_kind(other)}"


def _kind(accuracy: Accuracy) -> str:
    return f" ({RENDERED})" if accuracy.rendered else ""
