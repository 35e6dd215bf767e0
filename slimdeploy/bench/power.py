"""How much power a machine draws while models run, from whatever meter it has; without one, nothing is said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from types import TracebackType

from slimdeploy.bench import nvml
from slimdeploy.bench.sysfs import read_number, read_text
from slimdeploy.board import telemetry
from slimdeploy.records import Power

INTERVAL_S = 0.1
_POWERCAP = "sys/class/powercap"

Window = tuple[float, float]  # start and end, in seconds on the clock of time.perf_counter


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Something that tells watts.

    Attributes:
        name: `jetson`, `nvml` or `rapl`.
        rails: what it adds up.
        read_w: the power now, or since it was last asked, in watts; None where it does not tell.
    """

    name: str
    rails: tuple[str, ...]
    read_w: Callable[[], float | None]


def meters(root: Path = Path("/")) -> list[Meter]:
    """Return the meters of this machine that can be read; [] where there is none.

    Args:
        root: where the system's files are.
    """
    found = [_jetson(root), _nvml(), _rapl(root)]
    return [meter for meter in found if meter is not None]


def _jetson(root: Path) -> Meter | None:
    total_mw, rails = telemetry.total_of(telemetry.read_rails_mw(root))
    if total_mw is None:
        return None

    def read_w() -> float | None:
        now_mw, included = telemetry.total_of(telemetry.read_rails_mw(root))
        return now_mw / 1000 if now_mw is not None and included == rails else None

    return Meter(name="jetson", rails=rails, read_w=read_w)


def _nvml() -> Meter | None:
    def read_w() -> float | None:
        watts = [card.power_w for card in nvml.cards()]
        known = [one for one in watts if one is not None]
        return sum(known) if known and len(known) == len(watts) else None

    if read_w() is None:
        return None
    return Meter(name="nvml", rails=tuple(card.name or "GPU" for card in nvml.cards()), read_w=read_w)


def _rapl(root: Path) -> Meter | None:
    packages = [_Rapl(zone) for zone in sorted((root / _POWERCAP).glob("intel-rapl:*")) if zone.name.count(":") == 1]
    readable = [package for package in packages if package.read_w() is not None or package.known]
    if not readable:
        return None

    def read_w() -> float | None:
        watts = [package.read_w() for package in readable]
        known = [one for one in watts if one is not None]
        return sum(known) if len(known) == len(watts) else None

    return Meter(name="rapl", rails=tuple(package.name for package in readable), read_w=read_w)


class _Rapl:
    """One processor package's energy counter; only root can read it on most systems."""

    def __init__(self, zone: Path) -> None:
        self._zone = zone
        self.name = read_text(zone / "name") or zone.name
        self._range_uj = read_number(zone / "max_energy_range_uj")
        self._last: tuple[float, float] | None = None  # when, and microjoules

    @property
    def known(self) -> bool:
        """Whether the counter could be read."""
        return self._last is not None

    def read_w(self) -> float | None:
        """Return the mean power since the last reading, or None at the first."""
        now_s, now_uj = time.perf_counter(), read_number(self._zone / "energy_uj")
        before, self._last = self._last, None if now_uj is None else (now_s, now_uj)
        if before is None or now_uj is None or now_s <= before[0]:
            return None
        used_uj = now_uj - before[1]
        if used_uj < 0:  # the counter began again
            if self._range_uj is None:
                return None
            used_uj += self._range_uj
        return used_uj / 1e6 / (now_s - before[0])


@dataclass(slots=True)
class PowerLog:
    """Asks each meter every interval as long as the `with` block lasts.

    Attributes:
        meters: what is asked; with none, nothing happens.
        interval_s: seconds between readings.
        samples: moments on the clock of time.perf_counter and watts, for each meter in order.
        started_s: when it began.
    """

    meters: Sequence[Meter]
    interval_s: float = INTERVAL_S
    samples: list[list[tuple[float, float]]] = field(default_factory=list)
    started_s: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> PowerLog:
        self.samples = [[] for _ in self.meters]
        self.started_s = time.perf_counter()
        if self.meters:
            self._thread = threading.Thread(target=self._keep_asking, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _keep_asking(self) -> None:
        while not self._over.wait(self.interval_s):
            for meter, samples in zip(self.meters, self.samples, strict=True):
                watts = meter.read_w()
                if watts is not None:
                    samples.append((time.perf_counter(), watts))

    def power(self, *, idle: Window, busy: Sequence[Window], images: int) -> tuple[Power, ...]:
        """Return what each meter said of one model; a meter that told nothing in a window is left out.

        Args:
            idle: when all workers waited.
            busy: when the model ran.
            images: that it worked on in all of `busy`.
        """
        told = []
        for meter, samples in zip(self.meters, self.samples, strict=True):
            resting = [watts for at_s, watts in samples if idle[0] <= at_s <= idle[1]]
            working = [(at_s, watts) for at_s, watts in samples if any(start <= at_s <= end for start, end in busy)]
            if not resting or not working or not images:
                continue
            idle_w, mean_w = fmean(resting), fmean(watts for _, watts in working)
            busy_s = sum(end - start for start, end in busy)
            told.append(
                Power(
                    meter=meter.name,
                    rails=meter.rails,
                    idle_w=idle_w,
                    mean_w=mean_w,
                    joules_an_image=(mean_w - idle_w) * busy_s / images,
                    samples=tuple((at_s - self.started_s, watts) for at_s, watts in working),
                )
            )
        return tuple(told)
