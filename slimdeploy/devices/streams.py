"""Read what a board or a program says to it without end, and keep no more of it than may be used."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import IO

READ_BYTES = 1 << 16
TAIL_BYTES = 1 << 16  # of what a program says; the reason of a failure stands at its end


class TooLong(Exception):
    """A line that begins as an answer does is longer than any answer."""


def marked_lines(stream: IO[bytes], mark: bytes, limit_bytes: int) -> Iterator[bytes]:
    """Give what follows the mark on each line that begins with it; other lines are passed over without being kept.

    Args:
        stream: unbuffered, so that a read returns what has come.
        mark: what the lines begin with.
        limit_bytes: of one line.

    Raises:
        TooLong: a line is longer.
    """
    line, passed = bytearray(), False
    while block := stream.read(READ_BYTES):
        parts = block.split(b"\n")
        for position, part in enumerate(parts):
            if not passed:
                line += part
                passed = len(line) >= len(mark) and not line.startswith(mark)
            if not passed and len(line) > limit_bytes:
                raise TooLong
            if position < len(parts) - 1:
                if not passed and line.startswith(mark):
                    yield bytes(line[len(mark) :])
                line, passed = bytearray(), False
            elif passed:
                line.clear()


class Tail:
    """Reads a stream to its end in a thread and keeps the last part of it.

    Args:
        stream: what is read; it is closed at its end.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._kept = b""
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def text(self, timeout_s: float) -> str:
        """Return the last part of what was said, once the stream has ended or the time is up."""
        self._thread.join(timeout_s)
        return self._kept.decode(errors="replace")

    def _read(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError), stream:
            while block := stream.read(READ_BYTES):
                self._kept = (self._kept + block)[-TAIL_BYTES:]
