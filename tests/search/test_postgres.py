"""A study in a real PostgreSQL: the same trials as in SQLite, and a database that goes away loses nothing."""

from __future__ import annotations

import threading
import time

import postgres_server
import pytest
import search_stand_in
from search_stand_in import made, write_search

from slimdeploy.errors import DeviceError, UsageError
from slimdeploy.search import run, study
from slimdeploy.search.trial import DONE

pytestmark = pytest.mark.skipif(postgres_server.binaries() is None, reason="PostgreSQL's server is not installed")


@pytest.fixture(scope="module")
def server():
    """A server that runs."""
    one = postgres_server.Server()
    try:
        one.start()
        yield one
        one.stop()
    finally:
        one.remove()


def figures(view):
    return [(one.number, dict(one.values), dict(one.figures)) for one in view.records]


def nothing_twice() -> bool:
    keys = [one["key"] for one in made()]
    return len(keys) == len(set(keys))


def during(search, what) -> object:
    """Do something once a search has made some stages; return how the search ended."""

    def wait_and_do():
        while len(made()) < 4:
            time.sleep(0.02)
        what()

    thread = threading.Thread(target=wait_and_do)
    thread.start()
    try:
        return search()
    finally:
        thread.join()


def test_a_study_in_postgresql_holds_what_one_in_sqlite_does(search, server, tmp_path):
    here = search("sqlite", trials=6)
    there = search("postgres", trials=6, options={"storage": server.url})
    assert figures(there) == figures(here)
    assert figures(run.status(tmp_path / "postgres", server.url)) == figures(here)
    assert not (tmp_path / "postgres" / "study.db").exists()


def test_the_password_of_the_database_is_written_nowhere(search, server, tmp_path):
    search(trials=2, options={"storage": server.url})
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    assert written == []


def test_the_study_is_not_looked_for_in_the_folder(search, server, go_on):
    search(trials=2, options={"storage": server.url})
    with pytest.raises(UsageError, match="begun with the storage postgresql"):
        go_on()


def test_a_database_that_is_away_for_a_while_is_waited_for(search, server, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.1")

    def away():
        server.stop()
        time.sleep(3)
        server.start()

    view = during(lambda: search(trials=8, options={"storage": server.url}), away)
    assert [one.state for one in view.records] == [DONE] * 8
    assert nothing_twice()


def test_a_database_that_stays_away_ends_the_search_and_loses_nothing(search, server, go_on, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.1")
    with monkeypatch.context() as short:
        short.setattr(study.Book.__init__, "__kwdefaults__", {"patience_s": 2.0})
        with pytest.raises(DeviceError, match=r"storage does not answer.*--resume"):
            during(lambda: search(trials=8, options={"storage": server.url}), server.stop)
    server.start()
    view = go_on(storage=server.url)
    assert [one.state for one in view.records] == [DONE] * 8
    assert nothing_twice()


@pytest.mark.parametrize(
    ("url", "error", "told"),
    [
        pytest.param("postgresql+psycopg://pilot:secret@127.0.0.1:1/x", DeviceError, "does not answer", id="no server"),
        pytest.param("postgres:secret", UsageError, "cannot be opened", id="no URL"),
        pytest.param("oracle://pilot:secret@db/x", UsageError, "cannot be opened", id="a driver that is missing"),
    ],
)
def test_a_database_that_cannot_be_opened_is_told_without_its_password(log, tmp_path, url, error, told):
    options = run.Options(walk=search_stand_in.WALK, storage=url)
    with pytest.raises(error, match=told) as refused:
        run.start(write_search(tmp_path), tmp_path / "out", options)
    assert "secret" not in str(refused.value)
    assert not (tmp_path / "out").exists()
