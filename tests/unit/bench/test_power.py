"""Watts from the meters that a machine has, and nothing where it has none."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from slimdeploy.bench import nvml, power
from slimdeploy.bench.nvml import Card
from slimdeploy.bench.power import Meter, PowerLog, meters


@pytest.fixture(autouse=True)
def no_cards(monkeypatch):
    monkeypatch.setattr(nvml, "cards", lambda: ())


def write(root: Path, files: dict[str, object]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n", encoding="utf-8")
    return root


def jetson(root: Path, *, milliamperes: int = 1000) -> Path:
    folder = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    return write(
        root, {f"{folder}/in1_label": "VDD_IN", f"{folder}/in1_input": 5000, f"{folder}/curr1_input": milliamperes}
    )


def package(root: Path, number: int, microjoules: int, **more: object) -> Path:
    zone = f"sys/class/powercap/intel-rapl:{number}"
    return write(root, {f"{zone}/energy_uj": microjoules, f"{zone}/name": f"package-{number}", **{
        f"{zone}/{name}": value for name, value in more.items()}})  # fmt: skip


def logged(*samples: tuple[float, float]) -> PowerLog:
    meter = Meter(name="jetson", rails=("VDD_IN",), read_w=lambda: None)
    return PowerLog([meter], samples=[list(samples)])


def test_a_machine_without_a_meter_has_none(tmp_path):
    assert meters(tmp_path) == []


def test_a_jetson_tells_the_power_of_its_input_rail_in_watts(tmp_path):
    (meter,) = meters(jetson(tmp_path, milliamperes=1200))
    assert (meter.name, meter.rails, meter.read_w()) == ("jetson", ("VDD_IN",), 6.0)


def test_a_reading_of_other_rails_than_at_the_start_is_absent(tmp_path):
    (meter,) = meters(jetson(tmp_path))
    (tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr1_input").unlink()
    assert meter.read_w() is None


def test_rapl_tells_the_mean_power_since_the_last_reading_of_all_packages(tmp_path, monkeypatch):
    times = itertools.count(10.0, 0.5)
    monkeypatch.setattr(power.time, "perf_counter", lambda: next(times))
    package(tmp_path, 0, 1_000_000)
    package(tmp_path, 1, 2_000_000)
    (meter,) = meters(tmp_path)
    package(tmp_path, 0, 11_000_000)
    package(tmp_path, 1, 22_000_000)
    assert (meter.name, meter.rails) == ("rapl", ("package-0", "package-1"))
    assert meter.read_w() == pytest.approx(30.0)  # 10 J and 20 J, two readings of half a second later


def test_a_counter_of_rapl_that_began_again_is_mended(tmp_path, monkeypatch):
    times = itertools.count(0.0, 1.0)
    monkeypatch.setattr(power.time, "perf_counter", lambda: next(times))
    (meter,) = meters(package(tmp_path, 0, 9_000_000, max_energy_range_uj=10_000_000))
    package(tmp_path, 0, 1_000_000)
    assert meter.read_w() == pytest.approx(2.0)


def test_a_counter_that_only_root_can_read_is_no_meter(tmp_path):
    package(tmp_path, 0, 1)
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    assert meters(tmp_path) == []


def test_cards_of_nvidia_add_up(monkeypatch, tmp_path):
    state = dict.fromkeys(("temperature_c", "clock_mhz", "max_clock_mhz", "memory_used_mib", "memory_total_mib"))
    pair = [Card(name=f"card {i}", power_w=50.0 + i, throttled=(), **state) for i in range(2)]
    monkeypatch.setattr(nvml, "cards", lambda: tuple(pair))
    (meter,) = meters(tmp_path)
    assert (meter.name, meter.rails, meter.read_w()) == ("nvml", ("card 0", "card 1"), 101.0)


def test_energy_of_an_image_has_idle_taken_off():
    log = logged((1.0, 4.0), (2.0, 4.0), (11.0, 10.0), (12.0, 12.0), (13.0, 99.0), (21.0, 11.0))
    (told,) = log.power(idle=(0.0, 3.0), busy=[(10.5, 12.5), (20.5, 22.5)], images=56)
    assert (told.idle_w, told.mean_w) == (4.0, 11.0)
    assert told.joules_an_image == pytest.approx((11.0 - 4.0) * 4.0 / 56)


def test_samples_between_the_turns_are_not_the_models():
    log = logged((1.0, 4.0), (11.0, 10.0), (13.0, 99.0))
    (told,) = log.power(idle=(0.0, 3.0), busy=[(10.5, 12.5)], images=1)
    assert told.samples == ((11.0, 10.0),)


@pytest.mark.parametrize("idle", [(0.0, 0.5), (5.0, 6.0)])
def test_without_an_idle_reading_nothing_is_said(idle):
    assert logged((1.0, 4.0), (11.0, 10.0)).power(idle=idle, busy=[(10.5, 12.5)], images=1) == ()


def test_a_turn_shorter_than_the_interval_says_nothing():
    assert logged((1.0, 4.0)).power(idle=(0.0, 3.0), busy=[(10.5, 10.6)], images=1) == ()


def test_a_log_asks_its_meters_until_it_ends():
    watts = itertools.count(1.0)
    with PowerLog([Meter(name="jetson", rails=("VDD_IN",), read_w=lambda: next(watts))], interval_s=0.005) as log:
        while len(log.samples[0]) < 3:
            pass
    assert [one for _, one in log.samples[0]][:3] == [1.0, 2.0, 3.0]


def test_what_a_meter_does_not_tell_is_left_out_of_the_log():
    readings = iter([None, 2.0, None])
    with PowerLog(
        [Meter(name="jetson", rails=("VDD_IN",), read_w=lambda: next(readings, 3.0))], interval_s=0.005
    ) as log:
        while len(log.samples[0]) < 2:
            pass
    assert [one for _, one in log.samples[0]][:2] == [2.0, 3.0]
