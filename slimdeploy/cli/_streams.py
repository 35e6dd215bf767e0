"""Standard streams that cannot fail: where the result cannot be printed, the work is not lost, and that is said.

A full disk behind stdout ends the command with code 1; a reader that goes away, or a stdout that was closed from the
beginning, changes no code. What the command wrote is complete all the same, and is named.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CLOSED = OSError(errno.EBADF, "it is closed")


class Unfailing(io.FileIO):
    """A descriptor that takes everything: the first error of writing is noted, and what comes then is dropped."""

    error: OSError | None = None
    complete: str = ""

    def write(self, data: Any) -> int:
        """Write, unless that failed before."""
        if self.error is None:
            try:
                return super().write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes


class Result:
    """What became of what was printed on stdout.

    Args:
        stdout: the stream, or None where the system's own is used.
    """

    def __init__(self, stdout: Unfailing | None) -> None:
        self._stdout = stdout

    def code(self, code: int) -> int:
        """Return the exit code, and say what could not be printed."""
        sys.stdout.flush()
        error = self._stdout.error if self._stdout is not None else None
        if self._stdout is None or error is None or code != 0:
            return code
        whole = f"; {self._stdout.complete} is complete" if self._stdout.complete else ""
        gone = error.errno in (errno.EPIPE, errno.EBADF)
        if whole or not gone:
            why = "nobody reads standard output any more" if error.errno == errno.EPIPE else error.strerror
            sys.stderr.write(f"slimdeploy: the result could not be printed: {why}{whole}\n")
        return 0 if gone else 1


def note_complete(made: Path | str) -> None:
    """Note what a command has made, to be named where its result cannot be printed."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, Unfailing):
        raw.complete = str(made)


@contextmanager
def unfailing() -> Iterator[Result]:
    """Let stdout and stderr take everything while the block runs."""
    closed = _open_closed()
    before = sys.stdout, sys.stderr
    out, err = _unfailing(sys.stdout, 1), _unfailing(sys.stderr, 2)
    sys.stdout, sys.stderr = out or before[0], err or before[1]
    raw = out.buffer.raw if out is not None else None  # type: ignore[attr-defined]
    if raw is not None and 1 in closed:
        raw.error = CLOSED
    try:
        yield Result(raw)
    finally:
        for stream in (out, err):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def _open_closed() -> set[int]:
    """Open the standard streams that are closed, so that no file gets their numbers and what is printed into it."""
    closed = set()
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            closed.add(number)
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    return closed


def _unfailing(stream: Any, number: int) -> io.TextIOWrapper | None:
    """Return a stream on a descriptor in place of the system's; None for any other, such as a test's."""
    if stream is not None and not _is_plain(stream, number):
        return None
    if sys.platform == "win32":  # a console there is no ordinary file
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
        return None
    raw = Unfailing(number, "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors="replace",  # a console of an old code page shows "?" for a dash and goes on
        line_buffering=number == 2 or raw.isatty(),
    )


def _is_plain(stream: Any, number: int) -> bool:
    try:
        return isinstance(stream, io.TextIOWrapper) and stream.fileno() == number
    except (OSError, ValueError):
        return False
