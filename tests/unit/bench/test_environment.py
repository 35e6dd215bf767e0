"""The machine's facts: told where they can be read, absent where not."""

from __future__ import annotations

import builtins
import json
import os
import sys
import time

import pytest

from slimdeploy.bench import environment as room
from slimdeploy.bench.environment import busy_s, environment, peak_memory_mib


def test_the_environment_is_plain_json():
    known = environment()
    assert json.loads(json.dumps(known)) == known


def test_a_board_is_named_by_its_device_tree(monkeypatch, tmp_path):
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    monkeypatch.setattr(room, "_BOARD_MODEL", tmp_path / "model")
    assert environment()["board"]["model"] == "NVIDIA Jetson Orin Nano Developer Kit"


def test_the_environment_names_python_and_the_usable_cores():
    known = environment()
    assert known["python"] == ".".join(map(str, sys.version_info[:3]))
    assert 1 <= known["cores_usable"] <= known["cores"]


def test_no_fact_is_a_made_up_zero():
    assert not [name for name, fact in environment().items() if fact in (None, "", 0)]


def test_a_system_that_tells_nothing_leaves_the_facts_out(monkeypatch, tmp_path):
    monkeypatch.setattr(room, "read_text", lambda path: None)
    monkeypatch.setattr(room, "read_number", lambda path: None)
    monkeypatch.setattr(room, "_psutil", lambda function: None)
    monkeypatch.setattr(room, "_THERMAL", tmp_path)
    monkeypatch.delattr(os, "getloadavg", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    known = environment()
    missing = {"governor", "clock_mhz", "temperature_c", "load_average_1min", "memory_total_mib", "affinity"}
    assert missing.isdisjoint(known)
    assert busy_s() is None


def test_clock_governor_and_temperature_are_read_where_the_system_tells(monkeypatch, tmp_path):
    clock, zone = tmp_path / "cpu0" / "cpufreq", tmp_path / "thermal_zone0"
    clock.mkdir(parents=True)
    zone.mkdir()
    (clock / "scaling_governor").write_text("powersave\n", encoding="utf-8")
    (clock / "scaling_cur_freq").write_text("1800000\n", encoding="utf-8")
    (zone / "type").write_text("cpu-thermal\n", encoding="utf-8")
    (zone / "temp").write_text("48500\n", encoding="utf-8")
    monkeypatch.setattr(room, "_SYS_CPU", tmp_path)
    monkeypatch.setattr(room, "_THERMAL", tmp_path)
    monkeypatch.setattr(room, "affinity", lambda: [0])
    known = environment()
    assert known["governor"] == "powersave"
    assert known["clock_mhz"] == 1800
    assert known["temperature_c"] == {"thermal_zone0 cpu-thermal": 48.5}


@pytest.mark.skipif(busy_s() is None, reason="this system tells no processor times")
def test_work_of_this_process_counts_as_busy_time():
    before_s, ends = busy_s(), time.process_time() + 0.3
    while time.process_time() < ends:
        pass
    assert busy_s() - before_s >= 0.2


@pytest.mark.skipif(peak_memory_mib() is None, reason="this system tells no peak memory")
def test_memory_that_was_used_shows_in_the_peak():
    before_mib = peak_memory_mib()
    block = bytearray(os.urandom(1)) * (1 << 26)
    assert len(block) == 1 << 26
    assert peak_memory_mib() >= before_mib
    assert peak_memory_mib() >= 64


def test_psutil_is_no_dependency(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **options):
        if name == "psutil":
            raise ModuleNotFoundError("No module named 'psutil'", name="psutil")
        return real(name, *rest, **options)

    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert environment()["python"]
