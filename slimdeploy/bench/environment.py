"""What machine a figure was taken on. A fact that the system does not tell is absent, never 0."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from slimdeploy._cores import usable_cores
from slimdeploy.bench import nvml
from slimdeploy.bench.sysfs import read_number, read_text
from slimdeploy.board import telemetry
from slimdeploy.lineage import versions

_SYS_CPU = Path("/sys/devices/system/cpu")
_THERMAL = Path("/sys/class/thermal")
_BOARD_MODEL = Path("/proc/device-tree/model")
_MIB = 1 << 20


def environment() -> dict[str, Any]:
    """Return the machine and its state as JSON-ready facts, by name; units are in the names."""
    facts: dict[str, Callable[[], Any]] = {
        "cpu_model": cpu_model,
        "cores": os.cpu_count,
        "cores_usable": usable_cores,
        "affinity": affinity,
        "governor": governor,
        "clock_mhz": clock_mhz,
        "temperature_c": temperatures_c,
        "throttled": throttled,
        "gpus": gpus,
        "board": board,
        "load_average_1min": load_average,
        "memory_total_mib": memory_total_mib,
        "memory_available_mib": memory_available_mib,
        "os": platform.platform,
        "machine": platform.machine,
        "python": platform.python_version,
        "versions": versions,
        "timer_resolution_s": timer_resolution_s,
    }
    return _told(facts)


def state() -> dict[str, Any]:
    """Return what of the machine may change while it works, as `environment` names it."""
    moving: dict[str, Callable[[], Any]] = {
        "clock_mhz": clock_mhz,
        "temperature_c": temperatures_c,
        "throttled": throttled,
        "gpus": gpus,
        "board": board,
    }
    return _told(moving)


def _told(facts: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    known = {name: read() for name, read in facts.items()}
    return {name: fact for name, fact in known.items() if fact not in (None, "", [], {})}


def throttled() -> int | None:
    """Return how often the usable cores were slowed down since the machine started, because they were too hot."""
    counts = [read_number(_SYS_CPU / f"cpu{core}/thermal_throttle/core_throttle_count") for core in affinity() or ()]
    known = [count for count in counts if count is not None]
    return int(sum(known)) if known else None


def gpus() -> list[dict[str, Any]]:
    """Return NVIDIA's cards as its driver tells of them; what it does not tell is left out."""
    found = [dataclasses.asdict(card) for card in nvml.cards()]
    return [{name: fact for name, fact in card.items() if fact not in (None, (), [])} for card in found]


def board() -> dict[str, Any]:
    """Return a board's name, and a Jetson's power mode and the state of its GPU's clock; {} on other machines."""
    clock, mode, model = telemetry.read_gpu_clock(), telemetry.read_power_mode(), read_text(_BOARD_MODEL)
    known = {
        "model": model.strip("\0") if model else None,
        "power_mode": mode,
        **({**dataclasses.asdict(clock), "gpu_clock_locked": clock.locked} if clock else {}),
    }
    return {name: fact for name, fact in known.items() if fact is not None}


def cpu_model() -> str | None:
    """Return the processor's name as its maker writes it."""
    if sys.platform == "win32":
        return _windows_cpu_model()
    for line in _lines(Path("/proc/cpuinfo")):
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.processor() or None


def affinity() -> list[int] | None:
    """Return the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def governor() -> str | None:
    """Return the frequency governors of the usable cores, such as `performance`."""
    found = {read_text(_SYS_CPU / f"cpu{core}/cpufreq/scaling_governor") for core in affinity() or ()}
    return ", ".join(sorted(g for g in found if g)) or None


def clock_mhz() -> float | None:
    """Return the highest clock among the usable cores, in MHz."""
    kilohertz = [read_number(_SYS_CPU / f"cpu{core}/cpufreq/scaling_cur_freq") for core in affinity() or ()]
    return max((k / 1000 for k in kilohertz if k), default=None)


def temperatures_c() -> dict[str, float] | None:
    """Return the temperatures of the thermal zones, in degrees Celsius, by the zone's name."""
    found = {}
    for zone in sorted(_THERMAL.glob("thermal_zone*")):
        if (millidegrees := read_number(zone / "temp")) is not None:
            found[f"{zone.name} {read_text(zone / 'type') or ''}".strip()] = millidegrees / 1000
    return found or None


def load_average() -> float | None:
    """Return the load average of the last minute, in runnable processes."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # Windows has none
        return None


def memory_total_mib() -> float | None:
    """Return the machine's memory, in MiB."""
    return _meminfo_mib("MemTotal", "total")


def memory_available_mib() -> float | None:
    """Return the memory that can be had without swapping, in MiB."""
    return _meminfo_mib("MemAvailable", "available")


def timer_resolution_s() -> float:
    """Return the step of the clock that calls are timed with, in seconds."""
    return time.get_clock_info("perf_counter").resolution


def busy_s(cores: list[int] | None = None) -> float | None:
    """Return for how long the usable cores have worked since the machine started, for any process, in seconds.

    Args:
        cores: which cores; None takes those that this process may use.
    """
    wanted = {f"cpu{core}" for core in (cores if cores is not None else affinity() or range(os.cpu_count() or 1))}
    if ticks := [_busy_ticks(line) for line in _lines(Path("/proc/stat")) if line.split(" ", 1)[0] in wanted]:
        return sum(ticks) / os.sysconf("SC_CLK_TCK")
    times = _psutil("cpu_times")
    return times.user + times.system if times is not None else None


def peak_memory_mib() -> float | None:
    """Return the most memory that this process held at once, in MiB."""
    for line in _lines(Path("/proc/self/status")):
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / 1024
    if sys.platform == "win32":
        return _windows_peak_mib()
    return None


def _busy_ticks(line: str) -> int:
    user, nice, system, _idle, _iowait, irq, softirq, *rest = (int(field) for field in line.split()[1:])
    return user + nice + system + irq + softirq + (rest[0] if rest else 0)  # the last is stolen by the host


def _meminfo_mib(linux: str, psutil_name: str) -> float | None:
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith(f"{linux}:"):
            return round(float(line.split()[1]) / 1024, 1)
    memory = _psutil("virtual_memory")
    return round(getattr(memory, psutil_name) / _MIB, 1) if memory is not None else None


def _psutil(function: str) -> Any:
    try:
        return getattr(importlib.import_module("psutil"), function)()
    except ImportError:  # no dependency; it is asked where it happens to be installed
        return None


def _lines(path: Path) -> Iterator[str]:
    text = read_text(path)
    return iter(text.splitlines() if text else ())


def _windows_cpu_model() -> str | None:
    import winreg

    key = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:  # type: ignore[attr-defined,unused-ignore]
            name = winreg.QueryValueEx(opened, "ProcessorNameString")[0]  # type: ignore[attr-defined,unused-ignore]
            return str(name).strip()
    except OSError:
        return platform.processor() or None


class _ProcessMemoryCounters(ctypes.Structure):  # PROCESS_MEMORY_COUNTERS of psapi.h
    _fields_ = (
        ("cb", ctypes.c_uint32),
        ("page_faults", ctypes.c_uint32),
        *((name, ctypes.c_size_t) for name in ("peak_working_set", "working_set", "a", "b", "c", "d", "e", "f")),
    )


def _windows_peak_mib() -> float | None:
    counters = _ProcessMemoryCounters(cb=ctypes.sizeof(_ProcessMemoryCounters))
    kernel32 = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
    kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    read = kernel32.K32GetProcessMemoryInfo
    read.argtypes = (ctypes.c_void_p, ctypes.POINTER(_ProcessMemoryCounters), ctypes.c_uint32)
    if not read(kernel32.GetCurrentProcess(), ctypes.byref(counters), counters.cb):
        return None
    return float(counters.peak_working_set) / _MIB
