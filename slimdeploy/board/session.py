"""The board's end of a ship: one process that answers the host's requests, and holds the lock for as long as it lives.

The host sends this package over ssh and keeps the connection, so nothing is installed and no lock is left behind: the
system frees it when the connection ends. Requests and answers are lines of JSON; answers begin with MARK, since a
login script may print, too. A request that cannot be used is answered with an error, and the session goes on.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import shutil
import signal
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Mapping

from slimdeploy.board import probe, receive, release, requests, service, stage, trust
from slimdeploy.board.errors import AgentError, ArtifactError, DeviceError, UsageError
from slimdeploy.board.machine import this_machine

if TYPE_CHECKING:
    from slimdeploy.board.timing import Timer

MARK = "slimdeploy-board "
SILENCE_S = 120  # a desk that is quiet for longer is gone, even where the network never said so
GRAPH_LIMIT_BYTES = 256 << 20  # what a compressed graph may grow to; whole networks come as files


class Session:
    """What one desk may ask.

    Args:
        root: the board's folder; a relative one is below the user's home.
    """

    def __init__(self, root: str, closing: contextlib.ExitStack) -> None:
        self.root = Path(os.path.expanduser("~")) / os.path.expanduser(root)  # noqa: PTH111 - "~/x" and "x" alike
        self._closing, self._locked = closing, False
        self._timers: dict[int, Timer] = {}

    def ping(self) -> dict[str, Any]:
        """Say that the board is there."""
        return {}

    def look(self) -> dict[str, Any]:
        """Return what the desk must know before it sends anything; nothing is changed."""
        signers = receive.signers_of(self.root)
        machine = this_machine(os.environ)
        return {
            **release.status(self.root),
            "board": probe.board(machine),
            "tensorrt": probe.tensorrt(machine)["version"],
            "simulated": machine.simulated,
            "clock_s": time.time(),
            "python": "{}.{}.{}".format(*sys.version_info[:3]),
            "rsync": shutil.which("rsync") is not None,
            "signers": str(signers) if signers else None,
            "service": service.told(self.root, machine),
        }

    def begin(self, name: str, files: Mapping[str, int], spare_bytes: int) -> dict[str, Any]:
        """Take the lock, see that there is room, and make the folders that a bundle's files come into.

        Args:
            name: the bundle's hash.
            files: sizes of all its files, in bytes, by name.
            spare_bytes: what must be free beside them, for the engine above all.
        """
        folder = release.staging(self.root) / name / trust.BUNDLE
        odd = next(trust.odd_entries(folder.parent), None) is not None  # a link would lead what comes elsewhere
        here = {one: (folder / one).stat().st_size for one in files if not odd and (folder / one).is_file()}
        present = (release.releases(self.root) / name).is_dir()
        needed = spare_bytes + (0 if present else sum(max(0, size - here.get(one, 0)) for one, size in files.items()))
        free = shutil.disk_usage(str(release.existing(self.root))).free
        if needed > free:
            raise DeviceError(
                f"the board's disk has {free / 1e6:.0f} MB free",
                wanted=f"{needed / 1e6:.0f} MB for the bundle and its engine",
                do="free some, or remove old releases with 'slimdeploy ship --prune'",
            )
        self.lock()
        if odd:
            trust.remove(folder.parent)
        if not present:
            trust.own_folder(folder.parent)
            for one in files:
                (folder / one).parent.mkdir(parents=True, exist_ok=True)
        return {"present": present, "received": here, "folder": str(folder)}

    def stage(self, name: str, timeouts_s: Mapping[str, float], runtime: str = "") -> dict[str, Any]:
        """Verify, build and check what was sent."""
        self.lock()
        return stage.stage(self.root, name, timeouts_s, runtime)

    def activate(self, name: str, keep: int) -> dict[str, Any]:
        """Make a release the current one, which the service flies, and remove those that are older than those kept."""
        self.lock()
        done = service.activate(self.root, name, this_machine(os.environ))
        return {**done, "removed": release.prune(self.root, keep)["removed"]}

    def bench(self, name: str, limit_s: float, options: list[str]) -> dict[str, Any]:
        """Measure a release, the current one or not."""
        self.lock()
        folder = release.releases(self.root) / name
        trust.accept(self.root, folder)
        return stage.ask_agent(folder, "bench", limit_s, *options)

    def time(
        self, limit_s: float, threads: int, how: Mapping[str, Any], graph: str = "", file: str = ""
    ) -> dict[str, Any]:
        """Time a graph that comes along, or one whose file was sent.

        Args:
            limit_s: after which the system ends this process, so that a runtime that hangs holds no lock.
            threads: of ONNX Runtime; 0 takes every core.
            how: what `Timer.time` takes beside the graph.
            graph: an ONNX model, compressed and in base64; or
            file: the hash that `begin` was told, below which it lies alone.
        """
        self.lock()
        taken = _sent(release.staging(self.root) / file / trust.BUNDLE) if file else _unpacked(graph)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a handler of Python would wait for the call that hangs
        signal.alarm(max(1, round(limit_s)))
        try:
            return self._timer(threads).time(taken, **how)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, _gone)

    def forget(self, name: str) -> dict[str, Any]:
        """Remove what was sent to be timed."""
        self.lock()
        trust.remove(release.staging(self.root) / name)
        return {}

    def rollback(self) -> dict[str, Any]:
        """Make the release before the current one the current one."""
        self.lock()
        return service.rollback(self.root, this_machine(os.environ))

    def install_service(self, source: str, udev: bool, start: bool) -> dict[str, Any]:
        """Install the service that flies the current release: root's for root, else the user's own."""
        self.lock()
        machine = this_machine(os.environ)
        if start:
            release.require_current(self.root)
        warnings = service.install(self.root, machine, source, udev=udev, system=os.geteuid() == 0)
        if start:
            service.start(self.root, machine)
        return {"service": service.told(self.root, machine), "warnings": warnings}

    def remove_service(self) -> dict[str, Any]:
        """Stop the service and take its unit away."""
        self.lock()
        return service.remove(self.root, this_machine(os.environ))

    def prune(self, keep: int) -> dict[str, Any]:
        """Remove all but the current release and those kept."""
        self.lock()
        return release.prune(self.root, keep)

    def _timer(self, threads: int) -> Timer:
        """What times graphs; its runtime is loaded by the first one."""
        from slimdeploy.board.sessions import Engines
        from slimdeploy.board.timing import Timer

        if threads not in self._timers:
            engines = Engines(machine=this_machine(os.environ), cache=self.root, threads=threads)
            self._timers[threads] = Timer(engines)
        return self._timers[threads]

    def lock(self) -> None:
        """Hold the board's lock until this process ends."""
        if not self._locked:
            self._closing.enter_context(release.locked(self.root))
            self._locked = True


VERBS: Mapping[str, Callable[..., Mapping[str, Any]]] = {name: getattr(Session, name) for name in requests.REQUESTS}


def serve(root: str, silence_s: float = SILENCE_S) -> None:
    """Answer one desk until it goes away, or says nothing for a while, which frees the lock."""
    signal.signal(signal.SIGALRM, _gone)
    with contextlib.ExitStack() as closing:
        session = Session(root, closing)
        while True:
            signal.alarm(max(1, round(silence_s)))
            line = _line(sys.stdin.buffer, requests.LINE_LIMIT_BYTES)
            signal.alarm(0)
            if line == b"":
                return
            _say(sys.stdout.buffer, answer(session, line))


def _line(stream: BinaryIO, limit: int) -> bytes | None:
    """Return the next line, b"" at the end, or None for one that is too long; such a line is read past, not kept."""
    line = stream.readline(limit)
    if len(line) < limit or line.endswith(b"\n"):
        return line
    while line and not line.endswith(b"\n"):
        line = stream.readline(1 << 16)
    return None


def answer(session: Session, line: bytes | None) -> Mapping[str, Any]:
    """Return what one request leads to: what was asked for, or an error as an object.

    Args:
        session: what the host may ask.
        line: the request, or None for one that was too long.
    """
    try:
        if line is None:
            raise UsageError(
                "the request is too long", wanted=f"a line of {requests.LINE_LIMIT_BYTES >> 20} MiB or less"
            )
        verb, arguments = requests.parse(line)
        return VERBS[verb](session, **arguments)
    except AgentError as error:
        return error.as_json()
    except OSError as error:
        return DeviceError(f"the board's system refused: {error}", do="look at its disk and its permissions").as_json()
    except MemoryError:
        return DeviceError("the board's memory is too small for this request").as_json()


def _sent(folder: Path) -> bytes:
    """Return the one file that lies in a folder."""
    odd, files = next(trust.odd_entries(folder), None), sorted(folder.iterdir()) if folder.is_dir() else []
    if odd is not None or len(files) != 1 or not files[0].is_file():
        raise ArtifactError("the graph to time was not sent", wanted="one file", do="run the same command again")
    return files[0].read_bytes()


def _unpacked(graph: str) -> bytes:
    """Return a graph that came compressed and in base64, unless it grows beyond what a layer may take."""
    try:
        decoder = zlib.decompressobj()
        taken = decoder.decompress(base64.b64decode(graph, validate=True), GRAPH_LIMIT_BYTES)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise UsageError("graph of time cannot be unpacked", wanted="a compressed graph in base64") from error
    if not decoder.eof or not taken:
        raise UsageError("graph of time is cut off or too large", wanted=f"{GRAPH_LIMIT_BYTES >> 20} MiB or less")
    return taken


def _say(stream: BinaryIO, answered: Mapping[str, Any]) -> None:
    stream.write(f"{MARK}{json.dumps(answered)}\n".encode())
    stream.flush()


def _gone(_number: int, _frame: object) -> None:
    raise SystemExit("the desk has been silent for too long")
