"""How many cores this process may use. Standard library only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

LIMIT = "SLIMDEPLOY_CORES"  # the variable that leaves cores to others


def usable_cores() -> int:
    """Return how many cores this process may use: by its affinity where the system tells, and by LIMIT."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get(LIMIT, "")
    return min(own, int(limit)) if limit.isdecimal() and int(limit) else own


@contextlib.contextmanager
def limited_cores(count: int) -> Iterator[None]:
    """Let this process and what it starts use so many cores at most; 0 changes nothing."""
    before = os.environ.get(LIMIT)
    if count:
        os.environ[LIMIT] = str(count)
    try:
        yield
    finally:
        if count:
            del os.environ[LIMIT]
            if before is not None:
                os.environ[LIMIT] = before
