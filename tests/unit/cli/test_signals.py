"""Whatever ends the process ends it cleanly: one line, the signal's code, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slimdeploy import cli

RUN = "from slimdeploy.cli import main; main()"
# A stage in the middle of its work, with a process that it started.
AT_WORK = """
import subprocess, sys, time
from pathlib import Path
from slimdeploy.bench.process import Worker
from slimdeploy.cli import targets
from slimdeploy.configs import BenchConfig
from slimdeploy.lineage import stage_run
from slimdeploy.outputs import scratch_folder

def work(_name):
    with (
        stage_run("bench", config=BenchConfig(), inputs={}, out=Path("out")) as run,
        scratch_folder(),
        Worker("a model", threads=1, timeout_s=60) as worker,
    ):
        (run.folder / "half.bin").write_bytes(b"half")
        print(worker.pid, file=sys.stderr, flush=True)
        while True:  # as stages wait: Python notes a signal that another thread got when it wakes up
            time.sleep(0.1)

targets.load_target = work
from slimdeploy.cli import main
main()
"""
# Says when the handlers stand, and then imports for a while.
IMPORTING = """
import sys, time
from slimdeploy import cli

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            print("importing", file=sys.stderr, flush=True)
            {swallowing}
        return None

sys.meta_path.insert(0, Slow())
cli.main()
"""
WAIT = "time.sleep(60)"
SWALLOW = """
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                raise ImportError"""
SIGNALS = [
    pytest.param(signal.SIGINT, 130, "interrupted", id="SIGINT"),
    pytest.param(signal.SIGTERM, 143, "ended by SIGTERM", id="SIGTERM"),
    pytest.param(signal.SIGHUP, 129, "ended by SIGHUP", id="SIGHUP"),
]


def begin(code: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(cwd), "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", code, "targets", "nano"], cwd=cwd, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c,
    )  # fmt: skip


def heed_ctrl_c() -> None:
    """Undo what a test run in the background inherits, where Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]


@pytest.mark.parametrize(("number", "code", "said"), SIGNALS)
def test_a_signal_in_the_middle_of_a_stage_unwinds_it(tmp_path, number, code, said):
    with begin(AT_WORK, tmp_path) as process:
        worker = int(process.stderr.readline())
        time.sleep(0.1)  # it may still be about to write, and write again if that is interrupted
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert stderr == f"slimdeploy: {said}; nothing half-written was left behind\n"
    assert list(tmp_path.iterdir()) == []
    assert not lives(worker)


@pytest.mark.parametrize("swallowing", [WAIT, SWALLOW], ids=["raised", "swallowed by what is imported"])
@pytest.mark.parametrize(("number", "code", "said"), SIGNALS)
def test_a_signal_during_the_imports_is_one_line(tmp_path, number, code, said, swallowing):
    with begin(IMPORTING.format(swallowing=swallowing), tmp_path) as process:
        assert process.stderr.readline() == "importing\n"
        time.sleep(0.05)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert stderr == f"slimdeploy: {said}; nothing half-written was left behind\n"


def test_a_second_signal_while_it_unwinds_changes_nothing(tmp_path):
    with begin(AT_WORK, tmp_path) as process:
        process.stderr.readline()
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode in (130, 143)  # whichever the system delivers first
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_takes_its_workers_with_it_and_the_next_one_clears_up(tmp_path):
    with begin(AT_WORK, tmp_path) as process:
        worker = int(process.stderr.readline())
        process.kill()
        process.communicate(timeout=60)
    ends = time.monotonic() + 30
    while lives(worker) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not lives(worker)
    assert len(list(tmp_path.iterdir())) == 2
    with begin(AT_WORK, tmp_path) as process:
        process.stderr.readline()
        process.terminate()
        process.communicate(timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_is_ignored_from_the_beginning_stays_ignored(tmp_path):
    code = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{AT_WORK}"
    with begin(code, tmp_path) as process:
        process.stderr.readline()
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert process.poll() is None
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 143


def test_importing_the_command_line_imports_next_to_nothing():
    code = "import sys\nbefore = set(sys.modules)\nimport slimdeploy.cli\nprint(*(set(sys.modules) - before))"
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    imported = set(ended.stdout.split())
    assert "slimdeploy.cli" in imported
    assert imported & {"typer", "click", "logging", "json", "typing", "pathlib", "slimdeploy.cli._app"} == set()
