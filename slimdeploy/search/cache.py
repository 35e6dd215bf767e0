"""Stages made once: kept by the hash of what they hang on, each under a lock while it is made."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from slimdeploy._cores import limited_cores
from slimdeploy._needs import needs
from slimdeploy.lineage import RUN_FILE
from slimdeploy.pipeline import Step, ensure
from slimdeploy.search.keys import BOARD, MEASURING, key_of, kind_of

Tell = Callable[[Mapping[str, Any]], None]  # told what a trial is at
WAITING, WORKING = "waiting", "working"
POLL_S = 0.2


class Elsewhere(Exception):
    """The next stage belongs where the other kind of stages is done."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


class Store(Protocol):
    """Where stages are kept beyond this machine's own disk."""

    def fetch(self, key: str, folder: Path) -> bool:
        """Bring a stage's folder here; return whether there is one."""
        ...

    def push(self, key: str, folder: Path) -> None:
        """Keep a stage's folder, unless it is kept already."""
        ...


class Leases(Protocol):
    """Who makes a stage, among machines that share no disk."""

    def hold(self, key: str) -> contextlib.AbstractContextManager[None]:
        """Wait until nobody else makes the stage."""
        ...


@dataclasses.dataclass(slots=True, kw_only=True)
class Cache:
    """Gives the folder of any step, and makes it where it is not there.

    Attributes:
        root: the folder of this machine, or one that machines share.
        tell: told what is waited for and worked on.
        only: the kind of stages that may be made here, or "" for both.
        device: the board that is measured on, or "".
        cpus: cores that a stage is made with, or 0 for all; measuring takes all.
        store: where stages are kept beyond `root`, or None.
        leases: who makes what among machines that share no disk, or None.
        steps: what was asked for so far: `key`, `stage`, `hit` and `seconds` of each.
    """

    root: Path
    tell: Tell
    only: str = ""
    device: str = ""
    cpus: int = 0
    store: Store | None = None
    leases: Leases | None = None
    steps: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def keep(self, step: Step) -> Path:
        """Return the step's folder, made now unless it is kept already.

        Raises:
            Elsewhere: it is not, and this is no place to make it.
            SlimdeployError: whatever stopped the stage.
        """
        started = time.perf_counter()
        key = key_of(step)
        hit = self._there(key)
        if not hit:
            if self.only not in ("", kind_of(step)):
                raise Elsewhere(kind_of(step))
            hit = self._made(step, key)
        took_s = round(time.perf_counter() - started, 3)
        self.steps.append({"key": key, "stage": step.stage, "hit": hit, "seconds": took_s})
        return self.root / key

    def _there(self, key: str) -> bool:
        folder = self.root / key
        return (folder / RUN_FILE).exists() or (self.store is not None and self.store.fetch(key, folder))

    def _made(self, step: Step, key: str) -> bool:
        """Make a step under its lock, unless somebody else has made it meanwhile; return whether somebody has."""
        self.tell({"state": WAITING, "stage": step.stage})
        with self._alone(key):
            if self._there(key):
                return True
            alone = kind_of(step) == MEASURING
            with (
                device_lock(alone, self.device if step.folder.startswith(BOARD) else ""),
                limited_cores(0 if alone else self.cpus),
            ):
                self.tell({"state": WORKING, "stage": step.stage})
                folder = ensure(dataclasses.replace(step, folder=key), self.root)
            if self.store is not None:
                self.store.push(key, folder)
        return False

    @contextlib.contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        with needs("search"):
            import filelock
        lock = self.root / f"{key}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with self.leases.hold(key) if self.leases else contextlib.nullcontext(), filelock.FileLock(lock):
            yield


@contextlib.contextmanager
def device_lock(alone: bool, device: str = "") -> Iterator[None]:
    """Hold this machine's cores: with all other trainings, or alone to measure; and the board, where there is one.

    The locks are the system's own, so that they end with the process that holds them.

    Args:
        alone: whether nothing may be trained or measured beside it.
        device: the address of a board that is measured on, or "".
    """
    with needs("search"):
        import filelock
    place = Path(tempfile.gettempdir()) / f"slimdeploy-{_user()}"
    place.mkdir(mode=0o700, exist_ok=True)
    with contextlib.ExitStack() as held:
        cores = filelock.ReadWriteLock(str(place / "cores.lock"), is_singleton=False)
        held.callback(cores.close)
        with filelock.FileLock(place / "turn.lock"):  # held while waiting, so that trainings queue behind a measurement
            held.enter_context(cores.write_lock() if alone else cores.read_lock())
        if device:
            name = hashlib.sha256(device.encode()).hexdigest()[:16]
            held.enter_context(filelock.FileLock(place / f"device-{name}.lock"))
        yield


def _user() -> str:
    with contextlib.suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return "user"
