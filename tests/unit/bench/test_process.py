"""A worker process answers, fails in one line, and is gone in the end whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from slimdeploy.bench.process import Worker, worker_environment
from slimdeploy.errors import ArtifactError, DeviceError

PATIENCE_S = 20.0  # no timing is tested: this is when a hanging test gives up

posix = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(pid: int) -> bool:
    """Whether a process is gone before patience is."""
    gives_up = time.perf_counter() + PATIENCE_S
    while is_running(pid) and time.perf_counter() < gives_up:
        time.sleep(0.05)
    return not is_running(pid)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that a worker process can run, and return its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def write(code: str, name: str = "other_worker") -> str:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code), encoding="utf-8")
        return name

    return write


@pytest.fixture
def parent(module, tmp_path):
    """Start a process that holds a worker stuck in a call, and return it with the worker's pid."""
    started = []

    def start():
        hanging = module("import time\nprint('{}', flush=True)\ntime.sleep(600)", "hanging")
        code = f"""
            from slimdeploy.bench.process import Worker
            with Worker("stuck", threads=1, timeout_s=600, module={hanging!r}) as worker:
                worker.ask("open")
                print(worker.pid, flush=True)
                worker.ask("sample")
        """
        environment = worker_environment(1)
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_worker_answers():
    with Worker("model", threads=1, timeout_s=PATIENCE_S) as worker:
        assert "slimdeploy" in worker.ask("status")["modules"]


def test_a_worker_that_waits_has_loaded_nothing_heavy():
    with Worker("model", threads=1, timeout_s=PATIENCE_S) as worker:
        assert {"torch", "ultralytics", "numpy", "onnxruntime"}.isdisjoint(worker.ask("status")["modules"])


def test_what_a_runtime_prints_does_not_disturb_the_answers(module):
    chatty = module("""
        import os
        from slimdeploy.bench import worker

        quiet = worker.Bench.status

        def status(self, request):
            print("printed")
            os.write(1, b"written by a C library\\n")
            os.system("echo said by a child")
            return quiet(self, request)

        worker.Bench.status = status
        worker.main()
    """)
    with Worker("model", threads=1, timeout_s=PATIENCE_S, module=chatty) as worker:
        assert worker.ask("status")["cpu_s"] >= 0
        assert worker.ask("status")["cpu_s"] >= 0


def test_an_error_of_the_worker_keeps_its_class():
    artifact = {
        "path": "nowhere.xyz", "format": "xyz", "precision": "fp32", "sha256": "", "parameters": 1, "macs": 1,
        "size_bytes": 1, "spec": {"task": "detect", "classes": ["a"], "imgsz": [32, 32], "stride": 32, "batch": 1},
    }  # fmt: skip
    with (
        Worker("model", threads=1, timeout_s=PATIENCE_S) as worker,
        pytest.raises(ArtifactError, match=r"no backend is the default for nowhere\.xyz"),
    ):
        worker.ask("open", artifact=artifact, backend="", trust=False, threads=1, batch=1, seed=0)


def test_a_worker_that_dies_is_named_with_its_last_words(module):
    dying = module("import sys\nsys.exit('out of memory, sadly')")
    with (
        Worker("tuned.onnx", threads=1, timeout_s=PATIENCE_S, module=dying) as worker,
        pytest.raises(DeviceError, match=r"tuned\.onnx died with exit code 1.*out of memory, sadly") as caught,
    ):
        worker.ask("open")
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


def test_a_worker_that_hangs_is_ended_and_named(module):
    hanging = module("import sys, time\nsys.stderr.write('stuck here')\nsys.stderr.flush()\ntime.sleep(600)")
    with (
        Worker("tuned.onnx", threads=1, timeout_s=1.5, module=hanging) as worker,
        pytest.raises(DeviceError, match=r"tuned\.onnx gave no answer to 'open' within 1\.5 s"),
    ):
        worker.ask("open")
    assert worker._process.poll() is not None


def test_a_closed_worker_is_gone():
    with Worker("model", threads=1, timeout_s=PATIENCE_S) as worker:
        worker.ask("status")
    assert worker._process.poll() is not None


def test_a_worker_that_ignores_the_end_is_killed(module, monkeypatch):
    monkeypatch.setattr("slimdeploy.bench.process.CLOSE_S", 0.2)
    stubborn = module("import time\ntime.sleep(600)")
    worker = Worker("model", threads=1, timeout_s=PATIENCE_S, module=stubborn)
    worker.close()
    assert worker._process.poll() is not None


@posix
def test_a_killed_parent_leaves_no_worker_behind(module):
    code = """
        import time
        from slimdeploy.bench.process import Worker
        worker = Worker("orphan", threads=1, timeout_s=60)
        worker.ask("status")
        print(worker.pid, flush=True)
        time.sleep(600)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, env=worker_environment(1)
    )
    pid = int(process.stdout.readline())
    assert is_running(pid)
    process.kill()
    process.communicate()
    assert ends(pid)


@posix
def test_ctrl_c_ends_parent_and_worker(parent):
    process, pid = parent()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert b"KeyboardInterrupt" in said
    assert ends(pid)


def test_threads_are_set_whatever_the_parent_has(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert worker_environment(3)["OMP_NUM_THREADS"] == "3"


def test_a_file_in_the_current_folder_does_not_pass_for_a_module(tmp_path, monkeypatch):
    if sys.version_info < (3, 11):
        pytest.skip("Python before 3.11 always looks in the current folder")
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with Worker("model", threads=1, timeout_s=PATIENCE_S) as worker:
        assert worker.ask("status")
