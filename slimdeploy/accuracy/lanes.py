"""Keep every core at work on a stream of images: sessions side by side, and reading and NMS beside inference.

One session with all cores leaves some of them waiting in every layer. As many sessions with one core each do not, and
answer more images a second; each single answer takes longer, so this is for throughput, never for latency.
"""

from __future__ import annotations

import contextlib
import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from slimdeploy._cores import usable_cores
from slimdeploy.backends.protocol import Backend, Session
from slimdeploy.records import Artifact

MOST_SESSIONS = 8  # each holds the weights and its buffers once more
BESIDE_ONE = 2  # threads more than a single session, which read and decode beside it; several keep the cores busy
AHEAD = 8  # pieces of work begun before the first is taken, for each session

Work = TypeVar("Work")
Result = TypeVar("Result")
Lease = contextlib.AbstractContextManager[Session]


@contextlib.contextmanager
def open_lanes(backend: Backend, artifact: Artifact) -> Iterator[list[Session]]:
    """Open a model once for each core, where the runtime gains from it, else once with every core.

    Args:
        backend: the runtime; its `parallel` says whether sessions on several threads add up.
        artifact: the model file.
    """
    cores = usable_cores()
    count = min(cores, MOST_SESSIONS) if getattr(backend, "parallel", False) else 1
    several = getattr(backend, "open_several", None)
    with contextlib.ExitStack() as closing:
        sessions: list[Session] = []
        if several is not None and count > 1:
            sessions.extend(several(artifact, count=count, threads=cores // count))
            for session in sessions:
                closing.callback(session.close)
        while len(sessions) < count:
            sessions.append(backend.open(artifact, threads=cores // count))
            closing.callback(sessions[-1].close)
        yield sessions


def in_order(
    pieces: Sequence[Work], sessions: Sequence[Session], work: Callable[[Work, Callable[[], Lease]], Result]
) -> Iterator[Result]:
    """Give the result of each piece of work in its turn, a few of them worked on ahead.

    Args:
        pieces: what is to be done.
        sessions: open sessions; none is ever used by two threads at once.
        work: does one piece, in a thread; its second argument lends a session for the length of a `with` block.
    """
    free: queue.SimpleQueue[Session] = queue.SimpleQueue()
    for session in sessions:
        free.put(session)
    pool = ThreadPoolExecutor(len(sessions) if len(sessions) > 1 else 1 + BESIDE_ONE)
    waiting: deque[Future[Result]] = deque()
    try:
        for piece in pieces:
            waiting.append(pool.submit(work, piece, lambda: _lend(free)))
            if len(waiting) > AHEAD * len(sessions):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _lend(free: queue.SimpleQueue[Session]) -> Iterator[Session]:
    session = free.get()
    try:
        yield session
    finally:
        free.put(session)
