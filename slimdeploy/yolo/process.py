"""Settings of this process that make training on a CPU use all of it. Standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc malloc.h
_KEEP_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory in the process, and return whether it could be told.

    Training frees and takes the same tensors at every step; by default glibc returns the large ones to the
    system each time, and the kernel spends its time in clearing pages.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES))


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what a foreign library prints to stderr, so that stdout holds results alone."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
