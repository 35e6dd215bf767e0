"""`slimdeploy doctor` tells packages, verbs and machine, whatever of them is missing."""

from __future__ import annotations

import json
import os
import sys

import pytest
from typer.testing import CliRunner

from slimdeploy import _needs
from slimdeploy._needs import EXTRAS, pip_line
from slimdeploy.cli import _machine, app, doctor


@pytest.fixture
def installed(monkeypatch):
    """Choose which modules look installed."""

    def install(*modules):
        monkeypatch.setattr(doctor, "is_installed", lambda module: module in modules)

    return install


def run(*argv):
    ended = CliRunner().invoke(app, ["doctor", *argv])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def verbs_that_work():
    return {verb for verb, state in json.loads(run("--json"))["verbs"].items() if state["works"]}


def test_every_verb_of_the_command_line_is_told():
    assert set(doctor.VERBS) == {one.name for one in (*app.registered_commands, *app.registered_groups)}


def test_in_the_light_core_the_verbs_that_need_no_extra_work(installed):
    installed()
    assert verbs_that_work() == {"bundle", "plan", "gate", "ship", "targets", "doctor"}


def test_with_the_onnx_extra_its_verbs_work(installed):
    installed(*EXTRAS["onnx"])
    assert verbs_that_work() == {
        "bundle",
        "plan",
        "gate",
        "ship",
        "targets",
        "doctor",
        "val",
        "build",
        "bench",
        "visdrone",
        "data",
    }


def test_with_the_train_extra_every_verb_but_search_works(installed):
    installed(*EXTRAS["train"])
    assert verbs_that_work() == set(doctor.VERBS) - {"search"}


def test_with_the_search_extra_every_verb_works(installed):
    installed(*EXTRAS["search"])
    assert verbs_that_work() == set(doctor.VERBS)


@pytest.mark.parametrize("module", EXTRAS["train"])
def test_one_missing_package_makes_its_extra_incomplete(installed, module):
    installed(*(other for other in EXTRAS["train"] if other != module))
    found = json.loads(run("--json"))
    assert found["packages"][module] is None
    assert found["extras"]["train"] == {"works": False, "install": pip_line("train"), "remark": ""}


def test_a_missing_parser_of_nvidia_is_told_with_its_pip_line_and_where_it_runs(installed):
    installed(*EXTRAS["train"])
    rows = {row.split()[0]: row for row in run().splitlines() if row.startswith("  ")}
    assert rows["trtcheck"].endswith(f"needs: {pip_line('trtcheck')} (NVIDIA's parser, for Linux on x86-64 alone)")


def test_the_text_names_the_pip_line_of_what_is_missing(installed):
    installed()
    rows = {row.split()[0]: row for row in run().splitlines() if row.startswith("  ")}
    assert pip_line("train") in rows["export"]
    assert rows["torch"].endswith("missing")


def test_a_package_whose_version_is_unknown_is_still_there(installed):
    installed("tensorrt_of_nobody", "torch_pruning")
    assert doctor._version("tensorrt_of_nobody") == "unknown version"


def test_a_missing_system_library_is_a_warning(installed, monkeypatch):
    installed("cv2")
    monkeypatch.setattr(doctor, "_installed", lambda _package: False)
    monkeypatch.setattr(_machine, "missing_libraries", lambda *_names: ["libGL.so.1"])
    assert "warning: OpenCV lacks libGL.so.1 of the system: apt install libgl1 libglib2.0-0" in run()


def test_a_library_that_no_system_has_is_missing():
    if not sys.platform.startswith("linux"):
        pytest.skip("the loader is asked on Linux alone")
    assert _machine.missing_libraries("libm.so.6", "libslimdeploy-nowhere.so.9") == ["libslimdeploy-nowhere.so.9"]


def test_the_machine_has_cores_memory_and_disk():
    machine = json.loads(run("--json"))["machine"]
    assert machine["cores"] >= 1
    assert machine["memory_gib"] > 0
    assert machine["free_disk_gib"] > 0
    assert machine["cpu"]


def make_nvidia_smi(folder, monkeypatch, script):
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for nvidia-smi is a shell script")
@pytest.mark.parametrize(
    ("script", "found"),
    [
        pytest.param(
            "echo 'NVIDIA GeForce MX250, 2048, 550.120'",
            [{"name": "NVIDIA GeForce MX250", "memory_mib": 2048, "driver": "550.120"}],
            id="a laptop",
        ),
        pytest.param(
            "echo 'Orin (nvgpu), [N/A], 540.4.0'",
            [{"name": "Orin (nvgpu)", "memory_mib": None, "driver": "540.4.0"}],
            id="a Jetson, which tells no memory",
        ),
        pytest.param("echo 'Failed to initialize NVML'; exit 9", [], id="a driver that does not work"),
        pytest.param("echo 'No devices were found'", [], id="no GPU"),
    ],
)
def test_gpus_are_what_nvidia_smi_lists(tmp_path, monkeypatch, script, found):
    make_nvidia_smi(tmp_path, monkeypatch, script)
    assert _machine.gpus() == found


def test_without_nvidia_smi_there_are_no_gpus(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert _machine.gpus() == []


def test_a_board_tells_its_jetson_linux(tmp_path):
    release = tmp_path / "nv_tegra_release"
    release.write_text("# R36 (release), REVISION: 4.3\nmore\n", encoding="utf-8")
    assert _machine.first_line(release) == "# R36 (release), REVISION: 4.3"
    assert _machine.first_line(tmp_path / "nowhere") is None


def test_looking_for_a_module_does_not_import_it():
    assert _needs.is_installed("this")  # which prints when it is imported
    assert "this" not in sys.modules
