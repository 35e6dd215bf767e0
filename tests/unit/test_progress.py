"""A long loop says now and then how far it is: a few lines in a log, one line on a terminal."""

from __future__ import annotations

import logging
import sys

import pytest

from slimdeploy import _progress
from slimdeploy._progress import Every, Progress
from slimdeploy.cli import _logs

log = logging.getLogger("slimdeploy.test")


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_progress, "time", clock)
    return clock


def run(clock: Clock, *, total: int, seconds: float, known: bool = True) -> None:
    progress = Progress(log, "scoring: {done} of {total}, {left_s:.0f} s left", total=total if known else 0)
    for done in range(1, total + 1):
        clock.now_s += seconds / total
        progress.at(done)


@pytest.mark.parametrize(
    ("total", "seconds", "lines"),
    [
        pytest.param(219, 158.0, 9, id="minutes"),
        pytest.param(219, 5.0, 0, id="seconds"),
        pytest.param(219, 25.0, 2, id="half a minute"),
        pytest.param(100_000, 36_000.0, 9, id="hours"),
        pytest.param(3, 600.0, 2, id="few and slow"),
    ],
)
def test_a_log_gets_few_lines(clock, caplog, total, seconds, lines):
    with caplog.at_level(logging.INFO, logger="slimdeploy.test"):
        run(clock, total=total, seconds=seconds)
    assert len(caplog.messages) == lines


def test_where_the_whole_is_not_known_a_log_gets_a_line_a_minute(clock, caplog):
    with caplog.at_level(logging.INFO, logger="slimdeploy.test"):
        run(clock, total=1000, seconds=600.0, known=False)
    assert 8 <= len(caplog.messages) <= 10


def test_the_time_that_is_left_does_not_count_what_was_done_before(clock, caplog):
    progress = Progress(log, "{done} of {total}, {left_s:.0f} s left, {rate:.1f} a second", total=100, before=50)
    clock.now_s += 20
    with caplog.at_level(logging.INFO, logger="slimdeploy.test"):
        progress.at(60)
    assert caplog.messages == ["60 of 100, 80 s left, 0.5 a second"]


def test_a_time_comes_again_and_again(clock):
    every = Every(2.0)
    came = []
    for _ in range(6):
        clock.now_s += 1.0
        came.append(every.due())
    assert came == [False, True, False, True, False, True]
    assert Every(2.0, at_once=True).due()


@pytest.fixture
def begin():
    """Begin to log as in a new process, whose root logger has no handlers."""
    logger, ours = logging.getLogger(), logging.getLogger("slimdeploy")
    handlers, level, own = logger.handlers[:], logger.level, ours.level

    def begin() -> None:
        logger.handlers[:] = []
        _logs.begin()

    yield begin
    logger.handlers[:], logger.level = handlers, level
    ours.setLevel(own)


def test_a_terminal_gets_one_line_that_is_updated_and_goes_away(begin, clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    begin()
    run(clock, total=4, seconds=4.0)
    log.info("done")
    _logs.end_live_line()
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.startswith("\r\x1b[Kscoring: 1 of 4, 3 s left\r\x1b[Kscoring: 2 of 4")
    assert shown.endswith("\r\x1b[Kdone\n")


def test_a_log_gets_no_control_characters(begin, clock, capsys):
    begin()
    run(clock, total=100, seconds=100.0)
    log.debug("not this")
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 9
    assert "\x1b" not in shown
    assert "\r" not in shown


def test_a_result_does_not_stand_behind_the_line_of_progress(begin, clock, capsys, monkeypatch):
    from slimdeploy.cli._shared import show

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    begin()
    run(clock, total=4, seconds=4.0)
    show({}, text="result", as_json=False)
    assert capsys.readouterr().err.endswith("\r\x1b[K")
