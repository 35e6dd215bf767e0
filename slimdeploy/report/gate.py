"""Hold measured figures against bounds: what a build server asks of a run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slimdeploy.bench import stats
from slimdeploy.errors import GateError, UsageError
from slimdeploy.records import Report, Row
from slimdeploy.report.findings import compared_row

POINTS = 100  # of mAP50-95 in 1
NOT_SCORED = "its accuracy was not measured; bench it with --data"
NOT_TIMED = "its latency was not measured; bench it"
FIRST_NOT_SCORED = "the accuracy of the first row was not measured, so there is no drop to tell"
IS_FIRST = "it is the first row itself, which drops are told against"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is asked of a model; None asks nothing.

    Attributes:
        min_map: lowest mAP50-95, in 0..1.
        max_p50_ms: highest median latency of a call, in milliseconds.
        max_size_mb: largest file, in 1,000,000 bytes.
        max_drop: largest loss of mAP50-95 against the first row, in points (hundredths).
    """

    min_map: float | None = None
    max_p50_ms: float | None = None
    max_size_mb: float | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        asked = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        if not asked:
            raise UsageError(
                "nothing is asked of the run",
                wanted="one or more of --min-map, --max-p50-ms, --max-size-mb, --max-drop",
            )
        for name, value in asked.items():
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"--{name.replace('_', '-')} is {value}", wanted="a number, 0 or more")
        if self.min_map is not None and self.min_map > 1:
            raise UsageError(f"--min-map is {self.min_map}", wanted="a share in 0..1, such as 0.40")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One figure beside its bound.

    Attributes:
        row: the model's name.
        figure: what was held against the bound, with its unit.
        value: as measured, or None.
        bound: what was asked.
        at_least: whether the bound is a lower one.
        missing: why there is no value, as a sentence; "" where there is one.
        interval: 95 % interval of the value over which images were scored, or None where there is none. The verdict is
            the value's own.
    """

    row: str
    figure: str
    value: float | None
    bound: float
    at_least: bool = False
    missing: str = ""
    interval: tuple[float, float] | None = None

    @property
    def passed(self) -> bool:
        """Whether the figure was measured and meets its bound."""
        if self.value is None:
            return False
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def asked(self) -> str:
        """The bound as shown."""
        return f"at {'least' if self.at_least else 'most'} {self.bound:g}"

    @property
    def found(self) -> str:
        """The value as shown, with as many digits as tell it from the bound; the reason where there is none."""
        if self.value is None:
            return f"not measured: {self.missing}"
        texts = [f"{self.value:.{digits}g}" for digits in (4, 6, 9, 17)]
        told = next((text for text in texts if (float(text) == self.bound) == (self.value == self.bound)), texts[-1])
        return told if self.interval is None else f"{told} [{self.interval[0]:.2f}, {self.interval[1]:.2f}]"

    @property
    def failure(self) -> str:
        """What was asked and what was found, where the check did not pass."""
        found = f"not {self.found}" if self.value is not None else f"but {self.missing}"
        return f"{self.row} {self.figure} {self.asked}, {found}"

    @property
    def open(self) -> bool:
        """Whether the interval holds the bound, so that other images might give the other verdict."""
        return self.interval is not None and self.interval[0] <= self.bound < self.interval[1]


def check(report: Report, bounds: Bounds, *, names: Sequence[str] = ()) -> tuple[Check, ...]:
    """Return each figure that is asked for beside its bound.

    Args:
        report: the run; drops are told against its first row.
        bounds: what is asked.
        names: rows to check; without any, the one that the report's headline is about.

    Raises:
        UsageError: the run has no row of a name.
    """
    rows = [_named(report, name) for name in names] or [compared_row(report)]
    return tuple(one for row in rows for one in _checks(report.rows[0], row, bounds))


def failure(checks: Sequence[Check]) -> GateError | None:
    """Return the error that a failed gate ends with, or None if every check passed."""
    failed = [one for one in checks if not one.passed]
    if not failed:
        return None
    return GateError(
        f"{len(failed)} of {len(checks)} figures {'does' if len(failed) == 1 else 'do'} not meet what was asked",
        wanted="; ".join(one.failure for one in failed),
    )


def as_document(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the checks as a JSON-ready object."""
    return {
        "schema": 1,
        "passed": all(one.passed for one in checks),
        "checks": [{**dataclasses.asdict(one), "passed": one.passed, "open": one.open} for one in checks],
    }


def _named(report: Report, name: str) -> Row:
    found = next((row for row in report.rows if row.name == name), None)
    if found is None:
        names = ", ".join(row.name for row in report.rows)
        raise UsageError(f"the run has no row {name!r}", wanted=f"one of {names}")
    return found


def _checks(first: Row, row: Row, bounds: Bounds) -> list[Check]:
    measured = {
        "min_map": ("mAP50-95", row.accuracy.map50_95 if row.accuracy else None, NOT_SCORED),
        "max_p50_ms": ("p50 ms", 1000 * stats.summary(row.latency).p50_s if row.latency else None, NOT_TIMED),
        "max_size_mb": ("MB", row.size_bytes / 1e6 or None, "its file's size was not recorded"),
        "max_drop": ("mAP50-95 drop in points", *_drop(first, row)),
    }
    asked: Mapping[str, float | None] = dataclasses.asdict(bounds)
    return [
        Check(
            row=row.name, figure=figure, value=value, bound=bound, at_least=name.startswith("min_"),
            missing=reason if value is None else "", interval=_interval(row) if name == "max_drop" else None,
        )
        for name, (figure, value, reason) in measured.items()
        if (bound := asked[name]) is not None
    ]  # fmt: skip


def _drop(first: Row, row: Row) -> tuple[float | None, str]:
    """Points of mAP50-95 lost against the first row, or None and why they cannot be told."""
    if row is first:
        return None, IS_FIRST
    if first.accuracy is None:
        return None, FIRST_NOT_SCORED
    if row.accuracy is None:
        return None, NOT_SCORED
    points = POINTS * (first.accuracy.map50_95 - row.accuracy.map50_95)
    return round(points, 9), ""  # 0.5 - 0.49 is 1 point, not 1.0000000000000009


def _interval(row: Row) -> tuple[float, float] | None:
    """The interval of the drop against the first row, where matches were kept of both."""
    found = row.difference
    return None if found is None else (round(0.0 - found.high, 9), round(0.0 - found.low, 9))  # 0.0 - 0.0 has no sign
