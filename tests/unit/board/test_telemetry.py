"""Every format that tegrastats and the INA3221 driver are known to speak; lines and paths are captured from boards."""

from __future__ import annotations

import ast
import sys
import time
from pathlib import Path

import pytest

from slimdeploy.board import telemetry
from slimdeploy.board.telemetry import Sample, Sampler, mean_power_mw, parse_tegrastats, total_of

CAPTURED = (Path(__file__).parent / "tegrastats.txt").read_text(encoding="utf-8").splitlines()
LINES = dict(zip((title.lstrip("# ") for title in CAPTURED[::2]), CAPTURED[1::2], strict=True))
ORIN_RAILS = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
XAVIER_RAILS = ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")


def line(start: str) -> str:
    """The captured line whose title starts so."""
    (found,) = [text for title, text in LINES.items() if title.startswith(start)]
    return found


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n", encoding="utf-8")
    return root


def hwmon(address: str, **rails: tuple[int, int]) -> dict[str, str]:
    """The files of one INA3221 under JetPack 5 and later: millivolts and milliamperes by rail."""
    folder, files = f"sys/bus/i2c/drivers/ina3221/{address}/hwmon/hwmon3", {}
    for channel, (name, (millivolts, milliamperes)) in enumerate(rails.items(), start=1):
        files |= {
            f"{folder}/in{channel}_label": name,
            f"{folder}/in{channel}_input": str(millivolts),
            f"{folder}/curr{channel}_input": str(milliamperes),
        }
    return files


@pytest.mark.parametrize(
    ("start", "rails_mw"),
    [
        ("Nano JP4", {"POM_5V_IN": 1022, "POM_5V_GPU": 0, "POM_5V_CPU": 204}),
        ("TX2", {"VDD_SYS_GPU": 152, "VDD_SYS_SOC": 687, "VDD_4V0_WIFI": 0, "VDD_IN": 3056, "VDD_SYS_CPU": 152,
                 "VDD_SYS_DDR": 883}),
        ("Xavier NX JP4", {"VDD_IN": 4067, "VDD_CPU_GPU_CV": 738, "VDD_SOC": 1353}),
        ("AGX Xavier", {"GPU": 0, "CPU": 311, "SOC": 932, "CV": 0, "VDDRQ": 621, "SYS5V": 1482}),
        ("Xavier NX JP5", {"VDD_IN": 2763, "VDD_CPU_GPU_CV": 650, "VDD_SOC": 650}),
        ("Orin NX", {"VDD_IN": 5299, "VDD_CPU_GPU_CV": 773, "VDD_SOC": 1424}),
        ("Orin Nano JP6", {"VDD_IN": 5263, "VDD_CPU_GPU_CV": 717, "VDD_SOC": 1794}),
        ("Orin Nano Super", {"VDD_IN": 5971, "VDD_CPU_GPU_CV": 1669, "VDD_SOC": 2308}),
        ("AGX Orin R36", {"VDD_GPU_SOC": 3205, "VDD_CPU_CV": 4405, "VIN_SYS_5V0": 4767}),
        ("AGX Orin JP7", {"VDD_GPU_SOC": 5139, "VDD_CPU_CV": 3268, "VIN_SYS_5V0": 5500}),
    ],
)  # fmt: skip
def test_every_rail_of_a_captured_line_is_read_with_its_present_power(start, rails_mw):
    assert rails_mw == parse_tegrastats(line(start)).rails_mw


@pytest.mark.parametrize(
    ("start", "total_mw", "included"),
    [
        ("Nano JP4", 1022, ("POM_5V_IN",)),
        ("TX2", 3056, ("VDD_IN",)),
        ("Xavier NX JP4", 4067, ("VDD_IN",)),
        ("AGX Xavier", 3346, XAVIER_RAILS),
        ("Xavier NX JP5", 2763, ("VDD_IN",)),
        ("Orin NX", 5299, ("VDD_IN",)),
        ("Orin Nano JP6", 5263, ("VDD_IN",)),
        ("Orin Nano Super", 5971, ("VDD_IN",)),
        ("AGX Orin R36", 12377, ORIN_RAILS),
        ("AGX Orin JP7", 13907, ORIN_RAILS),
    ],
)
def test_the_total_says_which_rails_it_adds_up(start, total_mw, included):
    sample = parse_tegrastats(line(start))
    assert (total_mw, included) == (sample.total_mw, sample.rails_included)


@pytest.mark.parametrize(
    ("start", "gpu_mhz", "gpu_load_percent", "emc_mhz"),
    [
        ("Nano JP4", 76, 0, 204),
        ("TX2", 624, 0, 1600),
        ("Xavier NX JP4", 306, 62, 1600),
        ("AGX Xavier", 318, 0, 665),
        ("Xavier NX JP5", 114, 0, 204),
        ("Orin NX", 611, 0, 2133),
        ("Orin Nano JP6", None, 0, None),
        ("Orin Nano Super", 1018, 0, 3199),
        ("AGX Orin R36", 305, 0, 2133),
        ("AGX Orin JP7", 1300, 12, 3199),
    ],
)
def test_clocks_are_read_where_they_are_told_and_absent_elsewhere(start, gpu_mhz, gpu_load_percent, emc_mhz):
    sample = parse_tegrastats(line(start))
    assert (gpu_mhz, gpu_load_percent, emc_mhz) == (sample.gpu_mhz, sample.gpu_load_percent, sample.emc_mhz)


@pytest.mark.parametrize(
    ("start", "sensors", "name", "celsius"),
    [
        ("Nano JP4", 6, "CPU", 36.5),
        ("TX2", 8, "Tdiode", 34.25),
        ("Xavier NX JP4", 6, "thermal", 42.55),
        ("AGX Xavier", 8, "GPU", 37.5),
        ("Xavier NX JP5", 6, "thermal", 45.6),
        ("Orin NX", 9, "tj", 48.875),
        ("Orin Nano JP6", 6, "gpu", 45.968),
        ("Orin Nano Super", 6, "gpu", 49.593),
        ("AGX Orin R36", 6, "soc2", 48.25),
        ("AGX Orin JP7", 4, "gpu", 47.625),
    ],
)
def test_every_temperature_is_read_and_taken_for_no_rail(start, sensors, name, celsius):
    sample = parse_tegrastats(line(start))
    assert (sensors, celsius) == (len(sample.temperatures_c), sample.temperatures_c[name])


def test_thor_tells_the_clocks_of_three_clusters_without_a_load_and_its_total_as_vin():
    sample = parse_tegrastats("GR3D_FREQ @[1000,1000,990] tj@41.0C VIN_SYS_5V0 5100mW/5100mW VIN 24212mW/24212mW")
    assert (sample.gpu_mhz, sample.gpu_load_percent) == (1000, None)
    assert (sample.total_mw, sample.rails_included) == (24212, ("VIN",))


def test_a_sensor_that_is_off_has_no_temperature():
    assert parse_tegrastats("CV0@-256C CPU@47.9C").temperatures_c == {"CPU": 47.9}


def test_a_line_of_something_else_tells_nothing():
    assert parse_tegrastats("cat: /proc/x: No such file 3/4MB", t_s=1.5) == Sample(t_s=1.5)


def test_memory_is_no_rail():
    assert parse_tegrastats("RAM 534/3964MB (lfb 98x4MB) IRAM 0/252kB(lfb 252kB)").rails_mw == {}


def test_rails_that_do_not_add_up_to_the_module_give_no_total():
    assert total_of({"VDD_GPU_SOC": 3205.0, "VDD_CPU_CV": 4405.0}) == (None, ())


def test_sysfs_of_jetpack_6_is_read_in_milliwatts(tmp_path):
    write(tmp_path, hwmon("1-0040", VDD_IN=(5008, 1200), VDD_CPU_GPU_CV=(5008, 300), VDD_SOC=(5000, 400)))
    assert telemetry.read_rails_mw(tmp_path) == {"VDD_IN": 6009.6, "VDD_CPU_GPU_CV": 1502.4, "VDD_SOC": 2000.0}


def test_an_unconnected_channel_and_the_sum_of_shunts_are_no_rails(tmp_path):
    files = hwmon("1-0040", VDD_IN=(5000, 1000), NC=(5000, 9))
    files["sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/in7_label"] = "sum of shunt voltages"
    assert telemetry.read_rails_mw(write(tmp_path, files)) == {"VDD_IN": 5000.0}


def test_a_rail_without_its_current_is_absent(tmp_path):
    write(tmp_path, hwmon("1-0040", VDD_IN=(5000, 1000), VDD_SOC=(5000, 100)))
    (tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr2_input").unlink()
    assert telemetry.read_rails_mw(tmp_path) == {"VDD_IN": 5000.0}


def test_agx_orin_adds_up_the_rails_of_both_sensors(tmp_path):
    write(tmp_path, hwmon("1-0040", VDD_GPU_SOC=(1000, 3000), VDD_CPU_CV=(1000, 4000), VIN_SYS_5V0=(5000, 1000)))
    write(tmp_path, hwmon("1-0041", VDDQ_VDD2_1V8AO=(1800, 500)))
    with Sampler(interval_s=5.0, root=tmp_path) as sampler:
        pass
    assert (12900.0, (*ORIN_RAILS, "VDDQ_VDD2_1V8AO")) == (
        sampler.samples[0].total_mw,
        sampler.samples[0].rails_included,
    )


def test_sysfs_of_jetpack_4_is_read_in_milliwatts(tmp_path):
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    files = {f"{folder}/rail_name_0": "POM_5V_IN", f"{folder}/in_power0_input": "2114"}
    assert telemetry.read_rails_mw(write(tmp_path, files)) == {"POM_5V_IN": 2114.0}


@pytest.mark.parametrize(
    "folder",
    [
        "sys/class/devfreq/17000000.gpu",
        "sys/devices/17000000.ga10b/devfreq/17000000.ga10b",
        "sys/devices/17000000.gv11b/devfreq/17000000.gv11b",
        "sys/devices/17000000.gp10b/devfreq/17000000.gp10b",
        "sys/class/devfreq/57000000.gpu",
        "sys/class/devfreq/gpu-gpc-0",
        "sys/devices/platform/17000000.gpu/devfreq_dev",
    ],
)
def test_the_clock_of_the_gpu_is_found_on_every_board(folder, tmp_path):
    files = {f"{folder}/cur_freq": "612000000", f"{folder}/min_freq": "306000000", f"{folder}/max_freq": "1020000000"}
    clock = telemetry.read_gpu_clock(write(tmp_path, files))
    assert clock == telemetry.GpuClock(mhz=612.0, min_mhz=306.0, max_mhz=1020.0)


@pytest.mark.parametrize(("low", "high", "locked"), [(1020.0, 1020.0, True), (306.0, 1020.0, False), (None, 1.0, None)])
def test_clocks_are_locked_where_both_bounds_are_equal(low, high, locked):
    assert telemetry.GpuClock(mhz=1020.0, min_mhz=low, max_mhz=high).locked is locked


def test_the_load_of_the_gpu_is_read_from_thousandths(tmp_path):
    assert telemetry.read_gpu_load_percent(write(tmp_path, {"sys/devices/platform/gpu.0/load": "437"})) == 43.7


def test_temperatures_have_the_zones_type_as_name(tmp_path):
    zone = "sys/class/thermal/thermal_zone"
    files = {
        f"{zone}0/type": "cpu-thermal",
        f"{zone}0/temp": "48906",
        f"{zone}1/type": "cv0",
        f"{zone}1/temp": "-256000",
    }
    assert telemetry.read_temperatures_c(write(tmp_path, files)) == {"cpu-thermal": 48.906}


def test_the_power_mode_has_its_name_where_the_board_tells_it(tmp_path):
    files = {"var/lib/nvpmodel/status": "pmode:0002 fmode:fanNull"}
    assert telemetry.read_power_mode(write(tmp_path, files)) == "2"
    conf = "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >"
    assert telemetry.read_power_mode(write(tmp_path, {"etc/nvpmodel.conf": conf})) == "2 MAXN_SUPER"


def test_a_system_that_tells_nothing_gives_absent_figures_and_no_zeros(tmp_path):
    with Sampler(interval_s=5.0, root=tmp_path) as sampler:
        pass
    told = [(one.rails_mw, one.total_mw, one.rails_included, one.temperatures_c) for one in sampler.samples]
    assert told == [({}, None, (), {})] * 2
    assert [(one.gpu_mhz, one.gpu_load_percent, one.emc_mhz) for one in sampler.samples] == [(None, None, None)] * 2
    assert telemetry.read_power_mode(tmp_path) is None


def test_a_sampler_takes_samples_in_order_from_the_start_to_the_end(tmp_path):
    write(tmp_path, hwmon("1-0040", VDD_IN=(5000, 1000)))
    with Sampler(interval_s=0.01, root=tmp_path) as sampler:
        while len(sampler.samples) < 4:
            time.sleep(0.005)
    times_s = [sample.t_s for sample in sampler.samples]
    assert times_s == sorted(times_s)
    assert 0 <= times_s[0] < times_s[-1]
    assert {sample.total_mw for sample in sampler.samples} == {5000.0}


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for tegrastats")
def test_where_sysfs_tells_nothing_tegrastats_is_asked(tmp_path):
    program = tmp_path / "usr/bin/tegrastats"
    write(tmp_path, {"usr/bin/tegrastats": f"#!/bin/sh\necho '{line('Orin Nano Super')}'\nexec sleep 60"})
    program.chmod(0o755)
    with Sampler(interval_s=0.01, root=tmp_path) as sampler:
        while sampler.samples[-1].emc_mhz is None:
            time.sleep(0.005)
    last = sampler.samples[-1]
    assert (last.total_mw, last.emc_mhz, last.gpu_mhz) == (5971, 3199, 1018)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for tegrastats")
def test_what_tegrastats_said_is_forgotten_when_it_ends(tmp_path):
    write(tmp_path, {"usr/bin/tegrastats": f"#!/bin/sh\necho '{line('Orin Nano Super')}'"})
    (tmp_path / "usr/bin/tegrastats").chmod(0o755)
    with Sampler(interval_s=0.01, root=tmp_path) as sampler:
        sampler._tegrastats._thread.join()
    assert sampler.samples[-1].total_mw is None


def taken(*totals: tuple[float, float | None], included: tuple[str, ...] = ("VDD_IN",)) -> list[Sample]:
    return [Sample(t_s=t_s, total_mw=total_mw, rails_included=included) for t_s, total_mw in totals]


def test_mean_power_weighs_each_sample_by_its_time():
    assert mean_power_mw(taken((0.0, 1000.0), (1.0, 1000.0), (3.0, 4000.0))) == 2000.0


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param([], id="no sample"),
        pytest.param(taken((0.0, 1000.0), (1.0, None)), id="a missing total"),
        pytest.param(taken((0.0, 1000.0)) + taken((1.0, 1000.0), included=("VIN",)), id="other rails"),
    ],
)
def test_mean_power_is_absent_where_a_total_is(samples):
    assert mean_power_mw(samples) is None


def test_the_file_is_written_in_python_3_8_and_imports_the_standard_library_alone():
    source = Path(telemetry.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= sys.stdlib_module_names


def with_tegrastats(root: Path, script: str) -> Path:
    write(root, {"usr/bin/tegrastats": f"#!/bin/sh\n{script}"})
    (root / "usr/bin/tegrastats").chmod(0o755)
    return root


def until(holds) -> bool:
    ends = time.monotonic() + 20
    while not holds() and time.monotonic() < ends:
        time.sleep(0.02)
    return holds()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for tegrastats")
def test_a_line_that_is_no_utf_8_is_skipped_and_the_next_is_read(tmp_path):
    script = "printf 'VDD_IN 1000mW/1000mW\\n\\377\\376\\nVDD_IN 2000mW/2000mW\\n'; exec sleep 30"
    program = telemetry._Tegrastats.start(with_tegrastats(tmp_path, script), 0.1)
    told = []
    try:
        assert until(lambda: (told.append(program.latest()) or told[-1]) is not None and told[-1].total_mw == 2000)
    finally:
        program.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for tegrastats")
def test_a_reading_that_is_old_no_longer_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(telemetry, "STALE_S", 0.2)
    monkeypatch.setattr(telemetry, "_LATE", 1)
    program = telemetry._Tegrastats.start(with_tegrastats(tmp_path, "echo 'VDD_IN 1000mW/1000mW'; exec sleep 30"), 0.1)
    try:
        assert until(lambda: program._latest is not None)
        assert until(lambda: program.latest() is None)
    finally:
        program.stop()


ODD_NUMBERS = ["nan", "inf", "-inf", "1e999", "9" * 5000, "\u0663", "\u00b2", "1_000", "0x10", "", " ", "5 5"]


@pytest.mark.parametrize("odd", ODD_NUMBERS)
def test_a_value_that_no_sensor_gives_is_absent(tmp_path, odd):
    root = write(
        tmp_path,
        {
            **hwmon("1-0040", VDD_IN=(5000, 1000)),
            "sys/class/thermal/thermal_zone0/type": "tj",
            "sys/class/thermal/thermal_zone0/temp": odd,
            "sys/devices/platform/gpu.0/load": odd,
            "sys/class/devfreq/17000000.gpu/cur_freq": odd,
            "var/lib/nvpmodel/status": f"pmode:{odd}",
        },
    )
    (label,) = root.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/*/in1_input")
    label.write_text(odd, encoding="utf-8")
    assert telemetry.read_rails_mw(root) == {}
    assert telemetry.read_temperatures_c(root) == {}
    assert telemetry.read_gpu_load_percent(root) is None
    assert telemetry.read_gpu_clock(root) is None
    assert telemetry.read_power_mode(root) in (None, "0", "1", "5")


@pytest.mark.parametrize("odd", ["\u0663", "9" * 5000, "nan", "\u00b2", "-1"])
def test_a_number_in_a_line_of_tegrastats_that_no_board_writes_is_absent(odd):
    sample = parse_tegrastats(f"VDD_IN {odd}mW/{odd}mW GR3D_FREQ {odd}%@[{odd}] EMC_FREQ {odd}%@{odd} x@{odd * 3}C")
    assert (sample.total_mw, sample.gpu_mhz, sample.gpu_load_percent, sample.emc_mhz) == (None, None, None, None)


@pytest.mark.parametrize("odd", ["\u00b2", "\u0663", "9" * 5000, "", "fast"])
def test_a_power_mode_whose_number_is_none_is_an_error_of_the_board(tmp_path, odd):
    from slimdeploy.board import power
    from slimdeploy.board.errors import DeviceError
    from slimdeploy.board.machine import Machine

    with_program = write(tmp_path, {"usr/bin/nvpmodel": f"#!/bin/sh\necho 'NV Power Mode: MAXN'\necho '{odd} '"})
    (with_program / "usr/bin/nvpmodel").chmod(0o755)
    if odd == "":
        (with_program / "usr/bin/nvpmodel").write_text("#!/bin/sh\n", encoding="utf-8")
    with pytest.raises(DeviceError, match="tells no mode"):
        power.current_mode(Machine(with_program))


@pytest.mark.parametrize("odd", ["9" * 5000, "\u0663", "\u00b2"])
def test_facts_of_a_board_with_odd_numbers_are_absent(tmp_path, odd):
    from slimdeploy.board import jetpack, power, probe
    from slimdeploy.board.machine import Machine

    write(tmp_path, {"etc/nvpmodel.conf": f"< POWER_MODEL ID={odd} NAME=MAXN >", "proc/meminfo": f"MemTotal: {odd} kB"})
    assert power.modes(Machine(tmp_path)) == {}
    assert probe.memory(Machine(tmp_path))["total_mib"] is None
    assert jetpack.l4t_of(f"# R{odd} (release), REVISION: 4.4") is None


def test_what_a_program_of_the_board_says_need_not_be_utf_8(tmp_path):
    from slimdeploy.board.machine import Machine

    root = write(tmp_path, {"usr/bin/nvpmodel": "#!/bin/sh\nprintf '\\377 2\\n'"})
    (root / "usr/bin/nvpmodel").chmod(0o755)
    assert Machine(root).ask("nvpmodel", "-q").split()[-1] == "2"
