"""Drive a search: choose a batch, have it walked, note what came of it, and choose the next."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from slimdeploy._progress import Every
from slimdeploy.errors import StageFailed
from slimdeploy.lineage import write_json
from slimdeploy.search.cache import WAITING, WORKING
from slimdeploy.search.folder import PROGRESS_FILE, TRIALS, Folder
from slimdeploy.search.local import Engine
from slimdeploy.search.space import with_values
from slimdeploy.search.spec import CONSTRAINTS
from slimdeploy.search.study import OPEN, Book, Record
from slimdeploy.search.trial import ELSEWHERE, FAILED, FULL, LOST, WALK, Job, Outcome
from slimdeploy.search.view import View

log = logging.getLogger("slimdeploy.search")
TICK_S = 0.5
PROGRESS_S = 2.0  # between two notes of what is at work
EARLY = ("max_p50_ms", "max_size_mb")  # constraints on what is known before fine-tuning


@dataclasses.dataclass(slots=True, kw_only=True)
class _Running:
    """A trial that is being walked.

    Attributes:
        job: what was handed out.
        began: when its walk began.
        stage: what it is at.
        working_since: when it last began to work, or None while it waits.
        worked_s: for how long it has worked before that.
    """

    job: Job
    began: float
    stage: str = "begins"
    working_since: float | None = None
    worked_s: float = 0.0

    def hear(self, event: Mapping[str, Any], now: float) -> None:
        """Take in what the trial says that it is at."""
        if self.working_since is not None:
            self.worked_s += now - self.working_since
        self.working_since = now if event["state"] != WAITING else None
        self.stage = f"{event['stage']}{', waiting' if event['state'] == WAITING else ''}"

    def worked(self, now: float) -> float:
        """For how long it has worked, in seconds."""
        return self.worked_s + (now - self.working_since if self.working_since is not None else 0.0)


class Driver:
    """Drives one search to its end.

    Args:
        folder: the search's folder.
        book: its study.
        engine: where trials are walked.
        trust: open checkpoints even if they hold unknown objects.
        watch: shown how the search stands, now and then.
        walk: what walks a trial, as `module:function`.
    """

    def __init__(
        self, folder: Folder, book: Book, engine: Engine, *,
        trust: bool = False, watch: Callable[[View], None] = lambda view: None, walk: str = WALK,
    ) -> None:  # fmt: skip
        self._folder, self._book, self._engine, self._spec = folder, book, engine, folder.spec
        self._trust, self._watch, self._walk = trust, watch, walk
        self._started = time.monotonic()
        self._running: dict[int, _Running] = {}
        self._tries: dict[int, int] = {}
        self._began: dict[int, float] = {}
        self._noting = Every(PROGRESS_S, at_once=True)
        self._records: list[Record] = []

    def drive(self) -> View:
        """Search until the budget is spent or the space is tried out.

        Raises:
            DeviceError: the study's storage stayed away.
            StageFailed: a disk is full, so that every further trial would fail.
        """
        self._book.drop_orphans()
        self._records = self._book.records()
        try:
            while self._may_begin() and (batch := self._next_batch()):
                self._walk_batch(batch)
        finally:
            self._running.clear()
            self._note(force=True)
        return self._view()

    def _next_batch(self) -> list[Record]:
        """Return the trials that an earlier run left open, or else choose the next."""
        if left := [one for one in self._records if one.state == OPEN]:
            return left
        count = min(self._spec.config.batch, self._spec.config.trials - len(self._records))
        if count < 1:
            return []
        batch = 1 + max((one.batch for one in self._records), default=-1)
        asked = self._book.ask(batch, count)
        self._records += asked
        return asked

    def _may_begin(self) -> bool:
        hours = self._spec.config.hours
        return hours is None or time.monotonic() - self._started < 3600 * hours

    def _walk_batch(self, batch: list[Record]) -> None:
        waiting = [self._job(one) for one in batch]
        while waiting or self._running:
            while waiting and self._engine.free() and (self._began.get(waiting[0].number) or self._may_begin()):
                self._begin(waiting.pop(0))
            if not self._running and not self._may_begin():
                return
            for number, outcome in self._engine.wait(TICK_S, self._hear):
                waiting += self._take(self._running.pop(number), outcome)
            self._end_what_hangs()
            self._note()

    def _begin(self, job: Job) -> None:
        now = time.monotonic()
        self._began.setdefault(job.number, now)
        self._running[job.number] = _Running(job=job, began=now)
        self._engine.submit(job)

    def _hear(self, number: int, event: Mapping[str, Any]) -> None:
        if number in self._running and event.get("state") in (WAITING, WORKING):
            self._running[number].hear(event, time.monotonic())

    def _take(self, running: _Running, outcome: Outcome) -> list[Job]:
        """Note an outcome; return the jobs that it leads to."""
        job, state = running.job, outcome["state"]
        if state == ELSEWHERE:
            return [dataclasses.replace(job, only=outcome["kind"])]
        tries = self._tries[job.number] = self._tries.get(job.number, 0) + 1
        if state in (LOST, FULL) and tries <= self._spec.trial.retries:
            log.warning("trial %d is begun again: %s", job.number, outcome["why"])
            return [job]
        if state == FULL:
            raise StageFailed(
                f"the disk is full: {outcome['why']}",
                do=f"free some and run: slimdeploy search --resume --out {self._folder.path}",
            )
        self._finish(job.number, {**outcome, "state": FAILED if state == LOST else state})
        return []

    def _finish(self, number: int, outcome: Outcome) -> None:
        outcome = {**outcome, "seconds": round(time.monotonic() - self._began[number], 2)}
        self._book.tell(number, outcome)
        write_json(self._folder.path / TRIALS / f"{number:04d}.json", {"schema": 1, **outcome})
        told = self._book.record(number)
        self._records = [told if one.number == number else one for one in self._records]
        if outcome["state"] == FAILED:
            log.warning("trial %d failed: %s", number, outcome["why"])
        self._note()

    def _end_what_hangs(self) -> None:
        limit_s = 60 * self._spec.trial.minutes
        now = time.monotonic()
        for number, running in list(self._running.items()):
            if limit_s and running.worked(now) > limit_s:
                self._engine.kill(number)
                del self._running[number]
                why = f"it took longer than {self._spec.trial.minutes:g} minutes, and was ended in {running.stage}"
                self._finish(number, {"state": FAILED, "why": why, "number": number})

    def _job(self, record: Record) -> Job:
        spec = self._spec
        bounds = {CONSTRAINTS[name][0]: spec.constraints[name] for name in EARLY if name in spec.constraints}
        wanted = [*spec.objectives, *(CONSTRAINTS[name][0] for name in spec.constraints)]
        return Job(
            number=record.number,
            recipe=with_values(spec.recipe, record.values),
            place=str(spec.place),
            data=str(spec.data or ""),
            cache=str(self._folder.cache),
            store=self._folder.store,
            cpus=self._engine.cpus,
            gpus=spec.trial.gpus,
            device=spec.trial.device,
            bounds=bounds,
            wanted=tuple(dict.fromkeys(wanted)),
            trust=self._trust,
            walk=self._walk,
        )

    def _view(self) -> View:
        now = time.monotonic()
        running = {number: (one.stage, now - one.began) for number, one in sorted(self._running.items())}
        return View(spec=self._spec, records=tuple(self._records), running=running, elapsed_s=now - self._started)

    def _note(self, *, force: bool = False) -> None:
        """Show how the search stands, and write it down for --status."""
        if not (self._noting.due() or force):
            return
        view = self._view()
        write_json(
            self._folder.path / PROGRESS_FILE,
            {"schema": 1, "running": view.running, "elapsed_s": view.elapsed_s, "written_at": time.time()},
        )
        self._watch(view)
