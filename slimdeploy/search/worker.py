"""The process that walks trials on this machine. Started by `local.LocalEngine`, never by hand.

It reads one job a line from stdin and writes events and outcomes, one JSON object a line, on what was its stdout; what
a library prints goes to the log, which is its stderr. It ends when stdin closes, which is when its parent is gone.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any, BinaryIO

from slimdeploy.search.trial import Job, run_job


def main() -> None:
    """Walk trials until stdin closes."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    answers = _own_stdout()
    jobs = _Jobs()
    while (line := jobs.next()) is not None:
        plain = json.loads(line)
        job = Job(**{**plain, "wanted": tuple(plain["wanted"])})
        _write(answers, {"outcome": run_job(job, lambda event: _write(answers, {"event": dict(event)}))})


def _own_stdout() -> BinaryIO:
    """Return what was stdout, and send what is printed from now on to stderr."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return answers


def _write(answers: BinaryIO, told: Mapping[str, Any]) -> None:
    answers.write(json.dumps(told, default=str).encode() + b"\n")


class _Jobs:
    """Reads stdin beside the work, so that the process ends at once when its parent is gone, however it went."""

    def __init__(self) -> None:
        self._lines: list[str | None] = []
        self._new = threading.Condition()
        self._busy = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            self._add(line)
        with self._new:
            if self._busy:
                os._exit(1)  # the parent was killed in the middle of a trial: what is unfinished stays unfinished
        self._add(None)

    def _add(self, line: str | None) -> None:
        with self._new:
            self._lines.append(line)
            self._new.notify()

    def next(self) -> str | None:
        """Return the next job, or None when there will be none."""
        with self._new:
            self._busy = False
            while not self._lines:
                self._new.wait()
            line = self._lines.pop(0)
            self._busy = line is not None
            return line


if __name__ == "__main__":
    main()
