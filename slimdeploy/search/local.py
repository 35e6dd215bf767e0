"""The engine of one machine: a process for each device, one trial at a time in each."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from slimdeploy._cores import usable_cores
from slimdeploy.bench import nvml
from slimdeploy.bench.process import worker_environment
from slimdeploy.configs import TrialConfig
from slimdeploy.errors import UsageError
from slimdeploy.search.trial import LOST, Job, Outcome

SHOWN_LINES = 2  # of a dead worker's log
TAIL_BYTES = 4096  # of it that are looked at
CLOSE_S = 3.0
OnEvent = Callable[[int, Mapping[str, Any]], None]  # a trial's number, and what it is at


class Engine(Protocol):
    """Where trials are walked; what becomes of them is the driver's business.

    Attributes:
        cpus: cores that a trial's trainings use.
    """

    cpus: int

    def free(self) -> bool:
        """Whether another trial may be given."""
        ...

    def submit(self, job: Job) -> None:
        """Begin to walk a trial."""
        ...

    def wait(self, seconds: float, on_event: OnEvent) -> list[tuple[int, Outcome]]:
        """Return the outcomes that came within some time, and tell of what the trials are at."""
        ...

    def kill(self, number: int) -> None:
        """End a trial by force; it has no outcome."""
        ...

    def close(self) -> None:
        """End all that was begun."""
        ...


class LocalEngine:
    """Walks trials in processes of this machine.

    Args:
        trial: what one trial may take; with GPUs there are as many processes as the machine's GPUs allow, else one.
        logs: an existing folder for what the processes print.
        slots: processes, in place of what the devices allow.

    Raises:
        UsageError: a trial asks for more GPUs than there are.
    """

    def __init__(self, trial: TrialConfig, logs: Path, *, slots: int = 0) -> None:
        cards = len(nvml.cards()) if trial.gpus else 0
        if trial.gpus > cards:
            raise UsageError(f"a trial asks for {trial.gpus} GPUs, and this machine has {cards}", do="set trial.gpus")
        count = slots or (cards // trial.gpus if trial.gpus else 1)
        self.cpus = trial.cpus or max(1, usable_cores() // count)
        self._news: queue.SimpleQueue[tuple[_Slot, int, bytes]] = queue.SimpleQueue()
        self._slots = [_Slot(number, trial.gpus, self.cpus, logs, self._news) for number in range(count)]

    def free(self) -> bool:
        """Whether a process has nothing to do."""
        return any(slot.job is None for slot in self._slots)

    def submit(self, job: Job) -> None:
        """Give a trial to a process that has nothing to do."""
        next(slot for slot in self._slots if slot.job is None).begin(job)

    def wait(self, seconds: float, on_event: OnEvent) -> list[tuple[int, Outcome]]:
        """Return the outcomes that came; waits for the first news, for no longer than `seconds`."""
        outcomes: list[tuple[int, Outcome]] = []
        with contextlib.suppress(queue.Empty):
            while True:
                slot, life, line = self._news.get(timeout=seconds)
                seconds = 0.0
                if life == slot.life and slot.job is not None:
                    outcomes += _heard(slot, slot.job, line, on_event)
        return outcomes

    def kill(self, number: int) -> None:
        """End the process of a trial by force."""
        for slot in self._slots:
            if slot.job is not None and slot.job.number == number:
                slot.kill()

    def close(self) -> None:
        """End all processes."""
        for slot in self._slots:
            slot.close()


def _heard(slot: _Slot, job: Job, line: bytes, on_event: OnEvent) -> list[tuple[int, Outcome]]:
    """Take one line of a process; b"" is its end."""
    if not line:
        return [(job.number, {"state": LOST, "why": slot.ended()})]
    told = json.loads(line)
    if "event" in told:
        on_event(job.number, told["event"])
        return []
    slot.job = None
    return [(job.number, told["outcome"])]


class _Slot:
    """One process after the other, each of which walks trials until it dies."""

    def __init__(
        self, number: int, gpus: int, cpus: int, logs: Path, news: queue.SimpleQueue[tuple[_Slot, int, bytes]]
    ) -> None:
        self._environment = worker_environment(cpus)
        if gpus:
            cards = range(number * gpus, (number + 1) * gpus)
            self._environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, cards))
        self._log, self._news = logs / f"worker-{number}.log", news
        self._process: subprocess.Popen[bytes] | None = None
        self.job: Job | None = None
        self.life = 0  # counts the processes, so that news of a dead one are told from those of its successor

    def begin(self, job: Job) -> None:
        """Give a trial to the process, which is started where there is none."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self.job = job
        with contextlib.suppress(OSError):  # a dead process is told of by the end of what it writes
            self._process.stdin.write(json.dumps(dataclasses.asdict(job)).encode() + b"\n")
            self._process.stdin.flush()

    def _start(self) -> None:
        self.life += 1
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "slimdeploy.search.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=self._environment,
                start_new_session=True,  # so that all that a trial started ends with it
            )  # fmt: skip
        self._process = process
        threading.Thread(target=self._read, args=(process, self.life), daemon=True).start()

    def _read(self, process: subprocess.Popen[bytes], life: int) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._news.put((self, life, line))
        self._news.put((self, life, b""))

    def ended(self) -> str:
        """Return how the process died, and forget its trial."""
        assert self._process is not None
        self.job, process = None, self._process
        code = process.wait()
        self.kill()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        hint = ", as when memory ran out" if code == -9 else ""
        return f"its process died with {how}{hint}; the log's end: {' | '.join(self._last_lines())}"

    def _last_lines(self) -> list[str]:
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()][-SHOWN_LINES:]

    def kill(self) -> None:
        """End the process and all that it started, and forget its trial."""
        if self._process is not None:
            assert self._process.stdin is not None
            _end_group(self._process)
            self._process.wait()
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self.life += 1
        self._process, self.job = None, None

    def close(self) -> None:
        """End the process: gently where it has nothing to do."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_S)
        self.kill()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started; where there are no process groups, the process alone."""
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        process.kill()
