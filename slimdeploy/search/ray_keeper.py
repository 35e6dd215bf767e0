"""What runs on Ray's side: the legs of trials, and one actor that hears of them and says who makes what."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimdeploy.lineage import versions
from slimdeploy.search.cache import POLL_S
from slimdeploy.search.trial import Job, Outcome, run_job


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What a node says of itself.

    Attributes:
        versions: of slimdeploy, Python and what a result depends on.
        sees_cache: whether the cache's folder is the driver's own.
    """

    versions: Mapping[str, str]
    sees_cache: bool


class Keeper:
    """Hears what trials are at, and lets one of them make a stage where machines share no disk."""

    def __init__(self) -> None:
        self._news: list[tuple[int, dict[str, Any]]] = []
        self._held: dict[str, int] = {}

    def note(self, number: int, event: dict[str, Any]) -> None:
        """Hear what a trial is at."""
        self._news.append((number, event))

    def news(self) -> list[tuple[int, dict[str, Any]]]:
        """Return what was heard since this was last asked."""
        news, self._news = self._news, []
        return news

    def take(self, key: str, number: int) -> bool:
        """Let a trial make a stage, unless another one is at it."""
        return self._held.setdefault(key, number) == number

    def give(self, key: str, number: int) -> None:
        """Take back the leave to make a stage."""
        if self._held.get(key) == number:
            del self._held[key]

    def drop(self, number: int) -> None:
        """Take back all that a trial held, since it is gone."""
        self._held = {key: holder for key, holder in self._held.items() if holder != number}


@dataclass(frozen=True, slots=True)
class RayLeases:
    """Leave to make a stage, as a trial asks the keeper for it."""

    keeper: Any
    number: int

    @contextlib.contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Wait until no other trial makes the stage."""
        import ray

        while not ray.get(self.keeper.take.remote(key, self.number)):
            time.sleep(POLL_S)
        try:
            yield
        finally:
            ray.get(self.keeper.give.remote(key, self.number))


def leg(plain: Mapping[str, Any], keeper: Any) -> Outcome:
    """Walk a trial as far as stages of its kind go."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    job = Job(**plain)
    if job.store:  # nothing is shared but the URL: each node keeps a copy of its own
        job = dataclasses.replace(job, cache=str(_own_cache(job.store, node)))
    outcome = run_job(
        job,
        lambda event: keeper.note.remote(job.number, dict(event)),
        RayLeases(keeper, job.number) if job.store else None,
    )
    return {**outcome, "node": node}


def _own_cache(store: str, node: str) -> Path:
    name = hashlib.sha256(f"{store} {node}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"slimdeploy-cache-{name}"


def look(mark: str) -> NodeFacts:
    """Return what is installed on this node, and whether it sees a file that the driver has just made."""
    return NodeFacts(versions=versions(), sees_cache=not mark or Path(mark).exists())
