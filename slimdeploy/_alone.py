"""One process at a time at one output: a lock file beside it, which goes away with the work.

The system lets go of the lock when a process ends, however it ends. The file is removed by whoever holds it, so a
holder checks that the file it locked still has the name; filelock does not, and would let two in.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from slimdeploy.errors import SlimdeployError
from slimdeploy.outputs import cannot_write, make_folder

LOCK = ".lock"
POLL_S = 0.1
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextmanager
def alone_at(path: Path, *, wait_s: float, busy: Callable[[], SlimdeployError]) -> Iterator[None]:
    """Keep other processes from the same work while the block runs.

    Args:
        path: the lock file.
        wait_s: for how long another process is waited for; one that was killed can hold on for seconds through
            processes that it started.
        busy: returns the error to raise after that.
    """
    make_folder(path.parent)
    ends = time.monotonic() + wait_s
    while (held := _locked(path)) is None:
        if time.monotonic() >= ends:
            raise busy()
        time.sleep(POLL_S)
    try:
        yield
    finally:
        if sys.platform == "win32":  # which removes no open file
            os.close(held)
        with contextlib.suppress(OSError):
            path.unlink()
        if sys.platform != "win32":
            os.close(held)


def _locked(path: Path) -> int | None:
    """Return the descriptor of a lock file, locked; None where another process holds it."""
    try:
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise cannot_write(error, path.parent) from error
    try:
        _lock(opened)
        if os.path.samestat(os.fstat(opened), path.stat()):
            return opened
    except OSError as error:
        if error.errno not in (*_HELD, errno.ENOENT):
            return opened  # a file system without locks: better to work than to refuse
    os.close(opened)
    return None


def _lock(opened: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(opened, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
