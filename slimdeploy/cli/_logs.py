"""What the library logs, on stderr: lines, and on a terminal one line of progress that is updated in place."""

from __future__ import annotations

import logging
import shutil
import sys

from slimdeploy._progress import LIVE
from slimdeploy.board.text import printable, printable_lines

CLEAR = "\r\x1b[K"


def begin() -> None:
    """Send what the library logs to stderr."""
    logging.basicConfig(level=logging.INFO, handlers=[handler()])
    if _on_terminal():
        logging.getLogger("slimdeploy").setLevel(logging.DEBUG)  # for the updates; the handler leaves out the rest


def handler() -> logging.Handler:
    """Return what shows progress and warnings on stderr."""
    shown = _Handler()
    shown.setFormatter(_OneLine())
    return shown


def end_live_line() -> None:
    """Take away the line of progress, before something else is printed."""
    for shown in logging.getLogger().handlers:
        if isinstance(shown, _Handler):
            shown.clear()


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


class _OneLine(logging.Formatter):
    """Shows each message in one line without control characters, whatever names stand in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a message as it is shown."""
        return printable_lines(super().format(record)) if record.exc_info else printable(record.getMessage())


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever stderr is at the time."""

    def __init__(self) -> None:
        super().__init__()
        self._live = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or update the line of progress."""
        self.stream = sys.stderr
        live = getattr(record, LIVE, False)
        if record.levelno < logging.INFO and not live:
            return
        if live and _on_terminal():
            columns = shutil.get_terminal_size().columns
            self.stream.write(CLEAR + self.format(record)[: columns - 1])
            self.stream.flush()
            self._live = True
            return
        self.clear()
        super().emit(record)

    def clear(self) -> None:
        """Take away the line of progress, if there is one."""
        if self._live:
            sys.stderr.write(CLEAR)
            sys.stderr.flush()
        self._live = False
