"""A search that was killed goes on as if it had not been, and refuses what is not its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import search_stand_in
from search_stand_in import made, write_search

import slimdeploy
from slimdeploy._leftovers import temporary_name
from slimdeploy.errors import OutputExists, UsageError
from slimdeploy.recipes import read_toml
from slimdeploy.search import run
from slimdeploy.search.folder import new_folder
from slimdeploy.search.spec import read_spec
from slimdeploy.search.study import OPEN
from slimdeploy.search.trial import DONE

DRIVE = """
from pathlib import Path
from slimdeploy.recipes import read_toml
from slimdeploy.search import run
from slimdeploy.search.folder import new_folder
from slimdeploy.search.spec import read_spec
run.start(Path({path!r}), Path({out!r}), run.Options(walk={walk!r}, slots=2, **{given!r}))
"""


def figures(view):
    return [(one.number, dict(one.values), dict(one.figures)) for one in view.records]


def begun(path: Path, out: Path, **given) -> subprocess.Popen:
    """Begin a search in a process of its own."""
    code = DRIVE.format(path=str(path), out=str(out), walk=search_stand_in.WALK, given=given)
    paths = [str(Path(slimdeploy.__file__).parents[1]), os.environ["PYTHONPATH"]]
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})


def wait_until(holds, seconds=60.0):
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.05)


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_driver_that_was_killed_goes_on_and_ends_as_an_unbroken_search(search, go_on, tmp_path, monkeypatch):
    unbroken = search("unbroken", trials=10, slots=2)
    search_stand_in.log_folder().joinpath("made.log").unlink()
    monkeypatch.setenv("STAND_IN_SECONDS", "0.2")
    driver = begun(tmp_path / "search.toml", tmp_path / "out")
    wait_until(lambda: len(made()) >= 7)
    kill(driver)
    time.sleep(1.0)  # its workers see that it is gone
    view = go_on()
    assert figures(view) == figures(unbroken)
    keys = [one["key"] for one in made()]
    assert len(keys) == len(set(keys))


def test_a_second_driver_is_refused_while_the_first_works(log, go_on, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.5")
    driver = begun(write_search(tmp_path), tmp_path / "out")
    try:
        wait_until(lambda: len(made()) >= 1)
        with pytest.raises(OutputExists, match="another process works on"):
            go_on()
        running = run.status(tmp_path / "out").running
        assert running
    finally:
        kill(driver)


def test_a_larger_budget_goes_on_where_the_smaller_ended(search, tmp_path, log):
    first = search(trials=4)
    path = write_search(tmp_path, trials=6)
    view = run.go_on(tmp_path / "out", run.Options(walk=search_stand_in.WALK), search=path)
    assert figures(view)[:4] == figures(first)
    assert [one.state for one in view.records] == [DONE] * 6


def test_a_search_of_another_space_is_refused(search, tmp_path, log):
    search(trials=2)
    other = write_search(tmp_path, top="batch = 2")
    with pytest.raises(UsageError, match="is of another space"):
        run.go_on(tmp_path / "out", run.Options(walk=search_stand_in.WALK), search=other)


def test_a_study_of_another_folder_is_refused(search, go_on, tmp_path):
    search("one", trials=2)
    search("other", trials=2)
    (tmp_path / "other" / "study.db").write_bytes((tmp_path / "one" / "study.db").read_bytes())
    with pytest.raises(UsageError, match="holds no study of this folder"):
        go_on("other")


def test_no_trial_begins_after_the_hours_are_over_and_what_is_open_is_walked_later(search, go_on, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "1")
    view = search(trials=20, sections="hours = 0.001")
    assert 1 <= len(view.having(DONE)) < 20
    monkeypatch.setenv("STAND_IN_SECONDS", "0")
    open_before = [one.number for one in view.having(OPEN)]
    later = go_on()
    assert open_before != []
    assert all(later.records[number].state == DONE for number in open_before[:1])


def test_a_finite_space_ends_when_it_is_tried_out(log, tmp_path):
    path = write_search(tmp_path, trials=50)
    text = path.read_text().replace("{ low = 0.001, high = 0.1, log = true }", "[0.01, 0.02]")
    path.write_text(text, encoding="utf-8")
    view = run.start(path, tmp_path / "out", run.Options(walk=search_stand_in.WALK))
    values = {tuple(one.values.items()) for one in view.records}
    assert len(view.records) == len(values) == 4


def test_a_search_that_was_killed_before_its_study_goes_on_as_one_that_begins(log, go_on, tmp_path):
    path = write_search(tmp_path, trials=2)
    new_folder(read_toml(path, what="search"), read_spec(path), tmp_path / "out")
    for name in ("logs", "trials"):
        (tmp_path / "out" / name).rmdir()
    assert [one.state for one in go_on().records] == [DONE, DONE]


def test_a_search_that_was_killed_before_its_first_record_begins_again(search, tmp_path):
    machine, pid, _, random = temporary_name("x")[3:].split(".")[0].split("-")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".search.json.{machine}-{pid}-1-{random}.partial").touch()
    assert [one.state for one in search(trials=1).records] == [DONE]
