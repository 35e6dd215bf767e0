"""Outputs are complete or absent, never in place of another, and leave nothing of dead processes behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from slimdeploy import _leftovers, _rename, outputs
from slimdeploy._alone import LOCK, alone_at
from slimdeploy._leftovers import beside, is_leftover, temporary_name
from slimdeploy.errors import OutputExists, StageFailed, UsageError
from slimdeploy.outputs import refuse_existing, scratch_folder, whole_file, whole_folder

# Begins to write a file, a folder and a scratch folder, says so, and waits to be killed.
AT_WORK = """
import sys, time
from pathlib import Path
from slimdeploy.outputs import scratch_folder, whole_file, whole_folder

place = Path(sys.argv[1])
with whole_file(place / "a.json") as path, whole_folder(place / "out") as folder, scratch_folder() as scratch:
    for one in (path, folder / "b", scratch / "c"):
        one.write_text("half", encoding="utf-8")
    print("ready", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(out: Path, text: str = "whole", **options: bool) -> None:
    with whole_file(out, **options) as path:
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    """A process in the middle of its outputs in `tmp_path`, with `tmp_path/scratch` as the system's folder."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    process = subprocess.Popen([sys.executable, "-c", AT_WORK, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_what_a_killed_process_left_goes_with_the_next_output(at_work, tmp_path):
    at_work.kill()
    at_work.wait()
    assert len(names(tmp_path)) == 3
    write(tmp_path / "other")
    with scratch_folder():
        pass
    assert names(tmp_path) == ["other", "scratch"]
    assert names(tmp_path / "scratch") == []


def test_what_a_living_process_writes_is_left_alone(at_work, tmp_path):
    before = names(tmp_path), names(tmp_path / "scratch")
    with whole_folder(tmp_path / "other"), scratch_folder():
        pass
    assert ([name for name in names(tmp_path) if name != "other"], names(tmp_path / "scratch")) == before


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(".out.partial", id="no process"),
        pytest.param("out.partial", id="an unfinished training"),
        pytest.param(".out.00000000-999999999-1-00000000.partial", id="another machine or container"),
        pytest.param(temporary_name("out"), id="this process"),
    ],
)
def test_only_what_surely_belongs_to_a_dead_process_is_a_leftover(tmp_path, name):
    (tmp_path / name).mkdir()
    assert not is_leftover(tmp_path / name)


def test_a_number_that_another_process_has_by_now_belongs_to_a_dead_one(tmp_path):
    machine, pid, _, random = temporary_name("out").split(".")[2].split("-")
    path = tmp_path / f".out.{machine}-{pid}-1-{random}.partial"
    path.touch()
    assert is_leftover(path)


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    def collide():
        with whole_file(tmp_path / "a") as path:
            path.write_text("mine", encoding="utf-8")
            (tmp_path / "a").write_text("theirs", encoding="utf-8")

    with pytest.raises(OutputExists, match="another process made it meanwhile"):
        collide()
    assert (tmp_path / "a").read_text(encoding="utf-8") == "theirs"
    assert names(tmp_path) == ["a"]


@pytest.fixture(params=["renameat2", "hard links", "neither"])
def system(request, monkeypatch):
    """Systems with less and less help against overwriting."""
    if request.param != "renameat2":
        monkeypatch.setattr(_rename, "_renameat2", lambda: None)
    if request.param == "neither":

        def refuse(*_paths):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("make", [whole_file, whole_folder])
def test_every_system_refuses_what_appears_meanwhile(tmp_path, make):
    def collide():
        with make(tmp_path / "a"):
            (tmp_path / "a").mkdir()
            (tmp_path / "a" / "theirs").touch()

    with pytest.raises(OutputExists):
        collide()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["theirs"]


@pytest.mark.usefixtures("system")
def test_every_system_gives_what_is_complete_its_name(tmp_path):
    write(tmp_path / "file")
    with whole_folder(tmp_path / "folder") as folder:
        (folder / "in").touch()
    assert names(tmp_path) == ["file", "folder"]
    assert names(tmp_path / "folder") == ["in"]


def test_of_many_that_write_one_file_at_once_one_wins_and_its_file_is_complete(tmp_path):
    barrier, ended = threading.Barrier(8), []

    def contend(number: int) -> None:
        try:
            with whole_file(tmp_path / "a") as path:
                path.write_bytes(bytes([number]) * 100_000)
                barrier.wait()
            ended.append("won")
        except OutputExists:
            ended.append("lost")

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["lost"] * 7 + ["won"]
    assert len(set((tmp_path / "a").read_bytes())) == 1
    assert names(tmp_path) == ["a"]


def test_a_file_that_may_be_replaced_is_replaced_in_one_step(tmp_path):
    write(tmp_path / "a", "old")
    write(tmp_path / "a", "new", replace=True)
    assert (tmp_path / "a").read_text(encoding="utf-8") == "new"
    assert names(tmp_path) == ["a"]


def test_a_folder_that_may_be_replaced_comes_back_when_the_new_one_fails(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()

    def fail(*_paths):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(outputs, "rename_new", fail)

    def replace():
        with whole_folder(tmp_path / "a", replace=True):
            pass

    with pytest.raises(OSError, match="Input/output"):
        replace()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["old"]


def test_a_folder_that_may_be_replaced_is_replaced(tmp_path):
    for name in ("old", "new"):
        with whole_folder(tmp_path / "a", replace=True) as folder:
            (folder / name).touch()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["new"]


def test_a_second_ctrl_c_waits_for_the_clearing_up(tmp_path, monkeypatch):
    real = _leftovers.shutil.rmtree
    monkeypatch.setattr(
        _leftovers.shutil, "rmtree", lambda *a, **k: (signal.raise_signal(signal.SIGINT), real(*a, **k))
    )

    def stop():
        with whole_folder(tmp_path / "out") as folder:
            (folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert names(tmp_path) == []


def place(tmp_path: Path, what: str) -> Path:
    """Return a path that nothing can be written to."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    return {
        "dangling link": tmp_path / "link",
        "below a dangling link": tmp_path / "link" / "out",
        "below a file": tmp_path / "file" / "out",
        "far below a file": tmp_path / "file" / "a" / "b" / "out",
        "long name": tmp_path / ("x" * 300),
        "long parent": tmp_path / ("x" * 300) / "out",
        "loop": tmp_path / "loop" / "out",
    }[what]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("dangling link", "is a link to .*missing, which is not there"),
        ("below a dangling link", "is a link to nothing"),
        ("below a file", "cannot write into"),
        ("far below a file", "cannot write into"),
        ("long name", "the name x+... .300 bytes. is too long"),
        ("long parent", "the name x+... .300 bytes. is too long"),
        ("loop", "cannot write into"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path, what, said):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    out = place(tmp_path, what)
    with pytest.raises(UsageError, match=said) as refused:
        refuse_existing(out)
    assert len(str(refused.value)) < 500
    for make in (whole_file, whole_folder):
        with pytest.raises(UsageError, match=said), make(out):
            pytest.fail("the work began")


@pytest.mark.parametrize("out", ["", ".", "..", "a/.."])
def test_a_folder_that_is_there_by_another_name_is_refused(tmp_path, monkeypatch, out):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputExists):
        refuse_existing(Path(out))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.EIO])
@pytest.mark.parametrize("make", [whole_file, whole_folder])
def test_whatever_the_system_answers_is_one_line(tmp_path, monkeypatch, number, make):
    def refuse(*_args, **_options):
        raise OSError(number, os.strerror(number), "x")

    for name in ("mkdir", "touch"):
        monkeypatch.setattr(Path, name, refuse)
    with (
        pytest.raises(UsageError, match=f"cannot write into .*: {os.strerror(number)}; do: name another"),
        make(tmp_path / "out"),
    ):
        pytest.fail("the work began")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_fails_and_is_not_asked_wrongly(tmp_path, monkeypatch, number):
    def full(*_args, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StageFailed, match="the disk is full"), whole_folder(tmp_path / "out"):
        pytest.fail("the work began")


def test_a_file_system_that_is_read_only_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_args: False)
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result([0] * 8 + [os.ST_RDONLY, 255]))
    with pytest.raises(UsageError, match=r"cannot write into .*: Read-only file system; do: name another folder"):
        refuse_existing(tmp_path / "out")


def test_the_longest_name_that_the_system_allows_can_be_made(tmp_path):
    write(tmp_path / ("x" * 255))
    assert names(tmp_path) == ["x" * 255]


def busy() -> UsageError:
    return UsageError("another process works there")


def test_a_second_one_is_refused_while_the_first_is_at_work_and_no_lock_stays(tmp_path):
    lock = beside(tmp_path / "out", LOCK)
    with alone_at(lock, wait_s=0.0, busy=busy):
        with pytest.raises(UsageError, match="another process"), alone_at(lock, wait_s=0.0, busy=busy):
            pytest.fail("two are at work")
        assert names(tmp_path) == [lock.name]
    assert names(tmp_path) == []


def test_a_lock_of_a_killed_process_holds_nobody_up(tmp_path):
    lock = beside(tmp_path / "out", LOCK)
    hold = (
        "import sys, time\nfrom pathlib import Path\nfrom slimdeploy._alone import alone_at\n"
        "with alone_at(Path(sys.argv[1]), wait_s=0.0, busy=RuntimeError):\n    print(1, flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(lock)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.kill()
    assert names(tmp_path) == [lock.name]
    with alone_at(lock, wait_s=0.0, busy=busy):
        pass
    assert names(tmp_path) == []


def test_whoever_waited_for_a_lock_that_is_gone_takes_a_new_one(tmp_path):
    lock, inside, most = beside(tmp_path / "out", LOCK), [0], [0]

    def work() -> None:
        with alone_at(lock, wait_s=20.0, busy=busy):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert names(tmp_path) == []
