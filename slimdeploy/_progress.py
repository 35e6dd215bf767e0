"""How far a long loop is: one line that a terminal updates, and a few lines in a log."""

from __future__ import annotations

import logging
import time
from typing import Any

LIVE_S = 0.5  # between two updates on a terminal
LOG_S = 10.0  # between two lines of a log, at least
LOG_SHARE = 0.1  # of the whole between two lines of a log, at least
UNKNOWN_S = 60.0  # between two lines of a log where the whole is not known
LIVE = "live"  # marks a record that a terminal shows in place of the one before


class Every:
    """Tells when some seconds have passed since the last time.

    Args:
        seconds: the time between two.
        at_once: begin with a time that has come.
    """

    def __init__(self, seconds: float, *, at_once: bool = False) -> None:
        self.seconds, self._last = seconds, -float("inf") if at_once else time.monotonic()

    def due(self) -> bool:
        """Return whether the time has come, and begin to wait for the next one if so."""
        now = time.monotonic()
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True


class Progress:
    """Logs how far a loop is; a short loop logs nothing.

    The few lines of a log have the level INFO. The many updates of a terminal have the level DEBUG and the attribute
    `live`; the command line shows them where stderr is a terminal.

    Args:
        log: where to.
        text: a format of `done`, `total`, `rate` (a second) and `left_s`.
        total: how many there are in all; 0 where that is not known.
        before: how many of them were done before the loop began.
    """

    def __init__(self, log: logging.Logger, text: str, *, total: int, before: int = 0) -> None:
        self._log, self._text, self._total, self._before = log, text, total, before
        self._started, self._logged = time.monotonic(), before
        self._live, self._line = Every(LIVE_S), Every(LOG_S if total else UNKNOWN_S)

    def at(self, done: int) -> None:
        """Say how many are done, where it is time to."""
        far = done - self._logged >= LOG_SHARE * self._total
        if done != self._total and far and self._line.due():
            self._logged = done
            self._say(logging.INFO, done)
        elif self._log.isEnabledFor(logging.DEBUG) and self._live.due():
            self._say(logging.DEBUG, done)

    def _say(self, level: int, done: int) -> None:
        passed_s, new = max(time.monotonic() - self._started, 1e-9), max(done - self._before, 1)
        values: dict[str, Any] = {
            "done": done,
            "total": self._total,
            "rate": new / passed_s,
            "left_s": passed_s / new * (self._total - done),
        }
        self._log.log(level, "%s", self._text.format(**values), extra={LIVE: True})
