"""Temporary names that say whose they are, so that what a killed process left can be told from what is at work.

A name holds the machine, the process and when that process started. What belongs to a process that lives, or to
another machine or container, is never touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SUFFIX = ".partial"
SHOWN_BYTES = 80  # of the final name; a file system allows 255 in all
_NAME = re.compile(r"\.([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{8}" + re.escape(SUFFIX) + r"\Z")


def temporary_name(name: str) -> str:
    """Return a new hidden name for what is to become `name`; no other process makes the same."""
    shown = os.fsdecode(os.fsencode(name)[:SHOWN_BYTES])
    pid = os.getpid()
    return f".{shown}.{_machine()}-{pid}-{_started(pid)}-{secrets.token_hex(4)}{SUFFIX}"


def beside(out: Path, suffix: str) -> Path:
    """Return the hidden file that belongs to work at an output, and is removed with it."""
    place = Path(os.path.abspath(out))  # noqa: PTH100 - a link is not followed
    return place.with_name(f".{os.fsdecode(os.fsencode(place.name)[: 2 * SHOWN_BYTES])}{suffix}")


def sweep(folder: Path) -> None:
    """Remove from a folder what processes that were killed left half-written there."""
    with contextlib.suppress(OSError):  # a folder that cannot be read has nothing to sweep
        for path in list(folder.iterdir()):
            if is_leftover(path):
                remove(path)


def is_leftover(path: Path) -> bool:
    """Return whether a path is a temporary one of this user whose process is dead."""
    found = _NAME.search(path.name)
    if not found or found[1] != _machine() or _lives(int(found[2]), found[3]):
        return False
    try:
        return not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()
    except OSError:
        return False


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there; Ctrl-C waits until it is gone."""
    with _uninterrupted():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


@cache
def _machine() -> str:
    """Return what a process's number is unique in: the running system, and the container within it."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _started(pid: int) -> str:
    """Return when a process started, in the system's ticks; "0" where the system does not say."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        return after_name.split()[19]
    except (OSError, IndexError):
        return "0"


def _lives(pid: int, started: str) -> bool:
    if sys.platform == "win32":  # there, os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        pass
    return started == "0" or _started(pid) in (started, "0")


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and requests to end until the block is through."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    late: list[int] = []
    held = [number for number in (signal.SIGINT, signal.SIGTERM) if callable(signal.getsignal(number))]
    before = {number: signal.signal(number, lambda got, _frame: late.append(got)) for number in held}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if late:
        signal.raise_signal(late[0])
