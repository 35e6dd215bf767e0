"""NVIDIA's management library, played by an object with its functions."""

from __future__ import annotations

import pytest

from slimdeploy.bench import nvml

REFUSED = 3  # NVML_ERROR_NOT_SUPPORTED


class Library:
    """Answers as libnvidia-ml does: each function writes behind its last pointer and returns 0."""

    def __init__(self, *, count=1, refuses=(), reasons=0):
        self.answers = {
            "nvmlDeviceGetCount_v2": count, "nvmlDeviceGetTemperature": 47, "nvmlDeviceGetClockInfo": 1410,
            "nvmlDeviceGetMaxClockInfo": 1980, "nvmlDeviceGetPowerUsage": 71_500,
            "nvmlDeviceGetCurrentClocksThrottleReasons": reasons,
        }  # fmt: skip
        self.refuses = refuses
        self.open = 0

    def nvmlInit_v2(self):
        self.open += 1
        return 0

    def nvmlShutdown(self):
        self.open -= 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, number, device):
        device._obj.value = number + 1
        return 0

    def nvmlDeviceGetName(self, device, text, size):
        text.value = f"NVIDIA H{device.value}00".encode()
        return 0

    def nvmlDeviceGetMemoryInfo(self, device, memory):
        memory._obj.used, memory._obj.total = 512 << 20, 81_920 << 20
        return REFUSED if "nvmlDeviceGetMemoryInfo" in self.refuses else 0

    def __getattr__(self, name):
        def answer(*arguments):
            arguments[-1]._obj.value = self.answers[name]
            return REFUSED if name in self.refuses else 0

        return answer


def test_a_card_tells_its_state_in_the_units_of_the_names():
    (card,) = nvml.cards(Library())
    assert card == nvml.Card(
        name="NVIDIA H100", temperature_c=47, clock_mhz=1410, max_clock_mhz=1980, power_w=71.5, memory_used_mib=512,
        memory_total_mib=81_920, throttled=(),
    )  # fmt: skip


def test_every_card_is_told_and_the_library_closed_again():
    library = Library(count=2)
    assert [card.name for card in nvml.cards(library)] == ["NVIDIA H100", "NVIDIA H200"]
    assert library.open == 0


@pytest.mark.parametrize(
    ("refused", "field"),
    [
        ("nvmlDeviceGetPowerUsage", "power_w"),
        ("nvmlDeviceGetTemperature", "temperature_c"),
        ("nvmlDeviceGetMemoryInfo", "memory_used_mib"),
    ],
)
def test_what_the_driver_refuses_is_absent(refused, field):
    (card,) = nvml.cards(Library(refuses=(refused,)))
    assert getattr(card, field) is None


def test_the_reasons_that_hold_a_clock_down_have_names():
    idle, heat, cap = 0x01, 0x40, 0x04
    assert nvml.cards(Library(reasons=idle | heat | cap))[0].throttled == ("power cap", "hardware thermal slowdown")


def test_a_machine_without_a_driver_has_no_cards(monkeypatch):
    monkeypatch.setattr(nvml, "LIBRARIES", ("libno-such-driver.so.1",))
    assert nvml.cards() == ()
    assert nvml.memory_used_mib() is None


def test_a_driver_that_does_not_start_has_no_cards():
    library = Library()
    library.nvmlInit_v2 = lambda: 9
    assert nvml.cards(library) == ()
