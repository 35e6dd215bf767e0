"""The process ends with the exit code of what happened, and says it in one line."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys

import pytest

from slimdeploy import __version__, errors
from slimdeploy.cli import _logs, main, targets
from slimdeploy.cli._shared import show, table
from slimdeploy.errors import SlimdeployError
from slimdeploy.lineage import stage_run

KINDS = [
    (errors.SlimdeployError, 1),
    (errors.StageFailed, 1),
    (errors.UsageError, 2),
    (errors.CheckpointError, 2),
    (errors.DataError, 2),
    (errors.TargetError, 2),
    (errors.ArtifactError, 2),
    (errors.OutputExists, 2),
    (errors.MissingDependency, 3),
    (errors.DeviceError, 4),
    (errors.GateError, 5),
]
RUN = "from slimdeploy.cli import main; main()"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process; gives (exit code, stdout, stderr)."""

    def run(*argv):
        monkeypatch.setattr(sys, "argv", ["slimdeploy", *argv])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def fail(monkeypatch):
    """Make `slimdeploy targets` raise an error."""

    def fail(error):
        def stop():
            raise error

        monkeypatch.setattr(targets, "list_targets", stop)

    return fail


def test_every_kind_of_error_is_listed_here():
    assert {kind for kind, _ in KINDS} == {SlimdeployError, *_below(SlimdeployError)}


def _below(kind):
    return {one for child in kind.__subclasses__() for one in (child, *_below(child))}


@pytest.mark.parametrize(("kind", "code"), KINDS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_each_kind_of_error_ends_with_its_code_and_one_line(run, fail, kind, code):
    fail(kind("a wrong thing", wanted="a right one", do="this"))
    assert run("targets") == (code, "", "slimdeploy: a wrong thing; wanted: a right one; do: this\n")


def test_with_json_the_error_is_an_object_on_stdout(run, fail):
    fail(errors.DataError("no images"))
    code, stdout, stderr = run("targets", "--json")
    assert (code, json.loads(stdout)["error"], json.loads(stdout)["exit_code"]) == (2, "DataError", 2)
    assert stderr == "slimdeploy: no images\n"


def test_ctrl_c_ends_with_130_and_one_line(run, fail):
    fail(KeyboardInterrupt())
    code, _, stderr = run("targets")
    assert code == 130
    assert stderr.splitlines() == ["slimdeploy: interrupted; nothing half-written was left behind"]


@pytest.mark.parametrize("swallowed", [AttributeError("half imported"), errors.UsageError("half imported")])
def test_a_ctrl_c_that_a_library_swallows_is_still_told(run, monkeypatch, swallowed):
    def import_of_a_library():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise swallowed from None

    monkeypatch.setattr(targets, "list_targets", import_of_a_library)
    code, _, stderr = run("targets")
    assert code == 130
    assert stderr.splitlines() == ["slimdeploy: interrupted; nothing half-written was left behind"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_full_disk_is_one_line_and_leaves_nothing(run, monkeypatch, tmp_path):
    def full():
        with stage_run("bench", config=errors, inputs={}, out=tmp_path / "out") as stage:
            (stage.folder / "half.bin").write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(targets, "list_targets", full)
    code, _, stderr = run("targets")
    assert (code, stderr) == (1, "slimdeploy: the disk is full; do: free some space and run the same command again\n")
    assert list(tmp_path.iterdir()) == []


def test_what_the_system_refuses_is_one_line(run, fail):
    fail(PermissionError(errno.EACCES, "Permission denied", "out"))
    code, _, stderr = run("targets")
    assert code == 1
    assert stderr.splitlines() == ["slimdeploy: the system refused: [Errno 13] Permission denied: 'out'"]


def test_an_error_that_is_a_bug_is_not_hidden(monkeypatch, fail):
    fail(ZeroDivisionError("a bug"))
    monkeypatch.setattr(sys, "argv", ["slimdeploy", "targets"])
    with pytest.raises(ZeroDivisionError):
        main()


@pytest.mark.parametrize(
    ("argv", "wrong"),
    [
        pytest.param(["targets", "--nope"], "--nope", id="unknown option"),
        pytest.param(["nope"], "nope", id="unknown verb"),
        pytest.param(["prune"], "weights", id="missing argument"),
        pytest.param(["prune", "x.pt", "--channels", "half", "--out", "out"], "--channels", id="no number"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_names_what_is_wrong(run, argv, wrong):
    code, stdout, stderr = run(*argv)
    assert (code, stdout) == (2, "")
    assert wrong in stderr.lower()
    assert "Traceback" not in stderr


def test_an_unknown_target_ends_with_2_and_names_the_close_ones(run):
    code, _, stderr = run("targets", "orin-nano")
    assert code == 2
    assert "did you mean orin-nano-4gb or orin-nano-8gb?" in stderr


def test_the_version_is_printed(run):
    assert run("--version") == (0, f"{__version__}\n", "")


def test_a_result_ends_with_0_and_says_nothing_on_stderr(run):
    code, stdout, stderr = run("targets", "nano", "--json")
    assert (code, json.loads(stdout)["name"], stderr) == (0, "nano", "")


def test_results_that_cannot_be_written_end_with_1_and_no_traceback():
    if not os.path.exists("/dev/full"):  # noqa: PTH110 - a device, not a file of ours
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        ended = subprocess.run([sys.executable, "-c", RUN, "targets"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1
    assert ended.stderr == "slimdeploy: the result could not be printed: No space left on device\n"


HOSTILE = "a\x1b[31m\0\u202eb\nc"


def test_an_error_shows_a_foreign_name_escaped_in_one_line(run, fail):
    fail(errors.UsageError(f"no target {HOSTILE}"))
    _, _, said = run("targets")
    assert said == "slimdeploy: no target a\\x1b[31m\\x00\\u202eb\\nc\n"


def test_a_message_of_a_megabyte_is_shown_in_a_few_hundred_characters(run, fail):
    fail(errors.UsageError("x" * 10**6))
    assert len(run("targets")[2]) < 700


@pytest.mark.parametrize("argv", [("fl\x1by",), ("targets", "--\x1bfly"), ("targets", "many", "too\x1b")])
def test_a_command_that_is_not_known_is_shown_escaped(run, argv):
    code, _, said = run(*argv)
    assert code == 2
    assert "\x1b" not in said
    assert r"\x1b" in said


def test_progress_shows_a_foreign_name_escaped_in_one_line(capsys):
    message = logging.LogRecord("slimdeploy.bench", logging.INFO, "measure.py", 1, "opening %s", (HOSTILE,), None)
    _logs.handler().handle(message)
    assert capsys.readouterr().err == "opening a\\x1b[31m\\x00\\u202eb\\nc\n"


def test_a_table_and_a_result_show_foreign_names_escaped(capsys):
    show({}, text=table(("name", "b"), [(HOSTILE, "1")]), as_json=False)
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 2
    assert shown.replace("\n", "").isprintable()
