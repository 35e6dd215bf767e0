"""What a reader may do with an input: return, or raise one of our errors in a line, soon, writing nowhere else."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST_LINE = 2000  # three parts of a message, each of which is cut
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = {  # events that change the disk or leave the machine, and which of their arguments are paths
    "os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.link": (1,), "os.symlink": (1,),
    "os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,),
}  # fmt: skip
_LEAVING = ("socket.connect", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn")


class TooLong(BaseException):
    """The time for one input is over; no reader catches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a reader did with an input.

    Attributes:
        kind: `read`, `refused`, `foreign`, `hang` or `outside`.
        detail: what went wrong, in a line.
    """

    kind: str
    detail: str = ""


class Watch:
    """Notes every change of the disk outside some folders while it is on; audit hooks cannot be taken away again."""

    def __init__(self) -> None:
        self.inside: tuple[str, ...] = ()
        self.found: list[str] = []
        self.programs: tuple[str, ...] = ()
        self.on = False
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes, os.PathLike)) and (flags or 0) & _WRITING:
                self._check(event, path)
        elif event in _CHANGING:
            folder = _folder_of(arguments[-1]) if event in ("os.remove", "os.rmdir", "os.mkdir") else ""
            for place in _CHANGING[event]:
                if place < len(arguments) and isinstance(arguments[place], (str, bytes, os.PathLike)):
                    self._check(event, Path(folder) / os.fsdecode(arguments[place]))
        elif event in _LEAVING and not any(name in str(arguments[0]) for name in self.programs):
            self.found.append(f"{event} {arguments[:1]!r}"[:200])

    def _check(self, event: str, path: Any) -> None:
        place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - Path.resolve would follow links to the outside
        real = os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place))  # noqa: PTH118, PTH119, PTH120
        quiet = place == os.devnull or "__pycache__" in place
        if not quiet and not any(real.startswith(folder) for folder in self.inside):
            self.found.append(f"{event} {place}"[:200])


def _folder_of(descriptor: Any) -> str:
    """Return the folder that a name is relative to, where a call names it by an open descriptor."""
    if not isinstance(descriptor, int) or descriptor < 0:
        return ""
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return ""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooLong in the block once the time is over."""

    def stop(_number: int, _frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def judge(read: Callable[[], Any], *, watch: Watch, inside: tuple[Path, ...], limit_s: float) -> Outcome:
    """Call a reader and say what came of it.

    Args:
        read: the reader, its input bound.
        watch: notes what is changed.
        inside: folders that may be changed.
        limit_s: longest time.
    """
    from slimdeploy.board.errors import AgentError
    from slimdeploy.errors import SlimdeployError

    watch.inside, watch.found = tuple(os.path.realpath(one) for one in inside), []
    outcome = Outcome(kind="read")
    try:
        with time_limit(limit_s):
            watch.on = True
            read()
    except TooLong:
        outcome = Outcome(kind="hang", detail=f"no end within {limit_s:g} s")
    except (SlimdeployError, AgentError) as error:
        said = str(error)
        fine = said.isprintable() or (all(sign.isprintable() or sign.isspace() for sign in said) and "\n" not in said)
        outcome = Outcome(kind="refused", detail=said)
        if not fine or len(said) > LONGEST_LINE:
            outcome = Outcome(kind="foreign", detail=f"a message of {len(said)} characters: {said[:200]!r}")
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        ours = [one for one in traceback.extract_tb(error.__traceback__) if "slimdeploy" in one.filename]
        where = ours[-1] if ours else place
        detail = f"{type(error).__name__}: {str(error)[:160]!r} at {Path(where.filename).name}:{where.lineno}"
        outcome = Outcome(kind="foreign", detail=detail)
    finally:
        watch.on = False
    if watch.found and outcome.kind not in ("foreign", "hang"):
        return Outcome(kind="outside", detail=watch.found[0])
    return outcome
