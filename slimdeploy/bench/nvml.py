"""What NVIDIA's driver tells of its cards, through NVML; nothing where there is no driver."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LIBRARIES = ("libnvidia-ml.so.1", "nvml.dll")
TEMPERATURE_GPU = 0  # nvmlTemperatureSensors_t
CLOCK_SM = 1  # nvmlClockType_t
THROTTLE_REASONS = {  # nvmlClocksThrottleReasons: those that take away speed
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
_NAME_BYTES = 96
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One card's state; what the driver does not tell is None.

    Attributes:
        name: as NVIDIA writes it.
        temperature_c: of the chip, in degrees Celsius.
        clock_mhz: of its multiprocessors.
        max_clock_mhz: the highest that they may take.
        power_w: that the board draws.
        memory_used_mib: held by all processes.
        memory_total_mib: that the card has.
        throttled: why the clock is held down, by its names; () where it is not, or is not told.
    """

    name: str | None
    temperature_c: float | None
    clock_mhz: float | None
    max_clock_mhz: float | None
    power_w: float | None
    memory_used_mib: float | None
    memory_total_mib: float | None
    throttled: tuple[str, ...]


class _Memory(ctypes.Structure):  # nvmlMemory_t
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def cards(library: Any = None) -> tuple[Card, ...]:
    """Return the cards of this machine, in the driver's order; () where there is no driver or no card.

    Args:
        library: NVML as ctypes loads it; None looks for it.
    """
    found = library if library is not None else _load()
    if found is None or found.nvmlInit_v2() != 0:
        return ()
    try:
        count = _asked(found.nvmlDeviceGetCount_v2, ctypes.c_uint)
        return tuple(_card(found, number) for number in range(count.value if count else 0))
    finally:
        found.nvmlShutdown()


def memory_used_mib() -> float | None:
    """Return what all processes hold on all cards, in MiB, or None where there is no card."""
    used = [card.memory_used_mib for card in cards()]
    return sum(one for one in used if one is not None) if used and None not in used else None


def _load() -> Any:
    for name in LIBRARIES:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    return None


def _card(library: Any, number: int) -> Card:
    device = ctypes.c_void_p()
    library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(device))
    memory = _asked(library.nvmlDeviceGetMemoryInfo, _Memory, device)
    reasons = _asked(library.nvmlDeviceGetCurrentClocksThrottleReasons, ctypes.c_ulonglong, device)
    milliwatts = _asked(library.nvmlDeviceGetPowerUsage, ctypes.c_uint, device)
    return Card(
        name=_name(library, device),
        temperature_c=_number(_asked(library.nvmlDeviceGetTemperature, ctypes.c_uint, device, TEMPERATURE_GPU)),
        clock_mhz=_number(_asked(library.nvmlDeviceGetClockInfo, ctypes.c_uint, device, CLOCK_SM)),
        max_clock_mhz=_number(_asked(library.nvmlDeviceGetMaxClockInfo, ctypes.c_uint, device, CLOCK_SM)),
        power_w=None if milliwatts is None else milliwatts.value / 1000,
        memory_used_mib=None if memory is None else memory.used / _MIB,
        memory_total_mib=None if memory is None else memory.total / _MIB,
        throttled=tuple(name for bit, name in THROTTLE_REASONS.items() if reasons and reasons.value & bit),
    )


def _asked(function: Callable[..., int], kind: Any, *arguments: Any) -> Any:
    """Return what a function of NVML writes behind its last argument, or None where it refuses."""
    answer = kind()
    return answer if function(*arguments, ctypes.byref(answer)) == 0 else None


def _number(answer: Any) -> float | None:
    return None if answer is None else float(answer.value)


def _name(library: Any, device: Any) -> str | None:
    text = ctypes.create_string_buffer(_NAME_BYTES)
    return text.value.decode(errors="replace") if library.nvmlDeviceGetName(device, text, _NAME_BYTES) == 0 else None
