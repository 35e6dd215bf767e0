"""What a Jetson tells of itself while it works: power, temperatures, clocks.

It runs on the board, out of a bundle: Python 3.8, the standard library, and no other file of the package. Whatever
the system does not tell is absent, never 0. Everything is read below a `root`, so that a recorded tree can stand for
a board.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Mapping, Sequence

ROOT = Path("/")
INTERVAL_S = 0.1
SENSOR_OFF_C = -256.0

# Rails that carry everything the module draws; where one is there, no other is added to it.
TOTAL_RAILS = ("VDD_IN", "POM_5V_IN", "VIN")
# Boards without such a rail: the rails that add up to the module, each needed, and those added where they are told.
SUMMED_RAILS = (
    (("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), ("VDDQ_VDD2_1V8AO",)),  # AGX Orin
    (("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"), ()),  # AGX Xavier
)
GPU_CLOCKS = (
    "sys/class/devfreq/*.gpu",  # JetPack 6
    "sys/class/devfreq/*.g[apv]1[01]b",  # Orin, Xavier, TX2 where the class is there
    "sys/class/devfreq/gpu-gpc-0",  # Thor
    "sys/devices/*.g[apv]1[01]b/devfreq/*",  # JetPack 5
    "sys/devices/platform/*.gpu/devfreq_dev",
)

# Numbers are of ASCII digits and few: longer ones are no reading of any board.
_RAIL = re.compile(r"(?<!\S)([A-Za-z]\w{0,63})\s+(\d{1,9})(?:mW)?/\d{1,9}(?:mW)?(?:/\d{1,9}(?:mW)?)?(?!\S)", re.ASCII)
_TEMPERATURE = re.compile(r"(?<!\S)(\w{1,64})@(-?\d{1,6}(?:\.\d{1,9})?)C(?:/-?\d{1,6}(?:\.\d{1,9})?C)?(?!\S)", re.ASCII)
_CLOCK = r"(?<!\S){name} (?:(?P<load>\d{{1,6}})%)?(?:@\[?(?P<mhz>\d{{1,9}}(?:,\d{{1,9}})*)\]?)?(?!\S)"
_GPU = re.compile(_CLOCK.format(name="GR3D_FREQ"), re.ASCII)
_EMC = re.compile(_CLOCK.format(name="EMC_FREQ"), re.ASCII)
_MODE = re.compile(r"pmode:(\d{1,6})(?!\d)", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,18}(?:\.\d{1,18})?\Z", re.ASCII)
_LINE_LIMIT_BYTES = 8192  # of tegrastats, far above what any board writes
_TEXT_LIMIT_BYTES = 1 << 20  # of a system's file
_LATE = 10  # intervals without a line, and at least STALE_S, after which the last one no longer counts
STALE_S = 2.0
_MODE_NAME = r"POWER_MODEL\s+ID=0*{number}\s+NAME=(\S+)"


@dataclass(frozen=True)
class Sample:
    """What the board told at one moment.

    Attributes:
        t_s: seconds since the sampler began.
        rails_mw: power of each rail, in milliwatts, by its name.
        total_mw: what the module draws, in milliwatts, or None where its rails do not say.
        rails_included: the rails that `total_mw` adds up. Totals of different rails must not be compared.
        temperatures_c: degrees Celsius by sensor.
        gpu_mhz: clock of the GPU, the highest where its clusters differ, or None.
        gpu_load_percent: how busy the GPU is, or None.
        emc_mhz: clock of the memory controller, or None; only tegrastats tells it, and only to root.
    """

    t_s: float = 0.0
    rails_mw: Mapping[str, float] = field(default_factory=dict)
    total_mw: float | None = None
    rails_included: tuple[str, ...] = ()
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    gpu_mhz: float | None = None
    gpu_load_percent: float | None = None
    emc_mhz: float | None = None


@dataclass(frozen=True)
class GpuClock:
    """The GPU's clock and its bounds, in MHz; each None where it is not told."""

    mhz: float | None
    min_mhz: float | None
    max_mhz: float | None

    @property
    def locked(self) -> bool | None:
        """Whether the clock cannot move, as after `jetson_clocks`; None where the bounds are not told."""
        if self.min_mhz is None or self.max_mhz is None:
            return None
        return self.min_mhz == self.max_mhz


def total_of(rails_mw: Mapping[str, float]) -> tuple[float | None, tuple[str, ...]]:
    """Return what the module draws, in milliwatts, and the rails that add up to it; (None, ()) where they do not say.

    Args:
        rails_mw: power of each rail, in milliwatts, by its name.
    """
    for rail in TOTAL_RAILS:
        if rail in rails_mw:
            return rails_mw[rail], (rail,)
    for needed, added in SUMMED_RAILS:
        if all(rail in rails_mw for rail in needed):
            included = needed + tuple(rail for rail in added if rail in rails_mw)
            return sum(rails_mw[rail] for rail in included), included
    return None, ()


def parse_tegrastats(line: str, *, t_s: float = 0.0) -> Sample:
    """Return what one line of tegrastats tells; JetPack 4 to 7 each write it a little differently.

    Args:
        line: as printed, with or without the date before it.
        t_s: when it was read, in seconds since the sampler began.
    """
    rails_mw = {name: float(now) for name, now in _RAIL.findall(line)}
    found = {name: float(celsius) for name, celsius in _TEMPERATURE.findall(line)}
    total_mw, included = total_of(rails_mw)
    gpu, emc = _GPU.search(line), _EMC.search(line)
    return Sample(
        t_s=t_s,
        rails_mw=rails_mw,
        total_mw=total_mw,
        rails_included=included,
        temperatures_c={name: celsius for name, celsius in found.items() if celsius > SENSOR_OFF_C},
        gpu_mhz=_highest(gpu.group("mhz")) if gpu else None,
        gpu_load_percent=float(gpu.group("load")) if gpu and gpu.group("load") else None,
        emc_mhz=_highest(emc.group("mhz")) if emc else None,
    )


def _highest(clocks: str | None) -> float | None:
    return max(float(one) for one in clocks.split(",")) if clocks else None


def read_rails_mw(root: Path = ROOT) -> dict[str, float]:
    """Return the power of each rail that the INA3221 sensors measure, in milliwatts; {} where there are none."""
    drivers, rails = root / "sys/bus/i2c/drivers", {}
    for label in sorted(drivers.glob("ina3221/*/hwmon/hwmon*/in[123]_label")):  # JetPack 5 and later
        channel = label.name[2]
        millivolts = _number(label.with_name(f"in{channel}_input"))
        milliamperes = _number(label.with_name(f"curr{channel}_input"))
        name = _text(label)
        if name and name != "NC" and millivolts is not None and milliamperes is not None:
            rails[name] = millivolts * milliamperes / 1000
    for label in sorted(drivers.glob("ina3221x/*/iio:device*/rail_name_[012]")):  # JetPack 4
        milliwatts, name = _number(label.with_name(f"in_power{label.name[-1]}_input")), _text(label)
        if name and name != "NC" and milliwatts is not None:
            rails[name] = milliwatts
    return rails


def read_temperatures_c(root: Path = ROOT) -> dict[str, float]:
    """Return the temperature of each thermal zone that is on, in degrees Celsius, by the zone's type."""
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        name, millidegrees = _text(zone / "type"), _number(zone / "temp")
        if name and millidegrees is not None and millidegrees / 1000 > SENSOR_OFF_C:
            found[name] = millidegrees / 1000
    return found


def read_gpu_clock(root: Path = ROOT) -> GpuClock | None:
    """Return the GPU's clock and its bounds, or None where the system has no such file."""
    for pattern in GPU_CLOCKS:
        for folder in sorted(root.glob(pattern)):
            hertz = [_number(folder / name) for name in ("cur_freq", "min_freq", "max_freq")]
            if hertz[0] is not None:
                return GpuClock(*(None if one is None else one / 1e6 for one in hertz))
    return None


def read_gpu_load_percent(root: Path = ROOT) -> float | None:
    """Return how busy the GPU is, in percent, or None; the file counts in thousandths."""
    thousandths = _number(root / "sys/devices/platform/gpu.0/load")
    return None if thousandths is None else thousandths / 10


def read_power_mode(root: Path = ROOT) -> str | None:
    """Return the power mode as `2 MAXN_SUPER`, or its number alone where its name is not told, or None."""
    found = _MODE.search(_text(root / "var/lib/nvpmodel/status") or "")
    if not found:
        return None
    number = str(int(found.group(1)))
    name = re.search(_MODE_NAME.format(number=number), _text(root / "etc/nvpmodel.conf") or "")
    return f"{number} {name.group(1)}" if name else number


def mean_power_mw(samples: Sequence[Sample]) -> float | None:
    """Return the mean of the module's power over time, in milliwatts; None where a total is missing or rails differ.

    Args:
        samples: in the order taken; each counts for the time until the next one.
    """
    totals = [sample.total_mw for sample in samples]
    if not totals or None in totals or len({sample.rails_included for sample in samples}) > 1:
        return None
    seconds = samples[-1].t_s - samples[0].t_s
    known = [total for total in totals if total is not None]
    if seconds <= 0:
        return known[0]
    return (
        sum(
            (known[i] + known[i + 1]) / 2 * (samples[i + 1].t_s - samples[i].t_s)  # the trapezoid between two samples
            for i in range(len(known) - 1)
        )
        / seconds
    )


class Sampler:
    """Takes a sample at once, then one every interval until the `with` block ends, then a last one.

    Args:
        interval_s: seconds between samples.
        root: where the system's files are.
    """

    def __init__(self, interval_s: float = INTERVAL_S, root: Path = ROOT) -> None:
        self.interval_s, self.root = interval_s, Path(root)
        self.samples: list[Sample] = []
        self.started_s = 0.0  # on the clock of time.perf_counter
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_sampling, daemon=True)
        self._tegrastats: _Tegrastats | None = None

    def __enter__(self) -> Sampler:
        self.started_s = time.perf_counter()
        self._tegrastats = _Tegrastats.start(self.root, self.interval_s)
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._take()
        if self._tegrastats is not None:
            self._tegrastats.stop()

    def _keep_sampling(self) -> None:
        due_s = self.started_s + self.interval_s
        while not self._over.wait(max(0.0, due_s - time.perf_counter())):
            self._take()
            due_s = max(due_s + self.interval_s, time.perf_counter())  # a late sample is not made up for

    def _take(self) -> None:
        t_s = time.perf_counter() - self.started_s
        told = (self._tegrastats.latest() if self._tegrastats is not None else None) or Sample()
        rails_mw = read_rails_mw(self.root) or told.rails_mw
        total_mw, included = total_of(rails_mw)
        clock, load = read_gpu_clock(self.root), read_gpu_load_percent(self.root)
        self.samples.append(
            Sample(
                t_s=t_s,
                rails_mw=rails_mw,
                total_mw=total_mw,
                rails_included=included,
                temperatures_c=read_temperatures_c(self.root) or told.temperatures_c,
                gpu_mhz=clock.mhz if clock else told.gpu_mhz,
                gpu_load_percent=told.gpu_load_percent if load is None else load,
                emc_mhz=told.emc_mhz,
            )
        )


class _Tegrastats:
    """NVIDIA's own program in the background.

    Args:
        process: it writes a line each interval.
        stale_s: after which a line no longer says what is so now.
    """

    def __init__(self, process: subprocess.Popen[bytes], stale_s: float) -> None:
        self._latest: tuple[float, Sample] | None = None
        self._process, self._stale_s = process, stale_s
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @classmethod
    def start(cls, root: Path, interval_s: float) -> _Tegrastats | None:
        """Return the running program, or None where the system has none."""
        program = root / "usr/bin/tegrastats"
        try:
            process = subprocess.Popen(
                [str(program), "--interval", str(max(1, round(1000 * interval_s)))],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            return None
        return cls(process, max(STALE_S, _LATE * interval_s))

    def latest(self) -> Sample | None:
        """Return what the last line told, or None where there is none that is recent."""
        latest = self._latest
        if latest is None or time.perf_counter() - latest[0] > self._stale_s:
            return None
        return latest[1]

    def stop(self) -> None:
        """End the program."""
        self._process.terminate()
        self._process.wait()
        self._thread.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in iter(lambda: stream.readline(_LINE_LIMIT_BYTES), b""):
                try:
                    self._latest = (time.perf_counter(), parse_tegrastats(line.decode("utf-8")))
                except UnicodeDecodeError:
                    continue  # a damaged line says nothing
        self._latest = None


def _text(path: Path) -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError), path.open("rb") as stream:
        return stream.read(_TEXT_LIMIT_BYTES).decode("utf-8").strip("\0 \n\t")
    return None


def _number(path: Path) -> float | None:
    """A file's number; None for what is none that a sensor gives, such as `nan`."""
    text = _text(path) or ""
    return float(text) if _NUMBER.match(text) else None
